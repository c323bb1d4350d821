"""A runner is added: from the form over a real shell to the page that turns green by itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.conftest import Visit
from tests.browser.visitor import PHONE, WIDE
from tests.deployment.client import wait_for
from tests.deployment.deployment import Deployment

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect


class Shell:
    """A shell on a host into which somebody pastes. Python's own packages come from here.

    The host makes its virtual environment and installs the wheel that Forge serves, as the
    pasted text says. Only what the wheel needs, Celery above all, is not fetched from the
    network: it is this environment's.
    """

    def __init__(self, home: Path) -> None:
        self._log = home / "shell.log"
        bin_folder = home / "forge-runner" / "bin"
        bin_folder.mkdir(parents=True)
        scripts = Path(sysconfig.get_path("scripts"))
        (bin_folder / "celery").symlink_to(scripts / "celery")
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        own = home / "forge-runner" / "lib" / version / "site-packages"
        environment = {
            "PATH": f"{scripts}:{os.environ['PATH']}",
            "HOME": str(home),
            "PYTHONPATH": f"{own}:{sysconfig.get_path('purelib')}",
            "PIP_NO_DEPS": "1",
            "PIP_NO_INDEX": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["bash"],
                cwd=home,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def paste(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode() + b"\n")
        self._process.stdin.close()

    def said(self) -> str:
        return self._log.read_text(errors="replace")

    def end(self) -> None:
        for number in (signal.SIGQUIT, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, number)
                self._process.wait(30)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    shell.end()


def test_a_pasted_command_turns_the_page_green(
    visit: Visit, forge: Deployment, shell: Shell
) -> None:
    project = forge.api.project("New network zone")
    visitor = visit("owner")
    page = visitor.page
    page.goto(f"/projects/{project}/runners/")
    page.get_by_role("link", name="Add runner").first.click()
    page.get_by_label("Name", exact=True).fill("zone-b-1")
    page.get_by_role("textbox", name="Tags").fill("zone-b")
    page.get_by_role("button", name="Add runner").click()
    expect(page.locator("#contact")).to_contain_text("Waiting for first contact")
    page.get_by_role("button", name="Copy with token").click()
    token = page.locator("#token").inner_text()
    wait_for(lambda: token in visitor.clipboard(), "the command is copied")
    pasted = visitor.clipboard()

    shell.paste(pasted)
    ready = page.locator("#contact.good")
    try:
        ready.wait_for(timeout=120_000)
    except playwright.Error:
        pytest.fail(f"the page did not turn green; the shell said: {shell.said()}")
    expect(ready).to_contain_text("zone-b-1 is ready")
    # What is done needs no secret any more, and what is left is to keep it running.
    expect(page.locator("#step-token")).to_contain_text("Token in use")
    assert token not in page.content()
    page.get_by_role("button", name="Copy unit").click()
    wait_for(lambda: "ExecStart=" in visitor.clipboard(), "the unit is copied")
    assert token not in visitor.clipboard()

    # On a phone all that it offers next is within the panel.
    page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    last, panel = ready.get_by_role("link", name="Add another").bounding_box(), ready.bounding_box()
    assert last["x"] + last["width"] <= panel["x"] + panel["width"]
    page.set_viewport_size({"width": WIDE[0], "height": WIDE[1]})

    ready.get_by_role("button", name="Run a test task").click()
    expect(page.locator("#task-head h1")).to_contain_text("Test task (zone-b)")
    expect(page.locator("#task-head .head .st")).to_contain_text("Succeeded")
    visitor.await_line("zone-b-1")
    assert "Runner            zone-b-1" in visitor.lines()

    page.goto(f"/projects/{project}/runners/")
    page.get_by_role("link", name="zone-b-1", exact=True).click()
    expect(page.locator("#runner-sentence")).to_contain_text("Idle")
    assert token not in page.content()
    expect(page.locator("td.a-name")).to_contain_text(["Test task (zone-b)"])


def test_a_host_that_registers_by_pasted_commands_turns_the_page_green(
    visit: Visit, forge: Deployment, shell: Shell
) -> None:
    project = forge.api.project("Racks that register")
    visitor = visit("owner")
    page = visitor.page
    page.goto(f"/projects/{project}/registration-tokens/new/")
    page.locator("main").get_by_label("Name", exact=True).fill("rack 9")
    page.get_by_label("Hosts").fill("1")
    page.get_by_role("button", name="Create token").click()
    expect(page.locator("#contact")).to_contain_text("Waiting for the first host")
    page.get_by_role("button", name="Copy with token").click()
    token = page.locator("#token").inner_text()
    wait_for(lambda: token in visitor.clipboard(), "the commands are copied")

    shell.paste(visitor.clipboard())
    ready = page.locator("#contact.good")
    try:
        ready.wait_for(timeout=120_000)
    except playwright.Error:
        pytest.fail(f"the page did not turn green; the shell said: {shell.said()}")
    (row,) = forge.api.get(f"projects/{project}/runners/")["results"]
    expect(ready.get_by_role("heading")).to_have_text(f"{row['name']} is ready")
    ready.get_by_role("link", name=row["name"]).click()
    expect(page.locator("#runner-sentence")).to_contain_text("Idle")
    assert token not in page.content()


def test_a_token_is_shown_once(visit: Visit, forge: Deployment) -> None:
    """Neither going back, nor the runner's page, nor its address shows it again."""
    project = forge.api.project("Shown once")
    page = visit("owner").page
    page.goto(f"/projects/{project}/runners/new/")
    page.get_by_label("Name", exact=True).fill("once-1")
    page.get_by_role("button", name="Add runner").click()
    token = page.locator("#token").inner_text()
    assert token.startswith("fgr_")
    seen = [page.url, f"/projects/{project}/runners/", f"/projects/{project}/"]
    for address in seen:
        page.goto(address)
        assert token not in page.content()
    page.get_by_role("navigation", name="Project").get_by_role("link", name="Runners").click()
    page.get_by_role("link", name="once-1", exact=True).click()
    assert token not in page.content()
    page.go_back()
    assert token not in page.content()


def test_a_page_with_a_token_makes_no_other_runner_when_its_own_is_removed(
    visit: Visit, forge: Deployment
) -> None:
    """It looks at the runner then, and sends the form that it answered no second time."""
    project = forge.api.project("Removed meanwhile")
    page = visit("owner").page
    page.goto(f"/projects/{project}/runners/new/")
    page.get_by_label("Name", exact=True).fill("again-1")
    page.get_by_role("button", name="Add runner").click()
    expect(page.locator("#contact")).to_contain_text("Waiting for first contact")
    (row,) = forge.api.get(f"projects/{project}/runners/")["results"]
    forge.api.remove_runner(row["id"])
    expect(page.locator("#token")).to_have_count(0)
    expect(page.locator("#runner-sentence")).to_contain_text("Removed")
    assert forge.api.get(f"projects/{project}/runners/")["results"] == []


def test_a_removed_runner_is_named_with_what_it_ends(visit: Visit, forge: Deployment) -> None:
    project = forge.api.project("Removal")
    runner = forge.api.runner(project, "leaves-1")
    worker = forge.worker(runner)
    task = forge.api.run_script(project, "echo up; sleep 600")
    forge.api.await_output(task, b"up")
    page = visit("owner").page
    page.goto(f"/runners/{runner.id}/")
    page.locator("summary", has_text="More").click()
    page.get_by_role("link", name="Remove").click()
    expect(page.locator(".dlg")).to_contain_text("1 task that it holds ends as failed")
    page.get_by_role("button", name="Remove and end 1 task").click()
    expect(page.get_by_text("Removed leaves-1.")).to_be_visible()
    assert forge.api.wait_until(task)["state"] == "failed"
    wait_for(lambda: worker.process.poll() is not None, "its worker ends")

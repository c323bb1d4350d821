"""A template from the form to the end of its run, as an operator sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import Visit
from tests.deployment.client import wait_for
from tests.deployment.deployment import Deployment, processes_with

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect


def gated(gate: Path, before: str, after: str) -> str:
    return f"echo {before}; while [ ! -e {gate} ]; do sleep 0.05; done; echo {after}"


def test_a_template_is_made_run_watched_and_stopped(
    visit: Visit, forge: Deployment, project: int, tmp_path: Path
) -> None:
    gate, marker = tmp_path / "gate", "forge-browser-stop-4711"
    visitor = visit("manager")
    page = visitor.page
    page.goto(f"/projects/{project}/templates/")
    page.get_by_role("link", name="New template").first.click()
    page.get_by_label("Name", exact=True).fill("Watch and stop")
    page.get_by_label("Script", exact=True).fill(
        f"{gated(gate, 'early', 'late')}\nexec -a {marker} sleep 600\n"
    )
    page.get_by_role("button", name="Create template").click()
    expect(page.get_by_text("Saved Watch and stop.")).to_be_visible()

    page.get_by_role("button", name="Run Watch and stop").click()
    visitor.await_line("early")
    expect(page.locator("#task-head .head .st")).to_contain_text("Running")
    assert visitor.lines() == ["early"]
    gate.touch()
    visitor.await_line("late")
    wait_for(lambda: processes_with(marker), "the program goes on")

    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#task-head .head .st")).to_contain_text("Stopped")
    expect(page.locator("#task-head .sub")).to_contain_text("manager")
    visitor.await_status("Ended")
    assert not processes_with(marker)
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)


def test_a_failure_says_why_and_is_run_again(
    visit: Visit, forge: Deployment, project: int, tmp_path: Path
) -> None:
    gate = tmp_path / "fixed"
    script = f"if [ ! -e {gate} ]; then echo no space left >&2; exit 3; fi; echo fine"
    template = forge.api.template(project, script, name="Fails at first")
    visitor = visit("operator")
    page = visitor.page
    page.goto(f"/projects/{project}/templates/")
    page.get_by_role("button", name="Run Fails at first").click()
    head = page.locator("#task-head .head")
    expect(head).to_contain_text("Failed")
    expect(head).to_contain_text("exit status 3")
    visitor.await_line("no space left")
    failed = page.url.rstrip("/").rsplit("/", 1)[1]

    gate.touch()
    page.get_by_role("button", name="Re-run").click()
    expect(page.locator("#task-head .head")).to_contain_text("Succeeded")
    visitor.await_line("fine")
    side = page.locator("#task-side")
    expect(side).to_contain_text("Re-run of")
    side.get_by_role("link", name=f"#{failed}").click()
    expect(page.locator("#task-side")).to_contain_text("Re-run as")
    assert len(forge.api.get(f"projects/{project}/tasks/?template={template}")["results"]) == 2


def test_the_log_goes_on_after_the_web_process_was_killed(
    visit: Visit, forge: Deployment, project: int, tmp_path: Path
) -> None:
    """No line is missing and none is there twice, whatever the connection went through."""
    gate = tmp_path / "gate"
    script = f"n=0; while [ ! -e {gate} ]; do echo line $n; n=$((n+1)); sleep 0.02; done"
    task = forge.api.run_script(project, script)
    visitor = visit("viewer")
    visitor.page.goto(f"/tasks/{task}/")
    visitor.await_status("Live")
    visitor.await_line(f"line {5 + _count(visitor.page)}")
    forge.kill("web")
    visitor.await_status("Reconnecting")
    visitor.await_status("Live")
    expect(visitor.page.locator("#lost")).to_be_hidden()
    gate.touch()
    visitor.await_status("Ended")
    expect(visitor.page.locator("#task-head .head .st")).to_contain_text("Succeeded")
    assert visitor.read_all() == forge.api.log(task).decode().splitlines()


def _count(page: Any) -> int:
    return int(page.locator("[data-line-count]").inner_text().split()[0].replace(",", ""))


def test_a_page_that_waits_says_for_what(visit: Visit, forge: Deployment, project: int) -> None:
    task = forge.api.run_script(project, "true", tags=["gpu"], name="Needs a card")
    page = visit("operator").page
    page.goto(f"/tasks/{task}/")
    expect(page.locator("#task-waiting")).to_contain_text("gpu")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#task-head .head .st")).to_contain_text("Stopped")


def test_the_task_list_filters_and_keeps_its_address(
    visit: Visit, forge: Deployment, project: int
) -> None:
    names = {"Filter good": "true", "Filter bad": "exit 1"}
    for name, script in names.items():
        forge.api.wait_until(forge.api.run_script(project, script, name=name))
    visitor = visit("viewer")
    page = visitor.page
    page.goto(f"/projects/{project}/tasks/")
    expect(page.get_by_role("link", name="Filter good")).to_be_visible()
    page.get_by_role("group", name="State").get_by_role("link", name="Failed").click()
    expect(page.get_by_role("link", name="Filter bad")).to_be_visible()
    expect(page.get_by_role("link", name="Filter good")).to_have_count(0)

    page.keyboard.press("/")
    page.keyboard.type("filter")
    page.keyboard.press("Enter")
    expect(page.get_by_role("searchbox")).to_have_value("filter")
    names_shown = page.locator("td.a-name a")
    expect(names_shown).to_have_text(["Filter bad"])
    page.reload()
    expect(names_shown).to_have_text(["Filter bad"])

    page.get_by_text("Filter", exact=True).click()
    form = page.get_by_role("form", name="Filter tasks")
    form.get_by_label("Started by").select_option(label="admin")
    form.get_by_label("Queued in the").select_option(label="last hour")
    form.get_by_role("button", name="Show these tasks").click()
    expect(names_shown).to_have_text(["Filter bad"])
    page.get_by_role("link", name="Started by admin").click()
    expect(page.get_by_role("link", name="Queued in the last hour")).to_be_visible()
    expect(page.get_by_role("link", name="Started by admin")).to_have_count(0)
    expect(page.get_by_role("searchbox")).to_have_value("filter")

    page.goto(f"/projects/{project}/tasks/?q=nothing+is+called+so")
    page.get_by_role("link", name="Show all tasks").click()
    expect(page.get_by_role("link", name="Filter good")).to_be_visible()
    expect(page.locator("[data-zone]")).to_have_text("Pacific/Auckland")
    assert "Pacific/Auckland" in page.locator("td.a-when time").first.get_attribute("title")


def test_the_list_of_templates_shows_how_a_run_goes_by_itself(
    visit: Visit, forge: Deployment, project: int, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    name = "Shown while it runs"
    template = forge.api.template(project, gated(gate, "early", "late"), name=name)
    page = visit("viewer").page
    page.goto(f"/projects/{project}/templates/")
    row = page.get_by_role("row").filter(has_text=name)
    expect(row).to_contain_text("never")
    task = forge.api.run(project, template)
    expect(row).to_contain_text("Running")
    gate.touch()
    expect(row).to_contain_text("Succeeded")
    expect(row.get_by_role("link", name="Succeeded")).to_have_attribute("href", f"/tasks/{task}/")


def test_a_new_task_appears_in_the_list_without_pushing_rows_away(
    visit: Visit, forge: Deployment, project: int
) -> None:
    forge.api.wait_until(forge.api.run_script(project, "true", name="Seen before"))
    page = visit("viewer").page
    page.goto(f"/projects/{project}/tasks/")
    first = page.locator("td.a-name a").first
    expect(first).to_have_text("Seen before")
    forge.api.run_script(project, "true", name="Came later")
    expect(page.locator("#newer")).to_have_text("1 newer task")
    expect(first).to_have_text("Seen before")
    page.locator("#newer").click()
    expect(first).to_have_text("Came later")

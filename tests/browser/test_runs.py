"""A template from the form to the end of its run, as an operator sees it."""

from __future__ import annotations

import re
from datetime import datetime
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

    page.get_by_role("link", name="Stop", exact=True).click()
    question = page.get_by_role("dialog", name="Stop #")
    question.get_by_role("link", name="Leave it").click()
    expect(question).to_have_count(0)
    assert visitor.lines()[:2] == ["early", "late"] and processes_with(marker)
    page.get_by_role("link", name="Stop", exact=True).click()
    question.get_by_role("button", name="Stop task").click()
    expect(page.locator("#task-head .head .st")).to_contain_text("Stopped")
    expect(page.locator("#task-head .sub")).to_contain_text("manager")
    visitor.await_status("Ended")
    assert not processes_with(marker)
    expect(page.get_by_role("link", name="Stop", exact=True)).to_have_count(0)


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


def test_a_rerun_of_a_changed_template_asks_once(
    visit: Visit, forge: Deployment, project: int
) -> None:
    template = forge.api.template(project, "echo before", name="Changes in between")
    task = forge.api.run(project, template)
    forge.api.wait_until(task, "succeeded")
    answer = forge.api.send("PATCH", f"templates/{template}/", json={"script": "echo after\n"})
    assert answer.status_code == 200
    visitor = visit("manager")
    page = visitor.page
    page.goto(f"/tasks/{task}/")
    page.get_by_role("link", name="Re-run").click()
    question = page.get_by_role("dialog", name="Re-run Changes in between as it is now?")
    expect(question).to_contain_text("The template has changed since")
    expect(question).to_contain_text("changed script +1 −1")
    question.get_by_role("button", name="Run it as it is now").click()
    expect(page.locator("#task-head .head")).to_contain_text("Succeeded")
    visitor.await_line("after")


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


def test_a_page_says_when_nobody_answers_although_the_connection_stands(
    visit: Visit, forge: Deployment, project: int, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    task = forge.api.run_script(project, f"echo up; until [ -e {gate} ]; do sleep 0.1; done")
    watching, listing = visit("viewer"), visit("operator").page
    watching.page.goto(f"/tasks/{task}/")
    watching.await_line("up")
    listing.goto(f"/projects/{project}/tasks/")
    expect(listing.locator("#live")).to_contain_text("Live")
    with forge.stopped("web"):
        watching.await_status("Reconnecting")
        expect(listing.locator("#live")).to_contain_text("Lost")
    watching.await_status("Live")
    expect(listing.locator("#live")).to_contain_text("Live")
    gate.touch()
    watching.await_status("Ended")


def test_a_task_without_output_asks_for_no_log_that_is_not_there(
    visit: Visit, forge: Deployment, project: int
) -> None:
    task = forge.api.run_script(project, "true")
    assert forge.api.wait_until(task)["state"] == "succeeded"
    visitor = visit("viewer")
    refused: list[str] = []
    visitor.page.on(
        "response", lambda answer: refused.append(answer.url) if answer.status >= 400 else None
    )
    with visitor.page.expect_response(lambda answer: "/log/outline" in answer.url):
        visitor.page.goto(f"/tasks/{task}/")
    visitor.await_status("Ended")
    assert refused == []


def _count(page: Any) -> int:
    return int(page.locator("[data-line-count]").inner_text().split()[0].replace(",", ""))


def test_a_page_that_waits_says_for_what(visit: Visit, forge: Deployment, project: int) -> None:
    task = forge.api.run_script(project, "true", tags=["gpu"], name="Needs a card")
    page = visit("operator").page
    page.goto(f"/tasks/{task}/")
    expect(page.locator("#task-waiting")).to_contain_text("gpu")
    page.get_by_role("link", name="Stop", exact=True).click()
    page.get_by_role("button", name="Stop task").click()
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
    page.wait_for_url("**state=failed**")
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
    expect(page.locator(".foot [data-zone]")).to_have_text("Pacific/Auckland")
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


def test_a_task_that_wrote_nothing_says_so_when_it_ends(
    visit: Visit, forge: Deployment, project: int, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    script = f"while [ ! -e {gate} ]; do sleep 0.05; done"
    task = forge.api.run_script(project, script, name="Says nothing")
    visitor = visit("viewer")
    nothing = visitor.page.locator("#log .lines .nothing")
    visitor.page.goto(f"/tasks/{task}/")
    visitor.await_status("Live")
    expect(nothing).to_have_text("Nothing written yet.")
    gate.touch()
    visitor.await_status("Ended")
    expect(nothing).to_have_text("It wrote nothing.")


def test_how_much_of_the_usual_time_is_over_counts_on(
    visit: Visit, forge: Deployment, project: int, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    script = f"sleep 1; {gated(gate, 'early', 'late')}"
    template = forge.api.template(project, script, name="Usual")
    first = forge.api.wait_until(forge.api.run(project, template))
    assert first["state"] == "succeeded"
    begin, end = (datetime.fromisoformat(first[name]) for name in ("started_at", "finished_at"))
    usual = end - begin
    gate.unlink()
    task = forge.api.run(project, template)
    began = datetime.fromisoformat(forge.api.wait_until(task, "running")["started_at"])
    page = visit("operator").page
    # Without a word from the server: nothing happens to the task meanwhile.
    page.clock.set_fixed_time(began + usual / 2)
    page.goto(f"/tasks/{task}/")
    share = page.locator("[data-usual]")
    expect(share).to_have_text(re.compile(r"^(4[5-9]|5[0-5]) % of the usual time$"))
    page.clock.set_fixed_time(began + 2 * usual)
    expect(share).to_have_text("longer than usual")
    gate.touch()
    expect(share).to_have_count(0)

"""What a task's page says of a log before it has drawn one, with JavaScript and without."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.conftest import Visit
from tests.browser.people import Person
from tests.deployment.deployment import Deployment

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect


def test_a_finished_task_claims_no_empty_log(
    browser: Any, forge: Deployment, project: int, people: dict[str, Person]
) -> None:
    task = forge.api.wait_until(forge.api.run_script(project, "echo written"))["id"]
    context = browser.new_context(base_url=forge.place["url"], java_script_enabled=False)
    page = context.new_page()
    page.goto(f"/sign-in/?next=/tasks/{task}/")
    page.get_by_label("User name").fill(people["owner"].name)
    page.get_by_label("Password").fill(people["owner"].password)
    page.get_by_role("button", name="Sign in").click()
    log = page.locator("#log")
    expect(log.get_by_role("link", name="read it as plain text")).to_be_visible()
    for words in ("Nothing written yet.", "Connecting", "0 lines"):
        expect(log.get_by_text(words)).to_be_hidden()
    context.close()


def test_a_task_that_has_written_nothing_yet_says_so(
    visit: Visit, forge: Deployment, project: int
) -> None:
    task = forge.api.run_script(project, "sleep 600")
    page = visit("owner").page
    page.goto(f"/tasks/{task}/")
    expect(page.locator("#task-head .head .st")).to_contain_text("Running")
    expect(page.get_by_text("Nothing written yet.")).to_be_visible()
    forge.api.post(f"tasks/{task}/stop")

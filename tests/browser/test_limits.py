"""What each role meets: no button for what it may not do, and a refusal at the address itself."""

from __future__ import annotations

import pytest

from tests.browser.conftest import Visit
from tests.browser.people import Administration, Person
from tests.deployment.deployment import Deployment

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect

RUN, NEW, STOP, REMOVE = "Run Limits", "New template", "Stop", "Remove"


@pytest.fixture(scope="package")
def template(forge: Deployment, project: int) -> int:
    return forge.api.template(project, "echo up; sleep 600", name="Limits")


@pytest.mark.parametrize(
    ("who", "runs", "changes"),
    [("viewer", False, False), ("operator", True, False), ("manager", True, True)],
)
def test_a_role_finds_the_buttons_that_it_may_use(
    who: str, runs: bool, changes: bool, visit: Visit, forge: Deployment, project: int,
    template: int,
) -> None:  # fmt: skip
    task = forge.api.run(project, template)
    forge.api.await_output(task, b"up")
    page = visit(who).page
    page.goto(f"/projects/{project}/templates/")
    expect(page.get_by_role("button", name=RUN)).to_have_count(int(runs))
    assert (page.get_by_role("link", name=NEW).count() > 0) == changes
    page.get_by_role("link", name="Limits", exact=True).click()
    expect(page.get_by_role("heading", name="Limits")).to_be_visible()
    expect(page.locator("textarea[name=script]")).to_have_count(int(changes))
    page.goto(f"/projects/{project}/tasks/")
    expect(page.get_by_role("link", name="Run a template")).to_have_count(int(runs))
    page.goto(f"/tasks/{task}/")
    expect(page.get_by_role("link", name=STOP, exact=True)).to_have_count(int(runs))
    page.goto(f"/runners/{forge.place['runner_id']}/")
    if changes:
        page.locator("main summary", has_text="More").click()
    expect(page.get_by_role("link", name=REMOVE)).to_have_count(int(changes))

    refused = {
        f"/projects/{project}/templates/new/": changes,
        f"/projects/{project}/runners/new/": changes,
        f"/projects/{project}/registration-tokens/": changes,
        f"/runners/{forge.place['runner_id']}/remove/": changes,
    }
    for address, is_allowed in refused.items():
        answer = page.goto(address)
        assert answer.status == (200 if is_allowed else 403), address
        if not is_allowed:
            expect(page.get_by_role("heading")).to_have_text("Your role does not allow this")
    forge.api.post(f"tasks/{task}/stop")


def test_an_outsider_learns_not_even_that_a_project_exists(
    visit: Visit, forge: Deployment, project: int, template: int
) -> None:
    task = forge.api.wait_until(forge.api.run_script(project, "echo not for you"))
    page = visit("outsider").page
    expect(page.get_by_role("heading", name="No projects yet")).to_be_visible()
    nowhere = page.goto("/projects/99999/") and page.locator("main").inner_text()
    for address in (
        f"/projects/{project}/",
        f"/projects/{project}/tasks/",
        f"/tasks/{task['id']}/",
        f"/tasks/{task['id']}/log",
        f"/templates/{template}/",
        f"/runners/{forge.place['runner_id']}/",
    ):
        assert page.goto(address).status == 404, address
        assert page.locator("main").inner_text() == nowhere


def test_who_is_not_signed_in_comes_back_after_signing_in(
    visit: Visit, forge: Deployment, project: int, people: dict[str, Person]
) -> None:
    page = visit(None).page
    page.goto(f"/projects/{project}/runners/")
    page.get_by_label("User name").fill(people["viewer"].name)
    page.get_by_label("Password").fill("not the password")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("do not match")
    expect(page.get_by_label("Password")).to_be_focused()
    expect(page.get_by_label("User name")).to_have_value(people["viewer"].name)
    page.get_by_label("Password").fill(people["viewer"].password)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Runners")).to_be_visible()


def test_a_session_that_ended_leads_to_the_sign_in(visit: Visit, project: int) -> None:
    """Also from a page that refreshes itself, in another tab than the one that signed out."""
    visitor = visit("viewer")
    page = visitor.page
    page.goto(f"/projects/{project}/")
    other = page.context.new_page()
    other.goto("/")
    other.locator("summary.me").click()
    other.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in/**")
    expect(page.get_by_label("User name")).to_be_visible()


def test_a_watched_task_leads_to_the_sign_in_when_the_session_ends(
    visit: Visit, forge: Deployment, project: int
) -> None:
    task = forge.api.run_script(project, "echo seen before; sleep 600", name="Signed out")
    visitor = visit("viewer")
    page = visitor.page
    # After this it asks for nothing but its stream.
    with page.expect_response(lambda answer: "/outline" in answer.url) as outline:
        page.goto(f"/tasks/{task}/")
    assert outline.value.json()["is_all"]
    visitor.await_line("seen before")
    other = page.context.new_page()
    other.goto("/")
    other.locator("summary.me").click()
    other.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in/**")
    expect(page.get_by_label("User name")).to_be_visible()
    forge.api.post(f"tasks/{task}/stop")


def test_a_watched_task_is_gone_for_whoever_is_no_member_any_more(
    visit: Visit, forge: Deployment, project: int
) -> None:
    administration = Administration(forge)
    leaver = administration.person("leaver")
    administration.join(leaver, project, "viewer")
    task = forge.api.run_script(project, "echo seen before; sleep 600", name="No member")
    visitor = visit(None)
    visitor.sign_in(leaver.name, leaver.password)
    page = visitor.page
    page.goto(f"/tasks/{task}/")
    visitor.await_line("seen before")
    (member,) = [
        row["id"]
        for row in forge.api.get(f"projects/{project}/members/")["results"]
        if row["user_name"] == leaver.name
    ]
    forge.api.send("DELETE", f"members/{member}/")
    expect(page.locator("#task-head")).to_have_count(0)
    expect(page.locator("main")).not_to_contain_text("seen before")
    forge.api.post(f"tasks/{task}/stop")

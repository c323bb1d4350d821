"""Lists that stay open: what is new waits in its place, and filters answer while one types."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.browser.conftest import Visit
from tests.browser.people import Person
from tests.browser.visitor import box_of
from tests.deployment.deployment import Deployment

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect


def test_an_open_list_of_templates_learns_of_new_ones_without_moving(
    visit: Visit, forge: Deployment, project: int
) -> None:
    api = forge.api
    api.template(project, "true\n", name="Middle")
    page = visit("operator").page
    page.goto(f"/projects/{project}/templates/")
    row = page.get_by_role("row").filter(has_text="Middle")
    place = box_of(row)
    pill = page.locator("#newer")
    expect(pill).to_be_hidden()
    api.template(project, "true\n", name="A first one")
    expect(pill).to_have_text(re.compile("1 new template"))
    assert box_of(row) == place
    expect(page.get_by_role("row").filter(has_text="A first one")).to_have_count(0)
    pill.click()
    new = page.get_by_role("row").filter(has_text="A first one")
    expect(new).to_be_visible()
    expect(pill).to_be_hidden()
    new.get_by_role("button", name="Run A first one").click()
    page.wait_for_url(re.compile(r"/tasks/\d+/$"))


def test_projects_are_filtered_while_one_types(visit: Visit, forge: Deployment) -> None:
    for number in range(10):
        forge.api.project(f"Zone {number}")
    page = visit("owner").page
    page.goto("/")
    page.keyboard.press("/")
    page.keyboard.type("zone 7")
    names = page.locator("#projects a.name")
    expect(names).to_have_text(["Zone 7"])
    expect(page).to_have_url(re.compile(r"/\?q=zone\+7$"))
    page.reload()
    expect(names).to_have_text(["Zone 7"])
    page.locator("input[name=q]").first.fill("no such place")
    expect(page.get_by_role("heading", name="No project matches")).to_be_visible()
    page.get_by_role("link", name="Show all projects").click()
    expect(names.first).to_be_visible()
    assert names.count() > 10


def minutes_ago(page: Any, minutes: int) -> str:
    """In the reader's zone, as fields of a date and a time take it."""
    script = "(m) => new Date(Date.now() - m * 60_000).toLocaleString('sv').slice(0, 16)"
    return str(page.evaluate(script, minutes)).replace(" ", "T")


def test_tasks_are_found_by_a_span_of_time_in_the_readers_zone(
    visit: Visit, forge: Deployment, project: int
) -> None:
    task = forge.api.run_script(project, "true\n", name="In a span")
    page = visit("viewer").page
    page.goto(f"/projects/{project}/tasks/?q=in+a+span")
    found = page.locator(f"a[href='/tasks/{task}/']")
    expect(found.first).to_be_visible()
    begin, end = minutes_ago(page, 30), minutes_ago(page, 29)
    page.locator("summary", has_text="Filter").click()
    page.get_by_label("Queued from").fill(begin)
    page.get_by_role("button", name="Show these tasks").click()
    expect(page).to_have_url(re.compile(r"from=[0-9]{4}-[0-9T-]+%3A[0-9]{2}Z"))
    expect(found.first).to_be_visible()
    expect(page.locator(".pick", has_text="Queued from")).to_contain_text(begin[-5:])
    page.locator("summary", has_text="Filter").click()
    expect(page.get_by_label("Queued from")).to_have_value(begin)
    page.get_by_label("Queued until").fill(end)
    page.get_by_role("button", name="Show these tasks").click()
    expect(page.locator(".pick", has_text="Queued until")).to_contain_text(end[-5:])
    expect(found).to_have_count(0)
    page.locator(".pick", has_text="Queued until").click()
    expect(found.first).to_be_visible()


def test_the_audit_log_takes_times_in_the_readers_zone(visit: Visit, forge: Deployment) -> None:
    project = forge.api.project("Looked back at")
    page = visit("owner").page
    page.goto(f"/projects/{project}/audit/")
    created = page.locator("td.a-what", has_text="Created project")
    expect(created).to_be_visible()
    begin, end = minutes_ago(page, 30), minutes_ago(page, 29)
    page.locator("summary", has_text="Time, address").click()
    expect(page.locator("#filter-zone")).to_have_text("Times in Pacific/Auckland")
    page.get_by_label("From").fill(begin)
    page.get_by_role("button", name="Filter", exact=True).click()
    expect(page).to_have_url(re.compile(r"since=[0-9]{4}-[0-9T-]+%3A[0-9]{2}Z"))
    expect(created).to_be_visible()
    expect(page.get_by_label("From")).to_have_value(begin)
    page.get_by_label("To", exact=True).fill(end)
    page.get_by_role("button", name="Filter", exact=True).click()
    expect(page.get_by_role("heading", name="Nothing matches")).to_be_visible()
    expect(page.get_by_label("To", exact=True)).to_have_value(end)


@pytest.mark.parametrize("place", ["/projects/{}/tasks/", "/projects/{}/runners/"])
def test_back_leads_to_a_list_without_the_text_that_was_entered_later(
    place: str, visit: Visit, project: int
) -> None:
    page = visit("owner").page
    page.goto(place.format(project))
    field = page.locator("form[data-as-told] input[type=search]")
    field.fill("nothing is called so")
    field.press("Enter")
    page.wait_for_url("**/*q=nothing*")
    page.go_back()
    page.wait_for_url(lambda url: "q=" not in url)
    expect(field).to_have_value("")


def test_a_list_says_that_it_is_updated_only_while_it_is(
    browser: Any, visit: Visit, forge: Deployment, project: int, people: dict[str, Person]
) -> None:
    path = f"/projects/{project}/runners/"
    page = visit("viewer").page
    page.goto(path)
    said = page.get_by_text("Updated as it happens")
    expect(said).to_be_visible()
    page.route("**/*part=live*", lambda route: route.abort())
    expect(page.locator("#lost")).to_be_visible()
    expect(said).to_be_hidden()
    page.unroute("**/*part=live*")
    expect(said).to_be_visible()

    context = browser.new_context(base_url=forge.place["url"], java_script_enabled=False)
    page = context.new_page()
    page.goto(f"/sign-in/?next={path}")
    page.get_by_label("User name").fill(people["viewer"].name)
    page.get_by_label("Password").fill(people["viewer"].password)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator(".foot").get_by_text(re.compile(r"^\d+ runners?$"))).to_be_visible()
    expect(page.get_by_text("Updated as it happens")).to_be_hidden()
    context.close()

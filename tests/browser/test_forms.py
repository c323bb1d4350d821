"""Wrong input in each form: what was typed is kept, and the form says what to change."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.browser.conftest import Visit
from tests.browser.visitor import PHONE, WIDE
from tests.deployment.deployment import Deployment

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect


@dataclass(frozen=True)
class Mistake:
    """Typed by label; `says` stands on the page afterwards, and what was typed is still there."""

    address: str
    button: str
    typed: dict[str, str]
    says: str
    forgotten: dict[str, str] = field(default_factory=dict)


MISTAKES = {
    "project": Mistake("/", "Create project", {"Name": "Demo"}, "Demo"),
    "template": Mistake(
        "/projects/{project}/templates/new/",
        "Create template",
        {"Name": "Wrong", "Script": "echo kept\n", "Environment": "NO EQUALS"},
        "Line 1 has no equals sign. Write NAME=value.",
    ),
    "runner": Mistake(
        "/projects/{project}/runners/new/",
        "Add runner",
        {"Name": "dc-west-9", "Tags": "GPU, linux"},
        "The tag GPU has capital letters. Use gpu.",
    ),
    "registration token": Mistake(
        "/projects/{project}/registration-tokens/new/",
        "Create token",
        {"Name": "Rack 7", "Tags": "Edge"},
        "The tag Edge has capital letters. Use edge.",
    ),
    "access key": Mistake(
        "/projects/{project}/access-keys/new/",
        "Create access key",
        {"Name": "Deploy", "Login": "deploy"},
        "key",
        {"Private key": "this is no key"},
    ),
    "variable group": Mistake(
        "/projects/{project}/variable-groups/new/",
        "Create variable group",
        {"Name": "Production", "Plain variables": "1BAD=x"},
        "1BAD",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES.keys())
def test_a_form_keeps_what_was_typed(mistake: Mistake, visit: Visit, project: int) -> None:
    page = visit("owner").page
    page.goto(mistake.address.format(project=project))
    boxes = page.locator("main").get_by_role("textbox")
    for label, text in (mistake.typed | mistake.forgotten).items():
        _field(page, label).fill(text)
    assert boxes.count() > 0
    page.get_by_role("button", name=mistake.button).click()
    problem = page.locator("main .problem li, main .problem.box").filter(has_text=mistake.says)
    expect(problem.first).to_be_visible()
    for label, text in mistake.typed.items():
        expect(_field(page, label)).to_have_value(text)
    for label, secret in mistake.forgotten.items():
        expect(_field(page, label)).to_have_value("")
        assert secret not in page.content()
    marked = page.locator("main [aria-invalid=true]")
    # Whoever works by keyboard alone is where there is something to change.
    expect(marked.first if marked.count() else page.locator("[data-rejected]")).to_be_focused()
    if marked.count():
        expect(marked.first).to_be_in_viewport()
        described = marked.first.get_attribute("aria-describedby")
        assert page.locator(f"#{described.split()[-1]}").count() == 1


def _field(page: Any, label: str) -> Any:
    return page.locator("main").get_by_label(label, exact=True).or_(
        page.locator("main").get_by_label(f"{label} optional", exact=True)
    ).first  # fmt: skip


def test_a_form_is_sent_once_and_again_after_the_browser_was_stopped(
    visit: Visit, project: int
) -> None:
    page = visit("owner").page
    page.goto(f"/projects/{project}/variable-groups/new/")
    _field(page, "Name").fill("Stopped halfway")
    sent: list[str] = []

    def hold(route: Any) -> None:
        """Let the browser wait for the answer to what it sends."""
        if route.request.method == "POST":
            sent.append(route.request.url)
        else:
            route.continue_()

    page.route("**/variable-groups/new/", hold)
    save = page.get_by_role("button", name="Create variable group")
    box = save.bounding_box()
    place = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    with page.expect_request(lambda request: request.method == "POST"):
        page.mouse.click(*place)
        page.mouse.click(*place)
    page.context.new_cdp_session(page).send("Page.stopLoading")
    expect(page.locator("main form[data-sent]")).to_have_count(0)
    assert len(sent) == 1
    page.unroute("**/variable-groups/new/")
    save.click()
    expect(page.get_by_role("link", name="Stopped halfway")).to_be_visible()


def test_a_secret_is_never_shown_again(visit: Visit, project: int) -> None:
    value = "canary-9f2c-of-the-browser"
    page = visit("owner").page
    page.goto(f"/projects/{project}/access-keys/new/")
    _field(page, "Name").fill("Pager")
    page.get_by_text("Secret text", exact=True).first.click()
    page.get_by_role("textbox", name="Secret text").fill(value)
    page.get_by_role("button", name="Create access key").click()
    page.get_by_role("link", name="Pager").click()
    expect(page.get_by_role("heading", name="Pager")).to_be_visible()
    assert value not in page.content()
    for box in page.locator("main textarea, main input").all():
        assert value not in (box.input_value() if box.is_visible() else "")
    assert value not in visit("viewer").page.goto(page.url).text()


def test_going_back_shows_what_is_stored(visit: Visit, forge: Deployment, project: int) -> None:
    """Not what was typed before: that would undo a colleague's save without a word."""
    template = forge.api.template(project, "echo first", name="Gone back to")
    page = visit("owner").page
    page.goto(f"/templates/{template}/")
    _field(page, "Description").fill("Annas")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("[data-passing]")).to_be_visible()
    colleague = visit("manager").page
    colleague.goto(f"/templates/{template}/")
    _field(colleague, "Script").fill("echo bens\n")
    _field(colleague, "Description").fill("Bens")
    colleague.get_by_role("button", name="Save").click()
    expect(colleague.locator("[data-passing]")).to_be_visible()
    page.go_back()
    expect(_field(page, "Description")).to_have_value("Bens")
    expect(_field(page, "Script")).to_have_value("echo bens\n")


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_what_was_done_is_said_beside_save_and_not_on_it(
    visit: Visit, forge: Deployment, project: int, size: tuple[int, int]
) -> None:
    template = forge.api.template(project, "true\n", name=f"Enabled at {size[0]}")
    page = visit("owner", size=size).page
    page.goto(f"/templates/{template}/disable/")
    _field(page, "Reason").fill("Waits for the new kernel")
    page.get_by_role("button", name="Disable").click()
    page.locator("main").get_by_role("button", name="Enable").first.click()
    said, save = page.locator(".toast[data-passing]"), page.get_by_role("button", name="Save")
    expect(said).to_be_visible()
    # At once: it passes within seconds.
    script = "(said, save) => [said.getBoundingClientRect().bottom, save.getBoundingClientRect().y]"
    bottom, below = said.evaluate(script, save.element_handle())
    assert bottom <= below < size[1]


def test_a_reason_of_one_word_is_no_wider_than_the_screen(
    visit: Visit, forge: Deployment, project: int
) -> None:
    word = f"https://tickets.example.net/{'kernel' * 40}"[:200]
    template = forge.api.template(project, "true\n", name="Out of use")
    phone = visit("owner", size=PHONE)
    phone.page.goto(f"/templates/{template}/disable/")
    _field(phone.page, "Reason").fill(word)
    phone.page.get_by_role("button", name="Disable").click()
    for address in (f"/templates/{template}/history/", f"/projects/{project}/templates/"):
        phone.page.goto(address)
        expect(phone.page.get_by_text(word).first).to_be_visible()
        assert not phone.excess(), phone.too_wide()

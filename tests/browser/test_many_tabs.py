"""Many watched tasks in one browser, which opens six connections to Forge for all tabs together."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from forge.pages.stream import MAXIMUM_STREAMS
from tests.browser.conftest import Visit
from tests.browser.visitor import LINES
from tests.deployment.client import wait_for
from tests.deployment.deployment import Deployment

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect

TABS = 8
# Chromium without a screen calls all of its tabs visible.
SEEN = """Object.defineProperty(document, "visibilityState", {
  get: () => (window.isElsewhere ? "hidden" : "visible")
})"""
LOOK = """(isElsewhere) => {
  window.isElsewhere = isElsewhere;
  document.dispatchEvent(new Event("visibilitychange"));
}"""


def await_line(tab: Any, text: str) -> None:
    tab.locator(LINES).filter(has_text=text).first.wait_for()


def test_a_tab_that_nobody_sees_leaves_the_others_room(
    visit: Visit, forge: Deployment, project: int
) -> None:
    """And goes on, when it is seen again, with what was written meanwhile."""
    script = "for n in $(seq 1000 9999); do echo line $n; sleep 0.5; done"
    task = forge.api.run_script(project, script, name="In many tabs")
    visitor = visit("viewer")
    context = visitor.page.context
    context.add_init_script(SEEN)
    tabs = []
    for _ in range(TABS):
        tab = context.new_page()
        tab.goto(f"/tasks/{task}/")
        tab.locator(LINES).first.wait_for()
        tab.evaluate(LOOK, True)
        tabs.append(tab)
    written = forge.api.log(task).count(b"\n")
    wait_for(lambda: forge.api.log(task).count(b"\n") > written + 3, "more lines")
    tabs[0].evaluate(LOOK, False)
    await_line(tabs[0], f"line {1000 + written + 3}")
    expect(tabs[0].locator("[data-status-word]")).to_have_text("Live")
    forge.api.post(f"tasks/{task}/force-stop")
    expect(tabs[0].locator("[data-status-word]")).to_have_text("Ended")
    visitor.page.close()
    visitor.page = tabs[0]
    lines = [line for line in visitor.read_all() if line.startswith("line ")]
    assert lines == [f"line {1000 + n}" for n in range(len(lines))] and len(lines) > written


def test_who_watches_too_much_reads_what_to_do_and_then_goes_on(
    visit: Visit, forge: Deployment, project: int
) -> None:
    script = "for n in $(seq 1000 9999); do echo line $n; sleep 0.5; done"
    task = forge.api.run_script(project, script, name="Too much watched")
    visitor = visit("viewer")
    page = visitor.page
    address = f"{forge.place['url']}/tasks/{task}/stream"
    streams = [
        requests.get(address, cookies=visitor.cookies(), stream=True, timeout=60)
        for _ in range(MAXIMUM_STREAMS)
    ]
    assert {stream.status_code for stream in streams} == {200}
    page.goto(f"/tasks/{task}/")
    visitor.await_status("Not live")
    remark = page.locator("[data-remark]")
    expect(remark).to_have_text(
        f"You watch {MAXIMUM_STREAMS} tasks already. Close some of their pages."
    )
    # The connection is none of its troubles.
    expect(page.locator("#lost")).to_be_hidden()
    for stream in streams[:5]:
        stream.close()
    visitor.await_status("Live")
    expect(remark).to_contain_text("last write")
    visitor.await_line("line 1000")
    for stream in streams[5:]:
        stream.close()
    forge.api.post(f"tasks/{task}/force-stop")
    visitor.await_status("Ended")

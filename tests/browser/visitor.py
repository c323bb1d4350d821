"""A person at a browser: Chromium, signed in, with a record of what it showed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.deployment.client import wait_for

PATIENCE_MILLISECONDS = 60_000
WIDE, PHONE = (1440, 900), (390, 844)
# Answers that a test asks for, and lines that were cut on purpose.
EXPECTED = re.compile(
    r"(status of|Error Code) (4\d\d|50[234])|net::ERR_"
    r"|htmx:(timeout|afterRequest|sendError|sendAbort)"
)
LINES = "#log .ln > span"


def box_of(locator: Any) -> dict[str, float]:
    """A part of a page that is live may be drawn anew between being found and being measured."""
    box: dict[str, float] = wait_for(locator.bounding_box, "it is drawn")
    return box


class Visitor:
    """One browser context. `page` is Playwright's page; what follows are habits of its reader."""

    def __init__(
        self, browser: Any, url: str, *, size: tuple[int, int], zone: str, is_traced: bool
    ) -> None:
        self.url = url
        self.problems: list[str] = []
        self._is_traced = is_traced
        self._context = browser.new_context(
            base_url=url,
            viewport={"width": size[0], "height": size[1]},
            timezone_id=zone,
            permissions=["clipboard-read", "clipboard-write"],
        )
        self._context.set_default_timeout(PATIENCE_MILLISECONDS)
        if is_traced:
            self._context.tracing.start(screenshots=True, snapshots=True)
        self.page = self._context.new_page()
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))

    def _note(self, message: Any) -> None:
        if message.type == "error" and not EXPECTED.search(message.text):
            self.problems.append(f"{self.page.url}: {message.text}")

    def sign_in(self, name: str, password: str) -> None:
        self.page.goto("/sign-in/")
        self.page.get_by_label("User name").fill(name)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_url(f"{self.url}/")

    def cookies(self) -> dict[str, str]:
        return {cookie["name"]: cookie["value"] for cookie in self._context.cookies()}

    def clipboard(self) -> str:
        return str(self.page.evaluate("navigator.clipboard.readText()"))

    def excess(self) -> int:
        """How many pixels the page is wider than the screen."""
        script = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        return int(self.page.evaluate(script))

    def too_wide(self) -> list[str]:
        """What reaches beyond the screen's right edge, outermost first."""
        script = """[...document.querySelectorAll("body *")]
          .filter((one) => one.getBoundingClientRect().right > innerWidth + 0.5)
          .slice(0, 5).map((one) => `${one.tagName}.${one.className}#${one.id}`)"""
        return list(self.page.evaluate(script))

    def keep(self, folder: Path) -> None:
        """What the browser shows now and did before, for whoever reads a failure."""
        folder.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=folder / "page.png", timeout=20_000)
        if self._is_traced:
            self._context.tracing.stop(path=folder / "trace.zip")

    def close(self) -> None:
        self._context.close()

    # --- a task's page ---

    @property
    def state(self) -> str:
        """The word on the badge beside the task's name, without how long it has lasted."""
        badge = self.page.locator("#task-head .head .st").first
        return str(badge.inner_text())

    def lines(self) -> list[str]:
        """The log's lines that are in the document."""
        script = f"[...document.querySelectorAll('{LINES}')].map((line) => line.textContent)"
        return list(self.page.evaluate(script))

    def await_line(self, text: str) -> None:
        self.page.locator(LINES).filter(has_text=text).first.wait_for()

    def await_status(self, word: str) -> None:
        """Wait for the log's status bar: Live, Reconnecting or Ended."""
        self.page.locator("[data-status-word]", has_text=word).wait_for()

    def read_all(self) -> list[str]:
        """The whole log, as one reads it by scrolling from its beginning to its end."""
        script = """async () => {
          const lines = document.querySelector("[data-lines]"), found = [];
          const drawn = () => new Promise((done) =>
            requestAnimationFrame(() => requestAnimationFrame(done)));
          for (lines.scrollTop = 0; ; lines.scrollTop += lines.clientHeight) {
            do await drawn(); while (lines.querySelector(".wait"));
            for (const row of lines.querySelectorAll(".ln")) {
              found[row.dataset.number] = row.querySelector("span").textContent;
            }
            if (lines.scrollTop + lines.clientHeight >= lines.scrollHeight - 1) return found;
          }
        }"""
        return list(self.page.evaluate(script))

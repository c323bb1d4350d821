"""How long it takes from the program's write until somebody sees the line, in milliseconds."""

from __future__ import annotations

import base64
import json
import re
import statistics
import threading
import time
from typing import Any

import pytest
import requests

from tests.browser.conftest import Visit
from tests.browser.visitor import Visitor
from tests.deployment.client import wait_for
from tests.deployment.deployment import Deployment

SAMPLES = 40
MARK = re.compile(rb"mark (\d+) (\d+)")
# The clock of the program and of the browser is this machine's; 8 lines in 10 seconds would hide
# nothing in batches.
SCRIPT = f"""
import random, time
time.sleep(3)
for n in range({SAMPLES}):
    print("mark", n, time.time_ns() // 1000, flush=True)
    time.sleep(0.15 + random.random() / 5)
time.sleep(2)
"""
# When a line was first in a drawing: after its row is there, and the frame with it is begun.
WATCH = """
window.seen = {};
new MutationObserver(() => {
  for (const row of document.querySelectorAll(".ln > span")) {
    const found = /^mark (\\d+) (\\d+)/.exec(row.textContent);
    if (!found || window.seen[found[1]] !== undefined) continue;
    window.seen[found[1]] = null;
    requestAnimationFrame(() => setTimeout(() => {
      window.seen[found[1]] = performance.timeOrigin + performance.now() - found[2] / 1000;
    }));
  }
}).observe(document.getElementById("log"), { childList: true, subtree: true });
"""


class Listener(threading.Thread):
    """Reads the same stream as the page, without drawing it."""

    def __init__(self, visitor: Visitor, task: int) -> None:
        super().__init__(daemon=True)
        self._address = f"{visitor.url}/tasks/{task}/stream"
        self._cookies = visitor.cookies()
        self.delays: dict[int, float] = {}

    def run(self) -> None:
        with requests.get(self._address, cookies=self._cookies, stream=True, timeout=120) as answer:
            text, kind = b"", ""
            for line in answer.iter_lines(chunk_size=1):
                now = time.time_ns()
                if line.startswith(b"event: "):
                    kind = line[7:].decode()
                elif line.startswith(b"data: ") and kind == "log":
                    text += base64.b64decode(json.loads(line[6:])["data"])
                    for number, written in MARK.findall(text):
                        self.delays.setdefault(int(number), now / 1e6 - int(written) / 1e3)
                elif kind == "end":
                    return


def test_a_line_is_seen_soon_after_it_was_written(
    visit: Visit, forge: Deployment, project: int, capsys: pytest.CaptureFixture[str]
) -> None:
    visitor = visit("operator", is_traced=False)
    task = forge.api.run_script(project, SCRIPT, app="python", name="Live")
    visitor.page.goto(f"/tasks/{task}/")
    visitor.page.evaluate(WATCH)
    listener = Listener(visitor, task)
    listener.start()
    visitor.await_status("Ended")
    listener.join(60)
    wait_for(lambda: len(_seen(visitor.page)) == SAMPLES, "every line was drawn")
    seen, floor = _seen(visitor.page), sorted(listener.delays.values())
    assert len(floor) == SAMPLES
    with capsys.disabled():
        print(f"\n  from the write to the line on the screen: {_words(seen)}")
        print(f"  the same event's arrival in a program:    {_words(floor)}")


def _seen(page: Any) -> list[float]:
    found = page.evaluate("Object.values(window.seen)")
    return sorted(delay for delay in found if delay is not None)


def _words(delays: list[float]) -> str:
    worst = delays[int(len(delays) * 0.95)]
    return f"median {statistics.median(delays):.0f} ms, 95th percentile {worst:.0f} ms"

"""The table of settings says what the code reads, no more and no less."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Django's own, read through the same calls.
_READ = re.compile(r"""env(?:iron(?:ment)?)?(?:\.\w+)*\(\s*"([A-Z_]+)\"""")


def read_by(path: str) -> set[str]:
    return set(_READ.findall((ROOT / path).read_text()))


def documented(heading: str) -> set[str]:
    text = (ROOT / "docs" / "settings.md").read_text()
    section = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    return set(re.findall(r"^\| `([A-Z_]+)`", section, re.MULTILINE))


def test_every_setting_of_the_server_is_in_the_table() -> None:
    assert read_by("forge/settings.py") == documented("Server")


def test_every_setting_of_a_runner_is_in_the_table() -> None:
    assert read_by("runners/worker/configuration.py") == documented("Runner host")

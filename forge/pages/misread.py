"""Parts of an address that mean nothing here: they are left aside, and the page says so."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

MAXIMUM_SHOWN = 40


@dataclass(frozen=True)
class Misread:
    """A part of the address that is left aside: its name there, and why."""

    name: str
    why: str


def short(text: str) -> str:
    """What was given, as far as it is shown."""
    return text if len(text) <= MAXIMUM_SHOWN else f"{text[:MAXIMUM_SHOWN]}…"


def why_unknown(words: Collection[str]) -> str:
    """Behind what was given, where one of two or more words was to be."""
    *first, last = words
    return f"is not known here. Use {', '.join(first)} or {last}."

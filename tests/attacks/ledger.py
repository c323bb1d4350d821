"""Counts what the thief tried: by server and kind, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

SHOWN = 12


@dataclass
class Row:
    """One kind of attempts against one server. `succeeded` says which did, in words."""

    server: str
    kind: str
    attempts: int = 0
    seconds: float = 0.0
    succeeded: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._begun = time.monotonic()

    def tried(self, what: object, *, succeeded: bool) -> None:
        self.attempts += 1
        if succeeded:
            self.succeeded.append(repr(what)[:300])

    def end(self) -> None:
        self.seconds = time.monotonic() - self._begun
        shown = "\n".join(self.succeeded[:SHOWN])
        assert not self.succeeded, f"{len(self.succeeded)} of {self.attempts} succeeded:\n{shown}"
        assert self.attempts, "nothing was tried"


ROWS: list[Row] = []


def open_row(server: str, kind: str) -> Row:
    ROWS.append(Row(server, kind))
    return ROWS[-1]


def as_plain(rows: Iterable[Row]) -> list[list[Any]]:
    """For the way from a test process to the one that prints."""
    return [[row.server, row.kind, row.attempts, len(row.succeeded), row.seconds] for row in rows]


def table(rows: Iterable[list[Any]]) -> list[str]:
    """The lines of the report, a block for each server."""
    lines: list[str] = []
    for server in sorted({row[0] for row in rows}):
        mine = sorted((row for row in rows if row[0] == server), key=lambda row: str(row[1]))
        width = max(len(row[1]) for row in mine)
        lines += ["", f"{server}", f"{'kind':{width}}  attempts  succeeded  seconds"]
        lines += [f"{kind:{width}}  {n:8,}  {won:9}  {s:7.1f}" for _, kind, n, won, s in mine]
        attempts, won, seconds = (sum(row[place] for row in mine) for place in (2, 3, 4))
        lines.append(f"{f'{len(mine)} kinds':{width}}  {attempts:8,}  {won:9}  {seconds:7.1f}")
    return lines

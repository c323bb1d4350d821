"""What stands out in a log: where its sections begin and end, and which lines tell of an error.

Sections are what the usual programs write themselves: plays and tasks of Ansible, phases of
Terraform and OpenTofu, groups of GitHub's kind, sections of GitLab's. Whether a line tells of an
error is a guess from how it begins; it decides what is shown in red, and that a fold says so.

A log is read once: what was found in the first megabytes is stored (`LogOutline`) and read from
there on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db import IntegrityError

from tasks.log import read_pieces
from tasks.log_columns import LogOutline
from tasks.models import Task

# Looked through for one answer, and how much must be new for it to be stored.
STEP_BYTES = 2 * 1024 * 1024
STORED_AFTER_BYTES = 128 * 1024
# A log with more is not outlined to its end, and says so.
MAXIMUM_MARKS = 5000
MAXIMUM_TITLE = 120
LOOKED_AT_BYTES = 400  # of a line
MASK = b"[masked]"

# Heads of sections. Each is ended by the next one; the end of the log ends none that is one of a
# pair of lines and waits for the other, which static/forge/logfolds.js leaves open.
HEAD, PAIRED_HEAD, CLOSED_HEAD, END, ERROR = "head", "paired", "closed", "end", "error"

# Colours, dates, levels in brackets: what may stand before the first word.
_BEFORE = rb"(?:\x1b\[[0-9;:]*[mK]|[TZ](?=[^A-Za-z])|[^A-Za-z\n\x1b:#]|:(?!:)|#(?!#)){0,80}+"
_ERRORS = (
    rb"(?:(?:ERROR|FATAL|CRITICAL|PANIC|SEVERE|Error|error|fatal|panic)"
    rb"(?:[\]:)|!]|\[[A-Z]| [-:|\[])"
    rb"|(?:ERROR|FATAL|CRITICAL|PANIC) |Traceback \(most recent call last\)"
    rb"|(?:[A-Za-z_][\w.]{0,80})?(?:Error|Exception)(?::|\r?$)"
    rb"|failed: \[|npm ERR!|E: |[\w./-]{1,80}: (?:line \d+: [^\n]{1,80}: )?(?:fatal|error):"
    rb"|::error|##\[error\])"
)
_HEADS = (
    rb"(?P<ansible>(?:PLAY|TASK|RUNNING HANDLER|HANDLER)(?: \[|S? RECAP)[^\n]*)"
    rb"|(?P<group>(?:::group::|##\[group\])[^\n]*)"
    rb"|(?P<gitlab>section_start:\d+:[^\n]*)"
    rb"|(?P<end>::endgroup::|##\[endgroup\]|section_end:\d+:)"
    rb"|(?P<terraform>Initializing [^\n]*\.\.\."
    rb"|(?:Terraform|OpenTofu)(?: used the selected providers"
    rb"| will perform the following actions)[^\n]*|Plan: \d+ to [^\n]*|Apply complete![^\n]*"
    rb"|Destroy complete![^\n]*|Changes to Outputs:|Outputs:)"
)
_MARKS = re.compile(rb"^" + _BEFORE + rb"(?:" + _HEADS + rb"|(?P<error>" + _ERRORS + rb"))", re.M)
_ESCAPES = re.compile(r"\x1b\[[0-9;:?]*[@-~]|[\x00-\x1f\x7f-\x9f]")

# [line, kind, text or number of lines, milliseconds since 1970 or null]
Mark = list[Any]
# Where in the data bytes begin, and when they were written, in milliseconds since 1970.
Moment = tuple[int, int | None]


@dataclass(frozen=True)
class Outline:
    """`marks` from the asked one on; `line` is how far it goes, `is_all` whether to the end.

    `is_full`: there are more marks than are kept. `masked`: how often a secret was masked so far.
    """

    marks: list[Mark]
    line: int
    is_all: bool
    is_full: bool
    masked: int


def outline(task: Task, *, after: int) -> Outline:
    """What is known, with one step more; without the first `after` marks."""
    row = LogOutline.objects.filter(task=task, attempt=task.attempt).first()
    if row is None or row.offset > task.log_bytes:
        row = LogOutline(task=task, attempt=task.attempt, offset=0, line=0, marks=[], masked=0)
    stored, number = row.offset, row.pk
    is_all = _step(row, task)
    if row.offset - stored >= STORED_AFTER_BYTES:
        _keep(row, number, stored)
    is_full = len(row.marks) >= MAXIMUM_MARKS
    return Outline(row.marks[after:], row.line, is_all or is_full, is_full, row.masked)


def _keep(row: LogOutline, number: int | None, stored: int) -> None:
    """Unless somebody else has meanwhile."""
    found = {name: getattr(row, name) for name in ("offset", "line", "marks", "masked")}
    if number is not None:
        LogOutline.objects.filter(pk=number, offset=stored).update(**found)
        return
    try:
        LogOutline.objects.get_or_create(task=row.task, attempt=row.attempt, defaults=found)
    except IntegrityError:
        return


def _step(row: LogOutline, task: Task) -> bool:
    """Look through some more of the log; True when all of its whole lines were."""
    if len(row.marks) >= MAXIMUM_MARKS:
        return True
    end = min(row.offset + STEP_BYTES, task.log_bytes)
    is_inside = False  # of a line whose beginning was looked at already
    rest = b""
    at: int | None = None
    for piece in read_pieces(task, offset=row.offset, limit=end - row.offset):
        data = rest + piece.data
        begin = piece.offset - len(rest)
        # The whole lines of it; or, of one that is long, what is there.
        size = data.rfind(b"\n") + 1
        if not size and len(data) < LOOKED_AT_BYTES:
            rest = data
            continue
        size = size or len(data)
        moments: list[Moment] = [(0, at)] if rest else []
        moments += [(time.offset - begin, time.at) for time in piece.times]
        _take(row, data[:size], begin, moments, is_inside=is_inside)
        at = moments[-1][1]
        is_inside = not data.endswith(b"\n", 0, size)
        rest = data[size:]
    if task.is_finished and end == task.log_bytes and rest and not is_inside:
        marks = _marks_in(rest, row.line, [])
        row.marks = _merged(row.marks, marks)
    return end == task.log_bytes


def _take(
    row: LogOutline, data: bytes, begin: int, moments: list[Moment], *, is_inside: bool
) -> None:
    skipped = data.find(b"\n") + 1 if is_inside else 0
    if is_inside and not skipped:
        skipped = len(data)
    ends = data.count(b"\n", 0, skipped)
    row.marks = _merged(row.marks, _marks_in(data, row.line, moments, skipped, ends))
    row.masked += data.count(MASK)
    row.line += data.count(b"\n")
    row.offset = begin + len(data)


def _marks_in(
    data: bytes, line: int, moments: list[Moment], begin: int = 0, ends: int = 0
) -> Iterator[Mark]:
    """Of the data from byte `begin` on, before which are `ends` line ends; it starts in `line`."""
    line, counted, at = line + ends, begin, None
    waiting = [*moments]
    for found in _MARKS.finditer(data, begin):
        line += data.count(b"\n", counted, found.start())
        counted = found.start()
        while waiting and waiting[0][0] <= counted:
            at = waiting.pop(0)[1]
        yield _mark(found, line, at)


def _mark(found: re.Match[bytes], line: int, at: int | None) -> Mark:
    kind = found.lastgroup or "error"
    if kind == "error":
        return [line, ERROR, 1, at]
    if kind == "end":
        return [line, END, "", at]
    text = found[kind].decode(errors="replace")
    if kind == "group":
        return [line, CLOSED_HEAD, _title(text.replace("##[group]", "::group::")[9:]), at]
    if kind == "gitlab":
        name, _, title = text.partition("\r")
        is_closed = "[collapsed=true]" in name
        name = name.split(":", 2)[2].partition("[")[0]
        return [line, CLOSED_HEAD if is_closed else PAIRED_HEAD, _title(title) or _title(name), at]
    return [line, HEAD, _title(text.rstrip("* \r")), at]


def _title(text: str) -> str:
    return _ESCAPES.sub("", text).strip()[:MAXIMUM_TITLE]


def _merged(marks: list[Mark], more: Iterator[Mark]) -> list[Mark]:
    """Lines with errors that follow each other are one mark with their number."""
    for mark in more:
        last = marks[-1] if marks else None
        if last and mark[1] == last[1] == ERROR and last[0] + last[2] == mark[0]:
            last[2] += 1
        elif len(marks) < MAXIMUM_MARKS:
            marks.append(mark)
        else:
            break
    return marks

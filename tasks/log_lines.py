"""A log by its lines: some of them from anywhere in it, at a cost that does not grow with it.

Lines are counted from 0 and end with "\\n" alone, as in static/forge/logtext.js. Every chunk knows
how many line ends are before it, so that a line is found by one look into an index.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from tasks.log import read_log, read_pieces
from tasks.log_times import Time
from tasks.models import LogChunk, Task

MAXIMUM_LINES = 1000
# A page draws 4,000 characters of a line: this is what they take at most.
LINE_BYTES = 16 * 1024
# Of one line no more is read from its beginning, and from its end.
LINE_HEAD_BYTES, LINE_END_BYTES = 1024 * 1024, 64 * 1024
# With so many read an answer ends; it has one line at least.
ENOUGH_BYTES = 2 * 1024 * 1024
# Colours hold across lines: a reader who begins here looks back that far for them.
LEAD_BYTES = 2048
# Back to the beginning of the line: as often as one likes, it is one return. As a sequence:
# `ESC [ 1 G`, or so far to the left that nobody counts, and erased (static/forge/logtext.js).
_RETURN = re.compile(rb"(?:\r|\x1b\[[01]?G|\x1b\[[0-9]{4,9}D\x1b\[0?[JK])+")
_CHARACTER = rb"(?:[\x20-\x7e]|[\xc3-\xf4][\x80-\xbf]{1,3})"
_BACK = rb"(?:\x08|\x1b\[1?D)"
_SPINNING = re.compile(rb"(?:" + _CHARACTER + _BACK + rb")+(?=" + _CHARACTER + rb")")
_BEGUN = re.compile(rb"(?:\x1b(?:\[[0-9]{0,9}(?:D(?:\x1b(?:\[0?)?)?)?)?|\x08{1,9})\Z")


@dataclass(frozen=True)
class LongLine:
    """What is left out of a line, by its place among the lines of an answer."""

    place: int
    omitted: int
    rewritten: int


@dataclass
class Lines:
    """Whole lines from number `first` on. `times` holds (place, milliseconds, is_receipt).

    `lead` is what stands before them in the log, for what still holds of it.
    """

    first: int
    lead: bytes
    data: bytes = b""
    count: int = 0
    long: list[LongLine] = field(default_factory=list)
    times: list[tuple[int, int, bool]] = field(default_factory=list)


def read_lines(task: Task, *, first: int, count: int) -> Lines:
    """At most `count` lines; fewer when they are long, or the log has no more whole ones."""
    begin = offset_of(task, first)
    if begin is None:
        return Lines(first, b"")
    lead = b"".join(read_log(task, offset=max(begin - LEAD_BYTES, 0), limit=min(begin, LEAD_BYTES)))
    gathering = _Gathering(task, Lines(first, lead), min(count, MAXIMUM_LINES))
    gathering.read(begin)
    return gathering.finished()


def offset_of(task: Task, line: int) -> int | None:
    """Where line `line` begins; None if fewer have ended before it."""
    if line <= 0:
        return 0
    chunks = LogChunk.objects.filter(task=task, attempt=task.attempt, lines_before__lt=line)
    chunk = chunks.order_by("-lines_before", "-offset").first()
    if chunk is None or chunk.lines_before + chunk.line_ends < line:
        return None
    data, at = bytes(chunk.data), -1
    for _ in range(line - chunk.lines_before):
        at = data.index(b"\n", at + 1)
    return chunk.offset + at + 1


def place_near(task: Task, offset: int) -> tuple[int, int]:
    """(offset, line) of the first line that begins at byte `offset` or soon after it.

    Where none does for long, it is `offset` itself, in the middle of a line.
    """
    if offset <= 0:
        return 0, 0
    line = task.log_lines
    for piece in read_pieces(task, offset=offset - 1, limit=LINE_END_BYTES):
        line = piece.lines_before
        end = piece.data.find(b"\n")
        if end >= 0:
            return piece.offset + end + 1, line + 1
    return offset, line


class DrawnLine:
    """One line as it comes: what a page draws of it, and how much else there is."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.size = 0  # of what came so far
        self.omitted = 0
        self.rewritten = 0

    def add(self, data: bytes) -> None:
        self.size += len(data)
        if self.size <= LINE_BYTES:
            self.data += data
            return
        # It is long. What follows a return is written over what was there, and what a spinner
        # turns through is one character.
        whole = bytes(self.data) + data
        *over, last = _RETURN.split(whole)
        returns = b""
        if not last and over:
            last, returns = over.pop(), b"\r"
        written = sum(1 for part in over if part)
        if written:
            self.rewritten, self.omitted = self.rewritten + written, 0
        last = _SPINNING.sub(b"", last) if b"\b" in last or b"D" in last else last
        # The rest of a sequence, or of a turn, may come with what follows.
        found = _BEGUN.search(last, LINE_BYTES)
        begun = found[0] if found else b""
        self.omitted += max(len(last) - LINE_BYTES - len(begun), 0)
        self.data = bytearray(last[:LINE_BYTES] + begun + returns)

    @property
    def is_long(self) -> bool:
        return bool(self.omitted or (self.rewritten and self.size > LINE_BYTES))


class _Gathering:
    """Reads lines until there are enough of them."""

    def __init__(self, task: Task, lines: Lines, wanted: int) -> None:
        self._task = task
        self._lines = lines
        self._wanted = wanted
        self._line = DrawnLine()
        self._parts: list[bytes] = []
        self._read = 0
        self._time: Time | None = None
        self._told: tuple[int, bool] | None = None

    def finished(self) -> Lines:
        self._lines.data = b"".join(self._parts)
        return self._lines

    @property
    def _is_enough(self) -> bool:
        done = self._lines.count
        return done >= self._wanted or (done > 0 and self._read >= ENOUGH_BYTES)

    def read(self, begin: int) -> None:
        position: int | None = begin
        while position is not None and not self._is_enough:
            position = self._read_from(position)

    def _read_from(self, begin: int) -> int | None:
        """Where to go on behind the middle of a very long line; None when all is read."""
        for piece in read_pieces(self._task, offset=begin):
            times = [*piece.times]
            for at, part in _parts(piece.data):
                while times and times[0].offset <= piece.offset + at:
                    self._time = times.pop(0)
                self._add(part)
                if self._is_enough:
                    return None
            if self._line.size > LINE_HEAD_BYTES:
                return self._skip(piece.offset + len(piece.data))
        return None

    def _add(self, data: bytes) -> None:
        self._read += len(data)
        if not self._line.size:
            self._tell_time()
        ends = data.endswith(b"\n")
        self._line.add(data[:-1] if ends else data)
        if not ends:
            return
        line, lines = self._line, self._lines
        if line.is_long:
            lines.long.append(LongLine(lines.count, line.omitted, line.rewritten))
        self._parts.append(bytes(line.data) + b"\n")
        lines.count += 1
        self._line = DrawnLine()

    def _tell_time(self) -> None:
        """When the line that begins here was written, unless the one before was then too."""
        if self._time is None:
            return
        told = (self._time.at, self._time.is_receipt)
        if told != self._told:
            self._told = told
            self._lines.times.append((self._lines.count, *told))

    def _skip(self, position: int) -> int | None:
        """To shortly before the end of a very long line; what is between counts as left out."""
        number = self._lines.first + self._lines.count
        end = offset_of(self._task, number + 1)
        if end is None:
            return None
        begin = max(end - 1 - LINE_END_BYTES, position)
        self._line.omitted += begin - position
        self._line.size += begin - position
        # Once is enough: what is left of the line is less than would be skipped.
        self._read += LINE_END_BYTES
        return begin


def _parts(data: bytes) -> list[tuple[int, bytes]]:
    """The data cut behind its line ends, each part with its place."""
    found, at = [], 0
    for part in data.split(b"\n"):
        found.append((at, part + b"\n"))
        at += len(part) + 1
    last = found.pop()
    if last[1] != b"\n":
        found.append((last[0], last[1][:-1]))
    return found

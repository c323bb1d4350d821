"""Which lines of a log hold a text: as a reader sees them, not as they were sent.

What the page draws is decided in static/forge/logtext.js; the lines here are numbered as there,
and colours, titles and what a progress bar or a spinner wrote over are left out as there.
"""

from __future__ import annotations

import io
import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from projects.characters import UNSEEN
from tasks.log import read_log
from tasks.log_lines import LINE_BYTES, LINE_END_BYTES, LINE_HEAD_BYTES, DrawnLine
from tasks.models import Task

MAXIMUM_TEXT = 200
MAXIMUM_LINES = 10_000

_ESCAPES = re.compile(
    "\x1b[ -/]*(?:\\[[ -?]*[@-~]?|[\\]PX^_][^\x07\n\x1b\x9c]*[\x07\x9c]?|[^\x00-\x1f])?"
    "|\x9b[ -?]*[@-~]?"
)
_STEERING = re.compile("(?:\x1b[ -/]*\\[|\x9b)(?:[0-9]{0,9}[CDG]|[012]?K|0?J)|\b")
_STEPS = re.compile(
    "(?P<text>[^\x00-\x08\x0a-\x1f\x7f-\x9f]+)|(?P<back>\b)"
    "|(?P<home>\r)|(?:\x1b[ -/]*\\[|\x9b)(?:(?P<count>[0-9]{0,9})(?P<move>[CDG])"
    "|(?P<erase>[012]?(?=K)|0?(?=J))[KJ])"
    f"|{_ESCAPES.pattern}"
)
# What a spinner writes over at once: without it the line is the same, and is drawn faster.
_SPINNING = re.compile("(?:[^\x00-\x08\x0a-\x1f\x7f-\x9f]\b)+(?=[^\x00-\x08\x0a-\x1f\x7f-\x9f])")
# Of a line; what is further to the right is not drawn (SHOWN_CHARACTERS of logtext.js).
_COLUMNS = 4000
# No further is gone beyond a line's end (WIDEST of logtext.js).
_WIDEST = 200
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Found:
    """Numbers of lines, from 1, ascending, at most MAXIMUM_LINES of `total`.

    `first` is how many hits stand before them. Of `partly` lines only the beginning was looked
    through: they are longer than a page reads.
    """

    lines: list[int]
    total: int
    first: int = 0
    partly: int = 0


class _Window:
    """Some hits of however many: those after `skip`, or those around the line `near`."""

    def __init__(self, skip: int, near: int) -> None:
        self._skip = skip
        self._near = near
        self._before: deque[int] = deque(maxlen=MAXIMUM_LINES // 2)
        self._lines: list[int] = []
        self._earlier = self.total = 0

    def add(self, line: int) -> None:
        self.total += 1
        if line < self._near:
            self._before.append(line)
            self._earlier += 1
        elif len(self._before) + len(self._lines) < MAXIMUM_LINES and self.total > self._skip:
            self._lines.append(line)

    def found(self, partly: int) -> Found:
        first = self._earlier - len(self._before) if self._near else min(self._skip, self.total)
        return Found([*self._before, *self._lines], self.total, first, partly)


def find_lines(task: Task, text: str, *, skip: int = 0, near: int = 0) -> Found:
    """The lines of the current attempt's log that hold `text`, small and capital letters alike.

    Of very many hits those after the first `skip` are told, or those around the line `near`.
    """
    wanted, before, partly = text.lower(), 0, 0
    window = _Window(0 if near else skip, near)
    if not wanted or "\n" in wanted:
        return Found([], 0)
    for block, shortened in _whole_lines(read_log(task)):
        partly += shortened
        for line in _lines_with(wanted, as_seen(block).lower()):
            window.add(before + line)
        before += block.count(b"\n")
    return window.found(partly)


def _lines_with(wanted: str, text: str) -> Iterator[int]:
    """Without making a string of every line: a log has millions, and few of them match."""
    at, counted_to, line = text.find(wanted), 0, 1
    while at >= 0:
        line += text.count("\n", counted_to, at)
        yield line
        counted_to = text.find("\n", at)
        if counted_to < 0:
            return
        at = text.find(wanted, counted_to)


class _BegunLine:
    """A line as it comes: no more of it than a page reads, and draws."""

    def __init__(self) -> None:
        self.size = 0
        self._line = DrawnLine()
        self._end = b""

    def add(self, data: bytes) -> None:
        self.size += len(data)
        if self._line.size <= LINE_HEAD_BYTES:
            self._line.add(data)
        else:
            self._end = (self._end + data)[-LINE_END_BYTES:]

    def drawn(self) -> tuple[bytes, int]:
        """What a page draws of it, and 1 if that is not all, or else 0."""
        if self._end:
            self._line.add(self._end)
        return bytes(self._line.data), int(self._line.omitted > 0)


def _whole_lines(pieces: Iterable[bytes]) -> Iterator[tuple[bytes, int]]:
    """The same log, cut behind line ends only, and of long lines what a page draws of them.

    So a log of progress without a single line end costs no more memory than any other. With each
    block comes of how many of its lines something is left out.
    """
    begun = _BegunLine()
    for piece in pieces:
        end = piece.rfind(b"\n") + 1
        if not end:
            begun.add(piece)
            continue
        first = piece.index(b"\n") if begun.size else 0
        if begun.size:
            begun.add(piece[:first])
        (head, of_head), (lines, of_lines) = begun.drawn(), _shortened(piece[first:end])
        yield head + lines, of_head + of_lines
        begun = _BegunLine()
        begun.add(piece[end:])
    if begun.size:
        yield begun.drawn()


def _shortened(block: bytes) -> tuple[bytes, int]:
    """Whole lines, of each no more than a page draws of it, and of how many that is not all."""
    parts, at, shortened = [], 0, 0
    while at < len(block):
        end = block.rfind(b"\n", at, at + LINE_BYTES + 1) + 1
        if end:
            parts.append(block[at:end])
        else:
            end = block.index(b"\n", at) + 1
            line = _BegunLine()
            line.add(block[at : end - 1])
            drawn, is_short = line.drawn()
            parts.append(drawn + b"\n")
            shortened += is_short
        at = end
    return b"".join(parts), shortened


def as_seen(block: bytes) -> str:
    """Whole lines as the page draws them: one line for each that was sent."""
    text = block.decode(errors="replace")
    if not text.isascii():
        text = UNSEEN.sub(lambda found: f"<U+{ord(found[0]):04X}>", text)
    if _STEERING.search(text):
        text = "\n".join(map(_steered, text.split("\n")))
    text = _CONTROLS.sub("", _ESCAPES.sub("", text))
    if "\r" in text:
        text = "\n".join(map(_last_written, text.split("\n")))
    return text


def _last_written(line: str) -> str:
    """A carriage return has what follows written over what was there."""
    return line.rstrip("\r").rpartition("\r")[2]


def _steered(line: str) -> str:
    """A line as it is drawn by programs that go back in it and erase, character by character."""
    if "\x1b" not in line and "\x9b" not in line:
        line = _SPINNING.sub("", line)
    if not _STEERING.search(line):
        return line
    drawn, has_returned = io.StringIO(), False
    for step in _STEPS.finditer(line):
        match step.lastgroup:
            case "text":
                if has_returned:
                    drawn.truncate(0)
                    drawn.seek(0)
                has_returned = False
                drawn.write(step[0])
            case "back":
                drawn.seek(max(drawn.tell() - 1, 0))
            case "home":
                has_returned = True
                drawn.seek(0)
            case "move":
                count = int(step["count"] or 0) or 1
                has_returned = _move(drawn, step["move"], count, has_returned)
            case "erase":
                _erase(drawn, step["erase"])
    # What was skipped rather than written.
    return drawn.getvalue().replace("\0", " ")


def _move(drawn: io.StringIO, way: str, count: int, has_returned: bool) -> bool:
    """`ESC [ n C`, `D` and `G`: right, left, to a column. True if that is a carriage return."""
    at = drawn.tell()
    if way == "D":
        drawn.seek(max(at - count, 0))
        return has_returned
    edge = max(drawn.seek(0, io.SEEK_END), _WIDEST)
    drawn.seek(min(at + count if way == "C" else count - 1, edge))
    return way == "G" and count == 1


def _erase(drawn: io.StringIO, kind: str) -> None:
    """`ESC [ K` and its kind: to the end, with 1 from the beginning, with 2 all of the line."""
    at = drawn.tell()
    if kind == "1":
        end = drawn.seek(0, io.SEEK_END)
        drawn.seek(0)
        drawn.write(" " * min(at + 1, end, _COLUMNS))
    else:
        drawn.truncate(0 if kind == "2" else at)
    drawn.seek(min(at, _COLUMNS) if kind == "2" else at)

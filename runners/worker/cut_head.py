"""A log's head that lost its end in a power cut: what takes the place of that in the log.

What Forge had of it stays there. For the bytes behind it to stand where Forge expects them, the
head is made as long again as it was, by lines of Forge's own. The name of an empty file beside
the log, `cut-<bytes>`, tells a later worker how much of the head is what the program wrote.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

_NOTE = re.compile(r"\Acut-([0-9]{1,19})\Z")
SENTENCE = b"[Forge: what the program wrote here was lost by the runner's disk.]"
# How many lines are made at once; a head may be long.
_AT_ONCE = 1000


def note_cut(folder: Path, size: int) -> None:
    """Keep on the disk that only the first `size` bytes are the program's. Raises OSError."""
    os.close(os.open(folder / f"cut-{size}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    # Before what stands for the rest: that would pass for the program's after another power cut.
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(place)
    finally:
        os.close(place)


def noted_cut(folder: Path) -> int | None:
    """How many bytes an earlier worker found of the head; None if nobody missed any."""
    found = [int(note[1]) for path in folder.glob("cut-*") if (note := _NOTE.match(path.name))]
    return min(found, default=None)


def stand_in(size: int, *, begins_line: bool, ends_line: bool) -> Iterator[bytes]:
    """`size` bytes for what was lost: lines that say so, as much of one as there is room for.

    begins_line: the byte before them ends a line. ends_line: they are to end one as well.
    """
    room = size - (not begins_line) - ends_line
    if room < 0:
        yield b"\n" * size
        return
    line = b"\n" + SENTENCE
    count, spare = divmod(room + 1, len(line))
    if not begins_line:
        yield b"\n"
    # The whole lines come last, for Forge may have all but the end of what was lost.
    yield SENTENCE + b" " * spare if count else SENTENCE[:room]
    for done in range(1, count, _AT_ONCE):
        yield line * min(_AT_ONCE, count - done)
    if ends_line:
        yield b"\n"

"""Figures as people say them."""

from __future__ import annotations

from collections.abc import Sequence

MINUTE = 60
HOUR = 3600
DAY = 86400


def duration_in_words(seconds: float) -> str:
    """`38 ms`, `1.9 s`, `41 s`, `2 min 31 s`, `1 h 05 min`, `3 d 4 h`."""
    seconds = max(seconds, 0.0)
    if seconds < 1:
        return f"{round(seconds * 1000)} ms"
    if seconds < 10 and round(seconds, 1) != round(seconds):
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE:02d} s"
    if whole < DAY:
        return f"{whole // HOUR} h {whole % HOUR // MINUTE:02d} min"
    return f"{whole // DAY} d {whole % DAY // HOUR} h"


def about(seconds: float) -> str:
    """One unit is enough: `12 min`, `3 h`, `2 d`."""
    if seconds < MINUTE:
        return f"{int(seconds)} s"
    if seconds < HOUR:
        return f"{int(seconds // MINUTE)} min"
    return f"{int(seconds // HOUR)} h" if seconds < 2 * DAY else f"{int(seconds // DAY)} d"


def bytes_in_words(count: int) -> str:
    """`512 bytes`, `96 KB`, `1.4 MB`; a KB has 1,000 bytes."""
    if count < 1000:
        return f"{count} byte{'' if count == 1 else 's'}"
    size, unit = count / 1000, "KB"
    for larger in ("MB", "GB"):
        if size >= 999.5:
            size, unit = size / 1000, larger
    return f"{size:.1f} {unit}" if size < 10 else f"{size:.0f} {unit}"


def counted(count: int, one: str, many: str = "") -> str:
    """`1 task`, `3 tasks`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def number(count: int) -> str:
    """A number that begins a sentence: `None`, `4`, `1,200`."""
    return f"{count:,}" if count else "None"


def listed(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def whole_number(text: str) -> int:
    """A positive number that a column can hold; 0, which no row has, for anything else."""
    is_number = text.isascii() and text.isdigit() and len(text) < 19
    return int(text) if is_number else 0

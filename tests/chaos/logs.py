"""What of a log is the program's, where lines of Forge's own may stand in it."""

from __future__ import annotations

import re

# Of a stop, of the end of a lease, or of a worker that was killed.
OWN_LINE = re.compile(rb"^forge: .*\n", re.MULTILINE)


def held_of(log: bytes, whole: bytes) -> int | None:
    """How many bytes of `whole`, from its beginning, `log` holds; None if it holds anything else.

    A line of Forge's own may stand in the middle of one of the program's. It has a line break
    before it then, and only then, which is not the program's.
    """
    *before, last = OWN_LINE.split(log)
    ends = {0}
    for part in before:
        unbroken = part.removesuffix(b"\n")
        is_broken = bool(unbroken) and not unbroken.endswith(b"\n")
        ends = {
            end + len(text)
            for text in ([part, unbroken] if is_broken else [part])
            for end in ends
            if whole.startswith(text, end)
        }
    return max((end + len(last) for end in ends if whole.startswith(last, end)), default=None)

"""The sentence that says how a program ended, for the reason of its task."""

from __future__ import annotations

import signal

from runners.worker.supervision import Ending


def sentence_of(ending: Ending) -> str:
    """How it ended by itself: by a signal, or with a status and what it left behind."""
    if ending.signal is not None:
        return f"The program was ended by {_signal(ending.signal)}."
    left = _left_behind(ending.leftovers)
    return f"The program ended with exit status {ending.exit_code}.{left}"


def _signal(number: int) -> str:
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"


def _left_behind(count: int) -> str:
    """Whoever starts a daemon in a task finds out here why it does not live."""
    if not count:
        return ""
    processes = "1 process" if count == 1 else f"{count} processes"
    return f" {processes} that it left running {'was' if count == 1 else 'were'} ended."

"""What the log says about a stop: each step, and how it ended."""

from __future__ import annotations

from runners.worker.supervision import Ending, StepDone


class StopReport:
    """Makes the sentences of one stop, in order."""

    def __init__(self) -> None:
        self._reason = ""

    def step(self, step: StepDone, reason: str) -> list[str]:
        """About a step that was just done, and first about why."""
        sentences = [] if reason == self._reason else [f"stopping: {reason}"]
        self._reason = reason
        return [*sentences, _sent(step)]

    def end(self, ending: Ending) -> list[str]:
        """About the end of what was stopped; nothing if nothing was."""
        if not self._reason or ending.seconds is None:
            return []
        return [f"all of its processes have ended, {ending.seconds:.1f} s after the first signal"]


def _sent(step: StepDone) -> str:
    name = step.signal.removeprefix("SIG")
    before = f"{step.ended} ended; " if step.ended else ""
    when = f"after {step.seconds:.1f} s " if step.seconds >= 0.05 else ""
    if not step.count:
        return f"{before}{when}{name} found no process that it could be sent to"
    count = "1 process" if step.count == 1 else f"{step.count} processes"
    waiting = f", waiting up to {step.grace:g} s" if name != "KILL" else ""
    return f"{before}{when}sent {name} to {count}{waiting}"

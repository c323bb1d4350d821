"""How long an attempt may go on without an answer of Forge's.

Counted from the moment in which the request was sent whose answer gave or renewed the lease, on a
clock of this host that nobody sets (`boot_seconds`). Forge counts from when it took the request,
which is later; so whatever the clocks say, the lease ends here first.
"""

from __future__ import annotations

import math
import signal

from runners.worker.supervision import StopStep, Terms

# What is kept of a lease for bringing the processes to their end: half for a clean-up, half for
# KILL to have its effect.
LONGEST_FENCE_SECONDS = 15.0


class Lease:
    """The lease of one attempt; 0 seconds is for ever.

    With `is_fenced` its processes do not outlive it.
    """

    def __init__(self, *, sent: float, seconds: float, is_fenced: bool) -> None:
        self.seconds = seconds
        self.is_fenced = is_fenced
        # In boot seconds: when the processes begin to be ended.
        self.until = sent + seconds - self._fence(seconds) if seconds else math.inf

    @staticmethod
    def _fence(seconds: float) -> float:
        return min(LONGEST_FENCE_SECONDS, seconds / 3)

    def renew(self, *, sent: float, seconds: float) -> float:
        """Take a renewal; returns until when the lease now covers the processes."""
        self.until = max(self.until, sent + seconds - self._fence(seconds))
        return self.until

    def terms(self, first: signal.Signals) -> Terms:
        """For the supervisor; `first` is the signal on which the program cleans up."""
        half = self._fence(self.seconds) / 2
        steps = (StopStep(first, half),) if first != signal.SIGKILL else ()
        return Terms(self.until, self.until if self.is_fenced else None, steps)

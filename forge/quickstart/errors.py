"""What keeps a quick start from coming up. Each error's text is the line to show."""

from __future__ import annotations


class QuickStartError(Exception):
    """Base of all: one sentence, no traceback."""


class InUseError(QuickStartError):
    """Another quick start runs on the same data folder."""


class NoBrokerError(QuickStartError):
    """Neither the embedded broker nor one on the PATH can be started."""


class NotReadyError(QuickStartError):
    """A process ended early or did not get ready in time."""

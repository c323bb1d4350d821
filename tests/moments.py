"""How a moment is told: once for the server, which writes it first, and for the page after it."""

from __future__ import annotations

from datetime import datetime, timedelta

# In nobody's zone: what counts is the reader's clock, and here it is soon after midnight.
NOW = datetime(2026, 11, 27, 0, 36)  # noqa: DTZ001
TOLD = {
    timedelta(seconds=-4): "4 s ago",
    timedelta(minutes=-12): "00:24",
    timedelta(hours=-1): "23:36",
    timedelta(hours=-3): "21:36",
    timedelta(hours=-12): "12:36",
    timedelta(hours=-13): "26 Nov 11:36",
    timedelta(hours=-47): "25 Nov 01:36",
    timedelta(hours=-49): "24 Nov",
    timedelta(days=-400): "2025-10-23",
    timedelta(hours=3): "03:36",
    timedelta(hours=23): "23:36",
    timedelta(hours=24): "28 Nov 00:36",
    timedelta(hours=47): "28 Nov 23:36",
    timedelta(hours=49): "29 Nov",
    timedelta(days=60): "2027-01-26",
}


def day_of(at: datetime, now: datetime) -> str:
    """The day of a moment days away: with its year, if that is another one."""
    year = "" if at.year == now.year else f" {at.year}"
    return f"{at.day} {at:%b}{year}"

"""What of Forge itself is away, in the sentence that stands on top of pages."""

from __future__ import annotations

from datetime import datetime, timedelta

from runners.models import BrokerContact
from tasks.models import Leadership
from tasks.sentences import clock

# What is over sooner is a restart, or one controller that takes over from another.
PATIENCE = timedelta(seconds=10)


def is_led(now: datetime) -> bool:
    """Whether a controller leads, or did a moment ago; False too where there never was one."""
    end = _lead_ends_at()
    return end is not None and end > now - PATIENCE


def notice(now: datetime) -> str:
    """Empty while all is well, and of an installation whose first controller is yet to start.

    Read from two rows that the controllers write, so that no page waits for what is away.
    """
    end = _lead_ends_at()
    if end is not None and end <= now - PATIENCE:
        return (
            f"No controller has led since {clock(end, now)}. Until one does, tasks of runners that "
            "fall silent count as running and are neither given up nor tried again, and some tasks "
            "wait that could start. What runs goes on."
        )
    # Only who leads asks the broker: what was noted before need not be true any more.
    trouble = BrokerContact.trouble() if end is not None and end > now else None
    if trouble is None or trouble.since > now - PATIENCE:
        return ""
    since = clock(trouble.since, now)
    if trouble.refusal:
        why = f"Forge's broker has refused hints since {since}: {trouble.refusal}."
        return f"{why} What was not handed out before waits until it takes them; what runs goes on."
    return (
        f"Forge's broker has not answered since {since}. What waits cannot start until it does; "
        "what runs goes on, and its logs and results arrive."
    )


def _lead_ends_at() -> datetime | None:
    return Leadership.objects.values_list("expires_at", flat=True).first()

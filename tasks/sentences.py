"""Words for the sentences that say what a task waits for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.utils import timezone

from projects.words import MINUTE, about, listed


def tags_in_words(names: Sequence[str]) -> str:
    """`the tag gpu`, `the tags gpu and linux`."""
    return f"the {'tag' if len(names) == 1 else 'tags'} {listed(names)}"


def ago(moment: datetime, now: datetime) -> str:
    """`12 min ago`. Nothing finer than a minute: open pages follow every change of a sentence."""
    seconds = (now - moment).total_seconds()
    return "less than a minute ago" if seconds < MINUTE else f"{about(seconds)} ago"


def clock(moment: datetime, now: datetime) -> str:
    """`14:30 UTC` on the same day, `2026-11-27 14:30 UTC` on another."""
    local = timezone.localtime(moment)
    is_today = local.date() == timezone.localtime(now).date()
    return f"{local:%H:%M %Z}" if is_today else f"{local:%Y-%m-%d %H:%M %Z}"


def ahead_in_words(ahead: int, maximum: int) -> str:
    """`it is next`, `1 task is ahead`, `more than 1,000 tasks are ahead`."""
    if ahead == 0:
        return "it is next"
    if ahead > maximum:
        return f"more than {maximum:,} tasks are ahead"
    return f"{ahead:,} {'task is' if ahead == 1 else 'tasks are'} ahead"

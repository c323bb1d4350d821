"""Form fields for how long a runner is waited for, and for the steps of a stop."""

from __future__ import annotations

import re
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from tasks.policies import (
    MAXIMUM_STOP_SECONDS,
    MAXIMUM_WAIT_SECONDS,
    StopSteps,
    length_in_words,
    normal_stop_steps,
)

_LENGTH = re.compile(r"\A(\d{1,9})\s*(s|sec|min|m|h|d)\Z")
_SIZES = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_STEP = re.compile(r"\A([A-Za-z0-9]+)(?:[\s:]+(\d{1,6})\s*s?)?\Z")


class WaitField(forms.CharField):
    """`90 s`, `60 min`, `36 h`, `3 d`; a number alone may mean anything. Gives seconds, or None."""

    def __init__(self, **options: Any) -> None:
        super().__init__(required=False, max_length=20, **options)

    def prepare_value(self, value: Any) -> Any:
        return length_in_words(value) if isinstance(value, int) else value

    def clean(self, value: Any) -> int | None:
        text = str(super().clean(value)).strip().lower()
        if not text:
            return None
        if text.isascii() and text.isdigit():
            lengths = f"{text[:9]} s, {text[:9]} min, {text[:9]} h or {text[:9]} d"
            raise ValidationError(f"Write the unit too: {lengths}.")
        match = _LENGTH.match(text)
        if match is None:
            raise ValidationError("Write a length such as 90 s, 60 min, 36 h or 3 d.")
        seconds = int(match[1]) * _SIZES[match[2]]
        if not 1 <= seconds <= MAXIMUM_WAIT_SECONDS:
            raise ValidationError(f"Between 1 s and {length_in_words(MAXIMUM_WAIT_SECONDS)}.")
        return seconds


class StopStepsField(forms.CharField):
    """`INT 120, TERM 30`: signals in order, each with the seconds until the next."""

    def __init__(self, **options: Any) -> None:
        super().__init__(required=False, max_length=200, **options)

    def prepare_value(self, value: Any) -> Any:
        if isinstance(value, list):
            return ", ".join(f"{step['signal']} {step['grace_seconds']}" for step in value)
        return value

    def clean(self, value: Any) -> StopSteps:
        text = str(super().clean(value)).strip()
        parts = list(filter(None, (part.strip() for part in text.split(","))))
        if text and not parts:
            raise ValidationError(f"{text[:40]!r} is no step. Write a signal and seconds: INT 120.")
        return normal_stop_steps([_step(part) for part in parts])


def _step(text: str) -> dict[str, Any]:
    match = _STEP.match(text)
    if match is None:
        raise ValidationError(f"{text[:40]!r} is no step. Write a signal and seconds: INT 120.")
    if match[2] is None and match[1].upper() not in ("KILL", "SIGKILL"):
        raise ValidationError(f"How many seconds has {match[1][:20]}? Write {match[1][:20]} 30.")
    seconds = int(match[2] or 0)
    if seconds > MAXIMUM_STOP_SECONDS:
        sentence = f"{match[1][:20]} has at most {MAXIMUM_STOP_SECONDS:,} seconds until the next."
        raise ValidationError(sentence)
    return {"signal": match[1], "grace_seconds": seconds}

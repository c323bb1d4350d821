"""A moment as somebody writes it into a filter."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

# Within these every zone can say the moment, and so can the database.
FIRST_YEAR, LAST_YEAR = 1970, 9000


class MomentField(forms.CharField):
    """A date, or a date with a time, in Forge's zone unless it names another."""

    def __init__(self, *, is_end: bool = False, **options: Any) -> None:
        super().__init__(required=False, max_length=40, **options)
        self._is_end = is_end

    def clean(self, value: Any) -> Any:
        text = str(super().clean(value)).strip()
        if not text:
            return None
        try:
            return self._read(text)
        except (ValueError, OverflowError):
            raise ValidationError(
                f"{text} is no date. Write 2026-11-25, or 2026-11-25T14:30 with a time."
            ) from None

    def _read(self, text: str) -> datetime:
        """The moment; a date alone as an end means the whole of that day."""
        moment = None if len(text) <= len("2026-11-25") else parse_datetime(text)
        if moment is None:
            day = parse_date(text)
            if day is None:
                raise ValueError
            moment = datetime(day.year, day.month, day.day)  # noqa: DTZ001  # made aware below
            moment += timedelta(days=1 if self._is_end else 0)
        moment = timezone.make_aware(moment) if timezone.is_naive(moment) else moment
        if not FIRST_YEAR <= moment.year <= LAST_YEAR:
            raise ValueError
        # Whatever its offset is: a database knows only those that there are.
        return moment.astimezone(UTC)

"""A pause or a drain, as people ask for them on pages and in the admin."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.utils import timezone

from projects.models import is_one_line
from projects.words import duration_in_words
from runners.pausing import NO_PAUSE_REASON, PAUSE_REASON_LENGTH

UNTIL_RESUMED = ""
KEPT = "kept"
OVER = "The pause has ended meanwhile. Choose how long the new one lasts."
LENGTHS = {
    timedelta(minutes=15): "15 minutes",
    timedelta(hours=1): "1 hour",
    timedelta(hours=4): "4 hours",
    timedelta(days=1): "1 day",
    timedelta(days=7): "7 days",
}


class _WithReason(forms.Form):
    reason = forms.CharField(
        max_length=PAUSE_REASON_LENGTH,
        validators=[is_one_line],
        error_messages={"required": NO_PAUSE_REASON},
        help_text="Whoever wonders why a task waits reads this.",
        widget=forms.TextInput(attrs={"placeholder": "Kernel update", "autofocus": True}),
    )


class DrainForm(_WithReason):
    stays_paused = forms.BooleanField(
        label="Keep it paused until somebody resumes it",
        required=False,
        initial=True,
        help_text="Otherwise it takes tasks again as soon as something starts its worker, such as "
        "systemd or a reboot: for an upgrade.",
    )


class PauseForm(_WithReason):
    length = forms.TypedChoiceField(
        label="For how long",
        required=False,
        choices=[
            (UNTIL_RESUMED, "Until somebody resumes it"),
            *((str(int(length.total_seconds())), words) for length, words in LENGTHS.items()),
        ],
        coerce=lambda text: text if text == KEPT else timedelta(seconds=int(text)),
        empty_value=None,
        error_messages={"invalid_choice": OVER},
        help_text="It resumes by itself when the time is over.",
    )

    def __init__(self, *args: Any, ends_at: datetime | None = None, **options: Any) -> None:
        """`ends_at`: when the pause ends that is changed here, which it goes on to do."""
        super().__init__(*args, **options)
        self._ends_at = ends_at
        if ends_at is not None:
            left = duration_in_words((ends_at - timezone.now()).total_seconds())
            field: Any = self.fields["length"]
            field.choices = [(KEPT, f"As it is, for {left} more"), *field.choices]
            field.initial = KEPT

    def until(self, now: datetime) -> datetime | None:
        """When the chosen pause ends by itself; of a valid form."""
        length = self.cleaned_data["length"]
        if length == KEPT:
            return self._ends_at
        return now + length if length else None

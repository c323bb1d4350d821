"""The overlap of a rotation, as people choose it and read it."""

from __future__ import annotations

from datetime import timedelta

from django import forms

from runners.operations import LONGEST_OVERLAP

CHOICES = {
    timedelta(): "Not at all: they end now",
    timedelta(minutes=10): "10 minutes",
    timedelta(hours=1): "1 hour",
    timedelta(days=1): "1 day",
    timedelta(days=7): "7 days",
    LONGEST_OVERLAP: "30 days",
}
USUAL = timedelta(hours=1)


class OverlapForm(forms.Form):
    overlap = forms.TypedChoiceField(
        label="Older tokens go on working for",
        choices=[(int(time.total_seconds()), name) for time, name in CHOICES.items()],
        initial=int(USUAL.total_seconds()),
        coerce=lambda text: timedelta(seconds=int(text)),
        help_text="As long as it takes to put the new token on the host. Then they and their "
        "connections end. A worker that does not have the new one by then ends too, and its tasks "
        "are killed.",
    )


def overlap_in_words(overlap: timedelta) -> str:
    """A sentence for the page that shows the new token."""
    if not overlap:
        return "Older tokens have ended."
    return f"Older tokens go on working for {CHOICES.get(overlap, str(overlap))}."

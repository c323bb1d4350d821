"""Why a template is disabled, as people say it on pages and in the admin."""

from __future__ import annotations

from django import forms

from projects.models import is_one_line
from tasks.disabling import DISABLED_REASON_LENGTH


class DisableForm(forms.Form):
    reason = forms.CharField(
        max_length=DISABLED_REASON_LENGTH,
        validators=[is_one_line],
        help_text="Whoever wants to run it reads this.",
        widget=forms.TextInput(
            attrs={"placeholder": "Replaced by Deploy web tier", "autofocus": True}
        ),
    )

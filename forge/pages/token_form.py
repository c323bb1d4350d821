from __future__ import annotations

from datetime import timedelta

from django import forms

from forge.pages.lifetime_field import LifetimeField
from projects.models import is_one_line

LENGTHS: dict[timedelta | None, str] = {
    timedelta(days=7): "7 days",
    timedelta(days=30): "30 days",
    timedelta(days=90): "90 days",
    timedelta(days=365): "1 year",
    None: "as long as your account",
}


class TokenForm(forms.Form):
    name = forms.CharField(
        max_length=80, validators=[is_one_line], help_text="What uses it: nightly build, laptop."
    )
    lifetime = LifetimeField(LENGTHS, timedelta(days=90), label="Works for")

from __future__ import annotations

from datetime import timedelta

from django import forms

from forge.pages.lifetime_field import LifetimeField
from forge.pages.number_field import NumberField
from projects.models import is_one_line
from runners.models import MAXIMUM_CONCURRENCY, MAXIMUM_USES
from runners.tag_field import TagField

LENGTHS: dict[timedelta | None, str] = {
    timedelta(hours=1): "1 hour",
    timedelta(days=1): "1 day",
    timedelta(days=7): "7 days",
    timedelta(days=30): "30 days",
    timedelta(days=90): "90 days",
    timedelta(days=365): "1 year",
}


class RegistrationForm(forms.Form):
    name = forms.CharField(
        max_length=80, validators=[is_one_line], help_text="What it is for: rack 7, web tier image."
    )
    max_uses = NumberField(
        label="Hosts",
        min_value=1,
        max_value=MAXIMUM_USES,
        initial=1,
        help_text="How many may use it.",
    )
    lifetime = LifetimeField(LENGTHS, timedelta(days=1), label="Works for")
    tags = TagField(
        help_text="What these hosts offer, such as linux or gpu. Separate by commas or spaces."
    )
    concurrency = NumberField(
        label="Tasks at once", min_value=1, max_value=MAXIMUM_CONCURRENCY, initial=4
    )
    takes_untagged = forms.BooleanField(
        label="Take tasks without tags", required=False, initial=True
    )

from __future__ import annotations

from django import forms

from forge.pages.number_field import NumberField
from runners.models import MAXIMUM_CONCURRENCY, is_runner_name
from runners.tag_field import TagField


class RunnerChangeForm(forms.Form):
    """What may be changed of a runner: not its name, which its worker goes by."""

    tags = TagField(
        help_text="What this host offers, such as linux or gpu. Separate by commas or spaces."
    )
    concurrency = NumberField(
        label="Tasks at once", min_value=1, max_value=MAXIMUM_CONCURRENCY, initial=4
    )
    takes_untagged = forms.BooleanField(
        label="Takes tasks without tags", required=False, initial=True
    )


class RunnerForm(RunnerChangeForm):
    name = forms.CharField(
        max_length=60, validators=[is_runner_name], help_text="Often the host's name: dc-west-2."
    )

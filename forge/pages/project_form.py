from __future__ import annotations

from django import forms

from forge.pages.number_field import NumberField
from projects.models import MAXIMUM_PARALLEL_TASKS, is_one_line


class ProjectForm(forms.Form):
    name = forms.CharField(max_length=80, validators=[is_one_line])
    description = forms.CharField(
        max_length=200, required=False, validators=[is_one_line], help_text="One line, for others."
    )


class ProjectSettingsForm(ProjectForm):
    max_parallel_tasks = NumberField(
        label="Tasks at once",
        min_value=0,
        max_value=MAXIMUM_PARALLEL_TASKS,
        help_text="On all of the project's runners together. 0: as many as they take.",
    )

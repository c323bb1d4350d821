from __future__ import annotations

from django import forms

from projects.models import is_one_line


class ProjectForm(forms.Form):
    name = forms.CharField(max_length=80, validators=[is_one_line])
    description = forms.CharField(
        max_length=200, required=False, validators=[is_one_line], help_text="One line, for others."
    )

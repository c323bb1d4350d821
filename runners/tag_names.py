"""Tags as they are typed into a form of the admin."""

from __future__ import annotations

from typing import Any

from django import forms

from runners.models import MAXIMUM_TAGS, is_tag_name


class TagNamesField(forms.CharField):
    """Names of tags with spaces or commas between them; cleaned to a list."""

    def __init__(self) -> None:
        help_text = f"At most {MAXIMUM_TAGS}, with spaces or commas between them."
        super().__init__(required=False, max_length=500, label="Tags", help_text=help_text)

    def clean(self, value: Any) -> Any:
        names = list(dict.fromkeys(str(super().clean(value)).replace(",", " ").split()))
        if len(names) > MAXIMUM_TAGS:
            raise forms.ValidationError(f"At most {MAXIMUM_TAGS} tags are possible.")
        for name in names:
            is_tag_name(name)
        return names

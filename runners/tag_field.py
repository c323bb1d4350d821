"""Tags typed as text: `linux, gpu` or `linux gpu`."""

from __future__ import annotations

import re
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from runners.models import MAXIMUM_TAGS, is_tag_name

TAGS_HELP = f"At most {MAXIMUM_TAGS}, with spaces or commas between them."
_SEPARATORS = re.compile(r"[\s,;]+")


class TagField(forms.CharField):
    """Gives a sorted list of names without repetitions."""

    def __init__(self, **options: Any) -> None:
        super().__init__(required=False, max_length=2000, **options)

    def clean(self, value: Any) -> list[str]:
        names = sorted({name for name in _SEPARATORS.split(super().clean(value)) if name})
        problems = [problem for name in names if (problem := problem_with(name))]
        if len(names) > MAXIMUM_TAGS:
            problems.append(f"{len(names)} tags are given; at most {MAXIMUM_TAGS} are possible.")
        if problems:
            raise ValidationError(problems)
        return names


def problem_with(name: str) -> str:
    """What is wrong with a tag's name and what to write instead, or nothing."""
    try:
        is_tag_name(name)
    except ValidationError as error:
        lower = name.lower()
        if lower != name and not problem_with(lower):
            return f"The tag {name} has capital letters. Use {lower}."
        return f"The tag {name[:60]} cannot be used. {error.messages[0]}"
    return ""

"""Fields for whole numbers that say what to enter, whatever is wrong with what was entered."""

from __future__ import annotations

from typing import Any

from django import forms


class NumberField(forms.IntegerField):
    """A whole number between two limits, both of them possible."""

    def __init__(self, *, min_value: int, max_value: int, **options: Any) -> None:
        sentence = f"Enter a whole number from {min_value:,} to {max_value:,}."
        codes = ("required", "invalid", "min_value", "max_value")
        options = {"error_messages": dict.fromkeys(codes, sentence), **options}
        super().__init__(min_value=min_value, max_value=max_value, **options)

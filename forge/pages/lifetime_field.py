"""How long a token lives, chosen from a few lengths: nobody types an expiry right."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django import forms


class LifetimeField(forms.TypedChoiceField):
    """Gives a timedelta, or None for the choice without an end, if there is one."""

    def __init__(
        self, lengths: Mapping[timedelta | None, str], usual: timedelta, **options: Any
    ) -> None:
        super().__init__(
            choices=[(_as_text(length), words) for length, words in lengths.items()],
            initial=_as_text(usual),
            coerce=_as_length,
            empty_value=None,
            **options,
        )


def _as_text(length: timedelta | None) -> str:
    return "never" if length is None else str(int(length.total_seconds()))


def _as_length(text: str) -> timedelta | None:
    return None if text == "never" else timedelta(seconds=int(text))

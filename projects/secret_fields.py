"""Form fields for secrets: what was typed goes to the server and never comes back in a page."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError

_QUIET = {"autocomplete": "off", "spellcheck": "false", "autocapitalize": "off"}


class SecretArea(forms.Textarea):
    """Several lines; covered while nobody types in it."""

    def __init__(self, *, rows: int = 1) -> None:
        super().__init__(attrs={**_QUIET, "rows": rows, "class": "secret"})

    def format_value(self, value: Any) -> str:
        return ""


class SecretField(forms.CharField):
    """A text as typed, with line ends of Unix, without the one that comes with pasting."""

    def __init__(self, *, rows: int = 1, **options: Any) -> None:
        options = {"required": False, "widget": SecretArea(rows=rows), **options}
        super().__init__(strip=False, **options)

    def clean(self, value: Any) -> str:
        return str(super().clean(value) or "").replace("\r\n", "\n").removesuffix("\n")


class PasswordField(SecretField):
    """One line."""

    def __init__(self, **options: Any) -> None:
        attrs = {**_QUIET, "autocomplete": "new-password"}
        super().__init__(widget=forms.PasswordInput(attrs=attrs, render_value=False), **options)


def add_problems(form: forms.BaseForm, error: ValidationError) -> None:
    """The problems that an operation found, at their fields where the form has them."""
    found = error.message_dict if hasattr(error, "error_dict") else {"": error.messages}
    for name, sentences in found.items():
        form.add_error(name if name in form.fields else None, sentences)

"""What a user may enter as a task's environment."""

from __future__ import annotations

import re

from django.core.exceptions import ValidationError

MAXIMUM_VARIABLES = 100
MAXIMUM_VALUE_CHARACTERS = 32_000
RESERVED_PREFIX = "FORGE_"

_NAME = re.compile(r"\A[A-Za-z_][A-Za-z0-9_]{0,99}\Z")


def is_environment(value: object) -> None:
    """Accept a flat mapping of variable names to strings; say exactly what is wrong otherwise."""
    if not isinstance(value, dict):
        raise ValidationError('Give an object of names and values, such as {"REGION": "eu"}.')
    if len(value) > MAXIMUM_VARIABLES:
        raise ValidationError(f"At most {MAXIMUM_VARIABLES} variables are possible.")
    for name, content in value.items():
        _check_name(name)
        _check_value(name, content)


def _check_name(name: str) -> None:
    if not _NAME.match(name):
        raise ValidationError(
            f"{name[:40]!r} cannot be a variable name: use letters, digits and underscores."
        )
    if name.startswith(RESERVED_PREFIX):
        raise ValidationError(f"{name}: names that begin with FORGE_ are set by Forge itself.")


def _check_value(name: str, content: object) -> None:
    if not isinstance(content, str):
        raise ValidationError(f"{name}: the value must be text. Put it in quotes.")
    if "\0" in content:
        raise ValidationError(f"{name}: the value holds a NUL byte, which no program can receive.")
    if len(content) > MAXIMUM_VALUE_CHARACTERS:
        raise ValidationError(f"{name}: at most {MAXIMUM_VALUE_CHARACTERS} characters.")

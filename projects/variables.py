"""What a user may enter as environment variables of a task, plain or secret."""

from __future__ import annotations

import re

from django.core.exceptions import ValidationError

MAXIMUM_VARIABLES = 100
MAXIMUM_VALUE_CHARACTERS = 32_000
MAXIMUM_NAME_CHARACTERS = 100
RESERVED_PREFIX = "FORGE_"
MINIMUM_SECRET_CHARACTERS = 8
# A value with fewer different characters is a separator in many logs.
MINIMUM_DIFFERENT_CHARACTERS = 4
# Words that logs are full of: masking them would hide more than it protects.
COMMON_VALUES = frozenset(
    (
        "password", "changeme", "localhost", "127.0.0.1", "production", "development",
        "undefined", "postgres", "administrator", "anonymous", "disabled", "/bin/bash", "/usr/bin",
    )
)  # fmt: skip
# They decide which code the loader, Bash or Python runs before the first line of a script.
# Whoever may edit a template may run code anyway, and may set them there, beside the script,
# where its readers see them. A group or a key, which many templates share, may not.
STARTUP_VARIABLES = frozenset(
    (
        "BASH_ENV", "ENV", "BASHOPTS", "SHELLOPTS", "PS4", "GLIBC_TUNABLES",
        "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONUSERBASE", "PYTHONPLATLIBDIR",
        "PYTHONEXECUTABLE", "PYTHONBREAKPOINT", "PYTHONWARNINGS",
    )
)  # fmt: skip
LOADER_PREFIX = "LD_"

_NAME = re.compile(r"\A[A-Za-z_][A-Za-z0-9_]*\Z")


def is_environment(value: object) -> None:
    """Accept a flat mapping of variable names to strings; say exactly what is wrong otherwise."""
    if not isinstance(value, dict):
        raise ValidationError('Give an object of names and values, such as {"REGION": "eu"}.')
    if len(value) > MAXIMUM_VARIABLES:
        raise ValidationError(f"At most {MAXIMUM_VARIABLES} variables are possible.")
    for name, content in value.items():
        is_variable(name, content)


def is_variable(name: str, content: object) -> None:
    """Accept one entry of `is_environment`."""
    is_variable_name(name)
    _check_value(name, content)


def is_shared_environment(value: object) -> None:
    """As `is_environment`, for a variable group."""
    is_environment(value)
    if isinstance(value, dict):
        for name in value:
            is_shared_variable_name(name)


def is_variable_name(name: str) -> None:
    if not _NAME.match(name) or len(name) > MAXIMUM_NAME_CHARACTERS:
        raise ValidationError(
            f"{name[:40]!r} cannot be a variable name: use letters, digits and underscores, "
            f"no digit first, at most {MAXIMUM_NAME_CHARACTERS} characters."
        )
    if name.startswith(RESERVED_PREFIX):
        raise ValidationError(f"{name}: names that begin with FORGE_ are set by Forge itself.")


def is_shared_variable_name(name: str) -> None:
    """A name that a variable group or an access key may set for many templates."""
    is_variable_name(name)
    if name in STARTUP_VARIABLES or name.startswith(LOADER_PREFIX):
        raise ValidationError(
            f"{name} decides what code runs before a script does. Set it in the template's own "
            "environment, where whoever reads the script sees it."
        )


def _check_value(name: str, content: object) -> None:
    if not isinstance(content, str):
        raise ValidationError(f"{name}: the value must be text. Put it in quotes.")
    if "\0" in content:
        raise ValidationError(f"{name}: the value holds a NUL byte, which no program can receive.")
    if len(content) > MAXIMUM_VALUE_CHARACTERS:
        raise ValidationError(f"{name}: at most {MAXIMUM_VALUE_CHARACTERS} characters.")
    try:
        content.encode()
    except UnicodeEncodeError:
        # Not `from error`, which holds the text, and that may be a secret.
        raise ValidationError(f"{name}: the value is not valid Unicode.") from None


def check_secret(name: str, content: object) -> None:
    """Accept what can be delivered and masked. The sentences never hold the value."""
    _check_value(name, content)
    text = str(content)
    if len(text.strip()) < MINIMUM_SECRET_CHARACTERS:
        raise ValidationError(
            f"{name}: a secret needs at least {MINIMUM_SECRET_CHARACTERS} characters other than "
            "space around it. A shorter one cannot be masked: it turns up in ordinary words."
        )
    is_monotonous = len(set(text.strip())) < MINIMUM_DIFFERENT_CHARACTERS
    if is_monotonous or text.strip().lower() in COMMON_VALUES:
        raise ValidationError(
            f"{name}: this value is in many logs by chance, so it cannot be masked. "
            "Choose one that nobody guesses."
        )

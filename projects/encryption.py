"""Secrets at rest: encrypted under FORGE_SECRETS_KEY, older keys still open what they closed.

A stored secret is a Fernet token (AES-128-CBC with HMAC-SHA-256, by the `cryptography` package)
around an envelope that names where it belongs: the table, the project, the row. A token that
somebody copies into another row in the database is noticed when it is opened. Not noticed: that
an older token of the same row was put back.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.db import models

from projects.errors import SecretsKeyError, SecretUnreadableError

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

    _TextField = models.TextField[Any, Any]
else:
    _TextField = models.TextField

KEY_BYTES = 32
HOW_TO_MAKE_ONE = (
    "Make a key with `python manage.py new_secrets_key`, keep a copy in a safe place, give it to "
    "all of Forge's processes as FORGE_SECRETS_KEY or by a file named in FORGE_SECRETS_KEY_FILE, "
    "and start them again."
)


def new_key() -> str:
    """A key for FORGE_SECRETS_KEY: 32 random bytes as URL-safe base64."""
    return Fernet.generate_key().decode()


def keys() -> list[Fernet]:
    """The first closes and opens, the others only open. Raises SecretsKeyError."""
    if not settings.FORGE_SECRETS_KEY:
        raise SecretsKeyError(
            f"FORGE_SECRETS_KEY is not set, so no secret can be kept. {HOW_TO_MAKE_ONE}"
        )
    return _opened((settings.FORGE_SECRETS_KEY, *settings.FORGE_SECRETS_KEY_FALLBACKS))


@lru_cache(maxsize=8)
def _opened(texts: Sequence[str]) -> list[Fernet]:
    names = [
        "FORGE_SECRETS_KEY",
        *(f"Key {n} in FORGE_SECRETS_KEY_FALLBACKS" for n in range(1, len(texts))),
    ]
    return [_fernet(name, text) for name, text in zip(names, texts, strict=True)]


def _fernet(name: str, text: str) -> Fernet:
    try:
        is_key = len(base64.b64decode(text, altchars=b"-_", validate=True)) == KEY_BYTES
    except (ValueError, binascii.Error):
        is_key = False
    if not is_key:
        # The text is not shown: it may be a good key with one character missing.
        raise SecretsKeyError(
            f"{name} is not a key: it needs 44 characters of URL-safe base64. {HOW_TO_MAKE_ONE}"
        )
    return Fernet(text)


@dataclass(frozen=True)
class Sealed:
    """An encrypted secret as it is stored. It shows nothing of itself; `open` decrypts."""

    token: str = field(repr=False)

    @classmethod
    def seal(cls, text: str, place: str) -> Sealed:
        """Encrypt `text` for the row that `place` names. Raises SecretsKeyError."""
        envelope = json.dumps([place, text], ensure_ascii=False)
        return cls(keys()[0].encrypt(envelope.encode()).decode())

    def open(self, place: str, what: str) -> str:
        """The text; `what` is for the errors: "access key deploy".

        Raises SecretsKeyError (no usable key) and SecretUnreadableError.
        """
        try:
            envelope = MultiFernet(keys()).decrypt(self.token)
        except InvalidToken:
            raise SecretUnreadableError(what) from None
        written_for, text = json.loads(envelope)
        if written_for != place:
            raise SecretUnreadableError(what, is_elsewheres=True)
        return str(text)

    def is_under_first_key(self) -> bool:
        """Whether the current key closed it. Raises SecretsKeyError."""
        try:
            keys()[0].decrypt(self.token)
        except InvalidToken:
            return False
        return True

    def __str__(self) -> str:
        return "[sealed]"


class SealedField(_TextField):
    """A column of `Sealed`. Reading a row decrypts nothing, so a lost key breaks no list."""

    def from_db_value(
        self, value: str | None, expression: Any, connection: BaseDatabaseWrapper
    ) -> Sealed | None:
        return None if value is None else Sealed(value)

    def to_python(self, value: Any) -> Any:
        return value if value is None or isinstance(value, Sealed) else Sealed(str(value))

    def get_prep_value(self, value: Any) -> Any:
        if value is not None and not isinstance(value, Sealed):
            raise TypeError("a SealedField takes a Sealed, never a text")
        return None if value is None else value.token

    def value_to_string(self, obj: models.Model) -> str:
        """For `dumpdata`: the token, which is safe to keep."""
        sealed: Sealed = self.value_from_object(obj)
        return sealed.token

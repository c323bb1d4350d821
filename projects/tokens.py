"""Tokens: made once, shown once, stored as a digest.

A token is a prefix that names its kind, and 32 random bytes in URL-safe base64. Forge keeps its
SHA-256 in hexadecimal, which is also what Redis takes as a password digest, so the clear text is
never needed again.
"""

from __future__ import annotations

import hashlib
import secrets

USER_PREFIX = "fgu_"
RUNNER_PREFIX = "fgr_"
REGISTRATION_PREFIX = "fgt_"

RANDOM_BYTES = 32
MAXIMUM_LENGTH = 100


def new_token(prefix: str) -> str:
    """A fresh token of the kind that `prefix` names."""
    return prefix + secrets.token_urlsafe(RANDOM_BYTES)


def digest_of(token: str) -> str:
    """The SHA-256 of the token in 64 hexadecimal digits, as stored and as given to Redis.

    A plain hash is enough: the token has 256 random bits, so there is nothing to guess.
    """
    return hashlib.sha256(token.encode()).hexdigest()


def bearer_token(header: str, prefix: str) -> str | None:
    """The token in an `Authorization: Bearer` header, or None if it is not of this kind."""
    scheme, _, token = header.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token.startswith(prefix):
        return None
    return token if len(token) <= MAXIMUM_LENGTH else None

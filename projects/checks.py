"""What `manage.py check`, and a start of Forge, says of the key for secrets."""

from __future__ import annotations

import logging
import threading
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.checks import Warning as CheckWarning
from django.db import Error as DatabaseError
from django.db import connections

from projects.encryption import keys
from projects.errors import SecretsKeyError
from projects.reencryption import trouble

logger = logging.getLogger(__name__)


@register(Tags.security)
def check_secrets_key(**ignored: Any) -> list[CheckMessage]:
    """A key that is set must be one. That there is none is no error: not everybody has secrets."""
    if not settings.FORGE_SECRETS_KEY:
        return []
    try:
        keys()
    except SecretsKeyError as error:
        return [Error(str(error), id="projects.E001")]
    return []


@register(Tags.database)
def check_stored_secrets(databases: Any = None, **ignored: Any) -> list[CheckMessage]:
    """With `check --database default`: whether what is stored can be read.

    A warning: Forge runs without these secrets, only the tasks that need them do not.
    """
    if not databases:
        return []
    sentence = _trouble()
    return [CheckWarning(sentence, id="projects.W001")] if sentence else []


def report_trouble() -> threading.Thread:
    """One line in the log of a process that starts; Forge runs on, only such tasks fail.

    In a thread of its own: a start need not wait for a database that may be away.
    """
    thread = threading.Thread(target=_report, name="forge-secrets-check", daemon=True)
    thread.start()
    return thread


def _report() -> None:
    try:
        sentence = _trouble()
    finally:
        connections.close_all()
    if sentence:
        logger.error("%s", sentence)


def _trouble() -> str:
    try:
        return trouble()
    except DatabaseError:
        return ""  # not there, or not migrated yet; others say so

"""When the database is away: how to tell, and what everybody is told."""

from __future__ import annotations

import sqlite3

from django.db import InterfaceError, OperationalError

SENTENCE = "The database cannot be reached at the moment. Try again in a few seconds."
RETRY_AFTER_SECONDS = "5"


def is_outage(error: BaseException | None) -> bool:
    """Whether this comes from a database that is not there, or went away in the middle.

    SQLite says OperationalError of a table or column that is missing, too: no waiting helps there.
    """
    if not isinstance(error, OperationalError | InterfaceError):
        return False
    code = getattr(error.__cause__, "sqlite_errorcode", None)
    return bool(code != sqlite3.SQLITE_ERROR)

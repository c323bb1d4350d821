"""Which failures of the database may be answered with "try again in a few seconds"."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.db import DatabaseError, connection
from django.db.utils import ConnectionHandler

from projects.outage import is_outage


@pytest.mark.django_db
def test_a_database_that_is_not_there_is_an_outage(tmp_path: Path) -> None:
    away = {"ENGINE": "django.db.backends.sqlite3", "NAME": tmp_path / "no" / "such.sqlite3"}
    with pytest.raises(DatabaseError) as caught:
        ConnectionHandler({"default": away})["default"].ensure_connection()
    assert is_outage(caught.value)


@pytest.mark.django_db
def test_a_migration_that_was_forgotten_is_none() -> None:
    with pytest.raises(DatabaseError) as caught, connection.cursor() as cursor:
        cursor.execute("SELECT column_to_come FROM projects_project")
    assert not is_outage(caught.value)

"""Two who meet at the database: what a test lets happen between two statements of another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection


@contextmanager
def once_read(words: str, do: Callable[[], object]) -> Iterator[None]:
    """Let `do` happen once, between the first statement with these words and the next one.

    As if another process did it at that moment. Fails if there was no such statement, and one
    after it.
    """
    waits: list[bool] = []

    def watch(execute: Callable[..., Any], sql: str, *more: Any) -> Any:
        if waits == [True]:
            waits.append(False)
            do()
        found = execute(sql, *more)
        if words in sql and not waits:
            waits.append(True)
        return found

    with connection.execute_wrapper(watch):
        yield
    assert waits == [True, False], f"nothing was between {words!r} and what followed it"


def is_waited_for() -> bool:
    """Whether somebody waits for a lock of PostgreSQL's."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(cursor.fetchone()[0])

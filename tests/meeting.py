"""Two who meet at the database: what a test lets happen between two statements of another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection, connections

from tests.deployment.client import wait_for


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


@contextmanager
def just_before(words: str, do: Callable[[], object]) -> Iterator[None]:
    """Let `do` happen once, just before the first statement with these words, which must come."""
    has_come: list[str] = []

    def watch(execute: Callable[..., Any], sql: str, *more: Any) -> Any:
        if words in sql and not has_come:
            has_come.append(sql)
            do()
        return execute(sql, *more)

    with connection.execute_wrapper(watch):
        yield
    assert has_come, f"there was no {words!r}"


def is_waited_for() -> bool:
    """Whether somebody waits for a lock in this database of PostgreSQL's.

    Others are tested in others of the same server. The lock itself need not name its database: one
    waits for the end of a transaction there.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)"
            " WHERE NOT granted AND datname = current_database()"
        )
        return bool(cursor.fetchone()[0])


def meanwhile(do: Callable[[], object]) -> tuple[Callable[[], None], threading.Thread]:
    """Something on a connection of its own: what begins it, and waits until it has happened or
    waits itself for whoever began it; and its thread.
    """

    def run() -> None:
        try:
            do()
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)

    def begin() -> None:
        thread.start()
        # SQLite lets one transaction write at a time: the other one waits, and cannot be seen to.
        if connection.vendor == "postgresql":
            wait_for(lambda: not thread.is_alive() or is_waited_for(), "the two to meet")

    return begin, thread

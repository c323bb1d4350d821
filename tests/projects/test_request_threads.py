"""The threads in which the web process answers requests."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError, close_old_connections, connections

from forge.request_threads import KEPT_THREADS, KeptThreads
from tests.deployment.client import wait_for

pytestmark = pytest.mark.django_db(transaction=True)
RUSH = KEPT_THREADS + 15


@pytest.fixture
def threads() -> Iterator[KeptThreads]:
    found = KeptThreads()
    yield found
    while found._idle:
        executor = found._idle.pop()
        executor.submit(connections.close_all)
        executor.shutdown()


def answer() -> None:
    """Patient with a pool of connections that grows slowly on a machine with much to do."""
    for number in range(10):
        try:
            User.objects.count()
            break
        except OperationalError:
            if number == 9:
                raise
    # What Django does after each request: on PostgreSQL the connection goes back to the pool.
    close_old_connections()


def after_a_rush(threads: KeptThreads) -> None:
    """As many requests at once as RUSH says, all of which end."""
    lent = [threads.borrow() for _ in range(RUSH)]
    for future in [one.submit(answer) for one in lent]:
        future.result(60)
    for one in lent:
        threads.give_back(one)


def living() -> int:
    return sum(one.name.startswith("forge-request") for one in threading.enumerate())


def test_threads_that_only_a_rush_needed_end_with_their_connections(threads: KeptThreads) -> None:
    before = living()
    files = len(os.listdir("/proc/self/fd"))
    after_a_rush(threads)
    wait_for(lambda: living() <= before + KEPT_THREADS, "the surplus has ended")
    # On SQLite each has a file, with its log and its index.
    assert len(os.listdir("/proc/self/fd")) <= files + 3 * KEPT_THREADS


def test_the_next_requests_find_their_threads_again(threads: KeptThreads) -> None:
    used = set[int]()
    for _ in range(20):
        executor = threads.borrow()
        used.add(executor.submit(threading.get_ident).result(60))
        threads.give_back(executor)
    assert len(used) == 1

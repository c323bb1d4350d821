"""`/healthz`: this process answers. `/readyz`: and its database and broker do too, and the broker
takes what is written. It also tells whether a controller leads, without which this process serves
as well as with it.

Anybody may ask. So whether the broker can do what Forge needs is tried at most twice a minute, and
one that does not answer is asked by one request at a time, at most once in two seconds.
"""

from __future__ import annotations

import logging
import threading
import time

import redis
from django.db import Error as DatabaseError
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone

from runners.broker import administrator, require_writes
from runners.nodes import Node
from runners.suitability import broker_place, problem_of
from tasks.away import is_led

logger = logging.getLogger(__name__)

TRIED_SECONDS = 30.0
AWAY_SECONDS = 2.0


def healthz(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok\n", content_type="text/plain")


def readyz(request: HttpRequest) -> JsonResponse:
    checks = {"database": _is_database_fine(), "broker": _broker.is_fine()}
    status = 200 if all(checks.values()) else 503
    # A database that hangs is not waited for twice.
    leads = _is_led() if checks["database"] else None
    return JsonResponse(checks | {"controller": leads}, status=status)


def _is_led() -> bool | None:
    """None where nobody knows, for the database does not say."""
    try:
        return is_led(timezone.now())
    except DatabaseError:
        return None


def _is_database_fine() -> bool:
    """Whether it answers; PostgreSQL also whether it may be written, as a standby may not.

    A disk that is full shows only in what writes; nobody who asks here may cause that.
    """
    is_postgres = connection.vendor == "postgresql"
    try:
        with connection.cursor() as cursor:
            cursor.execute("SHOW transaction_read_only" if is_postgres else "SELECT 1")
            (answer,) = cursor.fetchone()
    except DatabaseError:
        return False
    return not is_postgres or bool(answer == "off")


class _Broker:
    """What is known of the broker, so that not every question tries it out again. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._problem = ""
        self._due_at = 0.0
        self._away_until = 0.0

    def is_fine(self) -> bool:
        # Who asks meanwhile waits for this answer, and not for one of the broker's.
        with self._lock:
            if time.monotonic() < self._away_until:
                return False
            try:
                return self._ask()
            except redis.ResponseError:
                return False
            except redis.RedisError:
                # Another broker may answer next.
                self._due_at, self._away_until = 0.0, time.monotonic() + AWAY_SECONDS
                return False

    def _ask(self) -> bool:
        """Raises RedisError."""
        if time.monotonic() >= self._due_at:
            self._try_out()
        require_writes()
        return not self._problem

    def _try_out(self) -> None:
        """Raises RedisError."""
        problem = problem_of(Node(broker_place(), administrator()))
        if problem and problem != self._problem:
            logger.error("%s: %s", broker_place(), problem)
        self._problem, self._due_at = problem, time.monotonic() + TRIED_SECONDS


_broker = _Broker()

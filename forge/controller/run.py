"""Takes the lead, or waits for it; runs the loops."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
from datetime import timedelta

from django.db import Error as DatabaseError
from django.db import connections
from django.utils import timezone

from forge.controller.accounts import AccountLoop
from forge.controller.events import EventRelay
from forge.controller.hints import HintLoop
from forge.controller.reaper import ReaperLoop
from forge.controller.tokens import TokenLoop
from tasks.models import Leadership

logger = logging.getLogger(__name__)

NAME = "controller"
TERM = timedelta(seconds=6)
RENEWAL_SECONDS = 2.0


class Controller:
    """One process's part; `run` returns after `close`."""

    def __init__(self) -> None:
        self._holder = f"{socket.gethostname()[:60]}-{os.getpid()}-{secrets.token_hex(4)}"
        self._is_leading = threading.Event()
        self._is_closing = threading.Event()

    def close(self) -> None:
        self._is_closing.set()

    def run(self) -> None:
        signals = (self._is_leading, self._is_closing)
        loops = [HintLoop(*signals), AccountLoop(*signals), ReaperLoop(*signals)]
        threads = [*loops, TokenLoop(*signals), EventRelay(*signals)]
        self._renew()
        for thread in threads:
            thread.start()
        while not self._is_closing.wait(RENEWAL_SECONDS):
            self._renew()
        for thread in threads:
            thread.join(3)
        self._resign()

    def _renew(self) -> None:
        """Keep or take the lead. Whoever cannot reach the database does not lead."""
        try:
            now = timezone.now()
            leads = Leadership.acquire(NAME, holder=self._holder, now=now, until=now + TERM)
        except DatabaseError as error:
            logger.warning("the lead cannot be renewed: %s", error)
            leads = False
        finally:
            connections.close_all()
        if leads and not self._is_leading.is_set():
            logger.info("this controller leads")
            self._is_leading.set()
        elif not leads and self._is_leading.is_set():
            logger.info("another controller leads; this one waits")
            self._is_leading.clear()

    def _resign(self) -> None:
        if self._is_leading.is_set():
            Leadership.release(NAME, holder=self._holder, now=timezone.now())

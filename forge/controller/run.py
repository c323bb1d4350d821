"""Takes the lead, or waits for it; runs the loops."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterable

from django.db import Error as DatabaseError
from django.db import connections
from django.utils import timezone

from forge.controller.accounts import AccountLoop
from forge.controller.broker_check import BrokerCheck
from forge.controller.denials import DenialLoop
from forge.controller.events import EventRelay
from forge.controller.hints import HintLoop
from forge.controller.lead import Lead, Standstill
from forge.controller.listening import Moment
from forge.controller.loop import Trouble
from forge.controller.reaper import ReaperLoop
from forge.controller.tokens import TokenLoop
from forge.controller.watch import WatchLoop
from projects.checks import report_trouble
from tasks.lead_clock import TERM as TERM
from tasks.models import Leadership

logger = logging.getLogger(__name__)

NAME = "controller"
# Another takes over within this and a term; aimed at: in under 10 s on a machine under load.
RENEWAL_SECONDS = 1.0
CLOSE_SECONDS = 3.0
UNSUITABLE = 2


class Controller:
    """One process's part; `run` returns after `close`."""

    def __init__(self) -> None:
        self._holder = f"{socket.gethostname()[:60]}-{os.getpid()}-{secrets.token_hex(4)}"
        self._is_leading = Lead()
        self._standstill = Standstill()
        self._led = False
        self._trouble = Trouble("lead")
        self._is_closing = threading.Event()
        self._reaper = ReaperLoop(self._is_leading, self._is_closing)

    def close(self) -> None:
        self._is_closing.set()

    def run(self) -> int:
        """Returns the exit status: 2 for a broker with which Forge can never work."""
        check = BrokerCheck()
        if not check.try_once():
            return UNSUITABLE
        signals = (self._is_leading, self._is_closing)
        loops = [HintLoop(*signals), AccountLoop(*signals), self._reaper]
        threads = [*loops, TokenLoop(*signals), WatchLoop(*signals), EventRelay(*signals)]
        threads.append(DenialLoop(*signals))
        report_trouble()
        self._renew()
        for thread in threads:
            thread.start()
        status = 0
        while not self._is_closing.wait(RENEWAL_SECONDS):
            self._renew()
            if not check.is_done and not check.try_once():
                status = UNSUITABLE
                self._is_closing.set()
        _await_end(threads)
        self._resign()
        return status

    def _renew(self) -> None:
        """Keep or take the lead. Whoever cannot reach the database does not lead."""
        moment, term = Moment.present(), TERM.total_seconds()
        try:
            row = Leadership.objects.filter(name=NAME).values_list("expires_at", "holder").first()
            end, holder = row or (None, "")
            over, until = self._standstill.judge(end, moment, seconds=term), moment.now + TERM
            leads = Leadership.acquire(NAME, holder=self._holder, now=over, until=until)
        except DatabaseError as error:
            self._is_leading.clear()
            self._trouble.note_absence(error, period=RENEWAL_SECONDS)
            return
        finally:
            connections.close_all()
        self._trouble.note_recovery()
        if leads:
            if holder != self._holder:
                self._reaper.take_over()
            self._is_leading.keep(term, since=moment.monotonic)
        else:
            self._is_leading.clear()
        if leads and not self._led:
            logger.info("this controller leads")
        elif self._led and not leads:
            logger.info("another controller leads; this one waits")
        self._led = leads

    def _resign(self) -> None:
        """Let another take over at once; if the database is away, when the term has ended."""
        if not self._is_leading.is_set():
            return
        try:
            Leadership.release(NAME, holder=self._holder, now=timezone.now())
        except DatabaseError as error:
            logger.warning("the lead cannot be given up, it ends by itself: %s", error)


def _await_end(threads: Iterable[threading.Thread]) -> None:
    """All of them together get CLOSE_SECONDS; what still waits for a broker then ends with us."""
    deadline = time.monotonic() + CLOSE_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))

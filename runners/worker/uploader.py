"""Hands the journal over to Forge: starts, log pieces and results, several tasks at once."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from runners.worker.client import Client, spread_pause
from runners.worker.errors import RefusedError, RevokedError, UnreachableError
from runners.worker.journal import Entry, Journal
from runners.worker.protocol import (
    MAXIMUM_PIECE_BYTES,
    MAXIMUM_REPORT_BYTES,
    Piece,
    Receipt,
    Report,
    ReportReply,
    Result,
    Started,
)

logger = logging.getLogger(__name__)

FIRST_CADENCE = 0.1
LONGEST_PAUSE = 10.0
FIRST_PAUSE = 0.2


class Uploader(threading.Thread):
    """One thread a worker. What Forge has not confirmed stays in the journal.

    `refused` is called with an entry that Forge no longer takes, `revoked` once when the token
    is no longer accepted.
    """

    def __init__(
        self,
        client: Client,
        journal: Journal,
        session: str,
        *,
        refused: Callable[[Entry], None],
        revoked: Callable[[RevokedError], None],
    ) -> None:
        super().__init__(name="forge-uploader", daemon=True)
        self._client = client
        self._journal = journal
        self._session = session
        self._refused = refused
        self._revoked = revoked
        self._condition = threading.Condition()
        self._has_news = True
        self._is_urgent = True
        self._is_closing = False
        self._cadence = FIRST_CADENCE
        self._last_sent = 0.0
        self._pause = 0.0

    def news(self) -> None:
        """There are new log bytes: send them at the cadence that Forge asked for."""
        if not self._has_news:
            self._tell(urgent=False)

    def urgent(self) -> None:
        """A task started or ended: send at once."""
        self._tell(urgent=True)

    def _tell(self, *, urgent: bool) -> None:
        with self._condition:
            self._has_news = True
            self._is_urgent = self._is_urgent or urgent
            self._condition.notify_all()

    def close(self, timeout: float) -> None:
        """Try for `timeout` seconds to hand over what is there, then end the thread."""
        with self._condition:
            self._is_closing = True
            self._condition.notify_all()
        if self.is_alive():
            self.join(timeout)

    def run(self) -> None:
        while self._wait():
            report = self._collect()
            if report is None:
                if self._is_closing:
                    return
                continue
            try:
                self._apply(self._client.report(report))
            except RevokedError as error:
                self._revoked(error)
                return
            except (UnreachableError, RefusedError) as error:
                self._back_off(error)
            else:
                self._pause = 0.0

    def _wait(self) -> bool:
        """Until there is something to send and its time has come."""
        with self._condition:
            self._condition.wait_for(lambda: self._has_news or self._is_closing)
            due = self._last_sent + self._cadence - time.monotonic()
            if due > 0:
                self._condition.wait_for(lambda: self._is_urgent or self._is_closing, due)
            self._has_news = self._is_urgent = False
        self._last_sent = time.monotonic()
        return True

    def _back_off(self, error: Exception) -> None:
        """Wait before the next try, longer each time; nothing is given up."""
        if not self._pause:
            logger.warning("Logs and results wait here: %s", error)
        self._pause = min(max(self._pause * 2, FIRST_PAUSE), LONGEST_PAUSE)
        asked = error.retry_after if isinstance(error, UnreachableError) else 0.0
        time.sleep(spread_pause(self._pause, asked))
        self.urgent()

    def _collect(self) -> Report | None:
        started: list[Started] = []
        pieces: list[Piece] = []
        results: list[Result] = []
        room = MAXIMUM_REPORT_BYTES
        for entry in self._journal:
            if entry.started is not None and not entry.is_start_sent:
                age = time.monotonic() - entry.started
                started.append(Started(task=entry.task, attempt=entry.attempt, age_seconds=age))
            result = entry.result
            offset = entry.sent
            while room > 0 and (data := entry.read(offset, min(room, MAXIMUM_PIECE_BYTES))):
                pieces.append(Piece(entry.task, entry.attempt, offset, data))
                offset += len(data)
                room -= len(data)
            if result is not None and offset == entry.length:
                results.append(_result(entry, result))
        if not (started or pieces or results):
            return None
        return Report(self._session, tuple(started), tuple(pieces), tuple(results))

    def _apply(self, reply: ReportReply) -> None:
        self._cadence = reply.cadence_seconds
        for receipt in reply.receipts:
            entry = self._journal.get(receipt.task, receipt.attempt)
            if entry is not None:
                self._confirm(entry, receipt)

    def _confirm(self, entry: Entry, receipt: Receipt) -> None:
        entry.is_start_sent = entry.is_start_sent or entry.started is not None
        entry.sent = min(receipt.log_bytes, entry.length)
        if receipt.remark:
            logger.warning("%s", receipt.remark)
        if receipt.is_finished and entry.result is not None:
            self._journal.forget(entry)
        elif receipt.is_finished or not receipt.is_held:
            self._refused(entry)
        elif entry.sent < entry.length or entry.result is not None:
            self.urgent()


def _result(entry: Entry, result: dict[str, object]) -> Result:
    fields = {
        "task": entry.task,
        "attempt": entry.attempt,
        "age_seconds": entry.seconds_since_end,
        **result,
    }
    return Result.read(fields, "result.json")

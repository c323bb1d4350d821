"""Hands the journal over to Forge: starts, log pieces and results, several tasks at once."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from runners.worker.client import Client, spread_pause
from runners.worker.entry import LONGEST_PROBLEM, Entry
from runners.worker.errors import RefusedError, RevokedError, UnreachableError
from runners.worker.fields import (
    MAXIMUM_AGES,
    MAXIMUM_PIECE_BYTES,
    ProtocolError,
    printable,
)
from runners.worker.journal import Journal
from runners.worker.protocol import (
    MAXIMUM_REPORT_BYTES,
    MAXIMUM_TROUBLE,
    Overflow,
    Piece,
    Receipt,
    Report,
    ReportReply,
    Result,
    Started,
)
from runners.worker.supervision import boot_seconds

logger = logging.getLogger(__name__)

FIRST_CADENCE = 0.1
LONGEST_PAUSE = 10.0
FIRST_PAUSE = 0.2
# For so long reports may be kept from a Forge that answers heartbeats.
TROUBLE_SECONDS = 20.0
# Heard of in one report: no list of it gets longer than the protocol allows.
MOST_ENTRIES = 500
# As much unsent log is sent without waiting for the cadence.
ENOUGH_BYTES = MAXIMUM_REPORT_BYTES // 2
# About a minute of them; after that an attempt that has ended is reported without its log's rest.
MOST_READS = 12


@dataclass
class _Unreadable:
    """A log that the disk does not give back, and when it is read again, in monotonic seconds."""

    reads: int = 0
    pause: float = 0.0
    due: float = 0.0

    def put_off(self) -> None:
        self.reads += 1
        self.pause = _longer(self.pause)
        self.due = time.monotonic() + spread_pause(self.pause, 0.0)


class Uploader(threading.Thread):
    """One thread a worker. What Forge has not confirmed stays in the journal.

    `refused` is called with an entry that Forge no longer takes, `revoked` once when the token
    is no longer accepted.
    """

    def __init__(
        self,
        client: Client,
        journal: Journal,
        *,
        refused: Callable[[Entry], None],
        revoked: Callable[[RevokedError], None],
    ) -> None:
        super().__init__(name="forge-uploader", daemon=True)
        self._client = client
        self._journal = journal
        self._refused = refused
        self._revoked = revoked
        self._condition = threading.Condition()
        self._has_news = True
        self._is_urgent = True
        self._is_closing = False
        # Whether it was when the try that is under way began.
        self._tries_as_last = False
        self._cadence = FIRST_CADENCE
        self._last_sent = 0.0
        self._pause = 0.0
        # What was said of this outage: a second reason is worth a line, the same one is not.
        self._said = set[str]()
        # Since when nothing arrives, and why not.
        self._stuck: tuple[float, str] | None = None
        # For how long Forge has answered everything else.
        self.seconds_heard: Callable[[], float] = lambda: 0.0
        # By task and attempt: each waits by itself, and the others do not wait for it.
        self._unreadable = dict[tuple[int, int], _Unreadable]()

    @property
    def trouble(self) -> str:
        """What keeps reports from Forge that hears this runner otherwise, such as a proxy that lets
        no long ones pass. For people, without a full stop; empty while all is well or may soon be.

        Forge knows it from nobody else: what has ended here would run for ever there.
        """
        stuck = self._stuck
        if stuck is None:
            return ""
        if min(time.monotonic() - stuck[0], self.seconds_heard()) < TROUBLE_SECONDS:
            return ""
        said = printable(f"Its logs and results do not arrive: {stuck[1]}", MAXIMUM_TROUBLE)
        return said[:MAXIMUM_TROUBLE].rstrip(" .")

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
            try:
                if not self._hand_over() and self._is_closing and not self._unreadable:
                    return
            except RevokedError as error:
                self._revoked(error)
                return
            except UnreachableError as error:
                self._back_off(str(error), error.retry_after)
            except RefusedError as error:
                self._back_off(str(error))
            except Exception as error:
                # Whatever it is: without this thread each task here would be running for ever.
                reason = f"an unexpected error, {type(error).__name__}: {error}"
                self._back_off(reason, trace=error)

    def _hand_over(self) -> bool:
        """Report what there is; False if there is nothing. Raises what keeps it here."""
        report = self._collect()
        if report is None:
            return False
        self._apply(report, self._client.report(report))
        self._note_arrival()
        return True

    def _wait(self) -> bool:
        """Until there is something to send and its time has come."""
        with self._condition:
            # One who closes waits for what may still be read, until the time for it is over.
            self._condition.wait_for(
                lambda: self._has_news or (self._is_closing and not self._unreadable),
                self._until_next_read(),
            )
            due = self._last_sent + self._cadence - time.monotonic()
            if due > 0:
                self._condition.wait_for(lambda: self._is_urgent or self._is_closing, due)
            self._has_news = self._is_urgent = False
            self._tries_as_last = self._is_closing
        self._last_sent = time.monotonic()
        return True

    def _until_next_read(self) -> float | None:
        """Seconds until a log that could not be read is read again; None if there is none."""
        if not self._unreadable:
            return None
        first = min(unreadable.due for unreadable in self._unreadable.values())
        return max(0.0, first - time.monotonic())

    def _back_off(self, reason: str, asked: float = 0.0, *, trace: Exception | None = None) -> None:
        """Wait before the next try, longer each time; nothing is given up."""
        self._stuck = (self._stuck[0] if self._stuck else time.monotonic(), reason)
        if reason not in self._said:
            self._said.add(reason)
            logger.warning("Logs and results wait here: %s", reason, exc_info=trace)
        self._pause = _longer(self._pause)
        with self._condition:
            # Also where it has been told to close since the try began.
            is_last_chance = self._condition.wait_for(
                lambda: self._is_closing and not self._tries_as_last,
                spread_pause(self._pause, asked),
            )
            if is_last_chance:
                # As often as that may help in the few seconds that are left.
                self._pause = min(self._pause, 2 * FIRST_PAUSE)
        self.urgent()

    def _note_arrival(self) -> None:
        # Whoever was only told to wait for a moment says no more than that.
        if self._pause > FIRST_PAUSE:
            logger.warning("Logs and results arrive again.")
        self._pause = 0.0
        self._stuck = None
        self._said.clear()

    def _collect(self) -> Report | None:
        """What is to be said now. Every log gets its share of the room, a short one all it needs.

        No log waits until another one, however long, is through.
        """
        entries = sorted(filter(_has_something, self._journal), key=_backlog)[:MOST_ENTRIES]
        pieces: list[Piece] = []
        results: list[Result] = []
        room = MAXIMUM_REPORT_BYTES
        self._forget_unreadable(entries)
        for index, entry in enumerate(entries):
            if self._waits_for_disk(entry):
                continue
            if entry.result is not None and entry.remark:
                # Of what was given up Forge takes no log, and a long one would keep its end here.
                results.append(_result(entry))
                continue
            is_over, end, error = entry.result is not None, entry.sent, None
            try:
                for piece in _pieces(entry, room // (len(entries) - index)):
                    pieces.append(piece)
                    end += len(piece.data)
                    room -= len(piece.data)
            except OSError as caught:
                error = caught
            reads = self._note_reading(entry, error)
            if is_over and error is not None and reads >= MOST_READS:
                results.append(_result_without_rest(entry, end, error))
            elif is_over and end == entry.length:
                results.append(_result(entry))
        started = tuple(_start(entry) for entry in entries if _has_started(entry))
        overflows = tuple(_overflow(entry) for entry in entries if _has_overflown(entry))
        if not (started or pieces or results or overflows):
            return None
        return Report(started, tuple(pieces), tuple(results), overflows)

    def _forget_unreadable(self, entries: Iterable[Entry]) -> None:
        """Those of which nothing is to be sent any more: nobody waits for them."""
        held = {(entry.task, entry.attempt) for entry in entries}
        self._unreadable = {one: how for one, how in self._unreadable.items() if one in held}

    def _waits_for_disk(self, entry: Entry) -> bool:
        unreadable = self._unreadable.get((entry.task, entry.attempt))
        return unreadable is not None and unreadable.due > time.monotonic()

    def _note_reading(self, entry: Entry, error: OSError | None) -> int:
        """How many times in a row the entry's log could not be read."""
        key = (entry.task, entry.attempt)
        if error is None:
            if self._unreadable.pop(key, None):
                logger.warning("The log of task %d can be read again.", entry.task)
            return 0
        unreadable = self._unreadable.setdefault(key, _Unreadable())
        unreadable.put_off()
        if unreadable.reads == 1:
            logger.warning(
                "The log of task %d cannot be read, and is tried again: %s.",
                entry.task,
                error.strerror,
            )
        return unreadable.reads

    def _apply(self, report: Report, reply: ReportReply) -> None:
        self._cadence = reply.cadence_seconds
        for overflow in report.overflows:
            if entry := self._journal.get(overflow.task, overflow.attempt):
                entry.told_written = overflow.written_bytes
        told = {(result.task, result.attempt) for result in report.results}
        has_moved = False
        for receipt in reply.receipts:
            if entry := self._journal.get(receipt.task, receipt.attempt):
                has_moved |= self._confirm(entry, receipt, told)
        left = [
            one for one in self._journal if _has_something(one) and not self._waits_for_disk(one)
        ]
        is_much = sum(map(_backlog, left)) >= ENOUGH_BYTES or any(entry.result for entry in left)
        if has_moved and is_much:
            self.urgent()
        elif left:
            self.news()

    def _confirm(self, entry: Entry, receipt: Receipt, told: set[tuple[int, int]]) -> bool:
        """Note what Forge has; True if it has taken something, so that more is worth sending.

        told: those whose ends it has just heard, kept or not.
        """
        before = entry.sent
        entry.is_start_sent = entry.is_start_sent or entry.started is not None
        # Less than before when Forge's database was restored from a backup: it is sent again.
        entry.sent = min(receipt.log_bytes, entry.length)
        entry.times.forget(entry.sent)
        if receipt.remark and receipt.remark != entry.remark:
            # Once: what is being ended goes on writing, and is told it each time.
            entry.remark = receipt.remark
            logger.warning("%s", receipt.remark)
        if receipt.remark and entry.result is not None and (entry.task, entry.attempt) not in told:
            return True
        if receipt.is_finished and entry.result is not None:
            if (entry.task, entry.attempt) in self._unreadable:
                logger.error("Task %d has ended without the rest of its log.", entry.task)
            self._journal.forget(entry)
        elif receipt.is_finished or not receipt.is_held:
            self._refused(entry)
        return receipt.is_finished or entry.sent != before


def _longer(pause: float) -> float:
    """The next pause, in seconds, of one who has tried in vain."""
    return min(max(pause * 2, FIRST_PAUSE), LONGEST_PAUSE)


def _has_something(entry: Entry) -> bool:
    is_new = _has_started(entry) or _has_overflown(entry)
    return is_new or entry.result is not None or _backlog(entry) > 0


def _backlog(entry: Entry) -> int:
    return entry.length - entry.sent


def _pieces(entry: Entry, most: int) -> Iterator[Piece]:
    """What Forge does not have yet, at most `most` bytes."""
    offset, end = entry.sent, entry.sent + most
    while data := entry.read(offset, min(end - offset, MAXIMUM_PIECE_BYTES)):
        behind = offset + len(data)
        ages = entry.times.ages(offset, behind, now=time.monotonic(), most=MAXIMUM_AGES // 2)
        yield Piece(entry.task, entry.attempt, offset, data, ages)
        offset += len(data)


def _has_started(entry: Entry) -> bool:
    return entry.started is not None and not entry.is_start_sent


def _start(entry: Entry) -> Started:
    age = max(0.0, boot_seconds() - (entry.started or 0.0))
    return Started(task=entry.task, attempt=entry.attempt, age_seconds=age)


def _has_overflown(entry: Entry) -> bool:
    is_running = entry.result is None
    return is_running and entry.log.is_above_limit and entry.log.written > entry.told_written


def _overflow(entry: Entry) -> Overflow:
    log = entry.log
    return Overflow(entry.task, entry.attempt, log.head, log.written)


def _result(entry: Entry) -> Result:
    """How it ended. A note of that which nobody can read says so, and keeps no task running."""
    try:
        return _read_result(entry)
    except ProtocolError as error:
        logger.warning("The note of how task %d ended cannot be read: %s", entry.task, error)
        entry.result = {
            "outcome": "failed",
            "exit_code": None,
            "reason": "The runner's note of how it ended cannot be read.",
            **entry.about_log(),
            "log_problem": "The runner's note of what it lacks cannot be read.",
        }
        return _read_result(entry)


def _read_result(entry: Entry) -> Result:
    """Raises ProtocolError."""
    about = {
        "task": entry.task,
        "attempt": entry.attempt,
        "nonce": entry.nonce or None,
        "age_seconds": entry.seconds_since_end,
    }
    return Result.read({**(entry.result or {}), **about}, "result.json")


def _result_without_rest(entry: Entry, end: int, error: OSError) -> Result:
    """How it ended, where the disk keeps what its log holds after byte `end`."""
    problem = f"The rest of it cannot be read on the runner's disk: {error.strerror}."
    result = replace(_result(entry), log_bytes=end, log_problem=problem[:LONGEST_PROBLEM])
    if result.log_gap_offset is not None and result.log_gap_offset > end:
        # What stands before it is missing too.
        result = replace(result, log_gap_offset=None, log_gap_bytes=0)
    return result

"""`POST /runner/v1/report`: starts, log pieces and results, each behind the fence."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone

from runners import quotas
from runners.endpoint import runner_endpoint
from runners.models import Runner
from runners.refusals import refusals
from runners.worker.failpoints import reached
from runners.worker.protocol import (
    Overflow,
    Piece,
    Receipt,
    Report,
    ReportReply,
    Result,
    Started,
)
from tasks.attempts import begin_next_attempt
from tasks.digests import digests
from tasks.late_words import note_late_results
from tasks.lifecycle import HELD, TaskState
from tasks.live import announce
from tasks.log import append
from tasks.log_columns import ABOVE_LIMIT
from tasks.models import Task, TaskAttempt
from tasks.publish import put_out_project

# How often a runner uploads while somebody watches one of its tasks, and otherwise.
WATCHED_CADENCE = 0.05
UNWATCHED_CADENCE = 1.0

DIFFERS = "What arrived is not what the runner had: their SHA-256 differ."

Item = Started | Piece | Result | Overflow


@runner_endpoint(Report, size=quotas.log_bytes)
def report(request: HttpRequest, runner: Runner, message: Report) -> ReportReply:
    _reached("result sent", message.results, runner)
    reply = take_report(runner=runner, report=message, now=timezone.now())
    _reached("result committed", message.results, runner)
    return reply


def _reached(place: str, results: Iterable[Result], runner: Runner) -> None:
    for item in results:
        reached(place, task=item.task, attempt=item.attempt, runner=runner.name)


def take_report(*, runner: Runner, report: Report, now: datetime) -> ReportReply:
    """Commit what is this runner's to say; the receipts tell what was taken."""
    references = _references(report)
    tasks = _tasks_of(report, runner, {task for task, _ in references})
    for task in tasks.values():
        _take_task(task, runner, report, now=now)
    receipts = tuple(_receipts(references, tasks, runner))
    _log_fence(runner, receipts)
    return ReportReply(receipts=receipts, cadence_seconds=_cadence(tasks.values(), now=now))


def _log_fence(runner: Runner, receipts: Iterable[Receipt]) -> None:
    """What was refused because it is another runner's, or of an attempt that is over."""
    refused = [one for one in receipts if one.remark or not (one.is_held or one.is_finished)]
    for one in refused[:1]:
        more = f", and {len(refused) - 1} more" if len(refused) > 1 else ""
        stranger = f"attempt {one.attempt} of task {one.task} is not its to write"
        detail = f"{one.remark or stranger}{more}"
        refusals.of_runner(runner, "fence", detail, level=logging.WARNING)


def _references(report: Report) -> list[tuple[int, int]]:
    """The (task, attempt) that the report speaks of, each once."""
    items: list[Item] = [*report.started, *report.pieces, *report.results, *report.overflows]
    return sorted({(item.task, item.attempt) for item in items})


def _tasks_of(report: Report, runner: Runner, ids: set[int]) -> dict[int, Task]:
    """Those of them that are with this runner, and were not claimed anew since a result was sent.

    A worker can be killed before its claim arrives. The next one reports that nothing was run, and
    claims it again, in the same attempt; a copy of that report, which was held up, must not end
    what runs now.
    """
    told: dict[tuple[int, int], set[str]] = defaultdict(set)
    for item in report.results:
        if item.nonce:
            told[item.task, item.attempt].add(item.nonce)
    tasks = Task.objects.filter(runner=runner).without_scripts().in_bulk(ids)
    return {pk: task for pk, task in tasks.items() if told[pk, task.attempt] <= {task.nonce}}


def is_held_by(task: Task, runner: Runner, attempt: int) -> bool:
    """The fence: whether this attempt of the task is this runner's to write."""
    return task.runner_id == runner.pk and task.attempt == attempt and task.state in HELD


def _take_task(task: Task, runner: Runner, report: Report, *, now: datetime) -> None:
    """All that the report says of one task, in the order in which it happened."""
    if task.state == TaskState.LOST and note_late_results(task, report.results, now=now):
        announce(task.pk)
    if not is_held_by(task, runner, task.attempt):
        return
    changed = [_take_start(task, runner, item, now=now) for item in report.started]
    changed += [_take_overflow(task, runner, item) for item in report.overflows]
    changed += [_take_stretch(task, stretch, now=now) for stretch in _stretches(task, report)]
    changed += [_take_result(task, runner, item, now=now) for item in report.results]
    if any(changed):
        announce(task.pk)


def _concerns(task: Task, item: Item) -> bool:
    return item.task == task.pk and item.attempt == task.attempt


def _take_start(task: Task, runner: Runner, item: Started, *, now: datetime) -> bool:
    if not _concerns(task, item):
        return False
    started_at = _moment(task, item.age_seconds, now=now)
    is_starting = task.state == TaskState.STARTING
    if is_starting and task.start(runner=runner, attempt=item.attempt, now=started_at):
        return True
    # Stopped, or out of reach, before its start was heard of; maybe since the row was read.
    if task.started_at is not None:
        return False
    return task.note_start(runner=runner, attempt=item.attempt, now=started_at)


def _moment(task: Task, age_seconds: float, *, now: datetime) -> datetime:
    """When something happened `age_seconds` ago, never before the claim and the start.

    Each report is some time on its way: what a slow one says seems to be later than it was.
    """
    moment = now - timedelta(seconds=age_seconds)
    return max([moment, *filter(None, (task.claimed_at, task.started_at))])


def _stretches(task: Task, report: Report) -> Iterator[list[Piece]]:
    """The task's pieces, those that follow each other together."""
    together: list[Piece] = []
    end = 0
    for item in report.pieces:
        if not _concerns(task, item):
            continue
        if together and item.offset != end:
            yield together
            together = []
        together.append(item)
        end = item.offset + len(item.data)
    if together:
        yield together


def _take_stretch(task: Task, pieces: list[Piece], *, now: datetime) -> bool:
    offset, data = pieces[0].offset, b"".join(piece.data for piece in pieces)
    before = task.log_bytes
    stored = append(task, offset=offset, data=data, now=now, ages=_ages_of(pieces))
    if stored:
        begin = before - offset
        digests.grew(task, before, data[begin : begin + stored])
    return stored > 0


def _ages_of(pieces: Iterable[Piece]) -> Iterator[tuple[int, float | None]]:
    """Counted in all of them; of what a piece does not speak nothing is known."""
    begin = 0
    for piece in pieces:
        if not piece.ages or piece.ages[0][0]:
            yield begin, None
        for offset, age in piece.ages:
            yield begin + offset, age
        begin += len(piece.data)


def _take_overflow(task: Task, runner: Runner, item: Overflow) -> bool:
    """Its log is above the limit: whoever watches is told how it goes on."""
    if not _concerns(task, item) or item.written_bytes <= task.log_written_bytes:
        return False
    return task.note_overflow(
        runner=runner,
        attempt=item.attempt,
        gap_offset=item.gap_offset,
        written_bytes=item.written_bytes,
    )


def _take_result(task: Task, runner: Runner, item: Result, *, now: datetime) -> bool:
    """The end, once the whole log is committed; the sender tries again otherwise."""
    if not _concerns(task, item) or task.log_bytes < item.log_bytes:
        return False
    started_at, ended_at = _span(task, item, now=now)
    told = {**_about_log(task, item), **({"started_at": started_at} if started_at else {})}
    if item.is_cut_short and task.may_retry and _retry(task, runner, item, told, now=ended_at):
        return True
    if task.state == TaskState.STARTING and item.outcome == "succeeded":
        task.start(runner=runner, attempt=item.attempt, now=started_at or ended_at)
    elif task.state == TaskState.STARTING and item.outcome == "stopped":
        task.request_stop(reason=item.reason, now=now, attempt=item.attempt)
    to, reason = _verdict(task, item)
    end = {"exit_code": item.exit_code, "reason": reason, **told}
    is_finished = task.finish(to, runner=runner, attempt=item.attempt, now=ended_at, **end)
    if is_finished:
        digests.forget(task)
        transaction.on_commit(lambda: put_out_project(task.project_id))
    return is_finished


def _span(task: Task, item: Result, *, now: datetime) -> tuple[datetime | None, datetime]:
    """When the attempt began, if that is to be said anew, and when it ended.

    Both were told by reports that were some time on their way, which can be longer than the run
    itself. Its runner has measured the run, and of the two the one that seems earlier is nearer to
    the truth: from there it is counted, not before the claim and not beyond now.
    """
    if item.run_seconds is None:
        return None, _moment(task, item.age_seconds, now=now)
    ran = timedelta(seconds=item.run_seconds)
    begin = now - timedelta(seconds=item.age_seconds) - ran
    begin = min(begin, task.started_at or begin)
    begin = max(begin, task.claimed_at or begin)
    return begin, max(begin, min(begin + ran, now))


def _retry(
    task: Task, runner: Runner, item: Result, told: dict[str, Any], *, now: datetime
) -> bool:
    """The attempt was cut short and all of it is gone: the next one need not wait for a lease."""
    is_begun = False
    with transaction.atomic():
        # Locked first: a heartbeat that says that the runner has it would bring back what was
        # unreachable, between the two changes here.
        row = Task.objects.without_scripts().select_for_update().get(pk=task.pk)
        if is_held_by(row, runner, item.attempt):
            row.mark_unreachable(now=now)
            end = {"state": TaskState.FAILED, "reason": item.reason, "now": now, **told}
            is_begun = begin_next_attempt(task=row, is_over=True, **end)
    task.refresh_from_db()
    return is_begun


def _about_log(task: Task, item: Result) -> dict[str, Any]:
    """What the finished task says of its log. Complete is what nobody has found a fault with."""
    is_same = task.log_bytes == item.log_bytes and digests.matches(task, item.log_sha256)
    problems = (
        # First, for it says why it differs.
        item.log_problem,
        "" if is_same else DIFFERS,
        ABOVE_LIMIT if item.log_gap_bytes else "",
    )
    problem = next(filter(None, problems), "")
    # What is left out behind the log's end lacks what lies before it too: the problem says it.
    offset = item.log_gap_offset or 0
    gap_bytes = item.log_gap_bytes if offset <= task.log_bytes else 0
    return {
        "log_sha256": item.log_sha256,
        "log_complete": not problem,
        "log_problem": problem,
        "log_written_bytes": item.log_bytes
        if item.log_written_bytes is None
        else item.log_written_bytes,
        "log_gap_offset": offset if gap_bytes else None,
        "log_gap_bytes": gap_bytes,
    }


def _verdict(task: Task, item: Result) -> tuple[TaskState, str]:
    """The state to enter. What ended otherwise while a stop was asked for counts as stopped."""
    if task.stop_requested_at is not None and item.outcome != TaskState.STOPPED:
        return TaskState.STOPPED, f"{item.reason} A stop was under way: {task.stop_reason}"[:500]
    return TaskState(item.outcome), item.reason


def _receipts(
    references: list[tuple[int, int]], tasks: dict[int, Task], runner: Runner
) -> Iterator[Receipt]:
    """What is committed of each attempt, without a word about tasks of others.

    However many a report names, what is not the runner's to write is looked up once.
    """
    present = {(task.pk, task.attempt): task for task in tasks.values()}
    others = {pk for pk, attempt in references if (pk, attempt) not in present}
    rows = TaskAttempt.objects.filter(task__in=others, runner=runner) if others else ()
    earlier = {(one.task_id, one.number): one for one in rows}
    for pk, attempt in references:
        if task := present.get((pk, attempt)):
            yield _receipt(task)
        else:
            yield _receipt_of_earlier(pk, attempt, earlier.get((pk, attempt)))


def _receipt(task: Task) -> Receipt:
    return Receipt(
        task.pk,
        task.attempt,
        is_held=task.state in HELD,
        log_bytes=task.log_bytes,
        is_finished=task.is_finished,
        remark=_too_late(f"Task #{task.pk}") if task.state == TaskState.LOST else "",
    )


def _receipt_of_earlier(pk: int, attempt: int, earlier: TaskAttempt | None) -> Receipt:
    """Of an attempt that is not, or no longer, the runner's to write."""
    if earlier is None:
        return Receipt(pk, attempt, is_held=False, log_bytes=0, is_finished=False)
    is_lost = earlier.state == TaskState.LOST
    return Receipt(
        pk,
        attempt,
        is_held=False,
        log_bytes=earlier.log_bytes,
        is_finished=not is_lost,
        remark=_too_late(f"Attempt {attempt} of task #{pk}") if is_lost else "",
    )


def _too_late(what: str) -> str:
    return f"{what} was given up as lost before; what came of it since is not kept."


def _cadence(tasks: Iterable[Task], *, now: datetime) -> float:
    watched = any(task.watched_until and task.watched_until > now for task in tasks)
    return WATCHED_CADENCE if watched else UNWATCHED_CADENCE

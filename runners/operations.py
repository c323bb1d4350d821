"""What people and hosts do with runners. Registration tokens: `runners.registration`."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Case, Q, Value, When
from django.utils import timezone

from projects.audit.entry import Verb
from projects.audit.recording import record, record_saved, snapshot
from projects.people import name_of
from projects.tokens import RUNNER_PREFIX, digest_of, new_token
from projects.versions import held_to_version
from runners import accounts, control
from runners.errors import (
    RunnerInUseError,
    RunnerNameTakenError,
    RunnerNotConnectedError,
    RunnerQuarantinedError,
    RunnerRemovedError,
    TooManyTokensError,
)
from runners.models import MAXIMUM_TAGS, Queue, Runner, Tag
from runners.pausing import checked_reason

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from projects.models import Project
    from runners.worker.protocol import ConnectRequest

logger = logging.getLogger(__name__)

LONGEST_OVERLAP = timedelta(days=30)
# From its connection a worker has this long until its first heartbeat: it waits for the broker.
START = timedelta(seconds=20)
LONGEST_PAUSE = timedelta(days=366)
# Each is a password that the broker compares with when the account signs in.
MAXIMUM_TOKENS = 20


@dataclass(frozen=True)
class NewRunner:
    """A runner's row and its token in clear text, which exists only here."""

    runner: Runner
    token: str = field(repr=False)


def tags_named(*, project: Project, names: Sequence[str]) -> list[Tag]:
    """The project's tags of these names, made where they are new. Raises ValidationError."""
    wanted = sorted(set(names))
    if len(wanted) > MAXIMUM_TAGS:
        raise ValidationError({"tags": f"At most {MAXIMUM_TAGS} tags are possible."})
    found = {tag.name: tag for tag in Tag.objects.filter(project=project, name__in=wanted)}
    for name in wanted:
        if name not in found:
            _check_tag(project, name)
            found[name], _ = Tag.objects.get_or_create(project=project, name=name)
    return [found[name] for name in wanted]


def _check_tag(project: Project, name: str) -> None:
    try:
        Tag(project=project, name=name).clean_fields()
    except ValidationError as error:
        sentences = [f"{name[:60]!r}: {sentence}" for sentence in error.messages]
        raise ValidationError({"tags": sentences}) from error


def queue_for(*, project: Project, tags: Sequence[Tag]) -> Queue:
    """The queue of tasks that require `tags`. A new one is opened to the runners that have them."""
    name = Queue.name_for(tag.name for tag in tags)
    queue = Queue.objects.filter(project=project, name=name).first()
    if queue is not None:
        return queue
    with transaction.atomic():
        queue, created = Queue.objects.get_or_create(project=project, name=name)
        if created:
            queue.tags.set(tags)
            transaction.on_commit(partial(_open_queue, project))
    return queue


def _open_queue(project: Project) -> None:
    """Widen the broker accounts before any runner listens: an unknown queue would be refused."""
    for runner in Runner.objects.with_account(timezone.now()).filter(project=project):
        accounts.try_to_apply(runner)


def create_runner(
    *,
    project: Project,
    name: str,
    tags: Sequence[str],
    concurrency: int,
    takes_untagged: bool,
    by: User,
    now: datetime,
) -> NewRunner:
    """A new runner with its broker account.

    Raises RunnerNameTakenError, and ValidationError for a name or tag that is not allowed.
    """
    token = new_token(RUNNER_PREFIX)
    runner = Runner(
        project=project,
        name=name,
        concurrency=concurrency,
        takes_untagged=takes_untagged,
        created_by=by,
        created_at=now,
    )
    try:
        with transaction.atomic():
            found = tags_named(project=project, names=tags)
            add_runner(runner=runner, tags=found, digest=digest_of(token), now=now)
    except IntegrityError as error:
        raise RunnerNameTakenError(name) from error
    return NewRunner(runner, token)


def add_runner(*, runner: Runner, tags: Sequence[Tag], digest: str, now: datetime) -> None:
    """Store a new runner with its first token and its broker account; in a transaction.

    Raises ValidationError, and IntegrityError for a name or a digest that is taken.
    """
    runner.clean_fields()
    runner.save()
    runner.tags.set(tags)
    runner.tokens.create(digest=digest, created_at=now, created_by=runner.created_by)
    record_saved(runner, None)
    queue_for(project=runner.project, tags=())
    transaction.on_commit(partial(accounts.try_to_apply, runner))


def change_runner(
    *,
    runner: Runner,
    changes: Mapping[str, object],
    tags: Sequence[str] | None = None,
    version: str = "",
) -> Runner:
    """Write the named fields and no others, and its tags unless they are None.

    Its worker obeys at once; what runs goes on. Raises RunnerRemovedError, ValidationError, and
    ChangedMeanwhileError if it is not of this `version` any more.
    """
    with transaction.atomic(), held_to_version(runner, version):
        # Locked: of two changes at once each records what the other has left.
        row = Runner.objects.present().select_for_update(no_key=True).filter(pk=runner.pk).first()
        if row is None:
            raise RunnerRemovedError(runner)
        before, could_take = snapshot(row), set(row.queues())
        for name, value in changes.items():
            setattr(row, name, value)
        row.clean_fields()
        row.save(update_fields=list(changes))
        if tags is not None:
            row.tags.set(tags_named(project=row.project, names=tags))
        if record_saved(row, before):
            is_narrower = bool(could_take - set(row.queues()))
            transaction.on_commit(partial(_apply_change, row, is_narrower=is_narrower))
    return row


def _apply_change(runner: Runner, *, is_narrower: bool) -> None:
    """What a BRPOP that waits already may take is ended with its connection."""
    if is_narrower:
        accounts.try_to_narrow(runner)
    else:
        accounts.try_to_apply(runner)
    control.ask_to_beat(runner)


def rotate_token(*, runner: Runner, overlap: timedelta, by: User, now: datetime) -> NewRunner:
    """A new token; all earlier ones end after `overlap`, or sooner if they already were to.

    Raises RunnerRemovedError, TooManyTokensError, and ValidationError for an overlap that is
    negative or longer than LONGEST_OVERLAP.
    """
    if not timedelta() <= overlap <= LONGEST_OVERLAP:
        raise ValidationError({"overlap_seconds": "The overlap is 0 seconds to 30 days."})
    token = new_token(RUNNER_PREFIX)
    until = now + overlap
    with transaction.atomic():
        # Locked: of two rotations at once the second replaces the token of the first.
        row = Runner.objects.present().select_for_update().filter(pk=runner.pk).first()
        if row is None:
            raise RunnerRemovedError(runner)
        if row.tokens.valid(now=now).count() >= MAXIMUM_TOKENS and until > now:
            raise TooManyTokensError(row, MAXIMUM_TOKENS)
        row.tokens.outliving(until).update(expires_at=until)
        row.tokens.create(digest=digest_of(token), created_at=now, created_by=by)
        end = until.astimezone(UTC)
        record(Verb.ROTATED, row, detail=f"Older tokens end at {end:%Y-%m-%d %H:%M:%S} UTC.")
        transaction.on_commit(partial(_apply_rotation, row, now))
    return NewRunner(row, token)


def end_older_tokens(*, runner: Runner, now: datetime) -> int:
    """End the overlap of a rotation now; returns how many tokens that ended."""
    with transaction.atomic():
        older = runner.tokens.valid(now=now).exclude(expires_at=None)
        ended = older.update(expires_at=now)
        if ended:
            record(Verb.ENDED_OLDER, runner)
        transaction.on_commit(partial(_apply_rotation, runner, now))
    return ended


def _apply_rotation(runner: Runner, now: datetime) -> None:
    """Tell the broker at once; what it misses, being away, the controller repeats."""
    if runner.tokens.to_cut(now=now).exists():
        accounts.try_to_cut(runner, now=now)
    else:
        accounts.try_to_apply(runner)


def remove_runner(*, runner: Runner, now: datetime) -> bool:
    """Revoke the token and the broker account; False if it was removed before."""
    with transaction.atomic():
        removed = Runner.objects.present().filter(pk=runner.pk).update(removed_at=now)
        if removed:
            runner.refresh_from_db()
            record(Verb.REMOVED, runner)
            transaction.on_commit(partial(accounts.try_to_remove, runner))
    return bool(removed)


def quarantine_runner(*, runner: Runner, reason: str, now: datetime) -> bool:
    """Cut the runner off from the broker; False if it was removed or cut off before.

    The account goes first: every moment counts, and the controller keeps it away as long as the
    row says so. Its heartbeat still works, so tasks that run there go on.
    """
    accounts.try_to_remove(runner)
    with transaction.atomic():
        is_cut = runner.quarantine(reason=reason, now=now)
        if is_cut:
            record(Verb.QUARANTINED, runner, detail=reason)
    return is_cut


def lift_quarantine(*, runner: Runner, by: User, now: datetime) -> bool:
    """Give the runner its broker account back; False if it has it."""
    with transaction.atomic():
        is_lifted = runner.lift_quarantine(now=now)
        if is_lifted:
            logger.warning("%s lifted the quarantine of runner %s", by.get_username(), runner.name)
            record(Verb.LIFTED, runner)
            transaction.on_commit(partial(accounts.try_to_apply, runner))
    return is_lifted


def pause_runner(
    *, runner: Runner, reason: str, until: datetime | None, by: User, now: datetime
) -> None:
    """Give the runner nothing new until then, or until somebody resumes it. What it has runs on.

    Raises RunnerRemovedError, and ValidationError for a reason that is empty, too long or not one
    line, and for an end that is past or more than LONGEST_PAUSE away.
    """
    if until is not None and not now < until <= now + LONGEST_PAUSE:
        raise ValidationError({"until": "Give a time that is to come, within a year from now."})
    reason = checked_reason(runner, reason)
    with transaction.atomic():
        if not runner.pause(reason=reason, until=until, by=by, now=now):
            raise RunnerRemovedError(runner)
        logger.info("%s paused runner %s", by.get_username(), runner.name)
        end = f" Until {until.astimezone(UTC):%Y-%m-%d %H:%M} UTC." if until else ""
        record(Verb.PAUSED, runner, detail=f"{reason.rstrip('.')}.{end}" if end else reason)
        transaction.on_commit(partial(control.ask_to_beat, runner))


def resume_runner(*, runner: Runner, by: User, now: datetime) -> bool:
    """End its pause before its time, and take back its drain while its worker was not told of it.

    False if there was neither.
    """
    with transaction.atomic():
        is_kept = runner.take_back_drain()
        is_resumed = runner.resume(now=now) or is_kept
        if is_resumed:
            logger.info("%s resumed runner %s", by.get_username(), runner.name)
            record(Verb.RESUMED, runner, detail="It is no longer drained." if is_kept else "")
            transaction.on_commit(partial(control.ask_to_beat, runner))
    return is_resumed


def drain_runner(
    *, runner: Runner, reason: str, stays_paused: bool, by: User, now: datetime
) -> None:
    """Let its worker take nothing new, finish its tasks, and end: it is told when it holds none.

    With `stays_paused` the runner is paused too, so that whatever starts its worker again does not
    bring it back before somebody resumes it. Raises RunnerNotConnectedError, RunnerRemovedError,
    and ValidationError for a reason as `pause_runner` does.
    """
    reason = checked_reason(runner, reason)
    with transaction.atomic():
        if stays_paused and not runner.pause(reason=reason, until=None, by=by, now=now):
            raise RunnerRemovedError(runner)
        if runner.is_silent(now=now) or not runner.drain(f"{name_of(by)}: {reason}"):
            raise RunnerNotConnectedError(runner)
        logger.info("%s drains runner %s", by.get_username(), runner.name)
        end = " It stays paused." if stays_paused else ""
        record(Verb.DRAINED, runner, detail=f"{reason.rstrip('.')}.{end}" if end else reason)
        transaction.on_commit(partial(control.ask_to_beat, runner))


def connect_runner(
    *, runner: Runner, request: ConnectRequest, address: str | None, now: datetime
) -> Runner:
    """Begin a session of the worker that sent `request`.

    Raises RunnerQuarantinedError, RunnerRemovedError, and RunnerInUseError while another instance
    is heard, or is about to be, with the same token; the same instance (the same journal folder)
    may always take over from its dead predecessor.
    It counts as heard with its first heartbeat, which it sends once the broker answers it too, or
    once it waits for that.
    """
    if runner.is_quarantined(now=now):
        raise RunnerQuarantinedError(runner)
    fields: dict[str, object] = {
        "session": request.session,
        "instance": request.instance,
        "version": request.version,
        "system": request.system,
        "host_name": request.host_name,
        "address": address,
        "host_slots": request.slots,
    }
    if runner.session != request.session:
        fields |= {"connected_at": now, "is_draining": False, "drain_order": ""}
        fields |= {"was_told_to_end": False, "trouble": "", "ending": 0}
    silence = timedelta(seconds=max(3 * settings.FORGE_HEARTBEAT_SECONDS, 3))
    has_begun = runner.begin_session(fields, silent_since=now - silence, starting_since=now - START)
    runner.refresh_from_db()
    if runner.removed_at is not None:
        raise RunnerRemovedError(runner)
    if not has_begun:
        raise RunnerInUseError(runner)
    return runner


def note_heartbeat(
    *, runner: Runner, is_leaving: bool, is_draining: bool = False, now: datetime
) -> None:
    """The runner is alive; or it was shut down in good order, and its session ends.

    A session that has ended meanwhile says nothing about the one that has taken its place.
    """
    changes: dict[str, object] = {"session": "", "instance": ""} if is_leaving else {}
    if is_draining:
        # It ends, whoever told it so, and cannot be kept from that.
        changes["was_told_to_end"] = True
    # An order to drain that was given since the worker sent this stands.
    drains = Case(When(~Q(drain_order=""), Value(value=True)), default=Value(is_draining))
    rows = Runner.objects.filter(pk=runner.pk, session=runner.session)
    rows.update(
        last_heartbeat_at=now, is_draining=Value(value=False) if is_leaving else drains, **changes
    )


def note_ending(*, runner: Runner, ending: int) -> bool:
    """Note how many tasks that were given up its worker still ends; True if there are fewer now."""
    if runner.ending == ending:
        return False
    rows = Runner.objects.filter(pk=runner.pk, session=runner.session)
    return bool(rows.update(ending=ending)) and ending < runner.ending


def note_trouble(*, runner: Runner, trouble: str) -> bool:
    """Note what keeps the runner's worker from taking tasks; True if nothing does any more.

    False when there is no news.
    """
    if not runner.note_trouble(trouble):
        return False
    if trouble:
        logger.warning("runner %s cannot take tasks: %s", runner.name, trouble)
    else:
        logger.warning("runner %s can take tasks again", runner.name)
    return not trouble

"""What people and hosts do with runners."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from projects.tokens import RUNNER_PREFIX, digest_of, new_token
from runners import accounts
from runners.errors import RunnerInUseError, RunnerNameTakenError
from runners.models import MAXIMUM_TAGS, Queue, Runner, Tag

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from projects.models import Project
    from runners.worker.protocol import ConnectRequest


@dataclass(frozen=True)
class NewRunner:
    """A runner's row and its token in clear text, which exists only here."""

    runner: Runner
    token: str


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
    for runner in Runner.objects.present().filter(project=project):
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
        token_digest=digest_of(token),
        concurrency=concurrency,
        takes_untagged=takes_untagged,
        created_by=by,
        created_at=now,
    )
    runner.clean_fields()
    try:
        with transaction.atomic():
            runner.save()
            runner.tags.set(tags_named(project=project, names=tags))
            queue_for(project=project, tags=())
            transaction.on_commit(partial(accounts.try_to_apply, runner))
    except IntegrityError as error:
        raise RunnerNameTakenError(name) from error
    return NewRunner(runner, token)


def remove_runner(*, runner: Runner, now: datetime) -> bool:
    """Revoke the token and the broker account; False if it was removed before."""
    removed = Runner.objects.present().filter(pk=runner.pk).update(removed_at=now)
    if removed:
        runner.refresh_from_db()
        transaction.on_commit(partial(accounts.try_to_remove, runner))
    return bool(removed)


def connect_runner(
    *, runner: Runner, request: ConnectRequest, address: str | None, now: datetime
) -> Runner:
    """Begin a session of the worker that sent `request`.

    Raises RunnerInUseError while another instance is heard with the same token; the same
    instance (the same journal folder) may always take over from its dead predecessor.
    It counts as heard with its first heartbeat, which it sends once the broker answers it too.
    """
    heard = runner.last_heartbeat_at
    fresh = timedelta(seconds=max(3 * settings.FORGE_HEARTBEAT_SECONDS, 3))
    is_other = bool(runner.instance) and runner.instance != request.instance
    if is_other and heard is not None and now - heard < fresh:
        raise RunnerInUseError(runner)
    if runner.session != request.session:
        runner.connected_at = now
    runner.session = request.session
    runner.instance = request.instance
    runner.version = request.version
    runner.system = request.system
    runner.host_name = request.host_name
    runner.address = address
    fields = "session instance connected_at version system host_name address"
    runner.save(update_fields=fields.split())
    return runner


def note_heartbeat(*, runner: Runner, is_leaving: bool, now: datetime) -> None:
    """The runner is alive; or it was shut down in good order, and its session ends."""
    changes = {"session": "", "instance": ""} if is_leaving else {}
    Runner.objects.filter(pk=runner.pk).update(last_heartbeat_at=now, **changes)

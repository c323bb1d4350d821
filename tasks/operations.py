"""What people do with templates, tasks, and the runners that hold tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from projects.audit.entry import Verb
from projects.audit.recording import record, record_saved, snapshot
from projects.names import name_as_stored
from projects.operations import (
    is_secret_of,
    unlike_stored,
    write_access_key,
    write_variable_group,
)
from projects.people import name_of
from projects.versions import held_to_version
from runners.operations import queue_for, remove_runner, tags_named
from runners.worker.failpoints import reached
from tasks import control
from tasks.duplicating import copy_of
from tasks.errors import (
    SourceInUseError,
    TaskFinishedError,
    TemplateNameTakenError,
    TemplateRemovedError,
)
from tasks.lifecycle import TaskState
from tasks.live import announce
from tasks.models import Task, TaskTemplate
from tasks.policies import normal_stop_steps
from tasks.publish import may_hint_at_once, publish, put_out, put_out_project
from tasks.sources import (
    check_key_variables,
    hold_templates,
    set_sources,
    settle_sources,
)
from tasks.template_changes import why_not_runnable
from tasks.transitions import CHANGING

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from django.db.models import QuerySet

    from projects.models import AccessKey, VariableGroup
    from runners.models import Runner


def save_template(
    *,
    template: TaskTemplate,
    tags: Sequence[str],
    groups: Sequence[int] | None = None,
    keys: Mapping[int, str] | None = None,
    version: str = "",
) -> TaskTemplate:
    """Store a new or changed template with its required tags, and open their queue.

    `groups` are ids of variable groups, `keys` variable names by id of access key; None leaves
    what it has. Raises ValidationError, TemplateNameTakenError, SourceUnknownError and
    SourceConflictError, and ChangedMeanwhileError if what is stored is not of this version.
    """
    template.clean_fields(exclude=("queue",))
    template.clean()
    if not template.script.strip():
        raise ValidationError({"script": "Enter a script: this one has nothing but space."})
    template.stop_steps = normal_stop_steps(template.stop_steps)
    check_key_variables(keys or {})
    try:
        with transaction.atomic():
            hold_templates(pk=template.pk)
            with held_to_version(template, version):
                before = snapshot(template)
                found = tags_named(project=template.project, names=tags)
                template.queue = queue_for(project=template.project, tags=found)
                template.save(update_fields=_edited(template))
                template.tags.set(found)
                set_sources(template, groups=groups, keys=keys)
                settle_sources(template)
                record_saved(template, before)
    except IntegrityError as error:
        others = TaskTemplate.objects.present().filter(project=template.project)
        taken = name_as_stored(others.exclude(pk=template.pk), template.name)
        raise TemplateNameTakenError(taken) from error
    return template


def _edited(template: TaskTemplate) -> list[str] | None:
    """What saving writes of a template that is there: not what others may have done meanwhile."""
    if template.pk is None:
        return None
    kept = {"disabled_at", "disabled_by", "disabled_reason", "removed_at"}
    fields = (field for field in template._meta.concrete_fields if not field.primary_key)
    return [field.name for field in fields if field.name not in kept]


def duplicate_template(*, template: TaskTemplate, name: str = "") -> TaskTemplate:
    """A copy with the same tags, variable groups and access keys; without a name, under a free one.

    It can be run, also if the template is disabled. Raises what `save_template` does.
    """
    copy = copy_of(template)
    copy.name = name or copy.name
    return save_template(
        template=copy,
        tags=[tag.name for tag in template.tags.all()],
        groups=[group.pk for group in template.variable_groups.all()],
        keys=dict(template.access_key_uses.values_list("access_key_id", "variable")),
    )


def disable_template(*, template: TaskTemplate, reason: str, by: User, now: datetime) -> None:
    """Have it run by nobody, until it is enabled. Tasks that wait or run go on.

    Raises TemplateRemovedError, and ValidationError for a reason that is empty, too long or not
    one line.
    """
    reason = reason.strip()
    if not reason:
        raise ValidationError({"reason": "Say why, for those who want to run it."})
    try:
        TaskTemplate._meta.get_field("disabled_reason").clean(reason, template)
    except ValidationError as error:
        raise ValidationError({"reason": error.messages}) from error
    with transaction.atomic():
        if not template.disable(reason=reason, by=by, now=now):
            raise TemplateRemovedError(template.name)
        record(Verb.DISABLED, template, detail=reason)


def enable_template(*, template: TaskTemplate) -> bool:
    """Let it be run again; False if it was not disabled."""
    with transaction.atomic():
        if not template.enable():
            return False
        record(Verb.ENABLED, template)
    return True


def _settle(templates: QuerySet[TaskTemplate]) -> None:
    """After a change of what these templates draw on: bring each up to date.

    Raises SourceConflictError.
    """
    for template in templates.filter(removed_at=None):
        settle_sources(template)


def save_access_key(
    *, key: AccessKey, parts: Mapping[str, str], now: datetime, version: str = ""
) -> AccessKey:
    """Store a new or changed access key; its kind stays. `parts` empty leaves the secret.

    Raises ValidationError, AccessKeyNameTakenError and SecretsKeyError, and ChangedMeanwhileError
    if what is stored is not of this version.
    """
    with transaction.atomic():
        hold_templates(access_keys=key.pk)
        with held_to_version(key, version) as is_outdated:
            if is_outdated and parts and is_secret_of(key, parts):
                parts = {}
            write_access_key(key=key, parts=parts, now=now)
            _settle(TaskTemplate.objects.filter(access_keys=key))
    return key


def save_variable_group(
    *, group: VariableGroup, secrets: Mapping[str, str | None], now: datetime, version: str = ""
) -> VariableGroup:
    """Store a new or changed group; `secrets` names what to set, and with None what to remove.

    Raises ValidationError, VariableGroupNameTakenError, SecretsKeyError, and SourceConflictError
    when a template that uses it would get one name from two places, and ChangedMeanwhileError if
    what is stored is not of this version.
    """
    with transaction.atomic():
        hold_templates(variable_groups=group.pk)
        with held_to_version(group, version) as is_outdated:
            if is_outdated:
                secrets = unlike_stored(group, secrets)
            write_variable_group(group=group, secrets=secrets, now=now)
            _settle(TaskTemplate.objects.filter(variable_groups=group))
    return group


def remove_access_key(*, key: AccessKey) -> None:
    """Delete a key with its secret. Raises SourceInUseError while templates use it."""
    with transaction.atomic():
        type(key).objects.select_for_update().filter(pk=key.pk).first()
        _require_unused(f"The access key {key}", TaskTemplate.objects.filter(access_keys=key))
        record(Verb.REMOVED, key)
        key.delete()


def remove_variable_group(*, group: VariableGroup) -> None:
    """Delete a group with its secrets. Raises SourceInUseError while templates use it."""
    with transaction.atomic():
        type(group).objects.select_for_update().filter(pk=group.pk).first()
        templates = TaskTemplate.objects.filter(variable_groups=group)
        _require_unused(f"The variable group {group}", templates)
        record(Verb.REMOVED, group)
        group.delete()


def _require_unused(what: str, templates: QuerySet[TaskTemplate]) -> None:
    if names := list(templates.filter(removed_at=None).values_list("name", flat=True)):
        raise SourceInUseError(what, names)


def remove_template(*, template: TaskTemplate, now: datetime) -> None:
    """Hide the template; its tasks and their logs stay."""
    with transaction.atomic():
        if TaskTemplate.objects.present().filter(pk=template.pk).update(removed_at=now):
            record(Verb.REMOVED, template)


def run_template(
    *, template: TaskTemplate, by: User, now: datetime, rerun_of: Task | None = None
) -> Task:
    """Queue one run of the template as it is now.

    Raises TemplateRemovedError and TemplateDisabledError.
    """
    if refusal := why_not_runnable(template):
        raise refusal
    hinted_at = now if may_hint_at_once(template, now=now) else None
    with transaction.atomic():
        task = Task.objects.create(
            project=template.project,
            template=template,
            queue=template.queue,
            rerun_of=rerun_of,
            app=template.app,
            script=template.script,
            environment=template.environment,
            sources=template.sources,
            timeout_seconds=template.timeout_seconds,
            is_exclusive=not template.allow_parallel,
            **template.policy_copy(),
            created_by=by,
            created_at=now,
            queued_at=now,
            hinted_at=hinted_at,
        )
        record(Verb.RAN, task)
        transaction.on_commit(partial(_announce_new, task))
    return task


def _announce_new(task: Task) -> None:
    reached("row committed", task=task.pk, attempt=task.attempt)
    if task.hinted_at is not None:
        publish(task.queue, [(task.pk, task.attempt)])
    else:
        # Read before; without this line the database would be asked for it again.
        task.queue.project = task.project
        put_out(task.queue)
    reached("hint published", task=task.pk, attempt=task.attempt)


@transaction.atomic
def stop_task(*, task: Task, by: User, now: datetime) -> bool:
    """Stop a task: at once if it waits, by its runner otherwise, by the steps of its template.

    An unreachable one is stopped when its runner is heard again. False if somebody asked for it
    before. Raises TaskFinishedError.
    """
    reason = f"Stopped by {name_of(by)}."
    _hold(task)
    if task.stop_before_start(reason=reason, now=now):
        transaction.on_commit(partial(_after_end, task))
    elif task.request_stop(reason=reason, now=now):
        transaction.on_commit(partial(control.order_stop, task))
        transaction.on_commit(partial(announce, task.pk))
    elif task.note_stop(reason=reason, now=now):
        transaction.on_commit(partial(announce, task.pk))
    else:
        _require_unfinished(task)
        return False
    record(Verb.STOPPED, task)
    return True


@transaction.atomic
def force_stop_task(*, task: Task, by: User, now: datetime) -> bool:
    """Have the task's processes killed, without their time to clean up.

    What waits is stopped at once. Of an unreachable task it ends the wait: the task is lost,
    because what still runs there is ended only when its runner is heard again. False if somebody
    asked for it before. Raises TaskFinishedError.
    """
    reason = f"Force-stopped by {name_of(by)}."
    _hold(task)
    if task.stop_before_start(reason=reason, now=now) or _lose_by_force(task, reason, now=now):
        transaction.on_commit(partial(_after_end, task))
        record(Verb.FORCE_STOPPED, task)
        return True
    task.request_stop(reason=reason, now=now)
    if task.force_stop(reason=reason, now=now):
        transaction.on_commit(partial(control.order_stop, task))
        transaction.on_commit(partial(announce, task.pk))
        record(Verb.FORCE_STOPPED, task)
        return True
    _require_unfinished(task)
    return False


def _hold(task: Task) -> None:
    """Read the row and lock it: a task that moves between two of the ways to stop it, such as one
    whose runner is heard again, would be missed by both.
    """
    row = Task.objects.select_for_update(no_key=True)
    task.refresh_from_db(fields=CHANGING, from_queryset=row)


def _lose_by_force(task: Task, reason: str, *, now: datetime) -> bool:
    """End the wait for an unreachable task."""
    if task.state != TaskState.UNREACHABLE:
        return False
    where = f"Its runner {task.runner} was out of reach, and may have let it run on."
    return task.lose(reason=f"{reason} {where}", now=now)


def _require_unfinished(task: Task) -> None:
    """Raise TaskFinishedError for a finished task; otherwise it was asked for before."""
    task.refresh_from_db(fields=CHANGING)
    if task.is_finished:
        raise TaskFinishedError(task)


def _after_end(task: Task) -> None:
    announce(task.pk)
    put_out_project(task.project_id)


def retire_runner(*, runner: Runner, by: User | None, now: datetime) -> int:
    """Remove a runner: its tokens and broker account end now, and so do the tasks it holds.

    `by` is None when its own host unregisters it. Returns how many tasks ended with it.
    """
    done = f"removed by {name_of(by)}" if by else "unregistered by its host"
    reason = f"Runner {runner.name} was {done} while the task was with it."
    ended = 0
    with transaction.atomic():
        if not remove_runner(runner=runner, now=now):
            return 0
        for task in Task.objects.held_by(runner).without_scripts().order_by("pk"):
            end = partial(task.finish, runner=runner, attempt=task.attempt, now=now)
            if end(TaskState.FAILED, reason=reason):
                ended += 1
                transaction.on_commit(partial(_after_end, task))
    return ended

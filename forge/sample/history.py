"""Tasks in all states over the last months, with attempts, logs and lines of the audit log."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from forge.sample.pouring import pour
from forge.sample.scene import HISTORY, Place, Scene, batches, by_weight
from forge.sample.words import FAILURES, LOG_LINES
from projects.audit.actor import Way
from projects.audit.entry import AuditEntry, Kind, Verb
from runners.models import Runner
from tasks.lifecycle import TaskState
from tasks.models import LogChunk, Task, TaskAttempt, TaskTemplate
from tasks.policies import LostRunnerPolicy

# Of all tasks, the newest: so many wait, and so many before those are held by runners.
WAIT_SHARE, HELD_SHARE = 0.002, 0.002
LEAST = 3
LOGGED_TASKS = 10_000
# What an attempt waited that another one has followed.
FIRST_WAIT = timedelta(seconds=1)
# Of the runs, in the audit log: all of a small history, of a long one some.
RECORDED_SHARE, RECORDED_LEAST = 0.1, 2000
TOLD_EVERY = 100_000
_ENDS = (TaskState.SUCCEEDED, TaskState.FAILED, TaskState.STOPPED, TaskState.LOST)
_END_WEIGHTS = (0.885, 0.085, 0.025, 0.005)
_HELD_STATES = (TaskState.RUNNING, TaskState.STARTING, TaskState.STOPPING, TaskState.UNREACHABLE)
_HELD_WEIGHTS = (0.9, 0.04, 0.03, 0.03)


@dataclass
class Author:
    """Writes the tasks in the order in which they were queued."""

    scene: Scene
    places: list[Place]
    count: int
    # How many tasks a runner holds, and which templates that run alone are held.
    slots: Counter[int] = field(default_factory=Counter)
    alone: set[int] = field(default_factory=set)

    def tasks(self) -> Iterator[Task]:
        dice = self.scene.dice
        place_weights = by_weight(len(self.places))
        # The last template of each project has never run.
        template_weights = by_weight(len(self.places[0].templates) - 1)
        order = dice.choices(self.places, place_weights, k=self.count)
        kinds = dice.choices(range(len(template_weights)), template_weights, k=self.count)
        for number, (place, kind) in enumerate(zip(order, kinds, strict=True)):
            age = HISTORY * (self.count - number) / self.count
            yield self._task(place, place.templates[kind], self.scene.now - age, number)

    def _task(self, place: Place, template: TaskTemplate, at: datetime, number: int) -> Task:
        task = Task(
            project_id=place.project.pk, template_id=template.pk, queue_id=template.queue_id,
            app=template.app, script=template.script, timeout_seconds=template.timeout_seconds,
            is_exclusive=not template.allow_parallel, created_at=at, queued_at=at,
            created_by_id=self.scene.dice.choice(place.members).pk,
            environment={"RELEASE": "2026.11"}, sources={}, **template.policy_copy(),
        )  # fmt: skip
        place_from_end = self.count - number
        waiting, held = (max(self.count * share, LEAST) for share in (WAIT_SHARE, HELD_SHARE))
        if place_from_end <= waiting:
            self._wait(task)
        elif place_from_end <= waiting + held and self._hold(task, place):
            pass
        else:
            self._end(task, place)
        return task

    def _wait(self, task: Task) -> None:
        is_rare = self.scene.dice.random() < 0.01
        task.state = TaskState.AWAITING_APPROVAL if is_rare else TaskState.QUEUED

    def _hold(self, task: Task, place: Place) -> bool:
        """Give it to a runner with a free slot; False if there is none, or it must run alone."""
        now, dice = self.scene.now, self.scene.dice
        able = [one for one in place.able[task.template_id] if self._has_slot(one)]
        if not able or (task.is_exclusive and task.template_id in self.alone):
            return False
        runner = dice.choice(able)
        self.slots[runner.pk] += 1
        self.alone |= {task.template_id} if task.is_exclusive else set()
        self._claim(task, runner)
        (task.state,) = dice.choices(_HELD_STATES, _HELD_WEIGHTS)
        task.lease_expires_at = now + timedelta(minutes=1)
        if task.state == TaskState.STARTING:
            task.started_at = None
        if task.state == TaskState.STOPPING:
            task.stop_requested_at, task.stop_reason = now, "Stopped in the pages."
        if task.state == TaskState.UNREACHABLE:
            task.unreachable_at, task.wait_ends_at = now, now + timedelta(hours=1)
        return True

    def _has_slot(self, runner: Runner) -> bool:
        is_heard = runner.last_heartbeat_at == self.scene.now and runner.paused_at is None
        return is_heard and self.slots[runner.pk] < runner.concurrency

    def _claim(self, task: Task, runner: Runner) -> None:
        dice = self.scene.dice
        wait = timedelta(seconds=0.02 + dice.expovariate(1 / 3))
        task.runner, task.nonce = runner, f"{dice.getrandbits(128):032x}"
        task.hinted_at = task.queued_at + wait / 2
        task.claimed_at = min(task.queued_at + wait, self.scene.now)
        task.started_at = task.claimed_at + timedelta(milliseconds=dice.uniform(5, 40))
        task.log_head_bytes, task.log_tail_bytes = 128 * 1024**2, 16 * 1024**2

    def _end(self, task: Task, place: Place) -> None:
        dice, able = self.scene.dice, place.able[task.template_id]
        (task.state,) = dice.choices(_ENDS, _END_WEIGHTS)
        if not able:
            task.state, task.finished_at = TaskState.STOPPED, task.created_at + timedelta(hours=1)
            task.finished_at = min(task.finished_at, self.scene.now)
            task.reason, task.log_complete = "Stopped before it was started.", True
            return
        if task.lost_runner_policy == LostRunnerPolicy.RETRY and dice.random() < 0.02:
            task.attempt = 2
            run = timedelta(seconds=dice.lognormvariate(3, 1.3))
            task.queued_at = min(task.created_at + FIRST_WAIT + run, self.scene.now)
        self._claim(task, dice.choice(able))
        length = timedelta(seconds=min(dice.lognormvariate(3, 1.3), 3600))
        task.finished_at = min((task.started_at or task.created_at) + length, self.scene.now)
        task.log_complete = task.state != TaskState.LOST
        task.reason = "Ended with exit code 0."
        if task.state == TaskState.SUCCEEDED:
            task.exit_code = 0
        elif task.state == TaskState.FAILED:
            task.reason, task.exit_code = dice.choice(FAILURES), 1
        elif task.state == TaskState.STOPPED:
            task.reason = "Stopped in the pages."
            task.stop_requested_at, task.stop_reason = task.finished_at, task.reason
        else:
            task.reason = "Its runner was lost and has not come back within 60 min."


def write(scene: Scene, places: list[Place], count: int) -> None:
    """All tasks, and beside each batch what belongs to it."""
    author, done = Author(scene, places, count), 0
    share = max(RECORDED_SHARE, RECORDED_LEAST / max(count, 1))
    names = {one.pk: one.name for place in places for one in place.templates}
    people = {one.pk: one.get_username() for place in places for one in place.members}
    projects = {place.project.pk: place.project.name for place in places}
    for batch in batches(author.tasks()):
        logs = [
            _log(task) if count - done <= LOGGED_TASKS and task.claimed_at else b""
            for task in batch
        ]
        for task, log in zip(batch, logs, strict=True):
            task.log_bytes, task.log_sha256 = len(log), hashlib.sha256(log).hexdigest()
            task.log_lines = log.count(b"\n")
        pour(batch)
        pour([_attempt(task) for task in batch if task.attempt > 1])
        pour([_chunk(task, log) for task, log in zip(batch, logs, strict=True) if log])
        recorded = [task for task in batch if scene.dice.random() < share]
        pour([_entry(task, names, projects, people) for task in recorded])
        before, done = done, done + len(batch)
        if done // TOLD_EVERY > before // TOLD_EVERY:
            scene.tell(f"{done:,} of {count:,} tasks")


def _log(task: Task) -> bytes:
    start = task.started_at or task.created_at
    lines = [
        f"{start + timedelta(seconds=place):%H:%M:%S} {line}\n"
        for place, line in enumerate(LOG_LINES)
    ]
    return "".join(lines).encode()


def _chunk(task: Task, log: bytes) -> LogChunk:
    received = task.finished_at or task.claimed_at or task.created_at
    return LogChunk(
        task=task, attempt=task.attempt, offset=0, data=log, received_at=received,
        line_ends=log.count(b"\n"),
    )  # fmt: skip


def _attempt(task: Task) -> TaskAttempt:
    """The attempt before the one that the task's row shows."""
    claimed = min(task.created_at + FIRST_WAIT, task.queued_at)
    return TaskAttempt(
        task=task, number=1, runner_id=task.runner_id or 0, state=TaskState.FAILED,
        reason="Its runner's worker was ended, and the task with it.",
        claimed_at=claimed, started_at=claimed, ended_at=task.queued_at,
    )  # fmt: skip


def _entry(
    task: Task, names: dict[int, str], projects: dict[int, str], people: dict[int, str]
) -> AuditEntry:
    is_stop = task.state == TaskState.STOPPED
    name, by = names[task.template_id], task.created_by_id or 0
    return AuditEntry(
        at=task.created_at, way=Way.PAGE, actor=people.get(by, "somebody"), actor_id=by,
        address=f"10.1.{task.pk % 7}.{task.pk % 251}",
        verb=Verb.STOPPED if is_stop else Verb.RAN,
        kind=Kind.TASK if is_stop else Kind.TEMPLATE,
        object_id=task.pk if is_stop else task.template_id,
        name=f"#{task.pk} {name}" if is_stop else name,
        project_id=task.project_id, project=projects[task.project_id],
    )  # fmt: skip

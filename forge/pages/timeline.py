"""The steps of one task: what has happened, what is now, what comes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from projects.people import name_of
from projects.words import duration_in_words
from tasks.lifecycle import TaskState
from tasks.models import Task

USUAL_SAMPLE = 20
SHOWN_ATTEMPTS = 2
# The controller looks every second. What is not decided so long after a wait has its reason: one
# that has just taken the lead lets runners be heard first, for a whole lease before it ends one.
DECISION = timedelta(seconds=3)
ONCE_LISTENED = "once a controller has led, and listened, for long enough"


@dataclass(frozen=True)
class Step:
    """`kind`: past, gone (an earlier attempt), now, hold, next, or how it ended (ok, bad, mute).

    Its time is one of: `at` (a clock time), `after` (a difference), `since` (counting on). With
    `usual`, in seconds, the note is how much of that is over, and counts on too.
    """

    name: str
    kind: str
    icon: str
    note: str = ""
    at: datetime | None = None
    after: str = ""
    since: datetime | None = None
    usual: str = ""

    @property
    def mark(self) -> str:
        """The class of the line after this step."""
        return {"past": "", "gone": "bad", "now": "now", "hold": "hold"}.get(
            self.kind, f"next {self.kind}"
        )


def usual_seconds(task: Task) -> float | None:
    """The median duration of the template's latest successes; None without any."""
    rows = Task.objects.filter(template_id=task.template_id, state=TaskState.SUCCEEDED)
    times = rows.exclude(started_at=None).order_by("-pk").values_list("started_at", "finished_at")
    sample = times[:USUAL_SAMPLE]
    lengths = [(end - start).total_seconds() for start, end in sample if start and end]
    return median(lengths) if lengths else None


def steps_of(task: Task, *, usual: float | None, waits_for: str, now: datetime) -> list[Step]:
    steps = [_queued(task), *_earlier(task), *_claimed(task), *_started(task)]
    if task.is_finished:
        return [*steps, _finished(task)]
    return [*steps, _current(task, waits_for, usual, now), *_coming(task, usual, now)]


def _queued(task: Task) -> Step:
    who = f"by {name_of(task.created_by)}" if task.created_by else ""
    return Step("Queued", "past", "succeeded", who, at=task.created_at)


def _earlier(task: Task) -> list[Step]:
    """One step for each of the last attempts that another one has followed."""
    if task.attempt == 1:
        return []
    return [
        Step(
            TaskState(one.state).label,
            "gone",
            one.state,
            f"attempt {one.number}, by {one.runner}",
            one.ended_at,
            _difference(one.claimed_at, one.ended_at),
        )
        for one in list(task.earlier_attempts.select_related("runner"))[-SHOWN_ATTEMPTS:]
    ]


def _claimed(task: Task) -> list[Step]:
    if task.claimed_at is None:
        return []
    after = _difference(task.queued_at, task.claimed_at)
    return [Step("Claimed", "past", "succeeded", f"by {task.runner}", task.claimed_at, after)]


def _started(task: Task) -> list[Step]:
    if task.started_at is None:
        return []
    note = f"attempt {task.attempt}" if task.attempt > 1 else "the process exists"
    after = _difference(task.claimed_at or task.queued_at, task.started_at)
    return [Step("Started", "past", "succeeded", note, task.started_at, after)]


def _difference(before: datetime, after: datetime) -> str:
    return f"+{duration_in_words((after - before).total_seconds())}"


def _current(task: Task, waits_for: str, usual: float | None, now: datetime) -> Step:
    state = TaskState(task.state)
    if state == TaskState.RUNNING and task.started_at:
        length = "" if usual is None else f"{max(usual, 0.001):.3f}"
        share = _share(task, usual, now)
        return Step("Running", "now", "running", share, since=task.started_at, usual=length)
    if state == TaskState.STARTING:
        return Step("Starting", "now", "starting", "the process is made", since=task.claimed_at)
    if state == TaskState.STOPPING:
        since = task.stop_requested_at
        return Step("Stopping", "hold", "stopping", task.stop_reason, since=since)
    if state == TaskState.UNREACHABLE:
        return Step(
            "Unreachable", "hold", "unreachable", _until(task, now), since=task.unreachable_at
        )
    return Step("Waiting", "hold", "queued", waits_for, since=task.queued_at)


def _share(task: Task, usual: float | None, now: datetime) -> str:
    if usual is None or task.started_at is None:
        return "no earlier run to compare with"
    share = (now - task.started_at).total_seconds() / max(usual, 0.001)
    return f"{share:.0%} of the usual time".replace("%", " %") if share < 1 else "longer than usual"


def is_overdue(task: Task, *, now: datetime) -> bool:
    """Whether the wait for its runner is over, and nobody has done yet what follows."""
    is_unreachable = task.state == TaskState.UNREACHABLE
    return is_unreachable and task.wait_ends_at is not None and task.wait_ends_at < now - DECISION


def outcome_of_wait(task: Task) -> str:
    """What becomes of an unreachable task whose runner is not heard in time."""
    is_stopped = task.stop_requested_at is not None and task.ends_with_lease
    return "another attempt" if task.may_retry else "stopped" if is_stopped else "lost"


def _until(task: Task, now: datetime) -> str:
    if task.wait_ends_at is None or task.unreachable_at is None:
        return f"{task.runner} is silent"
    if is_overdue(task, now=now):
        return f"{task.runner} is silent; {outcome_of_wait(task)} {ONCE_LISTENED}"
    wait = duration_in_words((task.wait_ends_at - task.unreachable_at).total_seconds())
    return f"{task.runner} is silent; {outcome_of_wait(task)} after {wait}"


def _coming(task: Task, usual: float | None, now: datetime) -> list[Step]:
    """The steps that have not come yet, with what can be said of them."""
    if task.state in (TaskState.QUEUED, TaskState.AWAITING_APPROVAL):
        end = Step("Finished", "next", "never", _usually(usual))
        return [Step("Started", "next", "never"), end]
    begin = task.started_at if task.state == TaskState.RUNNING else None
    due = begin + timedelta(seconds=usual) if begin and usual else None
    expected = due if due and due > now else None
    return [Step("Finish", "next", "never", _usually(usual), at=expected)]


def _usually(usual: float | None) -> str:
    return f"usually takes {duration_in_words(usual)}" if usual else ""


def _finished(task: Task) -> Step:
    state = TaskState(task.state)
    kind = {TaskState.SUCCEEDED: "ok", TaskState.STOPPED: "mute"}.get(state, "bad")
    begin = task.started_at or task.claimed_at or task.queued_at
    end = task.finished_at or begin
    return Step(state.label, kind, state.value, task.reason, end, _difference(begin, end))

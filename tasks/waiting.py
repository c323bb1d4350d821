"""Why a queued task has not started: the sentence, the checks behind it, the nearest runners.

Everything is computed from the rows. What stays although other tasks end is named before what
passes as they do: nobody is to wait for such an end, and then find that no runner has the tags.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from projects.words import listed
from runners.contact import NO_ACCOUNT, BrokerTrouble
from runners.status import RunnerStatus
from tasks.candidates import Candidate, Candidates, Situation
from tasks.lifecycle import TaskState
from tasks.line import MAXIMUM_COUNTED, Line, lines_of
from tasks.models import Task
from tasks.sentences import ago, ahead_in_words, clock, tags_in_words

RUNNER, PLACE, BROKER, CONTROLLER = "Runner", "Place in line", "Broker", "Controller"
LIMIT = "Project limit"
NAMED = 3
# A hint that was put out so recently may reach a runner without the controller's help.
ON_ITS_WAY = timedelta(seconds=3)


@dataclass(frozen=True)
class Check:
    """`text` is a sentence where it is not met. `brief` says that where the sentence stands too,
    and `waits_for` names in a few words what the task waits for: `for gpu and linux`. `passes`:
    other tasks that end bring it about.
    """

    name: str
    is_met: bool
    text: str
    brief: str = ""
    waits_for: str = ""
    passes: bool = False

    @property
    def result(self) -> str:
        return self.brief or self.text


@dataclass(frozen=True)
class Waiting:
    """`only`: the one runner that may take it, if that hinders it; the sentence begins with it.

    `others` says how many runners are not among the nearest, and what they lack.
    """

    sentence: str
    checks: tuple[Check, ...]
    nearest: tuple[Candidate, ...]
    waits_for: str = ""
    only: Candidate | None = None
    others: str = ""

    @property
    def after_name(self) -> str:
        """The sentence without the name of the runner that it begins with."""
        return self.sentence.removeprefix(str(self.only.runner)) if self.only else self.sentence

    @property
    def lacks_runner(self) -> bool:
        """Whether a runner would help: none does while Forge itself is in the way."""
        lacks = any(check.name == RUNNER and not check.is_met for check in self.checks)
        return lacks and not self.waits_for_forge

    @property
    def waits_for_forge(self) -> bool:
        """Whether the sentence is of what only those who run Forge can see to."""
        return self._tells_of(BROKER, CONTROLLER)

    @property
    def waits_for_limit(self) -> bool:
        """Whether the sentence is of the project's limit."""
        return self._tells_of(LIMIT)

    def _tells_of(self, *names: str) -> bool:
        checks = (check for check in self.checks if check.name in names)
        return any(check.text == self.sentence for check in checks)

    @property
    def is_hindered(self) -> bool:
        """Whether something must happen first; otherwise it starts in a moment."""
        return any(not check.is_met for check in self.checks)


def why_waiting(task: Task, now: datetime) -> str:
    """One sentence, or nothing when the task does not wait."""
    waiting = explain(task, now)
    return waiting.sentence if waiting else ""


def explain(
    task: Task, now: datetime, situation: Situation | None = None, line: Line | None = None
) -> Waiting | None:
    """What a queued task waits for; None when it does not wait.

    Whoever asks about many passes what these have in common, and the line of each.
    """
    if task.state == TaskState.AWAITING_APPROVAL:
        return Waiting("It waits until somebody approves it.", (), (), "for approval")
    if task.state != TaskState.QUEUED:
        return None
    situation = situation or Situation(task.project_id, now=now)
    required = sorted(task.queue.required_tags)
    candidates = situation.candidates(required)
    line = line or lines_of([task])[task.pk]
    ahead = line.ahead
    checks = [_check_template(task, line), _check_limit(task, situation)]
    # Before the runners, which all say of themselves what comes of it.
    silence = _silence(situation) if candidates.entitled else None
    has_lost_accounts = not silence and _has_lost_accounts(situation, candidates)
    if silence:
        checks.append(_check_broker(silence, now))
    elif has_lost_accounts:
        checks.append(_unrestored(situation))
    checks.append(_check_runner(required, candidates, ahead))
    publishing = _check_publishing(task, situation)
    is_told = silence or has_lost_accounts
    if not is_told and (not publishing.is_met or all(check.is_met for check in checks)):
        checks.append(publishing)
    unmet = [check for check in checks if not check.is_met]
    hindrance = min(unmet, key=lambda check: check.passes, default=None)
    # The sentence tells of one; the others are told where they stand, but for runners that would
    # say once more, each of itself, what comes of the broker's silence or of what it has lost.
    told = {RUNNER} if is_told else set()
    checks = [
        one if one is hindrance or one.is_met or one.name in told else replace(one, brief="")
        for one in checks
    ]
    place = ahead_in_words(ahead, MAXIMUM_COUNTED)
    in_line = Check(PLACE, is_met=True, text=f"{place[0].upper()}{place[1:]}")
    entitled = candidates.entitled
    is_named = hindrance is not None and hindrance.name == RUNNER and len(entitled) == 1
    return Waiting(
        sentence=hindrance.text if hindrance else _about_to_start(candidates.free[0], ahead),
        checks=(*checks, in_line),
        nearest=candidates.nearest,
        waits_for=hindrance.waits_for if hindrance else place,
        only=entitled[0] if is_named else None,
        others=candidates.others_in_words,
    )


def _check_template(task: Task, line: Line) -> Check:
    if not task.is_exclusive:
        return Check("Template", is_met=True, text="Allows several runs at once")
    if line.holder is not None:
        word = TaskState(line.holder_state or TaskState.RUNNING).label.lower()
        return _one_at_a_time(task, line.holder, f"is {word}")
    if line.earlier is not None:
        return _one_at_a_time(task, line.earlier, "comes first")
    return Check("Template", is_met=True, text="Allows one run at a time, none is running")


def _one_at_a_time(task: Task, other: int, how: str) -> Check:
    """Its template may allow more by now: a task keeps to what it said when it was queued."""
    brief, rule = "Allows one run at a time", "it allows one run at a time"
    if task.template.allow_parallel:
        brief = "Allowed one run at a time when this was queued"
        rule = "this task was queued when it allowed one run at a time"
    text = f"#{other} of this template {how}, and {rule}."
    waits_for = f"for #{other}"
    return Check("Template", is_met=False, text=text, brief=brief, waits_for=waits_for, passes=True)


def _check_limit(task: Task, situation: Situation) -> Check:
    limit = task.project.max_parallel_tasks
    running = situation.running
    if not limit:
        return Check(LIMIT, is_met=True, text=f"None; {running} running")
    if running >= limit:
        text = f"The project runs {running} of at most {limit} at once."
        return _limited(text, running, limit)
    announced = situation.announced
    if task.pk not in announced and running + len(announced) >= limit:
        more = f" and {len(announced) - 1} more were" if len(announced) > 1 else " was"
        text = (
            f"The project runs {running} of at most {limit} at once, and #{announced[0]}{more} "
            "announced to a runner first."
        )
        return _limited(text, running, limit)
    return Check(LIMIT, is_met=True, text=f"{running} of {limit} running")


def _limited(text: str, running: int, limit: int) -> Check:
    brief, waits_for = f"{running} of {limit} running", "for the project's limit"
    return Check(LIMIT, is_met=False, text=text, brief=brief, waits_for=waits_for, passes=True)


def _check_runner(required: Sequence[str], candidates: Candidates, ahead: int) -> Check:
    entitled, online, count = candidates.entitled, candidates.online, len(candidates.all)
    if candidates.free:
        text = f"{len(candidates.free)} of {count} can take it now"
        return Check(RUNNER, is_met=True, text=text)
    brief = f"0 of {count} can take it" if count else "There is none"
    waits_for = f"for {listed(required)}" if required else "for a runner"
    if online:
        text, waits_for = _all_busy(online, len(entitled), ahead), "for a free slot"
    elif entitled:
        text = _none_online(entitled)
    else:
        text = _none_entitled(required, candidates.all)
    passes = bool(online)
    return Check(RUNNER, is_met=False, text=text, brief=brief, waits_for=waits_for, passes=passes)


def _none_entitled(required: Sequence[str], candidates: Sequence[Candidate]) -> str:
    if not candidates:
        return "This project has no runners yet."
    if required:
        return f"No runner has {tags_in_words(required)}."
    if len(candidates) == 1:
        return f"{candidates[0].runner}, the only runner, refuses tasks without tags."
    return f"All {len(candidates)} runners refuse tasks without tags."


def _none_online(entitled: Sequence[Candidate]) -> str:
    """What keeps every runner that may take it from doing so."""
    if len(entitled) == 1:
        only = entitled[0]
        return f"{only.runner}, the only runner that may take it, {only.hindrance()}."
    now, count = entitled[0].now, len(entitled)
    kinds = {
        RunnerStatus.PAUSED if one.runner.is_paused(now=now) else one.status for one in entitled
    }
    if kinds == {RunnerStatus.NEVER_CONTACTED}:
        return f"None of the {count} runners that may take it has connected yet."
    if kinds == {RunnerStatus.OFFLINE}:
        heard = [(one.runner.last_heartbeat_at or now, one.runner) for one in entitled]
        moment, last = max(heard, key=lambda pair: pair[0])
        return (
            f"All {count} runners that may take it are offline; "
            f"{last} was heard last, {ago(moment, now)}."
        )
    words = [f"{one.runner} {one.hindrance()}" for one in entitled[:NAMED]]
    rest = f"; and {count - NAMED} more" if count > NAMED else ""
    return f"None of the {count} runners that may take it is ready: {'; '.join(words)}{rest}."


def _all_busy(online: Sequence[Candidate], entitled: int, ahead: int) -> str:
    place = ahead_in_words(ahead, MAXIMUM_COUNTED)
    if entitled == 1:
        only = online[0]
        busy = f"busy {only.endings}" if only.held < only.runner.slots else "busy"
        return f"{only.runner}, the only runner for it, is {busy}, and {place}."
    if len(online) == entitled:
        return f"All {entitled} runners for it are busy, and {place}."
    busy = "one is ready, but busy" if len(online) == 1 else f"{len(online)} are ready, but busy"
    return f"Of the {entitled} runners for it {busy}, and {place}."


def _check_publishing(task: Task, situation: Situation) -> Check:
    """Whether the task is announced to runners: by the controller, unless it just was."""
    now = situation.now
    is_on_its_way = task.hinted_at is not None and now - task.hinted_at < ON_ITS_WAY
    if trouble := _broker_trouble(situation):
        return _check_broker(trouble, now)
    if is_on_its_way:
        return Check(CONTROLLER, is_met=True, text="Has announced it to the runners")
    if not situation.is_led:
        # The end of a task announces the next without it: named if it is all that lacks.
        text = f"{_no_controller(situation)}, and only it hands out what waits. Start one."
        return Check(CONTROLLER, is_met=False, text=text, waits_for="for a controller", passes=True)
    return Check(CONTROLLER, is_met=True, text="Runs, and reaches the broker")


def _no_controller(situation: Situation) -> str:
    since = situation.leads_until
    if since is None:
        return "No controller has run yet"
    return f"No controller runs since {clock(since, situation.now)}"


def _has_lost_accounts(situation: Situation, candidates: Candidates) -> bool:
    """Whether a runner might take it if a controller gave the broker its accounts back."""
    lacking = (one for one in candidates.entitled if one.runner.trouble == NO_ACCOUNT)
    return not situation.is_led and not candidates.online and any(lacking)


def _unrestored(situation: Situation) -> Check:
    text = (
        f"{_no_controller(situation)}, and only it gives the broker back the accounts of runners, "
        "which it has lost. Start one."
    )
    return Check(CONTROLLER, is_met=False, text=text, waits_for="for a controller")


def _broker_trouble(situation: Situation) -> BrokerTrouble | None:
    """As the controller that leads knows it; what another one noted need not be true any more."""
    return situation.broker_trouble if situation.is_led else None


def _silence(situation: Situation) -> BrokerTrouble | None:
    """Where the broker does not answer at all; one that refuses may yet hand out what it has."""
    trouble = _broker_trouble(situation)
    return trouble if trouble and not trouble.refusal else None


def _check_broker(trouble: BrokerTrouble, now: datetime) -> Check:
    since = clock(trouble.since, now)
    text, brief = f"Forge's broker has not answered since {since}.", "Does not answer"
    if trouble.refusal:
        text, brief = f"The broker refuses hints since {since}: {trouble.refusal}.", ""
    return Check(BROKER, is_met=False, text=text, brief=brief, waits_for="for the broker")


def _about_to_start(free: Candidate, ahead: int) -> str:
    if ahead:
        return f"{free.runner} is free, and {ahead_in_words(ahead, MAXIMUM_COUNTED)}."
    return f"{free.runner} is free and takes it in a moment."

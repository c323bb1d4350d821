"""What a template says for the day its runner is lost, and about how its tasks are stopped.

A task has a copy, made when it is queued: a change of the template is for later tasks.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from runners.worker.protocol import MAXIMUM_STOP_STEPS, STOP_SIGNALS, SignalStep

MAXIMUM_WAIT_SECONDS = 30 * 24 * 3600
MAXIMUM_ATTEMPTS = 20
MAXIMUM_STOP_SECONDS = 3600
# How far the clocks of Forge's own hosts may differ: a lease has surely ended this much later.
CLOCK_DIFFERENCE = timedelta(seconds=3)

StopSteps = list[dict[str, Any]]


class LostRunnerPolicy(models.TextChoices):
    """What becomes of a task whose runner is no longer heard."""

    WAIT = "wait", "Wait for it"
    FAIL = "fail", "Give up at once"
    RETRY = "retry", "Run it again elsewhere"


def default_stop_steps() -> StopSteps:
    """INT first, once, with time to finish: a second one makes Terraform leave its state locked."""
    return [{"signal": "INT", "grace_seconds": 120}, {"signal": "TERM", "grace_seconds": 30}]


def normal_stop_steps(steps: object) -> StopSteps:
    """The steps as they are stored: without the KILL that comes after every list.

    Raises ValidationError, which says what is wrong.
    """
    if not isinstance(steps, list) or len(steps) > MAXIMUM_STOP_STEPS:
        raise ValidationError(f"Give a list of at most {MAXIMUM_STOP_STEPS} steps.")
    found = [_normal_step(step) for step in steps]
    if found and found[-1]["signal"] == "KILL":
        found.pop()
    if any(step["signal"] == "KILL" for step in found):
        raise ValidationError("Nothing can follow KILL. It comes last, also if it is left out.")
    if sum(step["grace_seconds"] for step in found) > MAXIMUM_STOP_SECONDS:
        raise ValidationError(f"All steps together may take {MAXIMUM_STOP_SECONDS} seconds.")
    return found


def _normal_step(step: object) -> dict[str, Any]:
    if not isinstance(step, dict) or not step.keys() <= {"signal", "grace_seconds"}:
        raise ValidationError("Each step has a signal and grace_seconds, and nothing else.")
    signal = str(step.get("signal", "")).upper().removeprefix("SIG")
    if signal not in STOP_SIGNALS:
        known = ", ".join(STOP_SIGNALS)
        raise ValidationError(f"{signal[:20] or 'Nothing'} is no signal of a stop. Use {known}.")
    grace = step.get("grace_seconds", 0)
    if type(grace) is not int or not 0 <= grace <= MAXIMUM_STOP_SECONDS:
        raise ValidationError(f"grace_seconds is a whole number up to {MAXIMUM_STOP_SECONDS}.")
    return {"signal": signal, "grace_seconds": grace}


def is_stop_steps(steps: object) -> None:
    """A validator. Raises ValidationError."""
    normal_stop_steps(steps)


def length_in_words(seconds: int) -> str:
    """The largest unit that says it exactly: `90 s`, `60 min`, `36 h`, `3 d`."""
    units = (("d", 86400), ("h", 3600), ("min", 60))
    found = ((name, size) for name, size in units if seconds % size == 0 and seconds > size)
    name, size = next(found, ("min", 60) if seconds and seconds % 60 == 0 else ("s", 1))
    return f"{seconds // size} {name}"


class RunPolicy(models.Model):
    """The columns that a template and its tasks have in common."""

    lost_runner_policy = models.CharField(
        "if the runner is lost",
        max_length=10,
        choices=LostRunnerPolicy.choices,
        default=LostRunnerPolicy.WAIT,
    )
    # None: FORGE_UNREACHABLE_SECONDS at the time.
    lost_runner_wait_seconds = models.PositiveIntegerField(
        "seconds to wait for it",
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(MAXIMUM_WAIT_SECONDS)],
    )
    max_attempts = models.PositiveSmallIntegerField(
        "attempts at most",
        default=3,
        validators=[MinValueValidator(2), MaxValueValidator(MAXIMUM_ATTEMPTS)],
    )
    stop_steps = models.JSONField(
        default=default_stop_steps, blank=True, validators=[is_stop_steps]
    )

    class Meta:
        abstract = True

    @property
    def wait_seconds(self) -> float:
        """How long a lost runner is waited for, by the policy `wait`."""
        own = self.lost_runner_wait_seconds
        return settings.FORGE_UNREACHABLE_SECONDS if own is None else own

    @property
    def lost_runner_in_words(self) -> str:
        """What becomes of a task whose runner is lost: `wait 60 min for it`."""
        if self.lost_runner_policy == LostRunnerPolicy.WAIT:
            return f"wait {length_in_words(round(self.wait_seconds))} for it"
        if self.lost_runner_policy == LostRunnerPolicy.RETRY:
            return f"run it again elsewhere, at most {self.max_attempts} attempts"
        return "give up at once"

    @property
    def stop_in_words(self) -> str:
        """`INT, after 2 min TERM, after 30 s KILL`."""
        words, after = "", ""
        for step in self.stop_steps:
            words += f"{after}{step['signal']}, "
            after = f"after {length_in_words(step['grace_seconds'])} "
        return f"{words}{after}KILL"

    @property
    def signal_steps(self) -> tuple[SignalStep, ...]:
        """The steps of a stop before its KILL, as a runner is told them."""
        return tuple(
            SignalStep(signal=step["signal"], grace_seconds=float(step["grace_seconds"]))
            for step in self.stop_steps
        )

    def policy_copy(self) -> dict[str, Any]:
        """What a task of this template takes over when it is queued."""
        return {
            "lost_runner_policy": self.lost_runner_policy,
            "lost_runner_wait_seconds": round(self.wait_seconds),
            "max_attempts": self.max_attempts,
            "stop_steps": self.stop_steps,
        }


def lease_end(now: datetime) -> datetime:
    """When a lease ends that is given or renewed now."""
    return now + timedelta(seconds=settings.FORGE_LEASE_SECONDS)

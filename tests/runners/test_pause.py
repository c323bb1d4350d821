"""A paused runner takes nothing new, whoever asks; who, why and until when is said everywhere."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.test import Client
from django.utils import timezone

from projects.audit.entry import AuditEntry
from runners.connect import queue_names
from runners.errors import RunnerRemovedError
from runners.models import Runner
from runners.operations import (
    LONGEST_PAUSE,
    pause_runner,
    remove_runner,
    resume_runner,
    rotate_token,
)
from runners.status import RunnerStatus
from runners.worker.protocol import ClaimRequest
from tasks.claim import claim_task
from tasks.errors import ClaimRefusedError
from tasks.models import Task
from tests.cast import Cast

pytestmark = pytest.mark.django_db


def pause(runner: Runner, cast: Cast, **given: Any) -> None:
    now = timezone.now()
    given = {"reason": "Kernel update", "until": None, "by": cast.manager, "now": now} | given
    pause_runner(runner=runner, **given)


def heard(runner: Runner) -> Runner:
    now = timezone.now()
    rows = Runner.objects.filter(pk=runner.pk)
    rows.update(connected_at=now, last_heartbeat_at=now, session="one")
    return rows.get()


def status(runner: Runner, *, running: int = 0) -> RunnerStatus:
    return Runner.objects.get(pk=runner.pk).status_at(timezone.now(), running=running)


def claim(runner: Runner, task: Task) -> Task:
    request = ClaimRequest(task.pk, task.attempt, "n" * 22)
    return claim_task(runner=runner, request=request, now=timezone.now())


def test_the_status_follows_from_who_and_until_when(cast: Cast, runner: Runner) -> None:
    runner = heard(runner)
    pause(runner, cast, until=timezone.now() + timedelta(hours=1))
    assert status(runner, running=1) == RunnerStatus.PAUSED
    Runner.objects.update(
        paused_at=timezone.now() - timedelta(hours=2),
        paused_until=timezone.now() - timedelta(seconds=1),
    )
    assert status(runner, running=1) == RunnerStatus.BUSY


def test_a_paused_runner_is_given_no_queue_and_no_task(
    cast: Cast, runner: Runner, task: Task
) -> None:
    Task.objects.update(hinted_at=timezone.now())
    pause(runner, cast)
    assert queue_names(runner) == (runner.account,)
    with pytest.raises(ClaimRefusedError, match="web-1 is paused by manager"):
        claim(runner, task)
    task.refresh_from_db()
    # Its hint goes out again, to others.
    assert task.state == "queued" and task.hinted_at is None
    assert resume_runner(runner=runner, by=cast.manager, now=timezone.now())
    assert "tasks.linux" in queue_names(runner)
    assert claim(runner, task).state == "starting"


def test_a_claim_from_before_the_pause_is_answered_again(
    cast: Cast, runner: Runner, task: Task
) -> None:
    claim(runner, task)
    pause(runner, cast)
    assert claim(runner, task).pk == task.pk


def test_to_resume_what_is_not_paused_changes_nothing(cast: Cast, runner: Runner) -> None:
    assert not resume_runner(runner=runner, by=cast.manager, now=timezone.now())


@pytest.mark.parametrize("reason", ["", "  ", "two\nlines", "x" * 201])
def test_a_reason_is_one_line_of_bounded_length(reason: str, cast: Cast, runner: Runner) -> None:
    with pytest.raises(ValidationError) as refused:
        pause(runner, cast, reason=reason)
    assert "reason" in refused.value.message_dict


@pytest.mark.parametrize("ahead", [-timedelta(seconds=1), timedelta(), LONGEST_PAUSE * 2])
def test_the_end_is_to_come_and_within_a_year(ahead: timedelta, cast: Cast, runner: Runner) -> None:
    now = timezone.now()
    with pytest.raises(ValidationError) as refused:
        pause(runner, cast, until=now + ahead, now=now)
    assert "until" in refused.value.message_dict


def test_the_audit_log_tells_the_end_in_utc_whoever_gave_it(cast: Cast, runner: Runner) -> None:
    """Pages and the API read times in the zone of TIME_ZONE, or of whoever sends them."""
    until = timezone.now() + timedelta(hours=1)
    pause(runner, cast, until=until.astimezone(ZoneInfo("Asia/Tokyo")))
    told = AuditEntry.objects.get(verb="paused").detail
    assert told == f"Kernel update. Until {until:%Y-%m-%d %H:%M} UTC."
    now = timezone.now()
    rotate_token(
        runner=runner,
        overlap=timedelta(hours=1),
        by=cast.manager,
        now=now.astimezone(ZoneInfo("Asia/Tokyo")),
    )
    told = AuditEntry.objects.get(verb="rotated").detail
    assert told == f"Older tokens end at {now + timedelta(hours=1):%Y-%m-%d %H:%M:%S} UTC."


def test_a_removed_runner_cannot_be_paused(cast: Cast, runner: Runner) -> None:
    remove_runner(runner=runner, now=timezone.now())
    with pytest.raises(RunnerRemovedError):
        pause(runner, cast)


@pytest.mark.parametrize("wrong", [{"pause_reason": ""}, {"paused_until": timezone.now()}])
def test_the_database_refuses_half_a_pause(wrong: dict[str, Any], runner: Runner) -> None:
    half = {"paused_at": timezone.now(), "pause_reason": "x"} | wrong
    with pytest.raises(IntegrityError), transaction.atomic():
        Runner.objects.filter(pk=runner.pk).update(**half)


def test_pages_and_api_say_who_why_and_until_when(cast: Cast, runner: Runner) -> None:
    runner = heard(runner)
    client = Client()
    client.force_login(cast.manager)
    given = {"reason": "Kernel <b>update</b>", "length": "3600"}
    answer = client.post(f"/runners/{runner.pk}/pause/", given, follow=True)
    assert "Paused by manager for 59 min more" in answer.text
    assert "Kernel &lt;b&gt;update&lt;/b&gt;" in answer.text and "<b>update" not in answer.text
    listed = client.get(f"/projects/{cast.project.pk}/runners/").text
    assert "Paused by manager for 59 min more: Kernel &lt;b&gt;" in listed
    assert "1 is paused." in listed
    body = client.get(f"/api/v1/runners/{runner.pk}/").json()
    assert (body["status"], body["paused_by"]) == ("paused", "manager")
    assert body["pause_reason"] == "Kernel <b>update</b>" and body["paused_until"]
    assert "takes tasks again" in client.post(f"/runners/{runner.pk}/resume/", follow=True).text
    body = client.get(f"/api/v1/runners/{runner.pk}/").json()
    assert (body["status"], body["paused_by"], body["pause_reason"]) == ("idle", None, "")


def test_the_api_refuses_what_is_no_reason_or_time(cast: Cast, runner: Runner) -> None:
    client = Client()
    client.force_login(cast.manager)
    path = f"/api/v1/runners/{runner.pk}/pause"
    for body, field in [
        ({}, "reason"),
        ({"reason": "a\nb"}, "reason"),
        ({"reason": "x", "until": "2001-01-01T00:00:00Z"}, "until"),
        ({"reason": "x", "until": "tomorrow"}, "until"),
        ({"reason": "x", "unti": None}, "unti"),
    ]:
        client.cookies["forge_csrf"] = "a" * 32
        headers = {"X-CSRFToken": "a" * 32}
        answer = client.post(path, body, content_type="application/json", headers=headers)
        assert answer.status_code == 400 and field in answer.json()["fields"], answer.json()


def test_the_admin_asks_why_and_pauses_and_resumes_several(
    superuser: Any, cast: Cast, runner: Runner
) -> None:
    client = Client()
    client.force_login(superuser)
    page = "/admin/runners/runner/"
    chosen: dict[str, Any] = {"action": "pause", "_selected_action": [runner.pk]}
    assert "will take nothing new" in client.post(page, chosen).text
    client.post(page, {**chosen, "sure": "yes", "reason": "", "length": ""})
    runner.refresh_from_db()
    assert runner.paused_at is None
    client.post(page, {**chosen, "sure": "yes", "reason": "Move", "length": "900"})
    runner.refresh_from_db()
    assert (runner.pauser, runner.pause_reason) == ("root", "Move")
    client.post(page, {**chosen, "action": "resume"})
    runner.refresh_from_db()
    assert runner.paused_at is None

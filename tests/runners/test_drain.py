"""A runner is told to let its tasks finish and to end, and says so everywhere."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.test import Client
from django.utils import timezone

from projects.audit.entry import AuditEntry
from runners.connect import queue_names
from runners.errors import RunnerNotConnectedError
from runners.models import Runner
from runners.operations import connect_runner, drain_runner, note_heartbeat, resume_runner
from runners.status import RunnerStatus
from runners.worker.protocol import ClaimRequest, ConnectRequest, Heartbeat, TaskRef
from tasks.claim import claim_task
from tasks.errors import ClaimRefusedError
from tasks.heartbeat import take_heartbeat
from tasks.models import Task
from tests.cast import Cast

pytestmark = pytest.mark.django_db


def heard(runner: Runner) -> Runner:
    now = timezone.now()
    rows = Runner.objects.filter(pk=runner.pk)
    rows.update(connected_at=now, last_heartbeat_at=now, session="one", instance="here")
    return rows.get()


def drain(runner: Runner, cast: Cast, **given: Any) -> None:
    told: dict[str, Any] = {"reason": "Kernel update", "stays_paused": True, "now": timezone.now()}
    drain_runner(runner=runner, by=cast.manager, **told | given)


def status(runner: Runner) -> RunnerStatus:
    return Runner.objects.get(pk=runner.pk).status_at(timezone.now(), running=0)


def connect(runner: Runner, session: str) -> Runner:
    request = ConnectRequest(4, "0.1.0", session, "here", "host", "Linux")
    return connect_runner(runner=runner, request=request, address=None, now=timezone.now())


@pytest.mark.parametrize("stays_paused", [True, False])
def test_the_order_lasts_as_long_as_the_session(
    cast: Cast, runner: Runner, stays_paused: bool
) -> None:
    runner = heard(runner)
    drain(runner, cast, stays_paused=stays_paused)
    assert runner.drain_order == "manager: Kernel update"
    assert status(runner) == RunnerStatus.DRAINING
    # A heartbeat that was sent before its worker knew changes nothing.
    note_heartbeat(runner=runner, is_leaving=False, is_draining=False, now=timezone.now())
    assert status(runner) == RunnerStatus.DRAINING
    note_heartbeat(runner=runner, is_leaving=True, now=timezone.now())
    assert status(runner) == (RunnerStatus.PAUSED if stays_paused else RunnerStatus.OFFLINE)
    runner = connect(runner, "two")
    note_heartbeat(runner=runner, is_leaving=False, now=timezone.now())
    assert runner.drain_order == ""
    assert status(runner) == (RunnerStatus.PAUSED if stays_paused else RunnerStatus.IDLE)


def test_whatever_its_worker_does_it_is_given_nothing(
    cast: Cast, runner: Runner, task: Task
) -> None:
    runner = heard(runner)
    Task.objects.update(hinted_at=timezone.now())
    drain(runner, cast, stays_paused=False)
    assert queue_names(runner) == (runner.account,)
    request = ClaimRequest(task.pk, task.attempt, "n" * 22)
    with pytest.raises(ClaimRefusedError, match="web-1 is being drained"):
        claim_task(runner=runner, request=request, now=timezone.now())
    task.refresh_from_db()
    # Its hint goes out again, to others.
    assert task.state == "queued" and task.hinted_at is None
    runner = connect(runner, "two")
    assert claim_task(runner=runner, request=request, now=timezone.now()).state == "starting"


def test_its_worker_is_told_when_it_holds_nothing_and_the_drain_can_be_taken_back_until_then(
    cast: Cast, runner: Runner, task: Task
) -> None:
    runner = heard(runner)
    Task.objects.update(hinted_at=timezone.now())
    request = ClaimRequest(task.pk, task.attempt, "n" * 22)
    task = claim_task(runner=runner, request=request, now=timezone.now())
    drain(runner, cast)
    held = Heartbeat(runner.session, (TaskRef(task.pk, task.attempt),))
    assert beat(runner, held) == ""
    # What one hears on the way out of the office does not reach the host any more.
    on_its_way = Runner.objects.get(pk=runner.pk)
    assert resume_runner(runner=runner, by=cast.manager, now=timezone.now())
    assert status(runner) == RunnerStatus.IDLE
    assert take_heartbeat(runner=on_its_way, message=held, now=timezone.now()).drain == ""
    assert on_its_way.tell_to_end() == ""

    drain(runner, cast, reason="Now it is time")
    Task.objects.update(state="succeeded", finished_at=timezone.now(), reason="It ended.")
    assert beat(runner, Heartbeat(runner.session, ())) == "manager: Now it is time"
    runner.refresh_from_db()
    assert resume_runner(runner=runner, by=cast.manager, now=timezone.now())
    # It is no longer paused; but it ends.
    assert status(runner) == RunnerStatus.DRAINING and runner.paused_at is None
    assert beat(runner, Heartbeat(runner.session, ())) == "manager: Now it is time"
    assert not resume_runner(runner=runner, by=cast.manager, now=timezone.now())
    details = AuditEntry.objects.filter(verb="resumed").values_list("detail", flat=True)
    assert sorted(details) == ["", "It is no longer drained."]


def beat(runner: Runner, message: Heartbeat) -> str:
    """What its next heartbeat is told of an end."""
    row = Runner.objects.get(pk=runner.pk)
    return take_heartbeat(runner=row, message=message, now=timezone.now()).drain


def test_page_and_list_offer_to_cancel_it_and_say_when_that_is_too_late(
    cast: Cast, runner: Runner, task: Task
) -> None:
    runner = heard(runner)
    Task.objects.update(hinted_at=timezone.now())
    request = ClaimRequest(task.pk, task.attempt, "n" * 22)
    claim_task(runner=runner, request=request, now=timezone.now())
    client = Client()
    client.force_login(cast.manager)
    page, listed = f"/runners/{runner.pk}/", f"/projects/{cast.project.pk}/runners/"
    assert "the drain can be cancelled" in client.get(f"{page}drain/").text
    drain(runner, cast)
    for address in (page, listed):
        text = client.get(address).text
        assert "Cancel drain" in text and "Resume" not in text
    answer = client.post(f"{page}resume/", follow=True)
    assert "web-1 takes tasks again." in answer.text and "Cancel drain" not in answer.text

    drain(runner, cast)
    runner.tell_to_end()
    for address in (page, listed):
        assert "Cancel drain" not in client.get(address).text
    assert "which cannot be taken back" in client.get(page).text
    answer = client.post(f"{page}resume/", follow=True)
    assert "takes tasks again." not in answer.text
    assert "Its worker was told to end. Started again, it takes tasks." in answer.text

    # One that was shut down meanwhile, told or not, is no longer drained.
    Runner.objects.update(was_told_to_end=False)
    note_heartbeat(runner=runner, is_leaving=True, now=timezone.now())
    for address in (page, listed):
        assert "Cancel drain" not in client.get(address).text
    assert 'id="drained"' not in client.get(page).text
    runner.refresh_from_db()
    assert not resume_runner(runner=runner, by=cast.manager, now=timezone.now())


@pytest.mark.parametrize("is_first", [True, False], ids=["before the order", "after it"])
def test_a_drain_is_not_said_to_be_cancelled_where_somebody_ended_the_worker_on_its_host(
    cast: Cast, runner: Runner, task: Task, is_first: bool
) -> None:
    runner = heard(runner)
    Task.objects.update(hinted_at=timezone.now())
    request = ClaimRequest(task.pk, task.attempt, "n" * 22)
    claim_task(runner=runner, request=request, now=timezone.now())
    after_term = Heartbeat(runner.session, (TaskRef(task.pk, task.attempt),), is_draining=True)
    if is_first:
        beat(runner, after_term)
    drain(runner, cast)
    if not is_first:
        beat(runner, after_term)
    client = Client()
    client.force_login(cast.manager)
    page, listed = f"/runners/{runner.pk}/", f"/projects/{cast.project.pk}/runners/"
    for address in (page, listed):
        assert "Cancel drain" not in client.get(address).text
    assert "which cannot be taken back" in client.get(page).text
    answer = client.post(f"{page}resume/", follow=True)
    assert "takes tasks again." not in answer.text
    assert status(runner) == RunnerStatus.DRAINING
    # The worker that is started after it takes tasks.
    runner = connect(runner, "two")
    note_heartbeat(runner=runner, is_leaving=False, now=timezone.now())
    assert status(runner) == RunnerStatus.IDLE and not runner.was_told_to_end


def test_who_is_not_connected_cannot_be_drained_and_is_not_paused_by_that(
    cast: Cast, runner: Runner
) -> None:
    with pytest.raises(RunnerNotConnectedError, match="No worker of runner web-1 is connected"):
        drain(runner, cast)
    runner.refresh_from_db()
    assert runner.paused_at is None


@pytest.mark.parametrize("reason", ["", "  ", "two\nlines", "x" * 201])
def test_a_drain_has_a_reason_like_a_pause(cast: Cast, runner: Runner, reason: str) -> None:
    with pytest.raises(ValidationError) as refused:
        drain(heard(runner), cast, reason=reason)
    assert "reason" in refused.value.message_dict


def test_page_and_api_drain_and_say_so(cast: Cast, runner: Runner) -> None:
    runner = heard(runner)
    client = Client()
    client.force_login(cast.manager)
    page = f"/runners/{runner.pk}/"
    assert "at once, since it runs nothing now" in client.get(f"{page}drain/").text
    given = {"reason": "Kernel <b>update</b>", "stays_paused": "on"}
    answer = client.post(f"{page}drain/", given, follow=True)
    assert "Drained by manager: Kernel &lt;b&gt;update&lt;/b&gt;; hands over" in answer.text
    assert f'href="{page}drain/"' not in answer.text
    body = client.get(f"/api/v1{page}").json()
    assert (body["status"], body["paused_by"]) == ("draining", "manager")
    note_heartbeat(runner=runner, is_leaving=True, now=timezone.now())
    assert "its worker was shut down" in client.get(page).text
    assert "there is none to drain" in client.get(f"{page}drain/").text
    refused = client.post(f"{page}drain/", given)
    assert refused.status_code == 400 and "Pause the runner" in refused.text


def test_the_admin_and_the_lists_do_not_call_it_trouble(cast: Cast, runner: Runner) -> None:
    runner = heard(runner)
    drain(runner, cast)
    note_heartbeat(runner=runner, is_leaving=True, now=timezone.now())
    client = Client()
    client.force_login(cast.manager)
    listed = client.get(f"/projects/{cast.project.pk}/runners/").text
    assert "1 is paused." in listed and "Need attention" in listed
    assert ">0 <small>runners</small>" in listed

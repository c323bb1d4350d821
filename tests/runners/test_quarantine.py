"""Quarantine: who harmed the broker is kept from it for a while, and from nothing else."""

from __future__ import annotations

import json
import threading
import time
from datetime import timedelta
from typing import Any

import pytest
import redis
from django.test import Client
from django.utils import timezone

from projects.models import Project
from runners import accounts, usage
from runners.broker import administrator, project_prefix
from runners.models import Queue, Runner
from runners.nodes import Nodes
from runners.operations import (
    NewRunner,
    lift_quarantine,
    quarantine_runner,
    queue_for,
    tags_named,
)
from runners.repair import Repair
from runners.status import RunnerStatus
from runners.watch import Watch
from tasks.lifecycle import TaskState
from tasks.models import Task, TaskTemplate
from tasks.operations import run_template, save_template
from tests.cast import Cast
from tests.runners.test_accounts import new_runner, sign_in

pytestmark = pytest.mark.django_db(transaction=True)

WHY = "It left 54.2 MB in the broker, 16.8 MB is the limit for its project."


@pytest.fixture
def offender(real: str, cast: Cast) -> NewRunner:
    return new_runner(cast, cast.project, "web-1", "linux")


@pytest.fixture
def culprit(offender: NewRunner) -> NewRunner:
    assert quarantine_runner(runner=offender.runner, reason=WHY, now=timezone.now())
    return offender


def is_let_in(url: str, new: NewRunner) -> bool:
    try:
        with sign_in(url, new) as client:
            return bool(client.ping())
    except redis.AuthenticationError:
        return False


def repaired() -> int:
    return Repair().round(Nodes().all(), everything=True)


def test_nothing_gives_the_account_back_before_its_time(
    real: str, culprit: NewRunner, cast: Cast
) -> None:
    assert not is_let_in(real, culprit)
    assert repaired() == 0
    # A new queue of its project opens the accounts of those that may listen to it.
    queue_for(project=cast.project, tags=tags_named(project=cast.project, names=["linux"]))
    accounts.apply_account(Runner.objects.get(pk=culprit.runner.pk))
    assert repaired() == 0
    assert not is_let_in(real, culprit)
    Runner.objects.update(quarantined_until=timezone.now() - timedelta(seconds=1))
    assert repaired() == 1
    assert is_let_in(real, culprit)


def test_a_manager_lets_it_back_in_at_once(real: str, culprit: NewRunner, cast: Cast) -> None:
    assert lift_quarantine(runner=culprit.runner, by=cast.manager, now=timezone.now())
    assert is_let_in(real, culprit)
    assert not lift_quarantine(runner=culprit.runner, by=cast.manager, now=timezone.now())


def test_each_offence_costs_twice_as_much_until_it_is_forgotten(
    offender: NewRunner, settings: Any
) -> None:
    settings.FORGE_QUARANTINE_SECONDS = 60
    settings.FORGE_QUARANTINE_MAXIMUM_SECONDS = 300
    now, runner = timezone.now(), offender.runner
    lasted = []
    for _ in range(5):
        assert runner.quarantine(reason=WHY, now=now)
        assert not runner.quarantine(reason=WHY, now=now)
        assert runner.quarantined_until is not None
        lasted.append((runner.quarantined_until - now).total_seconds())
        now = runner.quarantined_until + timedelta(seconds=1)
    assert lasted == [60, 120, 240, 300, 300]
    later = now + timedelta(seconds=301)
    assert runner.quarantine(reason=WHY, now=later)
    assert runner.quarantined_until == later + timedelta(seconds=60)


def test_a_removed_runner_is_not_put_into_quarantine(offender: NewRunner) -> None:
    Runner.objects.update(removed_at=timezone.now())
    assert not offender.runner.quarantine(reason=WHY, now=timezone.now())


def send(new: NewRunner, path: str, **body: Any) -> Any:
    headers = {"authorization": f"Bearer {new.token}"}
    content = json.dumps(body)
    url = f"/runner/v1/{path}"
    return Client().post(url, content, content_type="application/json", headers=headers)


@pytest.fixture
def running(offender: NewRunner, cast: Cast) -> Task:
    """A task that the runner began before it was cut off, in a session that is heard."""
    now = timezone.now()
    Runner.objects.update(session="s" * 16, connected_at=now, last_heartbeat_at=now)
    template = TaskTemplate(project=cast.project, name="T", script="true", allow_parallel=True)
    save_template(template=template, tags=[])
    task = run_template(template=template, by=cast.operator, now=now)
    assert task.claim(runner=offender.runner, attempt=1, nonce="n" * 22, now=now)
    assert task.start(runner=offender.runner, attempt=1, now=now)
    assert quarantine_runner(runner=offender.runner, reason=WHY, now=timezone.now())
    return task


def test_its_running_tasks_go_on_and_end_well(offender: NewRunner, running: Task) -> None:
    held = [{"task": running.pk, "attempt": 1}]
    beat = send(offender, "heartbeat", session="s" * 16, held=held)
    assert beat.status_code == 200 and beat.json()["drop"] == []
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    result = {"outcome": "succeeded", "exit_code": 0, "reason": "Done.", "age_seconds": 0.0}
    result |= {"task": running.pk, "attempt": 1, "log_bytes": 0, "log_sha256": empty}
    told = send(offender, "report", session="s" * 16, started=[], pieces=[], results=[result])
    assert told.json()["receipts"][0]["is_finished"]
    running.refresh_from_db()
    assert running.state == TaskState.SUCCEEDED


def test_it_gets_no_new_task_and_no_new_session_and_is_told_why(
    offender: NewRunner, running: Task, cast: Cast
) -> None:
    waiting = run_template(template=running.template, by=cast.operator, now=timezone.now())
    claim = send(offender, "claim", task=waiting.pk, attempt=1, nonce="n" * 22)
    assert claim.status_code == 409 and "cut off from the broker" in claim.json()["message"]
    begin = {"protocol": 1, "version": "0.1.0", "session": "t" * 16, "instance": "i" * 16}
    answer = send(offender, "connect", **begin, host_name="h", system="s")
    assert answer.status_code == 403 and answer.json()["code"] == "quarantined"
    assert WHY in answer.json()["message"]


def test_page_api_and_admin_say_unhealthy_and_why(
    offender: NewRunner, running: Task, cast: Cast, superuser: Any
) -> None:
    row = Runner.objects.get(pk=offender.runner.pk)
    assert row.status_at(timezone.now(), running=1) == RunnerStatus.UNHEALTHY
    member, root = Client(), Client()
    member.force_login(cast.manager)
    root.force_login(superuser)
    page = member.get(f"/runners/{row.pk}/").text
    assert "Cut off from the broker for" in page and WHY in page and "Let it back in now" in page
    fleet = member.get(f"/projects/{cast.project.pk}/runners/").text
    assert "Unhealthy" in fleet and "1 unhealthy" in fleet
    found = member.get(f"/api/v1/runners/{row.pk}/").json()
    assert (found["status"], found["quarantine_reason"]) == ("unhealthy", WHY)
    assert WHY in root.get(f"/admin/runners/runner/{row.pk}/change/").text
    action = {"action": "lift_quarantine", "_selected_action": [row.pk]}
    root.post("/admin/runners/runner/", action)
    assert member.get(f"/api/v1/runners/{row.pk}/").json()["quarantined_until"] is None
    # The trail below it still tells of it.
    assert "Cut off from the broker for" not in member.get(f"/runners/{row.pk}/").text


def test_a_task_that_only_it_may_take_says_so(
    offender: NewRunner, running: Task, cast: Cast
) -> None:
    waiting = run_template(template=running.template, by=cast.operator, now=timezone.now())
    member = Client()
    member.force_login(cast.viewer)
    assert "is cut off from the broker" in member.get(f"/tasks/{waiting.pk}/").text


# --- the watch, where nobody does harm ---


def test_an_ordinary_broker_is_left_alone(real: str, offender: NewRunner, cast: Cast) -> None:
    prefix = project_prefix(cast.project.pk)
    administrator().lpush(f"{prefix}{Queue.UNTAGGED}", *(b"h" * 900 for _ in range(100)))
    administrator().sadd(f"{prefix}_kombu.binding.celery.pidbox", *map(str, range(200)))
    watch = Watch(administrator())
    with sign_in(real, offender) as client:
        client.lpush(f"{prefix}x.reply.celery.pidbox", b"r" * 50_000)
        assert watch.look() == []
    assert administrator().llen(f"{prefix}{Queue.UNTAGGED}") == 100
    assert administrator().llen(f"{prefix}x.reply.celery.pidbox") == 1
    begun = time.perf_counter()
    for _ in range(100):
        assert watch.look() == []
    print(f"\none look at an idle broker: {10 * (time.perf_counter() - begun):.2f} ms")


def test_a_watch_that_stood_still_makes_no_more_of_what_moved_meanwhile(
    real: str, offender: NewRunner, request: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It weighs for a moment; what piles up while its host stands still is nobody's flood."""
    if request.node.callspec.params["broker_url"] == "redis":
        pytest.skip("Redis 7.0 does not count what each connection moves")
    seconds = usage.WEIGHING_SECONDS
    with sign_in(real, offender, single_connection_client=True) as client:
        client.ping()

        def sleep_long(_: float) -> None:
            stop.wait(20 * seconds)
            for _ in range(40):  # what is sent at once would also lie in buffers
                client.execute_command("PING", b"x" * (usage.UNIT // 4))

        stop = threading.Event()
        monkeypatch.setattr("runners.usage.time.sleep", sleep_long)
        weights = usage.weigh(administrator())
    # There and back.
    assert 0 < weights[offender.runner.account] < 2 * 10 / 20 + 0.1


def test_a_pile_that_nobody_is_seen_writing_is_deleted_and_costs_nobody_its_account(
    real: str, offender: NewRunner, cast: Cast, caplog: pytest.LogCaptureFixture
) -> None:
    key = f"{project_prefix(cast.project.pk)}_kombu.binding.x"
    watch = Watch(administrator())
    administrator().sadd(key, *(f"{number}" * 20 for number in range(10_000)))
    # It was there before anybody looked: left over, as far as can be known.
    assert watch.look() == []
    assert not administrator().exists(key)
    assert "no runner was seen writing it" in caplog.text
    assert is_let_in(real, offender)


def test_a_pile_that_is_new_is_its_only_runners(
    real: str, offender: NewRunner, cast: Cast, settings: Any
) -> None:
    watch = Watch(administrator())
    assert watch.look() == []
    with sign_in(real, offender) as client:
        key = f"{project_prefix(cast.project.pk)}x.reply.celery.pidbox"
        client.lpush(key, *(b"x" * 1_000_000 for _ in range(20)))
    # Its connection is closed: the project has no other runner that could have done it.
    assert [runner.name for runner in watch.look()] == ["web-1"]
    assert not administrator().exists(key) and not is_let_in(real, offender)


def test_what_one_that_is_cut_off_left_behind_is_not_its_siblings(
    real: str, culprit: NewRunner, cast: Cast
) -> None:
    sibling = new_runner(cast, cast.project, "sibling")
    watch = Watch(administrator())
    assert watch.look() == []
    # The last of the flood, on its way when the account ended.
    key = f"{project_prefix(cast.project.pk)}x.reply.celery.pidbox"
    administrator().lpush(key, *(b"x" * 1_000_000 for _ in range(20)))
    assert watch.look() == []
    assert not administrator().exists(key) and is_let_in(real, sibling)


def test_keys_of_no_project_are_reported_without_their_control_characters(
    real: str, cast: Cast, caplog: pytest.LogCaptureFixture
) -> None:
    Project.objects.filter(pk=999_999).delete()
    for name in (b"forge:project:999999:tasks", b"forge:stray\x1b[31m\n", b"forge:project:x:y"):
        administrator().set(name, b"1")
    administrator().set("somebody:else", b"1")
    watch = Watch(administrator())
    watch.look()
    assert "3 keys under forge: belong to no project" in caplog.text
    assert "forge:stray\\x1b[31m\\n" in caplog.text and "\x1b" not in caplog.text
    assert "somebody" not in caplog.text

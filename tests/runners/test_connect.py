"""Who may begin a session with a runner's token: one worker, and of two at once the first."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta

import pytest
from django.db import connections
from django.utils import timezone

from runners.errors import RunnerInUseError, RunnerRemovedError
from runners.models import Runner
from runners.operations import START, connect_runner, note_heartbeat, remove_runner
from runners.worker.protocol import PROTOCOL_VERSION, ConnectRequest

NOW = timezone.now()


def connect(
    runner: Runner, host: str, *, session: str = "", now: datetime = NOW, slots: int = 0
) -> Runner:
    """As the worker on `host` does; each host has a journal of its own."""
    request = ConnectRequest(
        protocol=PROTOCOL_VERSION,
        version="1",
        session=(session or host).ljust(32, "0"),
        instance=host.ljust(32, "1"),
        host_name=host,
        system="Linux",
        slots=slots,
    )
    row = Runner.objects.get(pk=runner.pk)
    return connect_runner(runner=row, request=request, address=None, now=now)


def beat(runner: Runner, *, now: datetime, is_leaving: bool = False) -> None:
    row = Runner.objects.get(pk=runner.pk)
    note_heartbeat(runner=row, is_leaving=is_leaving, now=now)


def seconds(number: float) -> datetime:
    return NOW + timedelta(seconds=number)


@pytest.mark.django_db
def test_a_worker_that_starts_is_not_displaced_before_its_first_heartbeat(runner: Runner) -> None:
    connect(runner, "first")
    with pytest.raises(RunnerInUseError, match="already connected from first"):
        connect(runner, "second", now=seconds(START.total_seconds() - 1))
    assert Runner.objects.get(pk=runner.pk).host_name == "first"


@pytest.mark.django_db
def test_a_worker_that_never_came_up_makes_room(runner: Runner) -> None:
    connect(runner, "first")
    assert connect(runner, "second", now=seconds(START.total_seconds())).host_name == "second"


@pytest.mark.django_db
def test_a_worker_that_is_heard_keeps_its_runner_and_a_silent_one_does_not(runner: Runner) -> None:
    connect(runner, "first")
    beat(runner, now=seconds(2))
    with pytest.raises(RunnerInUseError):
        connect(runner, "second", now=seconds(4))
    # Once it was heard, its silence counts and not the time that a start may take.
    assert connect(runner, "second", now=seconds(2 + 3 * 5)).host_name == "second"


@pytest.mark.django_db
def test_the_same_host_may_start_again_at_once(runner: Runner) -> None:
    connect(runner, "first")
    beat(runner, now=seconds(1))
    again = connect(runner, "first", session="again", now=seconds(2))
    assert again.connected_at == seconds(2)
    assert connect(runner, "first", session="again", now=seconds(3)).connected_at == seconds(2)


@pytest.mark.django_db
def test_after_a_goodbye_another_host_may_follow_at_once(runner: Runner) -> None:
    connect(runner, "first")
    beat(runner, now=seconds(1), is_leaving=True)
    assert connect(runner, "second", now=seconds(1)).host_name == "second"


@pytest.mark.django_db
def test_a_late_goodbye_does_not_end_the_session_that_followed(runner: Runner) -> None:
    earlier = connect(runner, "first")
    connect(runner, "first", session="again", now=seconds(1))
    note_heartbeat(runner=earlier, is_leaving=True, now=seconds(2))
    assert Runner.objects.get(pk=runner.pk).session.startswith("again")


@pytest.mark.django_db
def test_a_runner_that_is_removed_meanwhile_begins_nothing(runner: Runner) -> None:
    before = Runner.objects.get(pk=runner.pk)
    remove_runner(runner=runner, now=NOW)
    request = ConnectRequest(PROTOCOL_VERSION, "1", "s" * 32, "i" * 32, "first", "Linux")
    with pytest.raises(RunnerRemovedError):
        connect_runner(runner=before, request=request, address=None, now=NOW)


@pytest.mark.django_db(transaction=True)
def test_of_many_hosts_at_once_exactly_one_connects(runner: Runner) -> None:
    connected: list[str] = []
    read = threading.Barrier(8)

    def race(host: str) -> None:
        row = Runner.objects.get(pk=runner.pk)
        request = ConnectRequest(PROTOCOL_VERSION, "1", host * 4, host * 4, host, "Linux")
        # All have read the row when the first one writes it.
        read.wait()
        try:
            connect_runner(runner=row, request=request, address=None, now=timezone.now())
            connected.append(host)
        except RunnerInUseError:
            pass
        finally:
            connections.close_all()

    threads = [threading.Thread(target=race, args=(f"host-{i:03}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert connected == [Runner.objects.get(pk=runner.pk).host_name]


@pytest.mark.django_db
def test_a_host_with_fewer_users_than_its_runner_may_run_has_fewer_slots(runner: Runner) -> None:
    Runner.objects.filter(pk=runner.pk).update(concurrency=3)
    connect(runner, "first")
    assert Runner.objects.get(pk=runner.pk).slots == 3
    connect(runner, "first", slots=1)
    assert Runner.objects.get(pk=runner.pk).slots == 1
    connect(runner, "first", slots=8)
    assert Runner.objects.get(pk=runner.pk).slots == 3

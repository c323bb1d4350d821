"""The stream of a task's log and state, and the log as a file."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import User
from django.db import connection
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from forge.pages import stream
from projects.models import Membership
from runners.models import Runner
from tasks.lifecycle import TaskState
from tasks.log import append
from tasks.models import Leadership, Task
from tests.cast import Cast

pytestmark = pytest.mark.django_db(transaction=True)
PATIENCE = 60.0


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "LOOK_SECONDS", 0.02)


@dataclass(frozen=True)
class Event:
    name: str
    id: str
    data: Any


def parsed(text: str) -> Iterator[Event]:
    """Events as a browser would see them; comments and `retry` are none."""
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
        if "event" in fields:
            yield Event(fields["event"], fields.get("id", ""), json.loads(fields["data"]))


async def opened(user: User | None, task: Task, query: str = "", **headers: str) -> Any:
    client = AsyncClient()
    if user is not None:
        await client.aforce_login(user)
    return await client.get(f"/tasks/{task.pk}/stream{query}", headers=headers)


async def events_of(answer: Any) -> AsyncGenerator[Event, None]:
    async for piece in answer.streaming_content:
        for event in parsed(piece.decode()):
            yield event


async def all_events(answer: Any) -> list[Event]:
    async with asyncio.timeout(PATIENCE):
        return [event async for event in events_of(answer)]


def log_in(events: list[Event]) -> bytes:
    return b"".join(base64.b64decode(event.data["data"]) for event in events if event.name == "log")


def write(task: Task, data: bytes) -> None:
    task.refresh_from_db()
    append(task, offset=task.log_bytes, data=data, now=timezone.now())


def finish(task: Task, runner: Runner) -> None:
    task.refresh_from_db()
    now = timezone.now()
    assert task.finish(TaskState.SUCCEEDED, runner=runner, attempt=1, now=now, reason="It ended.")


@pytest.fixture
def finished_task(running_task: Task, runner: Runner) -> Task:
    write(running_task, b"caf\xc3\xa9 \xff\x00\x1b[31mred\n" * 20_000)
    finish(running_task, runner)
    return running_task


def test_a_finished_task_is_sent_whole_and_the_stream_ends(cast: Cast, finished_task: Task) -> None:
    answer = async_to_sync(opened)(cast.viewer, finished_task)
    assert answer["Content-Type"] == "text/event-stream"
    assert answer["Cache-Control"] == "no-store"
    assert answer["X-Accel-Buffering"] == "no"
    events = async_to_sync(all_events)(answer)
    names = [event.name for event in events]
    assert (names[0], names[-1]) == ("state", "end")
    assert log_in(events) == b"caf\xc3\xa9 \xff\x00\x1b[31mred\n" * 20_000
    sizes = [len(base64.b64decode(event.data["data"])) for event in events if event.name == "log"]
    assert max(sizes) <= stream.EVENT_BYTES
    assert "Succeeded" in events[0].data["html"]


def test_the_script_is_read_only_with_a_state_and_never_with_the_log(
    cast: Cast, running_task: Task, runner: Runner
) -> None:
    write(running_task, b"x" * 3 * stream.READ_BYTES)
    finish(running_task, runner)
    answer = async_to_sync(opened)(cast.viewer, running_task)
    with CaptureQueriesContext(connection) as queries:
        events = async_to_sync(all_events)(answer)
    looks = [query["sql"] for query in queries if '"tasks_task"."log_bytes"' in query["sql"]]
    assert len(looks) >= 3
    scripts = [query["sql"] for query in queries if '."script"' in query["sql"]]
    assert len(scripts) == [event.name for event in events].count("state") == 1
    assert '"tasks_tasktemplate"' not in scripts[0]


@pytest.mark.parametrize("how", ["header", "query"])
def test_a_reader_goes_on_where_it_was(how: str, cast: Cast, finished_task: Task) -> None:
    headers = {"Last-Event-ID": "1:100"} if how == "header" else {}
    query = "?from=1:100" if how == "query" else ""
    answer = async_to_sync(opened)(cast.viewer, finished_task, query, **headers)
    events = async_to_sync(all_events)(answer)
    assert len(log_in(events)) == finished_task.log_bytes - 100
    logs = [event for event in events if event.name == "log"]
    assert logs[0].data["offset"] == 100
    assert logs[-1].id == f"1:{finished_task.log_bytes}"


@pytest.mark.parametrize("position", ["2:100", "1:", "x:y", "-1:5", "1:9" + "9" * 30, ":", "0:7"])
def test_a_position_of_another_attempt_or_nonsense_means_the_beginning(
    position: str, cast: Cast, finished_task: Task
) -> None:
    answer = async_to_sync(opened)(cast.viewer, finished_task, f"?from={position}")
    events = async_to_sync(all_events)(answer)
    assert len(log_in(events)) == finished_task.log_bytes


def test_a_position_beyond_the_end_sends_nothing_twice(cast: Cast, finished_task: Task) -> None:
    answer = async_to_sync(opened)(cast.viewer, finished_task, "?from=1:999999999")
    events = async_to_sync(all_events)(answer)
    assert [event.name for event in events] == ["state", "end"]


def test_news_come_while_the_task_runs(cast: Cast, running_task: Task, runner: Runner) -> None:
    async def watch() -> list[str]:
        seen = []
        async with asyncio.timeout(PATIENCE):
            async for event in events_of(await opened(cast.viewer, running_task)):
                seen.append(event.name)
                if seen == ["state"]:
                    await sync_to_async(write)(running_task, b"first\n")
                elif seen == ["state", "log"]:
                    await sync_to_async(finish)(running_task, runner)
        return seen

    assert async_to_sync(watch)() == ["state", "log", "state", "end"]


def test_what_of_forge_is_away_is_told_beside_a_log_too(
    cast: Cast, running_task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "NOTICE_SECONDS", 0.0)
    long_ago = timezone.now() - timedelta(minutes=5)

    async def watch() -> list[bool]:
        told = []
        async with asyncio.timeout(PATIENCE):
            async for event in events_of(await opened(cast.viewer, running_task)):
                told.append("No controller has led since" in event.data["nav"])
                if len(told) == 2:
                    break
                term = {"name": "controller", "holder": "it", "expires_at": long_ago}
                await Leadership.objects.acreate(**term)
        return told

    assert async_to_sync(watch)() == [False, True]


def test_who_watches_makes_the_runner_send_sooner(cast: Cast, running_task: Task) -> None:
    async def first_event() -> None:
        async for _ in events_of(await opened(cast.viewer, running_task)):
            return

    before = timezone.now()
    async_to_sync(first_event)()
    running_task.refresh_from_db()
    assert running_task.watched_until is not None
    assert running_task.watched_until > before


def test_a_new_attempt_begins_its_log_again(cast: Cast, finished_task: Task) -> None:
    second = {"attempt": 2, "lost_runner_policy": "retry", "log_bytes": 0}
    Task.objects.filter(pk=finished_task.pk).update(**second)
    write(finished_task, b"again\n")
    answer = async_to_sync(opened)(cast.viewer, finished_task, "?from=1:100")
    events = async_to_sync(all_events)(answer)
    assert log_in(events) == b"again\n"
    assert {event.data["attempt"] for event in events if event.name == "log"} == {2}


def test_strangers_see_neither_stream_nor_log(cast: Cast, running_task: Task) -> None:
    assert async_to_sync(opened)(cast.outsider, running_task).status_code == 404
    assert async_to_sync(opened)(None, running_task).status_code == 401


@pytest.mark.parametrize("loss", ["membership", "account", "session", "expiry", "password"])
def test_who_loses_access_is_cut_off(
    loss: str, cast: Cast, running_task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.contrib.sessions.models import Session

    monkeypatch.setattr(stream, "MEMBERSHIP_SECONDS", 0.05)

    def lose() -> None:
        if loss == "membership":
            Membership.objects.filter(user=cast.viewer).delete()
        elif loss == "account":
            User.objects.filter(pk=cast.viewer.pk).update(is_active=False)
        elif loss == "expiry":
            Session.objects.update(expire_date=timezone.now())
        elif loss == "password":
            cast.viewer.set_password("Another-one-4711")
            cast.viewer.save()
        else:
            Session.objects.all().delete()

    async def watch() -> list[str]:
        seen = []
        async with asyncio.timeout(PATIENCE):
            async for event in events_of(await opened(cast.viewer, running_task)):
                seen.append(event.name)
                await sync_to_async(lose)()
        return seen

    assert async_to_sync(watch)() == ["state"]


def test_who_signed_in_with_an_older_secret_key_goes_on_watching(
    cast: Cast, running_task: Task, runner: Runner, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    monkeypatch.setattr(stream, "MEMBERSHIP_SECONDS", 0.0)

    async def watch() -> list[str]:
        seen = []
        async with asyncio.timeout(PATIENCE):
            answer = await opened(cast.viewer, running_task)
            settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
            settings.SECRET_KEY = "a-new-one-" * 5
            async for event in events_of(answer):
                seen.append(event.name)
                if seen == ["state"]:
                    await sync_to_async(finish)(running_task, runner)
        return seen

    assert async_to_sync(watch)()[-1] == "end"


def test_a_quiet_stream_shows_that_it_lives(
    cast: Cast, running_task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "HEARTBEAT_SECONDS", 0.05)

    async def watch() -> bytes:
        answer = await opened(cast.viewer, running_task)
        async with asyncio.timeout(PATIENCE):
            async for piece in answer.streaming_content:
                if piece.startswith(b"event: beat"):
                    return bytes(piece)
        return b""

    assert async_to_sync(watch)() == b"event: beat\ndata: {}\n\n"


async def download(user: User | None, task: Task) -> tuple[int, Any, bytes]:
    client: Any = AsyncClient()
    if user is not None:
        await client.aforce_login(user)
    answer = await client.get(f"/tasks/{task.pk}/log")
    if not answer.streaming:
        return answer.status_code, answer, answer.content
    return answer.status_code, answer, b"".join([piece async for piece in answer.streaming_content])


def test_the_log_is_downloaded_byte_for_byte(cast: Cast, finished_task: Task) -> None:
    status, answer, content = async_to_sync(download)(cast.viewer, finished_task)
    assert status == 200
    assert content == b"caf\xc3\xa9 \xff\x00\x1b[31mred\n" * 20_000
    assert answer["Content-Length"] == str(len(content))
    assert answer["Content-Type"] == "text/plain; charset=utf-8"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert f"task-{finished_task.pk}.log" in answer["Content-Disposition"]


def test_strangers_get_no_log(cast: Cast, finished_task: Task) -> None:
    assert async_to_sync(download)(cast.outsider, finished_task)[0] == 404
    assert async_to_sync(download)(None, finished_task)[0] == 401


@pytest.mark.parametrize("what", ["stream", "log"])
def test_only_get_is_allowed(what: str, cast: Cast, finished_task: Task) -> None:
    async def post() -> int:
        client = AsyncClient()
        await client.aforce_login(cast.owner)
        return (await client.post(f"/tasks/{finished_task.pk}/{what}")).status_code

    assert async_to_sync(post)() == 405


# ---- a reader who wants no more than the end ----
LONG = b"".join(b"line %d\n" % number for number in range(400_000))


def test_of_a_long_log_the_end_is_sent_and_the_number_of_its_first_line(
    cast: Cast, running_task: Task, runner: Runner
) -> None:
    for start in range(0, len(LONG), 200_000):
        write(running_task, LONG[start : start + 200_000])
    finish(running_task, runner)
    answer = async_to_sync(opened)(cast.viewer, running_task, "?tail")
    logs = [event for event in async_to_sync(all_events)(answer) if event.name == "log"]
    sent = log_in(logs)
    assert LONG.endswith(sent) and len(sent) <= stream.TAIL_BYTES
    first = logs[0].data
    assert sent.startswith(b"line %d\n" % first["line"])
    assert first["cut"] == 0 and first["offset"] == len(LONG) - len(sent)
    assert all("line" not in event.data for event in logs[1:])


def test_a_short_log_is_sent_whole_to_everybody(cast: Cast, finished_task: Task) -> None:
    answer = async_to_sync(opened)(cast.viewer, finished_task, "?tail")
    events = async_to_sync(all_events)(answer)
    assert len(log_in(events)) == finished_task.log_bytes
    assert not any("line" in event.data for event in events if event.name == "log")


def test_a_reader_of_the_end_goes_on_where_it_was_unless_that_is_far_behind(
    cast: Cast, running_task: Task, runner: Runner
) -> None:
    write(running_task, LONG)
    finish(running_task, runner)
    near, far = len(LONG) - 100_000, len(LONG) - 3_000_000
    for position, is_near in ((near, True), (far, False)):
        answer = async_to_sync(opened)(cast.viewer, running_task, f"?tail&from=1:{position}")
        logs = [event for event in async_to_sync(all_events)(answer) if event.name == "log"]
        assert (logs[0].data["offset"] == position) == is_near
        assert ("line" in logs[0].data) != is_near


def test_an_end_without_a_line_says_how_much_of_it_is_left_out(
    cast: Cast, running_task: Task, runner: Runner
) -> None:
    write(running_task, b"one\n" + b"x" * 2_000_000)
    finish(running_task, runner)
    answer = async_to_sync(opened)(cast.viewer, running_task, "?tail")
    logs = [event for event in async_to_sync(all_events)(answer) if event.name == "log"]
    assert (logs[0].data["line"], logs[0].data["cut"]) == (1, 2_000_000 - stream.TAIL_BYTES)


def test_every_event_says_when_its_bytes_came(cast: Cast, finished_task: Task) -> None:
    answer = async_to_sync(opened)(cast.viewer, finished_task)
    logs = [event for event in async_to_sync(all_events)(answer) if event.name == "log"]
    now = timezone.now().timestamp() * 1000
    for event in logs:
        ((offset, at, is_receipt),) = event.data["times"]
        assert offset <= event.data["offset"] and now - 60_000 < at <= now and is_receipt


# ---- parts of a log, for a page that never has all of it ----
def test_parts_of_a_log_are_answered(cast: Cast, finished_task: Task, client: Client) -> None:
    client.force_login(cast.viewer)
    address = f"/tasks/{finished_task.pk}/log"
    answer = client.get(f"{address}/lines?from=19990&count=50")
    assert answer["Cache-Control"] == "no-store"
    found = answer.json()
    assert (found["first"], found["count"]) == (19_990, 10)
    assert base64.b64decode(found["data"]) == b"caf\xc3\xa9 \xff\x00\x1b[31mred\n" * 10
    assert client.get(f"{address}/lines?from=x&count=-1").json()["count"] == 500
    assert client.get(f"{address}/lines?attempt=1").json()["count"] == 500
    assert client.get(f"{address}/lines?attempt=2").status_code == 404
    assert client.get(f"{address}/outline").json() == {
        "marks": [], "line": 20_000, "is_all": True, "is_full": False, "masked": 0,
    }  # fmt: skip


def test_nobody_watches_so_much_that_others_have_to_wait(
    cast: Cast, running_task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "MAXIMUM_STREAMS", 3)

    async def watch() -> None:
        pieces = []
        for _ in range(3):
            pieces.append(events_of(await opened(cast.viewer, running_task)))
            await anext(pieces[-1])
        late = await opened(cast.viewer, running_task)
        assert late.status_code == 429 and b"already" in late.content
        assert (await opened(cast.operator, running_task)).status_code == 200
        await pieces.pop().aclose()
        async with asyncio.timeout(PATIENCE):
            while (await opened(cast.viewer, running_task)).status_code == 429:
                await asyncio.sleep(0.01)

    async_to_sync(watch)()

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.test import AsyncClient
from django.utils import timezone

from tasks.lifecycle import TaskState
from tasks.log import append
from tasks.models import Task, TaskAttempt
from tests.api.conftest import Api
from tests.cast import Cast

# Not UTF-8, with NUL, carriage returns and what a terminal would obey.
BYTES = bytes(range(256)) + b"\r\n\x1b[31m\xc3" + b"<script>alert(1)</script>\n"


@pytest.fixture
def logged(running_task: Task) -> Task:
    for start in range(0, len(BYTES), 100):
        piece = BYTES[start : start + 100]
        append(running_task, offset=start, data=piece, now=timezone.now())
    return running_task


@pytest.fixture
def viewer(cast: Cast, api: Callable[..., Api]) -> Api:
    return api(cast.viewer)


def content(answer: Any) -> bytes:
    return b"".join(answer.streaming_content)


def test_the_log_comes_byte_for_byte(viewer: Api, logged: Task) -> None:
    answer = viewer.get(f"tasks/{logged.pk}/log")
    assert content(answer) == BYTES
    assert answer["Content-Type"].startswith("text/plain")
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Content-Length"] == str(len(BYTES))
    assert answer["Forge-Log-Complete"] == "false"
    assert answer["Forge-Attempt"] == "1"


@pytest.mark.parametrize("offset", [0, 1, 99, 100, 101, len(BYTES) - 1, len(BYTES), 10**12])
def test_reading_resumes_at_any_offset(offset: int, viewer: Api, logged: Task) -> None:
    answer = viewer.get(f"tasks/{logged.pk}/log?offset={offset}")
    assert content(answer) == BYTES[offset:]


@pytest.mark.parametrize("offset", ["-1", "x", "", "1.5", "1e3", "%00", "٣", "9" * 30, "9" * 5000])
def test_an_offset_that_is_none_is_400(offset: str, viewer: Api, logged: Task) -> None:
    answer = viewer.get(f"tasks/{logged.pk}/log?offset={offset}")
    assert answer.status_code == 400
    assert answer.json()["fields"].keys() == {"offset"}


def test_each_attempt_has_a_log_of_its_own(viewer: Api, logged: Task) -> None:
    now = timezone.now()
    TaskAttempt.of(logged, state=TaskState.LOST, reason="It is gone.", ended_at=now).save()
    second = {"attempt": 2, "lost_runner_policy": "retry", "log_bytes": 0}
    Task.objects.filter(pk=logged.pk).update(**second)
    first = viewer.get(f"tasks/{logged.pk}/log?attempt=1&offset=100")
    assert (content(first), first["Forge-Attempt"]) == (BYTES[100:], "1")
    assert content(viewer.get(f"tasks/{logged.pk}/log")) == b""
    assert viewer.get(f"tasks/{logged.pk}/log?attempt=3").status_code == 404
    assert viewer.get(f"tasks/{logged.pk}/log?attempt=x").status_code == 400
    told = viewer.get(f"tasks/{logged.pk}/").json()["attempts"]
    assert [(one["number"], one["state"], one["log_bytes"]) for one in told] == [
        (1, "lost", len(BYTES)),
        (2, "running", 0),
    ]


def test_a_task_that_wrote_nothing_has_an_empty_log(viewer: Api, task: Task) -> None:
    assert content(viewer.get(f"tasks/{task.pk}/log")) == b""


def test_a_complete_log_says_so(viewer: Api, logged: Task) -> None:
    Task.objects.filter(pk=logged.pk).update(log_complete=True)
    assert viewer.get(f"tasks/{logged.pk}/log")["Forge-Log-Complete"] == "true"


# Not in a transaction: each piece gives its database connection back.
@pytest.mark.django_db(transaction=True)
def test_under_asgi_the_log_is_streamed_piece_by_piece(
    no_broker: None, viewer: Api, logged: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forge.api.logs.PIECE_BYTES", 100)

    async def read() -> list[bytes]:
        address = f"/api/v1/tasks/{logged.pk}/log?offset=50"
        answer: Any = await AsyncClient().get(address, headers=viewer.headers)
        assert answer.is_async
        return [piece async for piece in answer.streaming_content]

    pieces = async_to_sync(read)()
    assert b"".join(pieces) == BYTES[50:]
    assert len(pieces) > 1


@pytest.mark.parametrize(
    ("query", "expected", "begin"),
    [
        ("tail=10", BYTES[-10:], len(BYTES) - 10),
        ("tail=0", b"", len(BYTES)),
        ("tail=100000", BYTES, 0),
        ("limit=7", BYTES[:7], 0),
        ("offset=95&limit=20", BYTES[95:115], 95),
        ("tail=150&limit=20", BYTES[-150:-130], len(BYTES) - 150),
        ("offset=100000&limit=5", b"", 100_000),
    ],
)
def test_any_part_is_read_without_the_rest(
    query: str, expected: bytes, begin: int, viewer: Api, logged: Task
) -> None:
    answer = viewer.get(f"tasks/{logged.pk}/log?{query}")
    assert content(answer) == expected
    assert answer["Content-Length"] == str(len(expected))
    assert answer["Forge-Log-Offset"] == str(begin)


@pytest.mark.parametrize("query", ["tail=-1", "limit=x", "tail=5&offset=5"])
def test_a_part_that_is_none_is_400(query: str, viewer: Api, logged: Task) -> None:
    assert viewer.get(f"tasks/{logged.pk}/log?{query}").status_code == 400


def test_a_log_with_a_gap_says_where_and_how_much(viewer: Api, logged: Task) -> None:
    assert "Forge-Log-Gap" not in viewer.get(f"tasks/{logged.pk}/log")
    gap = {"log_gap_offset": 200, "log_gap_bytes": 5000, "log_written_bytes": 5300}
    Task.objects.filter(pk=logged.pk).update(**gap)
    assert viewer.get(f"tasks/{logged.pk}/log")["Forge-Log-Gap"] == "offset=200; bytes=5000"
    body = viewer.get(f"tasks/{logged.pk}/").json()
    assert {name: body[name] for name in gap} == gap

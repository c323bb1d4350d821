"""The queue's page: order, place, reason; and stop all with its question."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from forge.pages import queue as page
from tasks import stopping
from tasks.lifecycle import TaskState
from tasks.models import Task, TaskTemplate
from tasks.operations import run_template, save_template
from tests.cast import Cast


@pytest.fixture
def waiting(cast: Cast) -> list[Task]:
    """Two that need gpu, one that needs nothing, in the order gpu, nothing, gpu."""
    now = timezone.now()
    kinds = {
        tags: save_template(
            template=TaskTemplate(
                project=cast.project, name=tags or "plain", script="x", allow_parallel=True
            ),
            tags=tags.split(),
        )
        for tags in ("gpu", "")
    }
    return [run_template(template=kinds[t], by=cast.operator, now=now) for t in ("gpu", "", "gpu")]


def numbers(text: str) -> list[int]:
    return [int(found) for found in re.findall(r'id="task-(\d+)"', text)]


def places(text: str) -> list[str]:
    return re.findall(r'<span class="place">(.*?)</span>', text)


def test_all_that_waits_stands_in_order_with_place_and_reason(
    cast: Cast, waiting: list[Task], browser: Callable[..., Client]
) -> None:
    text = browser(cast.viewer).get(f"/projects/{cast.project.pk}/queue/").content.decode()
    assert numbers(text) == [task.pk for task in waiting]
    assert places(text) == ["1", "1", "2"]
    assert text.count("This project has no runners yet.") == 3
    assert "3 wait, the first in line on top." in text
    assert "Stop all" not in text


def test_it_is_paged_by_number_and_refreshes_where_it_is(
    cast: Cast,
    waiting: list[Task],
    browser: Callable[..., Client],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(page, "PAGE_ROWS", 2)
    client, address = browser(cast.operator), f"/projects/{cast.project.pk}/queue/"
    first = client.get(address).content.decode()
    assert numbers(first) == [waiting[0].pk, waiting[1].pk]
    assert f"?after={waiting[1].pk}" in first
    second = client.get(f"{address}?after={waiting[1].pk}").content.decode()
    assert numbers(second) == [waiting[2].pk]
    assert f"?part=live&amp;after={waiting[1].pk}" in second
    back = client.get(f"{address}?before={waiting[2].pk}").content.decode()
    assert numbers(back) == [waiting[0].pk, waiting[1].pk]
    part = client.get(f"{address}?part=live").content.decode()
    assert numbers(part) == numbers(first)
    assert "<html" not in part
    assert "csrfmiddlewaretoken" not in part


def test_many_rows_take_no_more_questions_than_few(
    cast: Cast, waiting: list[Task], browser: Callable[..., Client]
) -> None:
    client = browser(cast.operator)

    def questions() -> int:
        with CaptureQueriesContext(connection) as queries:
            client.get(f"/projects/{cast.project.pk}/queue/")
        return len(queries)

    few = questions()
    for _ in range(15):
        run_template(template=waiting[0].template, by=cast.operator, now=timezone.now())
    assert questions() == few


def test_a_task_is_stopped_from_its_row(
    cast: Cast, waiting: list[Task], browser: Callable[..., Client]
) -> None:
    client, queue = browser(cast.operator), f"/projects/{cast.project.pk}/queue/"
    answer = client.post(f"/tasks/{waiting[0].pk}/stop/", {"back": "queue"})
    # The focus goes to the row that takes its place.
    assert answer["Location"] == f"{queue}#task-{waiting[1].pk}"
    waiting[0].refresh_from_db()
    assert waiting[0].state == TaskState.STOPPED
    text = client.get(queue).text
    assert f"Stopped #{waiting[0].pk}, " in text and f'id="task-{waiting[1].pk}"' in text
    last = client.post(f"/tasks/{waiting[-1].pk}/stop/", {"back": "queue"})
    assert last["Location"] == f"{queue}#main"


def test_stop_all_says_what_it_will_stop_and_does_that(
    cast: Cast, running_task: Task, waiting: list[Task], browser: Callable[..., Client]
) -> None:
    client, address = browser(cast.operator), f"/projects/{cast.project.pk}/stop-all/"
    text = client.get(address).content.decode()
    assert "Stop 1 running task and 3 queued?" in text
    assert "Only the 3 queued" in text
    until = re.search(r'name="until" value="(\d+)"', text)
    assert until
    answer = client.post(address, {"until": until[1], "scope": "all"}, follow=True)
    said = answer.content.decode()
    assert "Stopped 3 tasks that waited. 1 running task was told to stop." in said
    assert "Nothing waits" in said
    assert "There is nothing to stop" in client.get(address).content.decode()


@pytest.mark.parametrize(
    "given", [{}, {"until": "1"}, {"until": "x", "scope": "all"}, {"until": "1", "scope": "some"}]
)
def test_a_stop_that_does_not_say_what_stops_nothing_and_asks(
    given: dict[str, str], cast: Cast, waiting: list[Task], browser: Callable[..., Client]
) -> None:
    answer = browser(cast.operator).post(f"/projects/{cast.project.pk}/stop-all/", given)
    assert answer.status_code == 400
    assert "Stop 3 queued tasks?" in answer.content.decode()
    assert Task.objects.filter(state=TaskState.QUEUED).count() == 3


def test_long_work_shows_how_far_it_is(
    cast: Cast,
    waiting: list[Task],
    browser: Callable[..., Client],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stopping, "BATCH", 2)
    monkeypatch.setattr(stopping, "BUDGET_SECONDS", 0.0)
    client, address = browser(cast.operator), f"/projects/{cast.project.pk}/stop-all/"
    asked = {"until": str(waiting[-1].pk), "scope": "all"}
    text = client.post(address, asked).content.decode()
    assert "Stopped 2 of 3" in text
    fields = dict(re.findall(r'name="(until|scope|waited|ran)" value="(\w+)"', text))
    assert fields == asked | {"waited": "2", "ran": "0"}
    said = client.post(address, fields, follow=True).content.decode()
    assert "Stopped 3 tasks that waited." in said

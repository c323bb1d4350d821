"""Pages ask the database in the same words in every process.

SQLite compares a question with the condition of an index word by word, and what is written from a
set has another order in each process: a page would be fast in one and slow in the other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from runners.models import Runner
from runners.worker.protocol import Heartbeat, TaskRef
from tasks.heartbeat import take_heartbeat
from tasks.models import Task
from tests.cast import Cast

pytestmark = pytest.mark.django_db

STATES = re.compile(r"\"state\" IN \(([^)]*)\)")
PAGES = [
    "/",
    "/projects/{project}/",
    "/projects/{project}/?period=7d",
    "/projects/{project}/tasks/",
    "/runners/{runner}/",
    "/members/{member}/remove/",
    "/templates/{template}/",
    "/templates/{template}/remove/",
    "/templates/{template}/disable/",
]


def lists_in(queries: CaptureQueriesContext) -> Iterator[list[str]]:
    for query in queries:
        for words in STATES.findall(query["sql"]):
            yield words.split(", ")


@pytest.mark.parametrize("address", PAGES)
def test_the_states_that_a_page_asks_for_are_in_order(
    address: str,
    running_task: Task,
    runner: Runner,
    cast: Cast,
    browser: Callable[[User | None], Client],
) -> None:
    address = address.format(
        project=cast.project.pk,
        runner=runner.pk,
        member=cast.viewers_membership.pk,
        template=running_task.template_id,
    )
    client = browser(cast.owner)
    with CaptureQueriesContext(connection) as queries:
        assert client.get(address).status_code == 200
    found = [*lists_in(queries)]
    assert found and found == [sorted(words) for words in found]


def test_the_states_that_a_heartbeat_asks_for_are_in_order(
    running_task: Task, runner: Runner
) -> None:
    message = Heartbeat("s" * 16, (TaskRef(running_task.pk, 1), TaskRef(running_task.pk, 7)))
    with CaptureQueriesContext(connection) as queries:
        take_heartbeat(runner=runner, message=message, now=timezone.now())
    found = [*lists_in(queries)]
    assert len(found) >= 2 and found == [sorted(words) for words in found]

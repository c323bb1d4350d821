"""Who holds a project's row, to count or to compare, keeps nobody from adding to the project."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from django.db import connection, connections, transaction
from django.utils import timezone

from projects.members import remove_member
from projects.models import Project
from runners.models import Runner
from runners.worker.protocol import ClaimRequest
from tasks.claim import claim_task
from tasks.models import Task, TaskTemplate
from tasks.operations import run_template
from tests.cast import Cast
from tests.deployment.client import wait_for
from tests.meeting import is_waited_for

pytestmark = pytest.mark.django_db(transaction=True)


def claim(task: Task, runner: Runner, cast: Cast) -> None:
    request = ClaimRequest(task.pk, 1, "n" * 22)
    claim_task(runner=Runner.objects.get(pk=runner.pk), request=request, now=timezone.now())


def lose_a_member(task: Task, runner: Runner, cast: Cast) -> None:
    remove_member(membership=cast.viewers_membership, by=cast.owner)


@pytest.mark.parametrize("hold", [claim, lose_a_member])
def test_a_task_is_queued_while_somebody_holds_its_project(
    hold: Callable[[Task, Runner, Cast], None],
    task: Task,
    template: TaskTemplate,
    runner: Runner,
    cast: Cast,
) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite lets one transaction write at a time")
    Project.objects.filter(pk=cast.project.pk).update(max_parallel_tasks=5)
    # Its hint is out: nobody has to put it out while it is claimed.
    Task.objects.update(hinted_at=timezone.now())

    def run() -> None:
        try:
            run_template(template=template, by=cast.operator, now=timezone.now())
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    with transaction.atomic():
        hold(task, runner, cast)
        thread.start()
        wait_for(lambda: is_waited_for() or not thread.is_alive(), "the two to meet")
        has_waited = thread.is_alive()
    thread.join()
    assert not has_waited and Task.objects.count() == 2

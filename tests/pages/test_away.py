"""What of Forge itself is away is said once, on top of the pages."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
import redis
from django.test import Client
from django.utils import timezone

from runners.models import BrokerContact, Runner
from runners.operations import create_runner
from tasks.away import notice
from tasks.models import Leadership, Task
from tasks.operations import run_template
from tasks.waiting import explain
from tests.cast import Cast

pytestmark = pytest.mark.django_db

ALL_WELL = '<div id="notice"></div>'
NO_ANSWER = "Forge's broker has not answered since "
TROUBLE = (
    "Its host cannot reach the broker: The broker tunnel wss://forge.example.net/runner/broker was "
    "refused: The broker cannot be reached from Forge at the moment"
)


def lead(*, until: datetime) -> None:
    Leadership.objects.update_or_create(
        name="controller", defaults={"holder": "me", "expires_at": until}
    )


@pytest.fixture
def now() -> datetime:
    return timezone.now()


@pytest.fixture
def broker_away(now: datetime) -> None:
    lead(until=now + timedelta(minutes=1))
    BrokerContact.note_loss(OSError("10.0.0.7 refused"), now=now - timedelta(minutes=5))


def addresses(cast: Cast, task: Task) -> list[str]:
    project = f"/projects/{cast.project.pk}/"
    pages = ["/", "/runners/", project, *(f"{project}{name}/" for name in PAGES)]
    return [*pages, *(f"{page}?part=live" for page in pages), f"/tasks/{task.pk}/"]


PAGES = ("tasks", "queue", "runners", "templates")


@pytest.mark.usefixtures("broker_away", "runner")
def test_a_broker_that_does_not_answer_is_told_once_on_every_page(
    cast: Cast, task: Task, browser: Callable[..., Client]
) -> None:
    viewer = browser(cast.viewer)
    for address in addresses(cast, task):
        text = viewer.get(address).text
        bar = text.partition('<div id="notice"')[2].partition("</div>")[0]
        assert "Forge&#x27;s broker has not answered since <time" in bar, address
        assert "What waits cannot start until it does" in bar, address
        assert "10.0.0.7" not in text and text.count('id="notice"') == 1, address
        assert ("hx-swap-oob" in bar) == ("part=" in address), address


def test_nothing_is_told_while_all_is_well_or_has_just_begun(
    cast: Cast, task: Task, browser: Callable[..., Client], now: datetime
) -> None:
    """As of an installation whose first controller is yet to start, and of a short restart."""
    BrokerContact.note_loss(OSError("refused"), now=now - timedelta(minutes=5))
    viewer = browser(cast.viewer)
    assert all(ALL_WELL in viewer.get(one).text for one in addresses(cast, task)[:5])
    lead(until=now - timedelta(seconds=9))
    assert notice(now) == ""
    lead(until=now + timedelta(seconds=4))
    assert notice(now).startswith(NO_ANSWER)
    BrokerContact.objects.update(lost_at=now - timedelta(seconds=9))
    assert notice(now) == ""
    BrokerContact.note_answer()
    assert notice(now) == ""


def test_that_no_controller_leads_is_told_instead_of_what_the_last_one_knew(
    now: datetime, broker_away: None
) -> None:
    lead(until=now - timedelta(seconds=10))
    assert notice(now).startswith("No controller has led since ")
    assert "neither given up nor tried again" in notice(now) and "broker" not in notice(now)


def test_a_broker_that_refuses_is_told_with_its_answer(now: datetime) -> None:
    lead(until=now + timedelta(minutes=1))
    error = redis.ResponseError("OOM command not allowed.")
    BrokerContact.note_refusal(error, now=now - timedelta(minutes=5))
    assert notice(now).startswith("Forge's broker has refused hints since ")
    assert ": OOM command not allowed. What was not handed out before waits" in notice(now)


@pytest.fixture
def troubled(cast: Cast, runner: Runner, now: datetime) -> None:
    """Two runners that say what they hear at the tunnel."""
    create_runner(
        project=cast.project,
        name="web-2",
        tags=["linux"],
        concurrency=1,
        takes_untagged=True,
        by=cast.owner,
        now=now,
    )
    Runner.objects.update(
        connected_at=now, last_heartbeat_at=now, session="one", trouble=TROUBLE[:200]
    )


@pytest.mark.usefixtures("broker_away", "troubled")
def test_a_task_waits_for_the_broker_and_not_for_every_runner(
    cast: Cast, task: Task, browser: Callable[..., Client]
) -> None:
    waiting = explain(task, timezone.now())
    assert waiting is not None
    assert waiting.sentence.startswith(NO_ANSWER) and waiting.sentence.count(" since ") == 1
    assert waiting.waits_for == "for the broker" and waiting.waits_for_forge
    manager = browser(cast.manager)
    text = manager.get(f"/tasks/{task.pk}/").text
    assert "None of the 2 runners" not in text
    assert "Add a runner" not in text and "Change the template" not in text
    told = manager.get(f"/api/v1/tasks/{task.pk}/").json()["waiting_for"]
    assert told == waiting.sentence
    BrokerContact.note_answer()
    assert "None of the 2 runners" in manager.get(f"/tasks/{task.pk}/").text


@pytest.mark.usefixtures("broker_away", "troubled")
def test_what_the_broker_has_no_part_in_is_still_told(cast: Cast, task: Task) -> None:
    later = run_template(template=task.template, by=cast.operator, now=timezone.now())
    waiting = explain(later, timezone.now())
    assert waiting and waiting.sentence.startswith(NO_ANSWER)
    first = f"#{task.pk} of this template comes first"
    assert [check for check in waiting.checks if first in check.result]
    Runner.objects.all().delete()
    alone = explain(task, timezone.now())
    assert alone and alone.sentence == "This project has no runners yet." and alone.lacks_runner

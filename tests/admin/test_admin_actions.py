"""Actions of the admin say what they will do, do it as the pages do, and tell what they left."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.contrib.messages import get_messages
from django.test import Client
from django.utils import timezone

from projects.audit.entry import AuditEntry
from projects.models import UserToken
from projects.operations import create_user_token
from runners.models import RegistrationToken, Runner
from runners.operations import create_runner, pause_runner, remove_runner, rotate_token
from tasks.lifecycle import TaskState
from tasks.models import Task, TaskTemplate
from tasks.operations import run_template
from tests.cast import Cast
from tests.writes import assert_nothing_secret

PLACES = {
    Runner: "/admin/runners/runner/",
    RegistrationToken: "/admin/runners/registrationtoken/",
    UserToken: "/admin/projects/usertoken/",
    Task: "/admin/tasks/task/",
}


def act(client: Client, action: str, *rows: Any, **more: str) -> Any:
    given = {"action": action, "_selected_action": [row.pk for row in rows]} | more
    return client.post(PLACES[type(rows[0])], given)


def told(answer: Any) -> str:
    return " ".join(map(str, get_messages(answer.wsgi_request)))


@pytest.mark.parametrize("number", ["abc", "9" * 20, "\0", "-1"])
@pytest.mark.parametrize(
    ("place", "action"),
    [
        (PLACES[Runner], "pause"),
        (PLACES[Task], "stop"),
        (PLACES[UserToken], "revoke"),
        ("/admin/auth/user/", "delete_selected"),
    ],
)
def test_a_selection_of_what_is_no_number_does_nothing(
    place: str, action: str, number: str, admin: Client
) -> None:
    answer = admin.post(place, {"action": action, "_selected_action": [number]}, follow=True)
    assert answer.status_code == 200
    assert "Nothing was done: what was selected is not in this list." in answer.text


def verbs() -> list[tuple[str, str]]:
    """What the audit log says was done in the admin, and to what."""
    rows = AuditEntry.objects.filter(way="admin").order_by("pk")
    return [(entry.verb, entry.name) for entry in rows]


@pytest.fixture
def second(cast: Cast) -> Runner:
    settings: dict[str, Any] = {"tags": [], "concurrency": 1, "takes_untagged": True}
    settings |= {"by": cast.owner, "now": timezone.now(), "project": cast.project}
    return create_runner(name="web-2", **settings).runner


@pytest.fixture
def tokens(cast: Cast) -> list[UserToken]:
    now = timezone.now()
    return [
        create_user_token(user=cast.viewer, name=name, expires_at=None, now=now).row
        for name in ("ci", "laptop")
    ]


def test_revoking_api_tokens_asks_first_and_ends_them(
    tokens: list[UserToken], admin: Client
) -> None:
    asked = act(admin, "revoke", *tokens).text
    assert "is refused from now on" in asked
    assert "ci of viewer, never used" in asked and "laptop of viewer" in asked
    assert UserToken.objects.count() == 2
    answer = act(admin, "revoke", *tokens, sure="yes")
    assert told(answer) == "Revoked: 2."
    assert not UserToken.objects.exists()
    assert sorted(verbs()) == [("revoked", "ci"), ("revoked", "laptop")]
    assert_nothing_secret()


def test_revoking_registration_tokens_tells_which_were_left(
    registration: RegistrationToken, admin: Client
) -> None:
    asked = act(admin, "revoke", registration).text
    assert "No further host can add itself" in asked
    assert "rack 7 of Payments, used 0 of 1 times" in asked
    assert registration.digest not in asked
    registration.refresh_from_db()
    assert registration.revoked_at is None
    assert told(act(admin, "revoke", registration, sure="yes")) == "Revoked: 1."
    again = act(admin, "revoke", registration, sure="yes")
    assert "Left, because they were revoked before: rack 7." in told(again)
    assert verbs() == [("revoked", "rack 7")]


def test_tokens_are_revoked_and_not_deleted(
    tokens: list[UserToken], registration: RegistrationToken, admin: Client
) -> None:
    for row in (tokens[0], registration):
        page = admin.get(PLACES[type(row)]).text
        assert 'value="revoke"' in page
        assert "delete_selected" not in page


def test_pausing_does_what_it_can_and_names_what_was_removed(
    runner: Runner, second: Runner, admin: Client
) -> None:
    remove_runner(runner=second, now=timezone.now())
    answer = act(admin, "pause", runner, second, sure="yes", reason="Kernel update")
    assert "Paused: 1." in told(answer)
    assert "web-2" in told(answer)
    runner.refresh_from_db()
    assert runner.pause_reason == "Kernel update"
    assert verbs() == [("paused", "web-1")]


def test_resuming_leaves_those_that_were_not_paused(
    cast: Cast, runner: Runner, second: Runner, admin: Client
) -> None:
    now = timezone.now()
    pause_runner(runner=runner, reason="Kernel update", until=None, by=cast.owner, now=now)
    answer = act(admin, "resume", runner, second)
    assert told(answer) == "Resumed: 1. Left, because they were neither paused nor drained: web-2."
    assert verbs() == [("resumed", "web-1")]


def test_older_tokens_of_runners_end_when_that_was_confirmed(
    cast: Cast, runner: Runner, second: Runner, admin: Client
) -> None:
    now = timezone.now()
    rotate_token(runner=runner, overlap=timedelta(hours=1), by=cast.owner, now=now)
    asked = act(admin, "end_older", runner, second).text
    assert "only the newest token works from now on" in asked
    assert len(runner.older_tokens(now=timezone.now())) == 1
    answer = act(admin, "end_older", runner, second, sure="yes")
    assert "Older tokens ended of runners: 1. Left, because they had none: web-2." in told(answer)
    assert not runner.older_tokens(now=timezone.now())
    assert verbs() == [("ended_older", "web-1")]


@pytest.mark.parametrize(
    ("action", "warning", "verb"),
    [
        ("stop", "give it time to clean up", "stopped"),
        ("force_stop", "without time to clean up", "force_stopped"),
    ],
    ids=["stop", "force stop"],
)
def test_tasks_are_stopped_after_a_question_and_the_rest_is_named(
    action: str,
    warning: str,
    verb: str,
    cast: Cast,
    template: TaskTemplate,
    running_task: Task,
    admin: Client,
) -> None:
    now = timezone.now()
    ended = run_template(template=template, by=cast.owner, now=now)
    assert ended.stop_before_start(reason="Not needed.", now=now)
    waiting = run_template(template=template, by=cast.owner, now=now)
    tasks = (running_task, ended, waiting)
    asked = act(admin, action, *tasks).text
    assert warning in asked
    assert f"#{running_task.pk} Restart of Payments: Running on web-1" in asked
    assert f"#{waiting.pk} Restart" in asked
    assert f"#{ended.pk} Restart" not in asked
    assert verbs() == []
    answer = act(admin, action, *tasks, sure="yes")
    assert told(answer) == (
        f"Told to stop: 2. Task #{ended.pk} is already finished: {TaskState.STOPPED.label}."
    )
    states = {task.pk: task.state for task in Task.objects.all()}
    assert states[running_task.pk] == TaskState.STOPPING
    assert states[waiting.pk] == TaskState.STOPPED
    assert [entry[0] for entry in verbs()] == [verb, verb]
    again = act(admin, action, running_task, sure="yes")
    assert "Told to stop: 0. Left, because somebody had asked for it before" in told(again)
    assert len(verbs()) == 2


def test_a_message_about_many_rows_stays_short(
    cast: Cast, template: TaskTemplate, admin: Client
) -> None:
    now = timezone.now()
    ended = [run_template(template=template, by=cast.owner, now=now) for _ in range(12)]
    for task in ended:
        assert task.stop_before_start(reason="Not needed.", now=now)
    sentences = told(act(admin, "stop", *ended, sure="yes"))
    assert sentences.count("is already finished") == 5
    assert "7 more were left for such reasons." in sentences


def test_removing_a_runner_says_what_ends_with_it(
    runner: Runner, second: Runner, running_task: Task, admin: Client
) -> None:
    asked = act(admin, "delete_selected", runner, second).text
    assert "web-1: 1 of its tasks ends with it" in asked
    assert "web-2: " not in asked
    page = admin.get(f"/admin/runners/runner/{runner.pk}/delete/").text
    assert "web-1: 1 of its tasks ends with it" in page


@pytest.mark.parametrize("action", ["pause", "resume", "end_older", "stop", "force_stop", "revoke"])
def test_who_may_only_look_can_do_none_of_it(
    action: str,
    cast: Cast,
    runner: Runner,
    running_task: Task,
    registration: RegistrationToken,
    tokens: list[UserToken],
) -> None:
    user = User.objects.create_user("looker", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client = Client()
    client.force_login(user)
    before = Runner.objects.values().get(pk=runner.pk)
    rows: dict[str, list[Any]] = {"stop": [running_task], "force_stop": [running_task]}
    for row in rows.get(action, [runner] if action != "revoke" else [registration, tokens[0]]):
        act(client, action, row, sure="yes", reason="x")
    assert verbs() == []
    assert Runner.objects.values().get(pk=runner.pk) == before
    running_task.refresh_from_db()
    registration.refresh_from_db()
    assert running_task.state == TaskState.RUNNING
    assert registration.revoked_at is None
    assert UserToken.objects.count() == 2


def test_draining_asks_why_and_tells_which_have_no_worker(
    runner: Runner, second: Runner, admin: Client
) -> None:
    now = timezone.now()
    rows = Runner.objects.filter(pk=runner.pk)
    rows.update(session="one", connected_at=now, last_heartbeat_at=now)
    assert "let their tasks finish, and end" in act(admin, "drain", runner, second).text
    given = {"sure": "yes", "reason": "New kernel", "stays_paused": "on"}
    said = told(act(admin, "drain", runner, second, **given))
    assert said.startswith("Told to drain: 1.") and "web-2 is connected" in said
    runner.refresh_from_db()
    second.refresh_from_db()
    assert runner.is_draining and runner.pause_reason == "New kernel"
    assert second.paused_at is None


@pytest.mark.parametrize("action", ["stop", "force_stop"])
def test_what_has_ended_already_is_not_offered_to_be_stopped(
    action: str, cast: Cast, template: TaskTemplate, admin: Client
) -> None:
    now = timezone.now()
    ended = run_template(template=template, by=cast.owner, now=now)
    assert ended.stop_before_start(reason="Not needed.", now=now)
    page = act(admin, action, ended).text
    assert "All that you selected has ended already." in page
    assert 'name="sure"' not in page
    assert f'href="{PLACES[Task]}">Back to the tasks</a>' in page

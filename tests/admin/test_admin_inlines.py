"""What belongs to a row is beside its form: to look at, bounded, with links, never a secret."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from projects.models import Membership, Project, UserToken
from projects.operations import create_user_token
from projects.permissions import Role
from runners.models import Runner, RunnerToken
from runners.operations import remove_runner, rotate_token
from tasks.lifecycle import TaskState
from tasks.models import Task, TaskAttempt
from tests.cast import Cast

MANY = 1000


def form_of(row: Any) -> str:
    return f"/admin/{row._meta.app_label}/{row._meta.model_name}/{row.pk}/change/"


def digests() -> list[str]:
    models = (RunnerToken, UserToken)
    return [d for model in models for d in model._default_manager.values_list("digest", flat=True)]


def test_a_runner_shows_its_tokens_and_what_it_runs(
    cast: Cast, runner: Runner, running_task: Task, admin: Client
) -> None:
    now = timezone.now()
    rotate_token(runner=runner, overlap=timedelta(hours=1), by=cast.owner, now=now)
    page = admin.get(form_of(runner)).text
    for token in runner.tokens.all():
        assert form_of(token) in page
    assert f'<a href="{form_of(running_task)}">' in page
    assert f"/admin/tasks/task/?runner__id__exact={runner.pk}" in page
    assert f"/admin/runners/runnertoken/?runner__id__exact={runner.pk}" in page
    assert not [digest for digest in digests() if digest[:8] in page]
    assert running_task.finish(
        TaskState.SUCCEEDED, runner=runner, attempt=1, reason="Done.", now=now
    )
    assert f'<a href="{form_of(running_task)}">' not in admin.get(form_of(runner)).text


def test_a_user_shows_memberships_and_tokens_and_of_the_password_only_that_it_is_there(
    cast: Cast, admin: Client
) -> None:
    cast.viewer.set_password("a long password 77")
    cast.viewer.save()
    new = create_user_token(user=cast.viewer, name="ci", expires_at=None, now=timezone.now())
    page = admin.get(form_of(cast.viewer)).text
    assert f'<a href="{form_of(cast.viewers_membership)}">Payments</a>' in page
    assert f'<a href="{form_of(new.row)}">ci</a>' in page
    assert new.row.digest[:8] not in page and new.token not in page
    assert "A password is set." in page
    _, _, parameters, salt, digest = cast.viewer.password.split("$")[-5:]
    assert parameters not in page
    assert salt[:6] not in page and digest[:6] not in page


def test_a_project_shows_members_and_runners_that_are_there(
    cast: Cast, runner: Runner, admin: Client
) -> None:
    page = admin.get(form_of(cast.project)).text
    assert f'<a href="{form_of(runner)}">web-1</a>' in page
    assert page.count('name="memberships-') > 5 * 3
    remove_runner(runner=runner, now=timezone.now())
    assert form_of(runner) not in admin.get(form_of(cast.project)).text


def test_a_task_shows_its_earlier_attempts(running_task: Task, admin: Client) -> None:
    now = timezone.now()
    earlier = TaskAttempt.of(running_task, state=TaskState.LOST, reason="Gone.", ended_at=now)
    earlier.save()
    page = admin.get(form_of(running_task)).text
    assert form_of(earlier) in page and "Gone." in page


@pytest.fixture
def crowded(cast: Cast, runner: Runner, running_task: Task) -> dict[str, Any]:
    """A thousand of everything that belongs to something."""
    users = User.objects.bulk_create(User(username=f"many-{n}") for n in range(MANY))
    Membership.objects.bulk_create(
        Membership(project=cast.project, user=user, role=Role.VIEWER) for user in users
    )
    projects = Project.objects.bulk_create(Project(name=f"Many {n}") for n in range(MANY))
    Membership.objects.bulk_create(
        Membership(project=project, user=cast.viewer, role=Role.VIEWER) for project in projects
    )
    UserToken.objects.bulk_create(
        UserToken(user=cast.viewer, name=f"many {n}", digest=f"{n:064}") for n in range(MANY)
    )
    Runner.objects.bulk_create(Runner(project=cast.project, name=f"many-{n}") for n in range(MANY))
    RunnerToken.objects.bulk_create(
        RunnerToken(
            runner=runner, digest=f"a{n:063}", created_at=timezone.now(),
            expires_at=timezone.now() + timedelta(hours=1),
        )
        for n in range(MANY)
    )  # fmt: skip
    copies = []
    for n in range(MANY):
        copy = Task.objects.get(pk=running_task.pk)
        copy.pk, copy.nonce, copy.is_exclusive = None, f"{n:022}", False
        copies.append(copy)
    Task.objects.bulk_create(copies)
    return {"runner": runner, "user": cast.viewer, "project": cast.project}


@pytest.mark.parametrize("which", ["runner", "user", "project"])
def test_a_form_asks_and_shows_no_more_for_a_thousand_rows(
    which: str,
    crowded: dict[str, Any],
    admin: Client,
    django_assert_max_num_queries: Any,
) -> None:
    with django_assert_max_num_queries(20):
        page = admin.get(form_of(crowded[which])).text
    assert page.count('<tr><td class="field-') == 2 * 20
    assert page.count("At most 20 are shown here.") == 2
    assert page.count("All in their list") == 2


def test_lists_behind_the_links_open(crowded: dict[str, Any], admin: Client) -> None:
    runner, user, project = (crowded[name] for name in ("runner", "user", "project"))
    for place in (
        f"tasks/task/?runner__id__exact={runner.pk}",
        f"runners/runnertoken/?runner__id__exact={runner.pk}",
        f"projects/usertoken/?user__id__exact={user.pk}",
        f"projects/membership/?user__id__exact={user.pk}",
        f"projects/membership/?project__id__exact={project.pk}",
        f"runners/runner/?project__id__exact={project.pk}",
    ):
        answer = admin.get(f"/admin/{place}")
        assert answer.status_code == 200, place
        assert "1000" in answer.text or "1,000" in answer.text, place


def test_a_form_with_a_few_members_asks_no_more_for_each(
    cast: Cast, admin: Client, django_assert_max_num_queries: Any
) -> None:
    users = User.objects.bulk_create(User(username=f"few-{n}") for n in range(40))
    Membership.objects.bulk_create(
        Membership(project=cast.project, user=user, role=Role.VIEWER) for user in users
    )
    with django_assert_max_num_queries(20):
        page = admin.get(form_of(cast.project)).text
    assert 'name="memberships-43-role"' in page
    assert "few-39" in page


def test_what_came_or_went_meanwhile_keeps_nobody_from_saving(
    runner: Runner, running_task: Task, admin: Client
) -> None:
    """Nor does what somebody made up about rows that are only shown."""
    form = {
        "concurrency": 5,
        "tasks-TOTAL_FORMS": 900, "tasks-INITIAL_FORMS": 900, "tasks-0-id": 999_999,
        "tokens-TOTAL_FORMS": 1, "tokens-INITIAL_FORMS": 1, "tokens-0-id": "x",
        "tokens-0-DELETE": "on",
    }  # fmt: skip
    assert admin.post(form_of(runner), form).status_code == 302
    runner.refresh_from_db()
    assert runner.concurrency == 5
    assert runner.tokens.count() == 1
    wrong = admin.post(form_of(runner), form | {"concurrency": 0})
    assert wrong.status_code == 200
    assert form_of(running_task) in wrong.text


def test_staff_sees_beside_a_form_only_what_it_may_see(
    cast: Cast, runner: Runner, running_task: Task
) -> None:
    user = User.objects.create_user("support", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_runner"))
    client = Client()
    client.force_login(user)
    page = client.get(form_of(runner)).text
    assert "web-1" in page
    assert "Running tasks" not in page and form_of(running_task) not in page
    assert "All in their list" not in page

"""Accounts are deleted while runners claim, and whatever their people have done."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from projects import removal
from projects.audit.entry import AuditEntry
from projects.models import Membership, Project
from projects.permissions import Role
from runners.models import RegistrationToken, Runner
from runners.worker.protocol import ClaimRequest
from tasks.claim import claim_task
from tasks.lifecycle import TaskState
from tasks.models import Task, TaskTemplate
from tasks.operations import disable_template, run_template
from tests.cast import Cast
from tests.deployment.client import wait_for
from tests.meeting import is_waited_for, just_before, meanwhile, once_read

POSTGRESQL_ONLY = "SQLite lets one transaction write at a time"


def delete(admin: Client, *users: User) -> None:
    """As somebody does who chose them in the list, and said yes."""
    chosen = [user.pk for user in users]
    sent = {"action": "delete_selected", "_selected_action": chosen, "post": "yes"}
    assert admin.post(reverse("admin:auth_user_changelist"), sent).status_code == 302


def delete_of_the_active(admin: Client, *users: User) -> None:
    """In a list that shows active accounts alone."""
    chosen = [user.pk for user in users]
    sent = {"action": "delete_selected", "_selected_action": chosen, "post": "yes"}
    page = reverse("admin:auth_user_changelist") + "?is_active__exact=1"
    assert "Successfully deleted 1 user" in admin.post(page, sent, follow=True).text


def delete_one(admin: Client, user: User) -> None:
    """As somebody does on the account's own page."""
    page = reverse("admin:auth_user_delete", args=[user.pk])
    assert admin.post(page, {"post": "yes"}).status_code == 302


def is_there(*users: User) -> bool:
    return User.objects.filter(pk__in=[user.pk for user in users]).exists()


@pytest.fixture
def works_of_manager(
    cast: Cast, runner: Runner, registration: RegistrationToken, template: TaskTemplate
) -> list[Task]:
    """Tasks that the manager has run, with runner, tokens, a pause and a disabled template."""
    now = timezone.now()
    tasks = [run_template(template=template, by=cast.manager, now=now) for _ in range(5)]
    disable_template(template=template, reason="Old.", by=cast.manager, now=now)
    Runner.objects.update(
        created_by=cast.manager, paused_by=cast.manager, paused_at=now, pause_reason="Patches."
    )
    RegistrationToken.objects.update(created_by=cast.manager)
    runner.tokens.update(created_by=cast.manager)
    return tasks


@pytest.mark.django_db
@pytest.mark.parametrize("how", [delete, delete_of_the_active, delete_one])
def test_what_a_deleted_account_has_done_stays_without_its_name(
    how: Callable[..., None],
    cast: Cast,
    runner: Runner,
    works_of_manager: list[Task],
    admin: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(removal, "BATCH", 2)
    monkeypatch.setattr(removal, "MANY", 3)
    before = AuditEntry.objects.count()
    how(admin, cast.manager)
    assert not is_there(cast.manager)
    assert not Task.objects.exclude(created_by=None).exists()
    assert Task.objects.count() == len(works_of_manager)
    runner.refresh_from_db()
    assert runner.is_paused(now=timezone.now()) and runner.paused_by is None
    latest = AuditEntry.objects.order_by("pk")[before:]
    told = [(entry.verb, entry.name, entry.actor) for entry in latest]
    assert told == [("changed", "manager", "root"), ("removed", "manager", "root")]
    assert latest[0].changes == {"is_active": {"old": True, "new": False}}


@pytest.mark.django_db
@pytest.mark.parametrize("how", [delete, delete_one])
def test_who_may_not_be_deleted_stays_as_they_were(
    how: Callable[..., None], cast: Cast, works_of_manager: list[Task], admin: Client
) -> None:
    Membership.objects.filter(user=cast.manager).update(role=Role.OWNER)
    Membership.objects.filter(user=cast.owner).delete()
    before = AuditEntry.objects.count()
    how(admin, cast.manager)
    # Nor does it go with another one: it is all or none.
    delete(admin, cast.viewer, cast.manager)
    staff = User.objects.create_user("support", is_staff=True)
    client = Client()
    client.force_login(staff)
    page = reverse("admin:auth_user_delete", args=[cast.viewer.pk])
    assert client.post(page, {"post": "yes"}).status_code == 403
    cast.manager.refresh_from_db()
    assert cast.manager.is_active and is_there(cast.viewer)
    assert Task.objects.filter(created_by=cast.manager).count() == len(works_of_manager)
    assert AuditEntry.objects.count() == before


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("how", [delete, delete_one])
def test_an_account_is_deleted_while_a_runner_of_its_project_claims(
    how: Callable[..., None], cast: Cast, task: Task, runner: Runner, admin: Client
) -> None:
    """The claim holds the runner, which the account has made, and then its project."""
    if connection.vendor != "postgresql":
        pytest.skip(POSTGRESQL_ONLY)
    Project.objects.update(max_parallel_tasks=5)
    Runner.objects.update(created_by=cast.manager)
    Task.objects.update(created_by=cast.manager)
    begin, deletion = meanwhile(lambda: how(admin, cast.manager))
    request = ClaimRequest(task.pk, 1, "n" * 22)
    claimant = Runner.objects.select_related("project").get(pk=runner.pk)
    with once_read('FROM "runners_runner"', begin):
        claimed = claim_task(runner=claimant, request=request, now=timezone.now())
    deletion.join()
    assert claimed.state == TaskState.STARTING
    assert not is_there(cast.manager)
    runner.refresh_from_db()
    assert runner.created_by is None


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("how", [delete, delete_one])
def test_projects_stay_open_while_the_tasks_of_an_account_are_gone_through(
    how: Callable[..., None], cast: Cast, works_of_manager: list[Task], admin: Client
) -> None:
    if connection.vendor != "postgresql":
        pytest.skip(POSTGRESQL_ONLY)
    held: list[int] = []

    def hold() -> None:
        with transaction.atomic():
            rows = Project.objects.select_for_update(no_key=True, nowait=True)
            held.extend(rows.filter(pk=cast.project.pk).values_list("pk", flat=True))

    def hold_elsewhere() -> None:
        begin, thread = meanwhile(hold)
        begin()
        thread.join()

    with just_before('UPDATE "tasks_task"', hold_elsewhere):
        how(admin, cast.manager)
    assert held == [cast.project.pk]
    assert not is_there(cast.manager)


@pytest.mark.django_db(transaction=True)
def test_accounts_are_deleted_together_while_somebody_locks_their_projects_in_order(
    cast: Cast, admin: Client
) -> None:
    if connection.vendor != "postgresql":
        pytest.skip(POSTGRESQL_ONLY)
    first, second = sorted((cast.project, cast.outsiders_project), key=lambda one: one.pk)
    users = [User.objects.create_user(name) for name in ("a", "b")]
    for user, project in zip(users, (second, first), strict=True):
        Membership.objects.create(user=user, project=project, role=Role.VIEWER)
    thread = threading.Thread(target=lambda: None)
    with transaction.atomic():
        Project.objects.select_for_update(no_key=True).get(pk=first.pk)
        begin, thread = meanwhile(lambda: delete(admin, *users))
        begin()
        wait_for(is_waited_for, "the deletion to wait for the first project")
        Project.objects.select_for_update(no_key=True).get(pk=second.pk)
    thread.join()
    assert not is_there(*users)

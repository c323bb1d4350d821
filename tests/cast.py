"""The cast: who takes part in tests, and the things they work with.

`owner`, `manager`, `operator` and `viewer` are members of `cast.project`; `outsider` has a
project of their own; nobody is not signed in (`cast.user("nobody")` is None).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from projects.models import AccessKey, Membership, Project, VariableGroup
from projects.permissions import Role
from runners.models import RegistrationToken, Runner
from runners.operations import create_runner
from runners.registration import create_registration_token
from tasks.models import Task, TaskTemplate
from tasks.operations import (
    run_template,
    save_access_key,
    save_template,
    save_variable_group,
)

MEMBERS = ("owner", "manager", "operator", "viewer")
# The secret of everything in the cast that has one; nothing that anybody sees may hold it.
CANARY = "canary-Zx7/Kq2+vN9"
EVERYBODY = (*MEMBERS, "outsider", "nobody")


@dataclass(frozen=True)
class Cast:
    project: Project
    owner: User
    manager: User
    operator: User
    viewer: User
    outsider: User
    outsiders_project: Project

    @property
    def viewers_membership(self) -> Membership:
        return Membership.objects.get(project=self.project, user=self.viewer)

    def user(self, name: str) -> User | None:
        """The user called `name`; None for nobody."""
        return None if name == "nobody" else getattr(self, name)


@pytest.fixture
def cast(db: None) -> Cast:
    users = {name: User.objects.create_user(name) for name in (*MEMBERS, "outsider")}
    project = Project.objects.create(name="Payments")
    for name in MEMBERS:
        Membership.objects.create(project=project, user=users[name], role=Role(name))
    other = Project.objects.create(name="Elsewhere")
    Membership.objects.create(project=other, user=users["outsider"], role=Role.OWNER)
    return Cast(project=project, outsiders_project=other, **users)


@pytest.fixture
def superuser(db: None) -> User:
    return User.objects.create_superuser("root")


@pytest.fixture
def template(cast: Cast) -> TaskTemplate:
    row = TaskTemplate(project=cast.project, name="Restart", script="systemctl restart app\n")
    return save_template(template=row, tags=["linux"])


@pytest.fixture
def access_key(cast: Cast) -> AccessKey:
    """A secret text that nothing uses yet."""
    key = AccessKey(project=cast.project, name="Registry", kind="string")
    return save_access_key(key=key, parts={"value": CANARY}, now=timezone.now())


@pytest.fixture
def variable_group(cast: Cast) -> VariableGroup:
    """One plain and one secret variable that nothing uses yet."""
    group = VariableGroup(project=cast.project, name="Production", variables={"REGION": "eu"})
    secrets = {"API_TOKEN": CANARY}
    return save_variable_group(group=group, secrets=secrets, now=timezone.now())


@pytest.fixture
def runner(cast: Cast) -> Runner:
    return create_runner(
        project=cast.project,
        name="web-1",
        tags=["linux"],
        concurrency=2,
        takes_untagged=True,
        by=cast.owner,
        now=timezone.now(),
    ).runner


@pytest.fixture
def registration(cast: Cast) -> RegistrationToken:
    """A registration token that works once."""
    now = timezone.now()
    return create_registration_token(
        project=cast.project,
        name="rack 7",
        tags=["linux"],
        concurrency=2,
        takes_untagged=True,
        max_uses=1,
        expires_at=now + timedelta(hours=1),
        by=cast.owner,
        now=now,
    ).row


@pytest.fixture
def task(cast: Cast, template: TaskTemplate) -> Task:
    """A task that waits in its queue."""
    return run_template(template=template, by=cast.operator, now=timezone.now())


@pytest.fixture
def running_task(task: Task, runner: Runner) -> Task:
    """A task that `runner` holds."""
    now = timezone.now()
    assert task.claim(runner=runner, attempt=1, nonce="n" * 22, now=now)
    assert task.start(runner=runner, attempt=1, now=now)
    return task

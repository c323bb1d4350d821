"""Fills a new Forge: user, project, templates, runner. Runs where the database is."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model

from forge.quickstart.demo import PROJECT, RUNNER, TEMPLATES
from projects.models import Project, UserToken
from projects.operations import create_project, create_user_token
from projects.tokens import digest_of
from runners.models import Runner, RunnerToken
from runners.operations import create_runner
from tasks.models import TaskTemplate
from tasks.operations import save_template

if TYPE_CHECKING:
    from django.contrib.auth.models import User

USER = "admin"


def seed(known: dict[str, Any], *, now: datetime) -> dict[str, Any]:
    """What is missing is made; `known` holds the secrets of an earlier start.

    Returns username, password, api_token, project_id, runner_id, runner_token, runner_name and
    template_ids.
    """
    user = _user(known["password"])
    project = _project(user, now=now)
    runner, runner_token = _runner(project, user, known.get("runner_token", ""), now=now)
    return {
        "username": user.get_username(),
        "password": known["password"],
        "api_token": _api_token(user, known.get("api_token", ""), now=now),
        "project_id": project.pk,
        "runner_id": runner.pk,
        "runner_token": runner_token,
        "runner_name": runner.name,
        "template_ids": _templates(project),
    }


def _user(password: str) -> User:
    """The administrator; a password that was changed in the pages stays."""
    users = get_user_model().objects
    user = users.filter(username=USER).first()
    return user or users.create_superuser(USER, password=password)


def _project(user: User, *, now: datetime) -> Project:
    found = Project.objects.filter(name=PROJECT).first()
    return found or create_project(
        name=PROJECT, description="Made by the quick start", owner=user, now=now
    )


def _templates(project: Project) -> list[int]:
    """The ids of the demo templates that are there, after making all of them in a new project."""
    if not TaskTemplate.objects.filter(project=project).exists():
        for demo in TEMPLATES:
            template = TaskTemplate(
                project=project, timeout_seconds=300, allow_parallel=True, **demo._asdict()
            )
            save_template(template=template, tags=())
    names = [demo.name for demo in TEMPLATES]
    rows = TaskTemplate.objects.present().filter(project=project, name__in=names, disabled_at=None)
    return list(rows.order_by("pk").values_list("pk", flat=True))


def _runner(project: Project, user: User, token: str, *, now: datetime) -> tuple[Runner, str]:
    """The runner whose token is known, or a new one if it was removed."""
    rows = Runner.objects.present()
    known = RunnerToken.objects.valid(now=now).filter(digest=digest_of(token))
    found = rows.filter(project=project, tokens__in=known).first()
    if found is not None:
        return found, token
    taken = set(rows.filter(project=project).values_list("name", flat=True))
    numbers = (number for number in range(1, len(taken) + 2))
    names = (RUNNER.replace("1", str(number)) for number in numbers)
    new = create_runner(
        project=project,
        name=next(name for name in names if name not in taken),
        tags=(),
        concurrency=4,
        takes_untagged=True,
        by=user,
        now=now,
    )
    return new.runner, new.token


def _api_token(user: User, token: str, *, now: datetime) -> str:
    if UserToken.objects.filter(user=user, digest=digest_of(token)).exists():
        return token
    return create_user_token(user=user, name="quick start", expires_at=None, now=now).token

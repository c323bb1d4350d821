"""Re-run: of what the template says now, with what has changed since said before."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from forge.pages.versions import FIELD, mark_of
from projects.audit.entry import AuditEntry, Kind
from projects.models import AccessKey
from tasks.models import Task, TaskTemplate
from tasks.operations import disable_template, remove_template, run_template, save_template
from tests.cast import Cast

QUESTION = "Re-run Restart as it is now?"
BUTTON = '<button type="submit" class="btn" id="act-rerun">'


@pytest.fixture
def ended(cast: Cast, template: TaskTemplate) -> Task:
    """A task that ran what the template says, an hour ago."""
    before = timezone.now() - timedelta(hours=1)
    task = run_template(template=template, by=cast.operator, now=before)
    over = {"state": "succeeded", "reason": "It ended.", "finished_at": before}
    Task.objects.filter(pk=task.pk).update(**over)
    task.refresh_from_db()
    return task


@pytest.fixture
def operator(cast: Cast, browser: Callable[[User | None], Client]) -> Client:
    return browser(cast.operator)


@pytest.fixture
def manager(cast: Cast, browser: Callable[[User | None], Client]) -> Client:
    return browser(cast.manager)


def change(manager: Client, template: TaskTemplate, **given: Any) -> None:
    form = {"name": "Restart", "app": "bash", "script": template.script, "tags": "linux"}
    form |= {"timeout_seconds": "3600", "environment": "", "description": ""}
    form |= {"stop_steps": "INT 120, TERM 30", FIELD: mark_of(template, Kind.TEMPLATE)}
    answer = manager.post(f"/templates/{template.pk}/", form | given)
    assert answer.status_code == 302
    template.refresh_from_db()


def test_a_rerun_is_a_new_task_that_links_back(operator: Client, ended: Task) -> None:
    assert BUTTON in operator.get(f"/tasks/{ended.pk}/").text
    answer = operator.post(f"/tasks/{ended.pk}/rerun/", follow=True)
    again = Task.objects.latest("pk")
    assert again.rerun_of == ended
    assert f'href="/tasks/{ended.pk}/">#{ended.pk}</a>' in answer.content.decode()


def test_a_changed_template_is_run_only_after_a_question_that_says_who_changed_what(
    manager: Client, ended: Task, template: TaskTemplate
) -> None:
    change(manager, template, script="systemctl restart other\n")
    page = manager.get(f"/tasks/{ended.pk}/").text
    link = f'id="act-rerun" href="/tasks/{ended.pk}/rerun/" data-ask'
    assert link in page and BUTTON not in page
    asked = manager.post(f"/tasks/{ended.pk}/rerun/", follow=True)
    assert Task.objects.count() == 1
    assert QUESTION in asked.text
    assert "The template has changed since: manager changed script +1 −1" in asked.text
    manager.post(f"/tasks/{ended.pk}/rerun/", {"seen": asked.context["seen"]})
    again = Task.objects.latest("pk")
    assert (again.rerun_of, again.script) == (ended, "systemctl restart other\n")


def test_who_may_not_read_the_audit_log_is_told_what_is_different(
    manager: Client, operator: Client, ended: Task, template: TaskTemplate
) -> None:
    change(manager, template, script="true\n", tags="linux, gpu")
    text = operator.get(f"/tasks/{ended.pk}/rerun/").text
    assert f"The template has changed since. Different from what #{ended.pk} ran" in text
    assert "script and tags." in text
    assert "manager changed" not in text


def test_a_change_after_the_question_is_asked_about_too(
    manager: Client, ended: Task, template: TaskTemplate
) -> None:
    change(manager, template, script="first\n")
    seen = manager.get(f"/tasks/{ended.pk}/rerun/").context["seen"]
    change(manager, template, script="second\n")
    answer = manager.post(f"/tasks/{ended.pk}/rerun/", {"seen": seen}, follow=True)
    assert QUESTION in answer.text
    assert Task.objects.count() == 1


@pytest.mark.parametrize(
    "given",
    [
        {"script": "true\n"},
        {"app": "python"},
        {"environment": "A=1"},
        {"tags": "gpu"},
        {"timeout_seconds": "60"},
        {"allow_parallel": "on"},
        {"lost_runner_policy": "fail"},
        {"lost_runner_wait_seconds": "90 s"},
        {"max_attempts": "5"},
        {"stop_steps": ""},
    ],
    ids=lambda given: next(iter(given)),
)
def test_whatever_a_run_depends_on_is_asked_about(
    given: dict[str, str], manager: Client, ended: Task, template: TaskTemplate
) -> None:
    change(manager, template, **given)
    assert QUESTION in manager.post(f"/tasks/{ended.pk}/rerun/", follow=True).text


def test_another_access_key_is_asked_about(
    operator: Client, ended: Task, template: TaskTemplate, access_key: AccessKey
) -> None:
    save_template(template=template, tags=["linux"], keys={access_key.pk: "REGISTRY"})
    text = operator.post(f"/tasks/{ended.pk}/rerun/", follow=True).text
    assert "variable groups and access keys" in text


def test_what_no_run_depends_on_and_what_was_changed_back_is_not_asked_about(
    manager: Client, ended: Task, template: TaskTemplate
) -> None:
    before = template.script
    change(manager, template, script="other\n")
    change(manager, template, script=before)
    change(manager, template, description="Restarts it.")
    assert AuditEntry.objects.filter(kind=Kind.TEMPLATE, verb="changed").count() == 3
    assert BUTTON in manager.get(f"/tasks/{ended.pk}/").text
    manager.post(f"/tasks/{ended.pk}/rerun/")
    assert Task.objects.count() == 2


def test_a_disabled_or_removed_template_has_its_reason_instead_of_the_button(
    cast: Cast, operator: Client, ended: Task, template: TaskTemplate
) -> None:
    disable_template(template=template, reason="Being moved", by=cast.owner, now=timezone.now())
    for reason in ("owner disabled it (Being moved)", "was removed and cannot be run."):
        text = operator.get(f"/tasks/{ended.pk}/").text
        assert 'id="act-rerun"' not in text
        assert reason in text
        assert reason in operator.get(f"/tasks/{ended.pk}/rerun/").text
        assert reason in operator.post(f"/tasks/{ended.pk}/rerun/", follow=True).text
        remove_template(template=template, now=timezone.now())
    assert Task.objects.count() == 1

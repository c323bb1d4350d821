"""Two people, or two tabs, change one thing: nobody overwrites what they have not seen."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from projects.errors import ChangedMeanwhileError
from projects.models import AccessKey, Project, VariableGroup
from projects.operations import change_project
from projects.versions import version_of
from tasks.models import Task, TaskTemplate
from tasks.operations import (
    disable_template,
    save_access_key,
    save_template,
    save_variable_group,
)
from tests.cast import Cast

TEMPLATES = Path(__file__).resolve().parent.parent.parent / "templates"
FORM = {"name": "Restart", "app": "bash", "script": "true\n", "timeout_seconds": "60", "tags": ""}


@pytest.fixture
def anna(cast: Cast, browser: Callable[..., Client]) -> Client:
    return browser(cast.owner)


@pytest.fixture
def ben(cast: Cast, browser: Callable[..., Client]) -> Client:
    return browser(cast.manager)


def opened(client: Client, address: str) -> str:
    """What a form carries of what it was opened with."""
    return named(client.get(address).content.decode(), "version")


def named(text: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]+)"', text)
    assert found, f"the page has no {name}"
    return found[1]


def test_who_saves_second_loses_nothing_and_is_told_by_whom(
    anna: Client, ben: Client, template: TaskTemplate
) -> None:
    address = f"/templates/{template.pk}/"
    annas, bens = opened(anna, address), opened(ben, address)
    typed = FORM | {"description": "Bens", "version": bens}
    assert anna.post(address, FORM | {"script": "annas\n", "version": annas}).status_code == 302
    answer = ben.post(address, typed)
    text = answer.content.decode()
    assert answer.status_code == 409
    assert "Not saved: owner changed it" in text
    assert "annas" in text
    assert 'value="Bens"' in text
    assert f'href="/templates/{template.pk}/history/"' in text
    template.refresh_from_db()
    assert (template.script, template.description) == ("annas\n", "")


def test_it_can_be_saved_over_what_was_told_and_over_nothing_later(
    anna: Client, ben: Client, template: TaskTemplate
) -> None:
    address = f"/templates/{template.pk}/"
    annas, bens = opened(anna, address), opened(ben, address)
    anna.post(address, FORM | {"script": "first\n", "version": annas})
    typed = FORM | {"script": "bens\n", "version": bens}
    over = named(ben.post(address, typed).content.decode(), "over")
    anna.post(address, FORM | {"script": "second\n", "version": opened(anna, address)})
    again = ben.post(address, typed | {"over": over})
    assert again.status_code == 409
    assert "second" in again.content.decode()
    over = named(again.content.decode(), "over")
    assert ben.post(address, typed | {"over": over}).status_code == 302
    template.refresh_from_db()
    assert template.script == "bens\n"


def test_a_second_tab_of_ones_own_is_told_as_such(anna: Client, template: TaskTemplate) -> None:
    address = f"/templates/{template.pk}/"
    mark = opened(anna, address)
    assert anna.post(address, FORM | {"version": mark}).status_code == 302
    answer = anna.post(address, FORM | {"script": "other\n", "version": mark})
    assert "you changed it yourself" in answer.content.decode()


def test_a_rejected_form_keeps_what_it_was_opened_with(
    anna: Client, ben: Client, template: TaskTemplate
) -> None:
    address = f"/templates/{template.pk}/"
    mark = opened(anna, address)
    ben.post(address, FORM | {"version": mark})
    rejected = anna.post(address, FORM | {"name": "", "version": mark})
    assert rejected.status_code == 400
    assert named(rejected.content.decode(), "version") == mark


def test_what_runs_or_is_disabled_meanwhile_is_no_change_of_the_form(
    anna: Client, cast: Cast, template: TaskTemplate
) -> None:
    address = f"/templates/{template.pk}/"
    mark = opened(anna, address)
    assert anna.post(f"{address}run/").status_code == 302
    disable_template(template=template, reason="Later", by=cast.owner, now=timezone.now())
    assert anna.post(address, FORM | {"version": mark}).status_code == 302
    template.refresh_from_db()
    assert template.is_disabled
    assert Task.objects.count() == 1


@pytest.mark.parametrize("mark", ["x", "x.y", "0.99999999999999999999", "0.²", "a" * 5000])
def test_a_forged_version_saves_nothing(mark: str, anna: Client, template: TaskTemplate) -> None:
    answer = anna.post(f"/templates/{template.pk}/", FORM | {"version": mark, "script": "x"})
    template.refresh_from_db()
    assert answer.status_code == 409
    assert template.script == "systemctl restart app\n"


def test_secrets_that_were_replaced_meanwhile_are_not_overwritten(
    anna: Client, ben: Client, access_key: AccessKey, variable_group: VariableGroup
) -> None:
    key, group = f"/access-keys/{access_key.pk}/", f"/variable-groups/{variable_group.pk}/"
    secret = f"value_{variable_group.secrets.get().pk}"
    for address, given, stored in (
        (key, {"name": "Registry"}, {"value": "another-secret-1"}),
        (group, {"name": "Production", "variables": "A=1"}, {secret: "another-secret-2"}),
    ):
        mark = opened(ben, address)
        assert anna.post(address, given | stored).status_code == 302
        answer = ben.post(address, given | {"name": "Bens", "version": mark})
        text = answer.content.decode()
        assert answer.status_code == 409
        assert 'value="Bens"' in text
        assert "replaced, not shown" in text
        assert "another-secret" not in text
        assert "type them again" in text
        over = named(text, "over")
        last = ben.post(address, given | {"name": "Bens", "version": mark, "over": over})
        assert last.status_code == 302
    access_key.refresh_from_db()
    assert (access_key.name, access_key.open()) == ("Bens", {"value": "another-secret-1"})


def test_settings_of_a_project_are_not_overwritten(anna: Client, ben: Client, cast: Cast) -> None:
    address = f"/projects/{cast.project.pk}/settings/"
    given = {"name": "Payments", "description": "", "max_parallel_tasks": "0"}
    mark = opened(ben, address)
    assert (
        anna.post(address, given | {"max_parallel_tasks": "7", "version": mark}).status_code == 302
    )
    answer = ben.post(address, given | {"description": "Bens", "version": mark})
    text = answer.content.decode()
    assert answer.status_code == 409
    assert "Not saved: owner changed it" in text
    assert 'value="Bens"' in text
    cast.project.refresh_from_db()
    assert (cast.project.max_parallel_tasks, cast.project.description) == (7, "")
    typed = given | {"description": "Bens", "version": mark, "over": named(text, "over")}
    assert ben.post(address, typed).status_code == 302
    cast.project.refresh_from_db()
    assert (cast.project.max_parallel_tasks, cast.project.description) == (0, "Bens")


def test_every_part_of_what_people_edit_is_part_of_its_version(
    cast: Cast, template: TaskTemplate, access_key: AccessKey, variable_group: VariableGroup
) -> None:
    now = timezone.now

    def changed(row: Any, change: Callable[[], object]) -> bool:
        before = version_of(type(row).objects.get(pk=row.pk))
        change()
        return version_of(type(row).objects.get(pk=row.pk)) != before

    def save(tags: tuple[str, ...] = ("linux",), **more: Any) -> Callable[[], object]:
        return lambda: save_template(template=template, tags=tags, **more)

    def group(**secrets: str | None) -> Callable[[], object]:
        return lambda: save_variable_group(group=variable_group, secrets=secrets, now=now())

    def key(**parts: str) -> Callable[[], object]:
        return lambda: save_access_key(key=access_key, parts=parts, now=now())

    assert not changed(template, save())
    assert changed(template, save(tags=("linux", "gpu")))
    assert changed(template, save(groups=[variable_group.pk]))
    assert changed(template, save(keys={access_key.pk: "ONE"}))
    assert changed(template, save(keys={access_key.pk: "OTHER"}))
    assert changed(variable_group, group(MORE="long-enough-1"))
    assert changed(variable_group, group(MORE="long-enough-2"))
    assert changed(variable_group, group(MORE=None))
    assert not changed(variable_group, group())
    assert not changed(access_key, key())
    assert changed(access_key, key(value="long-enough-3"))
    project = cast.project
    assert changed(project, lambda: change_project(project=project, changes={"description": "X"}))


def test_an_outdated_version_changes_nothing_at_all(cast: Cast, template: TaskTemplate) -> None:
    old = version_of(template)
    save_template(template=template, tags=["gpu"])
    template.script = "second\n"
    with pytest.raises(ChangedMeanwhileError, match="was changed after you had opened it"):
        save_template(template=template, tags=["other"], version=old)
    stored = TaskTemplate.objects.get(pk=template.pk)
    assert stored.script == "systemctl restart app\n"
    assert [tag.name for tag in stored.tags.all()] == ["gpu"]
    with pytest.raises(ChangedMeanwhileError):
        change_project(project=cast.project, changes={"name": "Other"}, version="x")
    assert Project.objects.get(pk=cast.project.pk).name == "Payments"


def test_a_form_that_carries_a_version_is_not_refilled_by_the_browser() -> None:
    """Else going back pairs what was typed long ago with the version that is stored now."""
    carry = '{% include "form_version.html" %}'
    texts = {path.name: path.read_text() for path in TEMPLATES.glob("*.html")}
    forms = {name: text for name, text in texts.items() if carry in text}
    assert len(forms) >= 5
    for name, text in forms.items():
        opening = text[: text.index(carry)].rpartition("<form")[2]
        assert '{% if mark %} autocomplete="off"{% endif %}' in opening, name

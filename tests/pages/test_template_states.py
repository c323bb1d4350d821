"""Templates are duplicated, disabled with a reason, enabled, and have a history."""

from __future__ import annotations

import html
import re
from collections.abc import Callable

import pytest
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from forge.pages import template_states
from projects.models import AccessKey, VariableGroup
from tasks.duplicating import free_name
from tasks.errors import TemplateDisabledError, TemplateRemovedError
from tasks.models import Task, TaskTemplate
from tasks.operations import (
    disable_template,
    enable_template,
    remove_template,
    run_template,
    save_template,
)
from tests.cast import CANARY, Cast
from tests.writes import disabled

REASON = "Replaced by Deploy web tier"


@pytest.fixture
def full(
    cast: Cast, template: TaskTemplate, access_key: AccessKey, variable_group: VariableGroup
) -> TaskTemplate:
    """A template that says something in every field."""
    template.description, template.environment = "Slowly", {"REGION2": "eu"}
    template.allow_parallel = template.safe_to_rerun = True
    template.stop_steps = [{"signal": "INT", "grace_seconds": 7}]
    template.timeout_seconds = 77
    return save_template(
        template=template,
        tags=["linux", "gpu"],
        groups=[variable_group.pk],
        keys={access_key.pk: "REGISTRY"},
    )


def told(template: TaskTemplate) -> dict[str, object]:
    """All that a copy takes over."""
    fields = {
        field.name: getattr(template, field.name)
        for field in TaskTemplate._meta.concrete_fields
        if field.editable and field.name not in ("id", "name")
    }
    return fields | {
        "tags": sorted(tag.name for tag in template.tags.all()),
        "groups": list(template.variable_groups.values_list("pk", flat=True)),
        "keys": list(template.access_key_uses.values_list("access_key_id", "variable")),
        "sources": template.sources,
    }


# --- duplicate ---


def fields_of(page: str) -> dict[str, object]:
    """What a browser would send of the form on this page."""
    form = page[page.index('class="form cols"') :]
    form = form[: form.index("</main>")]
    found: dict[str, object] = {}
    for tag in re.findall(r"<input[^>]*>", form):
        kind, name = (re.search(rf'{one}="([^"]*)"', tag) for one in ("type", "name"))
        value = re.search(r'value="([^"]*)"', tag)
        is_box = kind is not None and kind[1] == "checkbox"
        if name and (not is_box or "checked" in tag):
            found[name[1]] = html.unescape(value[1]) if value else "on" if is_box else ""
    for name, text in re.findall(
        r'<textarea[^>]*name="(\w+)"[^>]*>\n?(.*?)</textarea>', form, re.S
    ):
        found[name] = html.unescape(text)
    for name, options in re.findall(r'<select[^>]*name="(\w+)"[^>]*>(.*?)</select>', form, re.S):
        chosen = re.search(r'value="([^"]*)" selected', options)
        found[name] = chosen[1] if chosen else ""
    return found


def test_a_copy_opens_as_a_form_with_all_that_the_other_says_and_is_stored_as_such(
    cast: Cast, full: TaskTemplate, browser: Callable[..., Client]
) -> None:
    client = browser(cast.manager)
    address = f"/projects/{cast.project.pk}/templates/new/?from={full.pk}"
    page = client.get(address).content.decode()
    assert "Copy of Restart" in page
    assert 'value="Restart (copy)"' in page
    assert CANARY not in page
    assert TaskTemplate.objects.count() == 1
    answer = client.post(address, fields_of(page))
    assert answer.status_code == 302, answer.context["form"].errors
    copy = TaskTemplate.objects.get(name="Restart (copy)")
    assert told(copy) == told(full)
    assert 'value="Restart (copy 2)"' in client.get(address).content.decode()


def test_a_rejected_copy_keeps_what_was_typed(
    cast: Cast, full: TaskTemplate, browser: Callable[..., Client]
) -> None:
    client = browser(cast.manager)
    address = f"/projects/{cast.project.pk}/templates/new/?from={full.pk}"
    given = fields_of(client.get(address).content.decode()) | {"name": "restart", "tags": "gpu"}
    answer = client.post(address, given)
    assert answer.status_code == 400
    assert "already has a template called Restart" in answer.content.decode()
    assert 'value="gpu"' in answer.content.decode()


@pytest.mark.parametrize("number", ["0", "x", "", "999999", "9" * 40])
def test_a_copy_of_nothing_is_not_found(
    number: str, cast: Cast, template: TaskTemplate, browser: Callable[..., Client]
) -> None:
    address = f"/projects/{cast.project.pk}/templates/new/?from={number}"
    assert browser(cast.manager).get(address).status_code == 404


def test_a_template_of_another_project_is_not_copied(
    cast: Cast, template: TaskTemplate, browser: Callable[..., Client]
) -> None:
    address = f"/projects/{cast.outsiders_project.pk}/templates/new/?from={template.pk}"
    assert browser(cast.outsider).get(address).status_code == 404


def test_long_names_are_cut_to_make_room(cast: Cast) -> None:
    row = TaskTemplate(project=cast.project, name="x" * 80, script="true")
    save_template(template=row, tags=[])
    assert free_name(row) == "x" * 73 + " (copy)"


# --- disable and enable ---


def test_what_is_disabled_is_run_by_nobody_and_says_why(
    cast: Cast, template: TaskTemplate, task: Task, browser: Callable[..., Client]
) -> None:
    manager, operator = browser(cast.manager), browser(cast.operator)
    question = manager.get(f"/templates/{template.pk}/disable/").content.decode()
    assert "The 1 task of it that waits or runs goes on." in question
    assert manager.post(f"/templates/{template.pk}/disable/", {"reason": REASON}).status_code == 302
    listed = operator.get(f"/projects/{cast.project.pk}/templates/").content.decode()
    assert f'Disabled by <span title="manager">manager</span>: {REASON}' in listed
    assert f"/templates/{template.pk}/run/" not in listed
    read = operator.get(f"/templates/{template.pk}/").content.decode()
    assert f"Disabled: {REASON}" in read
    assert f"/templates/{template.pk}/run/" not in read
    asked = operator.get(f"/templates/{template.pk}/run/").text
    assert "Restart cannot be run</h1>" in asked and "Run it" not in asked
    for address in (f"/templates/{template.pk}/run/", f"/tasks/{task.pk}/rerun/"):
        said = operator.post(address, follow=True).content.decode()
        assert f"cannot be run: manager disabled it ({REASON})" in said
    assert "Run Restart" not in operator.get("/find/?q=restart").content.decode()
    assert Task.objects.count() == 1
    task.refresh_from_db()
    assert task.state == "queued"


def test_what_is_enabled_again_can_be_run(
    cast: Cast, template: TaskTemplate, browser: Callable[..., Client]
) -> None:
    disabled(template, cast)
    said = browser(cast.manager).post(f"/templates/{template.pk}/enable/", follow=True)
    assert "Restart can be run again." in said.content.decode()
    assert browser(cast.operator).post(f"/templates/{template.pk}/run/").status_code == 302
    assert Task.objects.count() == 1
    template.refresh_from_db()
    assert (template.disabled_at, template.disabled_by, template.disabled_reason) == (
        None,
        None,
        "",
    )
    assert enable_template(template=template) is False


@pytest.mark.parametrize("reason", ["", "   ", "x" * 201, "two\nlines", "hid\u202eden"])
def test_a_reason_must_be_one_line_that_can_be_read(
    reason: str, cast: Cast, template: TaskTemplate, browser: Callable[..., Client]
) -> None:
    answer = browser(cast.manager).post(f"/templates/{template.pk}/disable/", {"reason": reason})
    assert answer.status_code == 400
    template.refresh_from_db()
    assert not template.is_disabled


def test_the_rule_stands_in_the_operation_and_in_the_database(
    cast: Cast, template: TaskTemplate
) -> None:
    disabled(template, cast)
    fresh = TaskTemplate.objects.get(pk=template.pk)
    with pytest.raises(TemplateDisabledError):
        run_template(template=fresh, by=cast.owner, now=timezone.now())
    with pytest.raises(IntegrityError), transaction.atomic():
        TaskTemplate.objects.filter(pk=template.pk).update(disabled_reason="")


def test_saving_a_form_that_was_open_meanwhile_enables_nothing(
    cast: Cast, template: TaskTemplate
) -> None:
    opened = TaskTemplate.objects.get(pk=template.pk)
    disabled(template, cast)
    opened.script = "true\n"
    save_template(template=opened, tags=["linux"])
    template.refresh_from_db()
    assert template.script == "true\n"
    assert template.disabled_reason == "Replaced"


def test_what_was_removed_cannot_be_disabled(cast: Cast, template: TaskTemplate) -> None:
    remove_template(template=template, now=timezone.now())
    with pytest.raises(TemplateRemovedError):
        disable_template(template=template, reason="x", by=cast.owner, now=timezone.now())


# --- history ---


def history(client: Client, template: TaskTemplate, query: str = "") -> str:
    return client.get(f"/templates/{template.pk}/history/{query}").content.decode()


def test_the_history_shows_who_changed_which_lines_of_the_script(
    cast: Cast, template: TaskTemplate, browser: Callable[..., Client]
) -> None:
    client = browser(cast.manager)
    form = {
        "name": "Restart",
        "app": "bash",
        "script": "set -e\nsystemctl restart app\n<b>\n",
        "timeout_seconds": "60",
        "tags": "linux",
        "environment": f"DB_PASSWORD={CANARY}",
    }
    assert client.post(f"/templates/{template.pk}/", form).status_code == 302
    client.post(f"/templates/{template.pk}/disable/", {"reason": REASON})
    text = history(client, template)
    assert re.findall(r"<b>(\w+)</b> by (\w+)", text) == [
        ("Disabled", "manager"), ("Changed", "manager"), ("Created", "Forge"),
    ]  # fmt: skip
    lines = re.findall(r'<span class="(plus|minus|)"><i>(\d+)</i>(.*)', text)
    assert lines[:3] == [
        ("plus", "1", "+ set -e"),
        ("", "2", "  systemctl restart app"),
        ("plus", "3", "+ &lt;b&gt;"),
    ]
    assert "3600" in text and "60" in text
    assert REASON in text
    assert CANARY not in text
    assert "3 changes in all" in text


def test_the_history_is_paged_and_takes_a_bounded_number_of_questions(
    cast: Cast,
    template: TaskTemplate,
    browser: Callable[..., Client],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = browser(cast.manager)

    def questions() -> int:
        with CaptureQueriesContext(connection) as queries:
            history(client, template)
        return len(queries)

    few = questions()
    for number in range(1, 9):
        template.timeout_seconds = number
        save_template(template=template, tags=["linux"])
    assert questions() == few
    monkeypatch.setattr(template_states, "PAGE_ENTRIES", 4)
    seen, query = 0, ""
    while True:
        text = history(client, template, query)
        seen += text.count('id="entry-')
        older = re.search(r'href="(\?before=\d+)"', text)
        if not older:
            break
        query = older[1]
    assert seen == 9


def test_the_history_of_anything_else_is_not_shown(
    cast: Cast, template: TaskTemplate, browser: Callable[..., Client]
) -> None:
    other = TaskTemplate(project=cast.project, name="Other", script="true")
    save_template(template=other, tags=[])
    assert "Other" not in history(browser(cast.manager), template)


def test_lines_that_are_left_out_between_two_changes_are_marked(
    cast: Cast, template: TaskTemplate, browser: Callable[..., Client]
) -> None:
    lines = [f"line {number}" for number in range(1, 31)]
    template.script = "\n".join(lines)
    save_template(template=template, tags=["linux"])
    lines[1], lines[27] = "second", "twenty-eighth"
    template.script = "\n".join(lines)
    save_template(template=template, tags=["linux"])
    text = history(browser(cast.manager), template)
    latest = text[: text.index("</li>")]
    assert latest.count('<span class="at">') == 1
    assert "<i>28</i>- line 28" in latest
    assert "<i>28</i>+ twenty-eighth" in latest
    assert "line 15" not in latest

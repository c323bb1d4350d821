"""Find or run: what is found, for whom, and in how many questions to the database."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from projects.models import Project
from projects.operations import create_project
from runners.models import Runner
from tasks.models import Task, TaskTemplate
from tasks.operations import disable_template, remove_template, run_template, save_template
from tests.cast import Cast

Find = Callable[..., str]


@pytest.fixture
def find(browser: Callable[..., Client]) -> Find:
    """The options that the palette is given, or with `part=None` the page."""

    def ask(user: User, text: str, **query: object) -> str:
        asked: dict[str, Any] = {"q": text, "part": "list"} | query
        answer = browser(user).get("/find/", {k: v for k, v in asked.items() if v is not None})
        assert answer.status_code == 200
        return answer.content.decode()

    return ask


def names(text: str) -> list[str]:
    """What stands in the options, without marks: `Run Restart`, `#7 Restart`."""
    found = re.findall(r'<span class="what">(.*?)</span>', text)
    return [re.sub(r"<.*?>", "", one) for one in found]


def test_what_can_be_run_comes_first_then_where_one_can_go(
    cast: Cast, template: TaskTemplate, task: Task, runner: Runner, find: Find
) -> None:
    found = names(find(cast.operator, "rest", project=cast.project.pk))
    assert found == ["Run Restart", "Restart", f"#{task.pk} Restart"]
    assert names(find(cast.operator, "WEB")) == ["web-1"]
    assert names(find(cast.operator, "pay")) == ["Payments"]


def test_a_task_is_found_by_its_number(cast: Cast, task: Task, find: Find) -> None:
    assert f"#{task.pk} Restart" in names(find(cast.viewer, str(task.pk)))
    assert names(find(cast.viewer, f"#{task.pk}")) == [f"#{task.pk} Restart"]
    assert names(find(cast.viewer, f"#{task.pk + 1}")) == []


def test_a_viewer_is_offered_nothing_to_run(cast: Cast, template: TaskTemplate, find: Find) -> None:
    text = find(cast.viewer, "restart")
    assert names(text) == ["Restart"]
    assert "/run/" not in text


def test_nothing_of_other_projects_is_found(
    cast: Cast, template: TaskTemplate, task: Task, runner: Runner, find: Find
) -> None:
    for text in ("restart", "web-1", "payments", f"#{task.pk}"):
        assert names(find(cast.outsider, text)) == []
        assert names(find(cast.outsider, text, project=cast.project.pk)) == []


def test_a_removed_template_is_not_found(cast: Cast, template: TaskTemplate, find: Find) -> None:
    remove_template(template=template, now=timezone.now())
    assert names(find(cast.owner, "restart")) == []


def test_all_words_must_be_in_the_name(cast: Cast, find: Find) -> None:
    for name in ("Deploy web tier", "Deploy DNS"):
        save_template(template=TaskTemplate(project=cast.project, name=name, script="x"), tags=[])
    text = find(cast.operator, "web DEP", project=cast.project.pk)
    assert names(text) == ["Run Deploy web tier", "Deploy web tier"]
    assert "<b>Dep</b>loy <b>web</b> tier" in text


def test_pages_are_found_by_those_who_may_open_them(cast: Cast, find: Find) -> None:
    here = {"project": cast.project.pk}
    assert "Audit log" in names(find(cast.manager, "audit", **here))
    assert "Audit log" not in names(find(cast.viewer, "audit", **here))
    assert names(find(cast.viewer, "tokens")) == ["API tokens"]


def test_without_a_word_there_is_where_one_may_want_to_go(
    cast: Cast, template: TaskTemplate, find: Find
) -> None:
    found = names(find(cast.operator, "", project=cast.project.pk))
    assert found[:2] == ["Run Restart", "Overview"]
    assert "Payments" in found


def new_project(cast: Cast, name: str) -> Project:
    return create_project(name=name, description="", owner=cast.operator, now=timezone.now())


def meant(text: str) -> list[str]:
    """Those that Enter may take although nobody has chosen them."""
    chosen = re.findall(r'data-meant.*?<span class="what">(.*?)</span>', text)
    return [re.sub(r"<.*?>", "", one) for one in chosen]


def runs_meant(text: str) -> list[str]:
    return [one for one in meant(text) if one.startswith("Run ")]


def test_enter_may_take_a_run_only_by_the_beginning_of_a_word(cast: Cast, find: Find) -> None:
    here = {"project": cast.project.pk}
    for name in ("Renewed certificates", "Release web_tier", "Welcome"):
        save_template(template=TaskTemplate(project=cast.project, name=name, script="x"), tags=[])
    assert runs_meant(find(cast.operator, "wel", **here)) == ["Run Welcome"]
    assert runs_meant(find(cast.operator, "tier", **here)) == ["Run Release web_tier"]
    text = find(cast.operator, "enew", **here)
    assert names(text) == ["Renewed certificates", "Run Renewed certificates"]
    assert meant(text) == ["Renewed certificates"]
    assert runs_meant(find(cast.operator, "cert ren", **here)) == ["Run Renewed certificates"]
    assert runs_meant(find(cast.operator, "cert new", **here)) == []


def test_enter_may_take_no_run_by_a_letter_or_two_or_where_several_begin_so(
    cast: Cast, find: Find
) -> None:
    here = {"project": cast.project.pk}
    rows = [
        save_template(template=TaskTemplate(project=cast.project, name=name, script="x"), tags=[])
        for name in ("Deploy", "Deploy DNS", "Sweep")
    ]
    for typed in ("s", "sw", "deploy", "run deploy"):
        text = find(cast.operator, typed, **here)
        assert runs_meant(text) == [], typed
    assert names(find(cast.operator, "sw", **here)) == ["Sweep", "Run Sweep"]
    assert runs_meant(find(cast.operator, "swe", **here)) == ["Run Sweep"]
    assert runs_meant(find(cast.operator, "dns", **here)) == ["Run Deploy DNS"]
    # Whoever means the one that cannot be run does not mean the other.
    disable_template(template=rows[0], reason="Later", by=cast.owner, now=timezone.now())
    assert "Run Deploy" not in names(find(cast.operator, "deploy", **here))
    assert runs_meant(find(cast.operator, "deploy", **here)) == []


def test_what_an_option_reads_finds_it(cast: Cast, template: TaskTemplate, find: Find) -> None:
    here = {"project": cast.project.pk}
    for name in ("V7 ok", "Run backups", "Runbook"):
        save_template(template=TaskTemplate(project=cast.project, name=name, script="x"), tags=[])
    for part in ("list", None):
        assert names(find(cast.operator, "Run V7 ok", part=part, **here)) == ["Run V7 ok"]
    assert runs_meant(find(cast.operator, "RUN v7 ok", **here)) == ["Run V7 ok"]
    assert names(find(cast.operator, "run backups", **here)) == ["Run Run backups"]
    assert {"Run Runbook", "Run Run backups"} <= set(names(find(cast.operator, "run", **here)))
    # Whoever may run nothing, and means the name, finds it too.
    assert names(find(cast.viewer, "run backups", **here)) == ["Run backups"]
    assert names(find(cast.viewer, "run v7 ok", **here)) == []


def test_a_run_in_another_project_is_asked_about(
    cast: Cast, template: TaskTemplate, browser: Callable[..., Client], find: Find
) -> None:
    """Also where no project is at hand, and also on the page without a script."""
    other = new_project(cast, "Deliveries")
    for query in ({}, {"project": other.pk}):
        text = find(cast.operator, "restart", **query)
        assert "Run Restart" in names(text)
        assert "Run Restart" not in meant(text)
        assert f'formaction="/templates/{template.pk}/run/"' not in text
        page = find(cast.operator, "restart", part=None, **query)
        assert f'<a class="hit" href="/templates/{template.pk}/run/" data-ask>' in page
        assert f'action="/templates/{template.pk}/run/"' not in page
    client = browser(cast.operator)
    question = client.get(f"/templates/{template.pk}/run/").content.decode()
    assert "Run Restart in Payments?" in question
    assert f'action="/templates/{template.pk}/run/"' in question
    assert Task.objects.count() == 0


def test_what_is_in_the_project_at_hand_comes_first(
    cast: Cast, template: TaskTemplate, find: Find
) -> None:
    other = new_project(cast, "Arrest records")
    save_template(template=TaskTemplate(project=other, name="Unrest", script="x"), tags=[])
    found = names(find(cast.operator, "rest", project=other.pk))
    assert found == ["Arrest records", "Unrest", "Restart", "Run Unrest", "Run Restart"]
    found = names(find(cast.operator, "rest", project=cast.project.pk))
    assert found == ["Run Restart", "Run Unrest", "Restart", "Arrest records", "Unrest"]


def test_names_are_text_and_so_is_what_is_typed(cast: Cast, find: Find) -> None:
    name = "<img src=x onerror=alert(1)> &amp;"
    save_template(template=TaskTemplate(project=cast.project, name=name, script="x"), tags=[])
    for typed in ("<img", "&amp", "onerror=alert(1)", "amp;"):
        text = find(cast.operator, typed)
        assert "<img" not in text
        assert "&lt;" in text
    for typed in ("%", "\\", "'", "\0", "(", "x" * 5000, "# 1", "#9" * 40, "\u202e"):
        find(cast.operator, typed)
        find(cast.operator, typed, part=None)
    assert names(find(cast.operator, "%")) == names(find(cast.operator, "_")) == []


def test_without_a_script_a_page_has_the_same_and_runs_with_a_post(
    cast: Cast, template: TaskTemplate, browser: Callable[..., Client], find: Find
) -> None:
    here = {"project": cast.project.pk}
    page = find(cast.operator, "rest", part=None, **here)
    assert names(page) == names(find(cast.operator, "rest", **here))
    assert f'<form method="post" action="/templates/{template.pk}/run/">' in page
    client = browser(cast.operator)
    assert client.post(f"/templates/{template.pk}/run/").status_code == 302
    assert "Nothing that you may see is called so" in find(cast.operator, "zzz", part=None)


def test_it_takes_as_many_questions_with_many_rows_as_with_few(
    cast: Cast, template: TaskTemplate, browser: Callable[..., Client]
) -> None:
    client = browser(cast.operator)

    def questions() -> int:
        with CaptureQueriesContext(connection) as queries:
            client.get(f"/find/?q=e&part=list&project={cast.project.pk}")
        return len(queries)

    run_template(template=template, by=cast.operator, now=timezone.now())
    few = questions()
    for number in range(20):
        row = TaskTemplate(project=cast.project, name=f"Release {number}", script="x")
        save_template(template=row, tags=[])
        run_template(template=row, by=cast.operator, now=timezone.now())
    assert questions() == few <= 14

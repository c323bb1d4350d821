"""The admin looks like the pages, finds the way back to them, and has an icon."""

from __future__ import annotations

import re

import pytest
from django.contrib.admin import site
from django.contrib.messages import get_messages
from django.contrib.staticfiles import finders
from django.test import Client

from forge.templatetags.forge_ui import REGISTRATION_LOOKS, RUNNER_LOOKS, STATE_LOOKS
from projects.models import Project
from runners.models import Runner
from tasks.models import Task
from tests.cast import Cast

TOKEN = re.compile(r"(--[\w-]+):\s*([^;]+);")


def sheet(name: str) -> str:
    path = finders.find(f"forge/{name}")
    assert isinstance(path, str)
    with open(path) as file:
        return file.read()


def tokens(text: str) -> dict[str, str]:
    """Custom properties of its first block."""
    return dict(TOKEN.findall(text[text.index("{") : text.index("}")]))


def test_colours_type_and_shapes_are_those_of_the_pages() -> None:
    shared, own = tokens(sheet("tokens.css")), tokens(sheet("admin.css"))
    assert {"--paper", "--ink", "--accent", "--bad-soft", "--sans", "--mono", "--r2"} <= set(shared)
    # Django's own names refer to them, so that no colour of its own remains.
    referred = {value.removeprefix("var(").removesuffix(")") for value in own.values()}
    assert own and referred <= set(shared)
    assert not re.search(r"#[0-9a-f]{3,8}\b", sheet("admin.css"))


def test_states_have_the_colours_of_the_pages() -> None:
    rules = re.findall(r"\.state:is\((.+)\) \{ color: var\(--(\w+)\)", sheet("admin.css"))
    coloured = {
        value: {"accent": "run"}.get(colour, colour)
        for values, colour in rules
        for value in re.findall(r'data-state="(\w+)"', values)
    }
    for looks in (STATE_LOOKS, RUNNER_LOOKS, REGISTRATION_LOOKS):
        told = {value: coloured.get(value, "mute") for value in looks}
        assert told == {value: colour for value, (colour, _) in looks.items()}


def test_a_tasks_page_shows_all_of_it_but_the_nonce(running_task: Task, admin: Client) -> None:
    page = site._registry[Task]
    shown = {name for _, group in page.get_fieldsets(None) for name in group["fields"]}  # type: ignore[arg-type]
    in_words = {"runs_alone": "is_exclusive", "has_whole_log": "log_complete"}
    fields = {in_words.get(str(name), name) for name in shown}
    assert fields == {field.name for field in Task._meta.fields} - {"id", "nonce"}
    text = admin.get(f"/admin/tasks/task/{running_task.pk}/change/").text
    assert text.index("Its way") < text.index("What it runs") < text.index("Its log")
    assert 'data-state="running"' in admin.get("/admin/tasks/task/").text


@pytest.mark.parametrize(
    "page", ["/admin/", "/admin/runners/runner/", "/admin/runners/runner/add/", "/admin/tasks/"]
)
def test_every_page_of_it_wears_the_theme_and_leads_back(page: str, admin: Client) -> None:
    text = admin.get(page).text
    assert text.index("/static/forge/tokens.css") < text.index("/static/forge/admin.css")
    assert "/static/forge/theme.js" in text
    assert "admin/js/theme.js" not in text, "two choices of light and dark, which disagree"
    assert '<link rel="icon" type="image/svg+xml" href="/static/forge/icon.svg">' in text
    assert '<a href="/">Back to the pages</a>' in text
    assert "Times in UTC" in text
    assert 'action="/sign-out/"' in text


def test_the_icon_that_browsers_ask_for_unbidden_is_there(client: Client) -> None:
    answer = client.get("/favicon.ico")
    assert answer.status_code == 302
    assert finders.find(answer["Location"].removeprefix("/static/"))


@pytest.mark.parametrize("model", ["task", "tasktemplate"])
def test_what_a_list_is_filtered_by_reads_as_words(model: str, admin: Client) -> None:
    text = admin.get(f"/admin/tasks/{model}/").text
    assert "By what follows a lost runner" in text and "By if the" not in text


def test_runners_that_told_no_version_are_offered_in_words(runner: Runner, admin: Client) -> None:
    page = admin.get("/admin/runners/runner/").text
    assert re.search(r'<a href="\?version=">\s*Never connected</a>', page)
    assert "web-1" in admin.get("/admin/runners/runner/?version=").text


def test_a_question_is_not_asked_about_more_rows_than_its_answer_can_name(
    cast: Cast, admin: Client
) -> None:
    project = Project.objects.get(pk=cast.project.pk)
    rows = [Runner(project=project, name=f"many-{number}") for number in range(501)]
    Runner.objects.bulk_create(rows)
    first = Runner.objects.first()
    assert first is not None
    given = {"action": "pause", "_selected_action": first.pk, "select_across": "1"}
    answer = admin.post("/admin/runners/runner/", given)
    sentences = " ".join(map(str, get_messages(answer.wsgi_request)))
    assert "select at most 500 runners at once" in sentences

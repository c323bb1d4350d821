"""Templates: what the form accepts, keeps and says."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.test import Client

from projects.models import VariableGroup
from tasks.models import Task, TaskTemplate
from tasks.operations import remove_variable_group
from tests.cast import Cast

GOOD = {
    "name": "Deploy",
    "description": "Rolls it out",
    "app": "bash",
    "script": "echo one\r\necho two\r\n",
    "timeout_seconds": "600",
    "tags": "linux, gpu linux",
    "environment": "REGION=eu\r\n\r\nURL=https://a/?b=c\r\nEMPTY=",
}


@pytest.fixture
def owner(cast: Cast, browser: Callable[..., Client]) -> Client:
    return browser(cast.owner)


@pytest.fixture
def new(cast: Cast, owner: Client) -> Callable[..., tuple[int, str]]:
    def post(**changes: str) -> tuple[int, str]:
        answer = owner.post(f"/projects/{cast.project.pk}/templates/new/", GOOD | changes)
        return answer.status_code, answer.content.decode()

    return post


def test_a_template_is_saved_as_typed_with_line_ends_of_a_shell(
    new: Callable[..., tuple[int, str]],
) -> None:
    assert new()[0] == 302
    row = TaskTemplate.objects.get(name="Deploy")
    assert row.script == "echo one\necho two\n"
    assert row.environment == {"REGION": "eu", "URL": "https://a/?b=c", "EMPTY": ""}
    assert sorted(tag.name for tag in row.tags.all()) == ["gpu", "linux"]
    assert row.timeout_seconds == 600
    assert not row.allow_parallel


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"tags": "GPU"}, "The tag GPU has capital letters. Use gpu."),
        ({"tags": "b@d"}, "The tag b@d cannot be used."),
        ({"tags": " ".join(f"t{n}" for n in range(11))}, "11 tags are given; at most 10"),
        ({"environment": "REGION"}, "Line 1 has no equals sign. Write NAME=value."),
        ({"environment": "A=1\nA=2"}, "Line 2 sets A again. Keep one of the two."),
        ({"environment": "ok=1\nA\n1B=x"}, "Line 2 has no equals sign. Write NAME=value."),
        ({"environment": "ok=1\nA\n1B=x"}, "Line 3: &#x27;1B&#x27; cannot be a variable name"),
        ({"environment": "\n".join("ABCDEFGH")}, "3 more lines to change."),
        ({"environment": "FORGE_URL=x"}, "names that begin with FORGE_ are set by Forge itself"),
        ({"environment": "1A=x"}, "cannot be a variable name"),
        ({"environment": "1A=x"}, "no digit first"),
        ({"timeout_seconds": "0"}, "Enter a whole number from 1 to "),
        ({"timeout_seconds": "soon"}, "Enter a whole number"),
        ({"name": ""}, "This field is required"),
        ({"script": ""}, "This field is required"),
        ({"script": " \n \t\n"}, "Enter a script: this one has nothing but space."),
        ({"app": "cobol"}, "cobol is not one of the available choices"),
        ({"max_attempts": ""}, "Enter a whole number from 2 to 20."),
        ({"stop_steps": "INT 9999"}, "INT has at most 3,600 seconds until the next."),
        ({"stop_steps": " , "}, "is no step. Write a signal and seconds: INT 120."),
        ({"lost_runner_wait_seconds": "90"}, "Write the unit too: 90 s, 90 min, 90 h or 90 d."),
    ],
)
def test_what_is_wrong_is_said_and_what_was_typed_stays(
    change: dict[str, str], sentence: str, new: Callable[..., tuple[int, str]]
) -> None:
    status, text = new(**change)
    assert status == 400
    assert sentence in text
    assert "Not saved." in text
    # At its field, which says so to a screen reader, and beside what it is for.
    (name,) = change
    assert f'id="id_{name}_error"' in text
    for described in re.findall(r'aria-describedby="([^"]+)"', text):
        assert all(f'id="{one}"' in text for one in described.split()), described
    if "script" not in change:
        assert "echo two" in text
    if "description" not in change:
        assert 'value="Rolls it out"' in text
    assert not TaskTemplate.objects.filter(name="Deploy").exists()


@pytest.mark.parametrize("number", ["9" * 20, "-1", "x"])
def test_a_number_that_no_group_can_have_is_refused_as_others_are(
    number: str, new: Callable[..., tuple[int, str]]
) -> None:
    status, text = new(variable_groups=number)
    assert status == 400 and "A group that was ticked is not there any more." in text


def test_a_group_that_was_removed_while_the_form_was_open_is_told_of(
    variable_group: VariableGroup, new: Callable[..., tuple[int, str]]
) -> None:
    number = str(variable_group.pk)
    remove_variable_group(group=variable_group)
    status, text = new(variable_groups=number)
    assert status == 400 and "A group that was ticked is not there any more." in text


def test_a_name_that_is_taken_is_refused(
    template: TaskTemplate, new: Callable[..., tuple[int, str]]
) -> None:
    status, text = new(name=template.name.upper())
    assert status == 400
    assert template.name != template.name.upper() and 'id="id_name_error"' in text
    assert f"This project already has a template called {template.name}." in text


def test_the_form_shows_what_is_stored_and_changes_it(
    owner: Client, template: TaskTemplate
) -> None:
    text = owner.get(f"/templates/{template.pk}/").content.decode()
    assert "systemctl restart app" in text
    assert 'value="linux"' in text
    answer = owner.post(f"/templates/{template.pk}/", GOOD | {"name": "Restart slowly"})
    assert answer.status_code == 302
    template.refresh_from_db()
    assert template.name == "Restart slowly"
    assert sorted(tag.name for tag in template.tags.all()) == ["gpu", "linux"]


def test_a_rejected_change_keeps_the_old_name_in_the_heading(
    owner: Client, template: TaskTemplate
) -> None:
    answer = owner.post(f"/templates/{template.pk}/", GOOD | {"name": "New", "tags": "B@D"})
    text = answer.content.decode()
    assert "<h1>Restart</h1>" in text
    assert 'value="New"' in text


def test_a_script_that_begins_with_an_empty_line_keeps_it(
    owner: Client, new: Callable[..., tuple[int, str]]
) -> None:
    new(script="\r\n  indented\r\n")
    row = TaskTemplate.objects.get(name="Deploy")
    assert row.script == "\n  indented\n"
    assert "\n\n  indented" in owner.get(f"/templates/{row.pk}/").content.decode()


def test_an_operator_reads_a_template_and_runs_it(
    cast: Cast, template: TaskTemplate, browser: Callable[..., Client]
) -> None:
    client = browser(cast.operator)
    text = client.get(f"/templates/{template.pk}/").content.decode()
    assert "systemctl restart app" in text
    assert "<textarea" not in text
    answer = client.post(f"/templates/{template.pk}/run/")
    task = Task.objects.get()
    assert answer["Location"] == f"/tasks/{task.pk}/"
    assert task.created_by == cast.operator


def test_a_removed_template_is_gone_and_its_tasks_stay(
    owner: Client, cast: Cast, task: Task
) -> None:
    pk = task.template_id
    assert "1 unfinished task goes on" in owner.get(f"/templates/{pk}/remove/").content.decode()
    assert owner.post(f"/templates/{pk}/remove/").status_code == 302
    assert owner.get(f"/templates/{pk}/").status_code == 404
    assert owner.get(f"/tasks/{task.pk}/").status_code == 200
    answer = owner.post(f"/tasks/{task.pk}/rerun/", follow=True)
    assert "was removed and cannot be run" in answer.content.decode()


def test_the_list_shows_each_templates_last_run(owner: Client, cast: Cast, task: Task) -> None:
    TaskTemplate.objects.create(
        project=cast.project, name="Unused", script="true", queue=task.queue
    )
    text = owner.get(f"/projects/{cast.project.pk}/templates/").content.decode()
    assert "2 templates. 1 has never run." in text
    assert "Queued" in text


@pytest.mark.parametrize(
    ("typed", "steps"),
    [
        ("INT 120, term 30", [("INT", 120), ("TERM", 30)]),
        ("SIGHUP: 5 s, KILL", [("HUP", 5)]),
        ("", []),
    ],
)
def test_stop_and_loss_are_typed_as_people_write_them(
    typed: str, steps: list[tuple[str, int]], owner: Client, template: TaskTemplate
) -> None:
    form = {"name": "Restart", "app": "bash", "script": "true", "timeout_seconds": "60"}
    form |= {"lost_runner_policy": "wait", "lost_runner_wait_seconds": "36 h", "max_attempts": "4"}
    answer = owner.post(f"/templates/{template.pk}/", {**form, "stop_steps": typed})
    assert answer.status_code == 302
    template.refresh_from_db()
    given = [{"signal": name, "grace_seconds": grace} for name, grace in steps]
    assert (template.stop_steps, template.max_attempts) == (given, 4)
    assert template.lost_runner_wait_seconds == 36 * 3600
    assert 'value="36 h"' in owner.get(f"/templates/{template.pk}/").content.decode()


@pytest.mark.parametrize(
    ("field", "typed", "words"),
    [
        ("stop_steps", "INT", "How many seconds has INT?"),
        ("stop_steps", "INT 5; TERM", "is no step"),
        ("stop_steps", "STOP 5", "no signal"),
        ("lost_runner_wait_seconds", "soon", "Write a length"),
        ("lost_runner_wait_seconds", "31 d", "30 d"),
        ("lost_runner_policy", "retry", "safe to run twice"),
    ],
)
def test_what_makes_no_sense_is_said_at_its_field(
    field: str, typed: str, words: str, owner: Client, template: TaskTemplate
) -> None:
    form = {"name": "Restart", "app": "bash", "script": "true", "timeout_seconds": "60"}
    answer = owner.post(f"/templates/{template.pk}/", {**form, field: typed})
    assert answer.status_code == 400
    assert words in answer.context["form"].errors[field][0]


def test_the_form_says_what_a_stop_without_steps_does(
    owner: Client, superuser: User, cast: Cast, template: TaskTemplate
) -> None:
    root = Client()
    root.force_login(superuser)
    for client, address in (
        (owner, f"/projects/{cast.project.pk}/templates/new/"),
        (owner, f"/templates/{template.pk}/"),
        (root, f"/admin/tasks/tasktemplate/{template.pk}/change/"),
    ):
        assert "Empty: KILL at once." in client.get(address).text

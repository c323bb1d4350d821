"""What a task is given besides its template: noted when queued, read when claimed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from projects.encryption import new_key
from projects.models import AccessKey, VariableGroup
from runners.models import Runner
from runners.operations import create_runner
from runners.worker.protocol import ClaimRequest, Job
from tasks.claim import claim_task, job_of
from tasks.errors import SourceConflictError, SourceInUseError, SourceUnknownError
from tasks.lifecycle import TaskState
from tasks.models import Task, TaskTemplate
from tasks.operations import (
    remove_access_key,
    remove_template,
    remove_variable_group,
    run_template,
    save_access_key,
    save_template,
    save_variable_group,
)
from tests.cast import CANARY, Cast

Give = Callable[..., TaskTemplate]
NONCE = "n" * 16


@pytest.fixture
def give(template: TaskTemplate) -> Give:
    """Give the template sources, keeping the rest."""

    def change(**sources: Any) -> TaskTemplate:
        return save_template(template=template, tags=["linux"], **sources)

    return change


@pytest.fixture
def ssh_key(cast: Cast) -> AccessKey:
    text = "-----BEGIN X PRIVATE KEY-----\nAbCdEfGhIjKl\n-----END X PRIVATE KEY-----\n"
    key = AccessKey(project=cast.project, name="Deploy", kind="ssh", login="deploy")
    parts = {"private_key": text, "passphrase": "opens-" + CANARY}
    return save_access_key(key=key, parts=parts, now=timezone.now())


def claimed(template: TaskTemplate, runner: Runner, cast: Cast) -> Job:
    task = run_template(template=template, by=cast.owner, now=timezone.now())
    return job_of(take(task, runner))


def take(task: Task, runner: Runner) -> Task:
    request = ClaimRequest(task=task.pk, attempt=1, nonce=NONCE)
    return claim_task(runner=runner, request=request, now=timezone.now())


@pytest.mark.django_db
def test_the_winner_of_the_claim_receives_values_and_files(
    give: Give, variable_group: VariableGroup, ssh_key: AccessKey, runner: Runner, cast: Cast
) -> None:
    template = give(groups=[variable_group.pk], keys={ssh_key.pk: "DEPLOY"})
    job = claimed(template, runner, cast)
    assert job.environment == {"REGION": "eu", "DEPLOY_LOGIN": "deploy"}
    assert job.secrets == {"API_TOKEN": CANARY, "DEPLOY_PASSPHRASE": "opens-" + CANARY}
    assert [(file.variable, file.content[:10]) for file in job.files] == [
        ("DEPLOY_FILE", "-----BEGIN")
    ]
    assert CANARY not in repr(job) and "AbCd" not in repr(job)
    assert Job.parse(job.as_bytes()) == job


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("kind", "login", "part", "environment", "secrets"),
    [
        ("string", "", "value", {}, {"K": CANARY}),
        ("login_password", "me", "password", {"K_LOGIN": "me"}, {"K_PASSWORD": CANARY}),
        ("none", "", "", {}, {}),
    ],
)
def test_each_kind_of_key_has_its_variables(
    kind: str, login: str, part: str, environment: Any, secrets: Any,
    give: Give, runner: Runner, cast: Cast,
) -> None:  # fmt: skip
    key = AccessKey(project=cast.project, name="K", kind=kind, login=login)
    save_access_key(key=key, parts={part: CANARY} if part else {}, now=timezone.now())
    job = claimed(give(keys={key.pk: "K"}), runner, cast)
    assert (job.environment, job.secrets, job.files) == (environment, secrets, ())


@pytest.mark.django_db
def test_the_row_of_a_task_names_its_sources_and_holds_no_value(
    give: Give, variable_group: VariableGroup, access_key: AccessKey, cast: Cast
) -> None:
    template = give(groups=[variable_group.pk], keys={access_key.pk: "REGISTRY"})
    run_template(template=template, by=cast.owner, now=timezone.now())
    row = Task.objects.values().get()
    assert CANARY not in str(row)
    assert row["sources"]["groups"][0]["secrets"] == ["API_TOKEN"]
    assert row["sources"]["keys"][0]["variable"] == "REGISTRY"


@pytest.mark.django_db
def test_a_secret_changed_while_the_task_waits_takes_effect(
    give: Give, variable_group: VariableGroup, runner: Runner, cast: Cast
) -> None:
    template = give(groups=[variable_group.pk])
    task = run_template(template=template, by=cast.owner, now=timezone.now())
    variable_group.variables = {"REGION": "us"}
    changed = {"API_TOKEN": "rotated-" + CANARY}
    save_variable_group(group=variable_group, secrets=changed, now=timezone.now())
    job = job_of(take(task, runner))
    assert job.environment == {"REGION": "us"}
    assert job.secrets == {"API_TOKEN": "rotated-" + CANARY}
    assert job_of(take(task, runner)) == job  # the same nonce again, before the start


@pytest.mark.django_db
def test_the_templates_own_environment_comes_before_a_groups_plain_variables(
    give: Give, template: TaskTemplate, variable_group: VariableGroup, runner: Runner, cast: Cast
) -> None:
    template.environment = {"REGION": "here"}
    assert claimed(give(groups=[variable_group.pk]), runner, cast).environment["REGION"] == "here"


@pytest.mark.django_db
def test_a_task_notes_the_names_of_its_moment(
    give: Give, variable_group: VariableGroup, access_key: AccessKey, cast: Cast
) -> None:
    template = give(groups=[variable_group.pk], keys={access_key.pk: "REGISTRY"})
    variable_group.name, access_key.name = "Renamed group", "Renamed key"
    save_variable_group(group=variable_group, secrets={"NEW": CANARY}, now=timezone.now())
    save_access_key(key=access_key, parts={}, now=timezone.now())
    template.refresh_from_db()
    task = run_template(template=template, by=cast.owner, now=timezone.now())
    (group,), (key,) = task.sources["groups"], task.sources["keys"]
    assert (group["name"], group["secrets"]) == ("Renamed group", ["API_TOKEN", "NEW"])
    assert key["name"] == "Renamed key"
    access_key.name = "Renamed again"
    save_access_key(key=access_key, parts={}, now=timezone.now())
    task.refresh_from_db()
    assert task.sources["keys"][0]["name"] == "Renamed key"


# --- conflicts are refused where they are entered ---


def other_group(cast: Cast, **fields: Any) -> VariableGroup:
    group = VariableGroup(project=cast.project, name="Other", **fields)
    return save_variable_group(group=group, secrets={}, now=timezone.now())


@pytest.mark.django_db
def test_two_groups_of_one_template_cannot_set_one_name(
    give: Give, variable_group: VariableGroup, cast: Cast
) -> None:
    other = other_group(cast, variables={"API_TOKEN": "plain"})
    with pytest.raises(SourceConflictError, match="API_TOKEN would be set by") as caught:
        give(groups=[variable_group.pk, other.pk])
    assert "Other" in str(caught.value) and "Production" in str(caught.value)
    assert not TaskTemplate.objects.get().variable_groups.exists()


@pytest.mark.django_db
def test_a_secret_cannot_be_overridden_by_the_environment(
    give: Give, template: TaskTemplate, variable_group: VariableGroup, access_key: AccessKey
) -> None:
    template.environment = {"API_TOKEN": "x"}
    with pytest.raises(SourceConflictError, match="its own environment"):
        give(groups=[variable_group.pk])
    template.environment = {"REGISTRY": "x"}
    with pytest.raises(SourceConflictError, match="the access key Registry"):
        give(keys={access_key.pk: "REGISTRY"})


@pytest.mark.django_db
def test_a_key_may_not_meet_another_ones_variables(
    give: Give, ssh_key: AccessKey, access_key: AccessKey
) -> None:
    with pytest.raises(SourceConflictError, match="DEPLOY_LOGIN would be set"):
        give(keys={ssh_key.pk: "DEPLOY", access_key.pk: "DEPLOY_LOGIN"})


@pytest.mark.django_db
def test_a_group_cannot_be_changed_into_a_conflict(
    give: Give, variable_group: VariableGroup, access_key: AccessKey
) -> None:
    give(groups=[variable_group.pk], keys={access_key.pk: "REGISTRY"})
    with pytest.raises(SourceConflictError, match="In the template Restart, REGISTRY"):
        save_variable_group(group=variable_group, secrets={"REGISTRY": CANARY}, now=timezone.now())
    assert variable_group.secret_names == ["API_TOKEN"]


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["FORGE_X", "A B", "LD_PRELOAD", "X" * 81])
def test_a_key_is_given_a_good_name(name: str, give: Give, access_key: AccessKey) -> None:
    with pytest.raises(ValidationError):
        give(keys={access_key.pk: name})


@pytest.mark.django_db
def test_what_belongs_to_another_project_is_unknown(give: Give, cast: Cast) -> None:
    group = VariableGroup.objects.create(project=cast.outsiders_project, name="Theirs")
    with pytest.raises(SourceUnknownError, match="no variable group"):
        give(groups=[group.pk])
    key = AccessKey.objects.create(project=cast.outsiders_project, name="Theirs", kind="none")
    with pytest.raises(SourceUnknownError, match="no access key"):
        give(keys={key.pk: "K"})


# --- removal ---


@pytest.mark.django_db
def test_what_a_template_uses_cannot_be_removed(
    give: Give, variable_group: VariableGroup, access_key: AccessKey
) -> None:
    template = give(groups=[variable_group.pk], keys={access_key.pk: "K"})
    with pytest.raises(SourceInUseError, match="used by the template Restart"):
        remove_variable_group(group=variable_group)
    with pytest.raises(SourceInUseError, match="The access key Registry is used"):
        remove_access_key(key=access_key)
    remove_template(template=template, now=timezone.now())
    remove_variable_group(group=variable_group)
    remove_access_key(key=access_key)
    assert not VariableGroup.objects.exists() and not AccessKey.objects.exists()


@pytest.fixture
def claim_over_http(
    runner: Runner, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Task], Any]:
    """The endpoint as a runner calls it, for a runner whose token is known."""
    monkeypatch.setattr("tasks.claim.announce", lambda *_: None)
    monkeypatch.setattr("tasks.claim.put_out_project", lambda *_: None)
    new = create_runner(
        project=runner.project, name="http-1", tags=["linux"], concurrency=1,
        takes_untagged=True, by=cast.owner, now=timezone.now(),
    )  # fmt: skip

    def claim(task: Task) -> Any:
        return Client().post(
            "/runner/v1/claim",
            {"task": task.pk, "attempt": 1, "nonce": NONCE},
            content_type="application/json",
            headers={"authorization": f"Bearer {new.token}"},
        )

    return claim


@pytest.mark.django_db
def test_the_answer_to_a_claim_is_not_to_be_stored(
    give: Give, variable_group: VariableGroup, cast: Cast, claim_over_http: Callable[[Task], Any]
) -> None:
    template = give(groups=[variable_group.pk])
    task = run_template(template=template, by=cast.owner, now=timezone.now())
    answer = claim_over_http(task)
    assert answer.status_code == 200 and answer["Cache-Control"] == "no-store"
    assert answer.json()["secrets"] == {"API_TOKEN": CANARY}


@pytest.mark.django_db
@pytest.mark.parametrize("what", ["group", "key", "lost key", "no key"])
def test_what_cannot_be_delivered_fails_the_task_with_a_reason(
    what: str,
    give: Give,
    variable_group: VariableGroup,
    access_key: AccessKey,
    cast: Cast,
    settings: Any,
    claim_over_http: Callable[[Task], Any],
) -> None:
    template = give(groups=[variable_group.pk], keys={access_key.pk: "K"})
    task = run_template(template=template, by=cast.owner, now=timezone.now())
    give(groups=[], keys={})
    words = {
        "group": "The variable group Production was removed meanwhile",
        "key": "The access key Registry was removed meanwhile",
        "lost key": "API_TOKEN of Production cannot be read",
        "no key": "FORGE_SECRETS_KEY is not set",
    }[what]
    if what == "group":
        remove_variable_group(group=variable_group)
    elif what == "key":
        remove_access_key(key=access_key)
    else:
        settings.FORGE_SECRETS_KEY = new_key() if what == "lost key" else ""
    answer = claim_over_http(task)
    assert (answer.status_code, answer.json()["code"]) == (409, "claim_refused")
    task.refresh_from_db()
    assert task.state == TaskState.FAILED and words in task.reason
    assert task.reason.startswith("It was not started: ")
    settings.FORGE_SECRETS_KEY = new_key()
    plain = run_template(template=give(groups=[], keys={}), by=cast.owner, now=timezone.now())
    assert claim_over_http(plain).status_code == 200


# --- changes at once ---


def at_once(*changes: Callable[[int], object], times: int = 1) -> list[Exception]:
    """Make each change `times` times in a thread of its own; returns what they raised."""
    barrier = threading.Barrier(len(changes))
    raised: list[Exception] = []

    def repeat(change: Callable[[int], object]) -> None:
        barrier.wait()
        try:
            for number in range(times):
                change(number)
        except Exception as error:
            raised.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=repeat, args=(change,)) for change in changes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


@pytest.mark.django_db(transaction=True)
def test_of_two_changes_at_once_that_do_not_fit_one_is_refused(
    give: Give, template: TaskTemplate, variable_group: VariableGroup
) -> None:
    """One puts a name into the group while another puts it into the template."""
    give(groups=[variable_group.pk])

    def into_template(number: int) -> object:
        row = TaskTemplate.objects.get(pk=template.pk)
        row.environment = {"NEW": "x"}
        return save_template(template=row, tags=["linux"])

    def into_group(number: int) -> object:
        group = VariableGroup.objects.get(pk=variable_group.pk)
        return save_variable_group(group=group, secrets={"NEW": CANARY}, now=timezone.now())

    (refusal,) = at_once(into_template, into_group)
    assert isinstance(refusal, SourceConflictError)


@pytest.mark.django_db(transaction=True)
def test_many_changes_at_once_wait_for_each_other_and_none_fails(
    give: Give, template: TaskTemplate, variable_group: VariableGroup, access_key: AccessKey
) -> None:
    """Templates that take a group and a key, and these being changed, in all orders."""
    second = TaskTemplate(project=template.project, name="Second", script="true")
    for row in (template, second):
        keys = {access_key.pk: "KEY"}
        save_template(template=row, tags=(), groups=[variable_group.pk], keys=keys)

    def change_template(pk: int, number: int) -> object:
        row = TaskTemplate.objects.get(pk=pk)
        keys = {access_key.pk: f"KEY_{number}"}
        return save_template(template=row, tags=(), groups=[variable_group.pk], keys=keys)

    def change_group(number: int) -> object:
        group = VariableGroup.objects.get(pk=variable_group.pk)
        secrets = {f"A_{number}": CANARY}
        return save_variable_group(group=group, secrets=secrets, now=timezone.now())

    def change_key(number: int) -> object:
        key = AccessKey.objects.get(pk=access_key.pk)
        key.name = f"Key {number}"
        return save_access_key(key=key, parts={}, now=timezone.now())

    templates = (partial(change_template, row.pk) for row in (template, second))
    assert at_once(*templates, change_group, change_key, times=10) == []
    for row in TaskTemplate.objects.all():
        assert row.sources["groups"][0]["secrets"] == VariableGroup.objects.get().secret_names
        assert row.sources["keys"][0]["name"] == "Key 9"


@pytest.mark.parametrize("what", ["key", "group"])
def test_something_new_keeps_no_template_from_being_changed(
    what: str, cast: Cast, template: TaskTemplate
) -> None:
    """Nothing uses it yet: a query for templates without any key would lock all that there are."""
    with CaptureQueriesContext(connection) as queries:
        if what == "key":
            key = AccessKey(project=cast.outsiders_project, name="New", kind="string")
            save_access_key(key=key, parts={"value": CANARY}, now=timezone.now())
        else:
            group = VariableGroup(project=cast.outsiders_project, name="New")
            save_variable_group(group=group, secrets={}, now=timezone.now())
    asked = [one["sql"] for one in queries if 'FROM "tasks_tasktemplate"' in one["sql"]]
    assert not [sql for sql in asked if "INNER JOIN" not in sql]

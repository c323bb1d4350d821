"""The audit log over the API: each write leaves one entry, which says who, how and from where."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from projects.audit.entry import AuditEntry
from projects.models import AccessKey, VariableGroup
from runners.models import RegistrationToken, Runner
from tasks.models import Task, TaskTemplate
from tasks.operations import save_template
from tests.api.conftest import Api
from tests.api.test_api_access import PATHS, TABLE, body_for
from tests.cast import CANARY, Cast
from tests.writes import (
    assert_nothing_secret,
    disabled,
    in_need_of_everything,
    one_entry,
    token_row,
)

WRITES = sorted((method, name) for method, name in TABLE if method != "GET")
# What a change changes; the access tables send changes of nothing.
CHANGES: dict[str, dict[str, object]] = {
    "api-project": {"max_parallel_tasks": 3},
    "api-template": {"script": "true\n", "environment": {"A": "1", "DB_PASSWORD": CANARY}},
    "api-access-key": {"value": CANARY + CANARY},
    "api-variable-group": {"variables": {"REGION": "us"}, "secrets": {"API_TOKEN": CANARY * 2}},
    "api-member": {"role": "manager"},
    "api-runner": {"tags": ["linux", "gpu"]},
}


@pytest.mark.parametrize(("method", "name"), WRITES)
def test_every_write_leaves_exactly_one_entry_and_no_secret(
    method: str,
    name: str,
    cast: Cast,
    template: TaskTemplate,
    runner: Runner,
    task: Task,
    access_key: AccessKey,
    variable_group: VariableGroup,
    registration: RegistrationToken,
    api: Callable[..., Api],
    no_broker: None,
) -> None:
    in_need_of_everything(runner, cast)
    client = api(cast.owner)
    ids = {"template": template.pk, "runner": runner.pk, "task": task.pk}
    ids |= {"registration": registration.pk, "token": token_row(cast).pk}
    ids |= {"access_key": access_key.pk, "variable_group": variable_group.pk}
    ids |= {"member": cast.viewers_membership.pk, "project": cast.project.pk}
    body = CHANGES[name] if method == "PATCH" else body_for(method, name, template)
    if name == "api-template-enable":
        disabled(template, cast)
    with one_entry() as entries:
        answer = client.send(method, PATHS[name].format(**ids), body)
        assert answer.status_code in (200, 201, 204), answer.content
    entry = entries[0]
    assert (entry.actor, entry.actor_id, entry.way) == ("owner", cast.owner.pk, "api_token")
    assert (entry.means, entry.address) == ("tests", "127.0.0.1")
    assert entry.project_id in (cast.project.pk, None) or name == "api-projects"
    assert_nothing_secret()


@pytest.mark.parametrize(("method", "name"), WRITES)
def test_a_write_that_is_refused_leaves_none(
    method: str,
    name: str,
    cast: Cast,
    template: TaskTemplate,
    runner: Runner,
    task: Task,
    access_key: AccessKey,
    variable_group: VariableGroup,
    registration: RegistrationToken,
    api: Callable[..., Api],
) -> None:
    client = api(cast.outsider)
    ids = {"template": template.pk, "runner": runner.pk, "task": task.pk}
    ids |= {"registration": registration.pk, "token": token_row(cast).pk}
    ids |= {"access_key": access_key.pk, "variable_group": variable_group.pk}
    ids |= {"member": cast.viewers_membership.pk, "project": cast.project.pk}
    before = AuditEntry.objects.count()
    answer = client.send(method, PATHS[name].format(**ids), body_for(method, name, template))
    if answer.status_code >= 400:
        assert AuditEntry.objects.count() == before


def test_a_change_says_old_and_new_but_of_secrets_only_what_became_of_them(
    cast: Cast,
    template: TaskTemplate,
    variable_group: VariableGroup,
    access_key: AccessKey,
    api: Callable[..., Api],
) -> None:
    client = api(cast.manager)
    body = {"timeout_seconds": 60, "script": "one\ntwo\n", "environment": {"AUTH": CANARY}}
    body |= {"tags": ["gpu"], "access_keys": [{"access_key": access_key.pk, "variable": "K"}]}
    assert client.patch(f"templates/{template.pk}/", body).status_code == 200
    changes = AuditEntry.objects.all()[0].changes
    assert changes["timeout_seconds"] == {"old": 3600, "new": 60}
    assert changes["tags"] == {"old": ["linux"], "new": ["gpu"]}
    assert changes["access_keys"] == {"old": [], "new": ["Registry as K"]}
    assert changes["environment.AUTH"] == {"secret": "set"}
    lines = changes["script"]["diff"].split("\n")
    assert {"-systemctl restart app", "+one", "+two"} <= set(lines)
    secrets = {"API_TOKEN": None, "OTHER": CANARY}
    client.patch(f"variable-groups/{variable_group.pk}/", {"secrets": secrets})
    changes = AuditEntry.objects.all()[0].changes
    assert changes == {"API_TOKEN": {"secret": "removed"}, "OTHER": {"secret": "set"}}
    assert_nothing_secret()


def test_a_save_that_changes_nothing_is_no_event(
    cast: Cast, template: TaskTemplate, api: Callable[..., Api]
) -> None:
    client = api(cast.owner)
    before = AuditEntry.objects.count()
    assert client.patch(f"templates/{template.pk}/", {"name": template.name}).status_code == 200
    assert AuditEntry.objects.count() == before


def test_the_address_is_the_one_that_the_proxy_saw(
    cast: Cast, api: Callable[..., Api], settings: object
) -> None:
    settings.FORGE_BEHIND_PROXY = True  # type: ignore[attr-defined]
    client = api(cast.owner)
    client.headers["X-Forwarded-For"] = "198.51.100.1, 203.0.113.9"
    client.post("projects/", {"name": "New"})
    assert AuditEntry.objects.all()[0].address == "203.0.113.9"


def fill(cast: Cast, count: int) -> None:
    """Templates are saved that often, and one entry each is written."""
    for number in range(count):
        row = TaskTemplate(project=cast.project, name=f"Nightly {number}", script="true")
        save_template(template=row, tags=[])


def test_pages_by_key_hold_each_entry_once(cast: Cast, api: Callable[..., Api]) -> None:
    fill(cast, 7)
    client = api(cast.manager)
    path, found = f"projects/{cast.project.pk}/audit/?page_size=3&kind=template", []
    while path:
        body = client.get(path).json()
        found.append([row["name"] for row in body["results"]])
        # What is written meanwhile moves nothing.
        fill_one_more(cast, len(found))
        path = (body["next"] or "").partition("/api/v1/")[2]
    assert [len(names) for names in found] == [3, 3, 1]
    assert [name for names in found for name in names] == [
        f"Nightly {number}" for number in range(6, -1, -1)
    ]
    newest = AuditEntry.objects.get(name="Nightly 3").pk
    body = client.get(f"projects/{cast.project.pk}/audit/?after={newest}&page_size=2").json()
    assert [row["name"] for row in body["results"]] == ["Nightly 5", "Nightly 4"]
    assert body["previous"] and body["next"]


def fill_one_more(cast: Cast, number: int) -> None:
    row = TaskTemplate(project=cast.project, name=f"Later {number}", script="true")
    save_template(template=row, tags=[])


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("who=owner", 1),
        ("who=own", 0),
        ("kind=template&verb=created", 3),
        ("name=nightly", 3),
        ("name=NIGHTLY 2", 1),
        ("name=ightly", 0),
        ("address=127.0.0.1", 1),
        ("way=api_token", 1),
        ("since=2020-01-01&until=2020-12-31", 0),
        ("since=2020-01-01T10:00:00Z", 4),
        ("before=999999999", 0),
    ],
)
def test_filters_find_what_they_say(
    query: str, found: int, cast: Cast, api: Callable[..., Api]
) -> None:
    fill(cast, 3)
    client = api(cast.owner)
    client.patch(f"projects/{cast.project.pk}/", {"description": "Other"})
    answer = client.get(f"projects/{cast.project.pk}/audit/?{query}")
    assert len(answer.json()["results"]) == found


def test_a_day_as_the_end_means_the_whole_of_it(cast: Cast, api: Callable[..., Api]) -> None:
    fill(cast, 1)
    today = timezone.localdate().isoformat()
    path = f"projects/{cast.project.pk}/audit/?since={today}&until={today}"
    assert len(api(cast.owner).get(path).json()["results"]) == 1


@pytest.mark.parametrize(
    "query",
    ["since=yesterday", "kind=cake", "verb=ate", "object=x", "address=here", "until=2026-13-40",
     "since=9999-12-31T23:59:59%2B99:99", "page_size=x", "before=-1", f"who={'x' * 200}"],
)  # fmt: skip
def test_a_filter_that_cannot_be_read_is_400_and_says_why(
    query: str, cast: Cast, api: Callable[..., Api]
) -> None:
    client = api(cast.owner)
    for path in (f"projects/{cast.project.pk}/audit/", f"projects/{cast.project.pk}/audit/csv"):
        if path.endswith("csv") and query.startswith(("page_size", "before")):
            continue
        answer = client.get(f"{path}?{query}")
        assert answer.status_code == 400 and answer.json()["fields"]


def test_an_export_holds_every_entry_in_both_forms(cast: Cast, api: Callable[..., Api]) -> None:
    fill(cast, 2)
    client = api(cast.owner)
    path = f"projects/{cast.project.pk}/audit"
    listed = client.get(f"{path}/").json()["results"]
    lines = client.get(f"{path}/jsonl").getvalue().decode().splitlines()
    assert [json.loads(line)["id"] for line in lines] == [row["id"] for row in listed]
    answer = client.get(f"{path}/csv")
    assert answer["Content-Disposition"].endswith('.csv"')
    rows = list(csv.DictReader(io.StringIO(answer.getvalue().decode())))
    assert [row["name"] for row in rows] == ["Nightly 1", "Nightly 0"]
    assert client.get(f"{path}/xlsx").status_code == 404


def test_an_export_of_many_batches_breaks_off_nowhere(
    cast: Cast, api: Callable[..., Api], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projects.audit.export.BATCH", 2)
    fill(cast, 6)
    lines = api(cast.owner).get(f"projects/{cast.project.pk}/audit/jsonl").getvalue().splitlines()
    assert len({json.loads(line)["id"] for line in lines}) == len(lines) == 6


@pytest.mark.parametrize("sign", ["=", "@", "\uff1d"])
def test_what_somebody_entered_is_no_formula_in_a_spreadsheet(
    sign: str, cast: Cast, api: Callable[..., Api]
) -> None:
    """Nor where it is written wide, which some spreadsheets take for the same."""
    row = TaskTemplate(project=cast.project, name=f"{sign}HYPERLINK(1)", script="true")
    save_template(template=row, tags=[])
    text = api(cast.owner).get(f"projects/{cast.project.pk}/audit/csv").getvalue().decode()
    assert f",'{sign}HYPERLINK(1)," in text


def test_an_administrator_reads_all_of_it_and_others_only_their_projects(
    superuser: User, cast: Cast, template: TaskTemplate, api: Callable[..., Api]
) -> None:
    rows = api(superuser).get("audit/").json()["results"]
    assert {row["kind"] for row in rows} == {"template", "user_token"}
    assert api(superuser).get("audit/csv").status_code == 200
    assert set(AuditEntry.objects.for_user(cast.manager)) == set(
        AuditEntry.objects.filter(project_id=cast.project.pk)
    )
    assert not AuditEntry.objects.for_user(cast.operator).exists()
    assert not AuditEntry.objects.for_user(cast.outsider).exists()

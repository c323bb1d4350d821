"""Support staff finds what it was told about, in every list, and never by what is secret."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib import admin as site
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.html import escape

from projects.admin_bases import UNSEEN_FIELDS
from projects.audit.entry import AuditEntry, Kind, Verb
from projects.audit.reading import Filters
from projects.audit.recording import record
from projects.models import UserToken
from projects.operations import create_user_token
from runners.models import BrokerContact, RegistrationToken, Runner
from tasks.log_columns import LogOutline
from tasks.models import Leadership, LogChunk, Task
from tests.cast import Cast

FORGES = [page for model, page in site.site._registry.items() if model._meta.app_label != "auth"]
# One row that the controller writes.
NOT_SEARCHED = {BrokerContact}
# Found by a task's number alone, or so few that there is nothing to narrow.
NOT_FILTERED = {BrokerContact, Group, Leadership, LogChunk, LogOutline}


def found(client: Client, place: str, text: str) -> set[int]:
    """Numbers of the rows that the list shows after a search."""
    answer = client.get(f"/admin/{place}/", {"q": text})
    assert answer.status_code == 200, (place, text)
    return set(answer.context["cl"].result_list.values_list("pk", flat=True))


def test_every_list_has_a_search_that_says_what_it_looks_at_and_filters() -> None:
    registry = site.site._registry
    assert {model for model, page in registry.items() if not page.search_fields} == NOT_SEARCHED
    silent = {model for model, page in registry.items() if not page.search_help_text}
    assert silent == NOT_SEARCHED
    unfiltered = {model for model, page in registry.items() if not page.list_filter}
    assert unfiltered == NOT_FILTERED


def test_no_search_looks_at_what_is_secret() -> None:
    for model, page in site.site._registry.items():
        looked_at = {part for name in page.search_fields for part in name.strip("=^@").split("__")}
        assert not looked_at & UNSEEN_FIELDS - {"secrets"}, model


@pytest.mark.parametrize("text", ["#1", "web-1", "Restart", "oper"])
def test_a_task_is_found_by_number_runner_template_and_person(
    text: str, running_task: Task, admin: Client
) -> None:
    text = text.replace("1", str(running_task.pk)) if text == "#1" else text
    assert found(admin, "tasks/task", text) == {running_task.pk}
    assert found(admin, "tasks/task", "no such thing") == set()


@pytest.mark.parametrize("text", ["web-1", "10.20.0.", "host-7.example", "Paym", "linux"])
def test_a_runner_is_found_by_name_address_host_project_and_tag(
    text: str, cast: Cast, runner: Runner, admin: Client
) -> None:
    Runner.objects.filter(pk=runner.pk).update(address="10.20.0.11", host_name="host-7.example.net")
    Runner.objects.create(project=cast.outsiders_project, name="other", address="10.30.0.1")
    assert found(admin, "runners/runner", text) == {runner.pk}
    token = runner.tokens.get()
    if text in ("web-1", "10.20.0.", "Paym"):
        assert found(admin, "runners/runnertoken", text) == {token.pk}


def test_tokens_are_found_by_name_and_person_and_by_nothing_that_opens_anything(
    cast: Cast, registration: RegistrationToken, admin: Client
) -> None:
    User.objects.filter(pk=cast.viewer.pk).update(email="vera@example.net", last_name="Brandt")
    now = timezone.now()
    new = create_user_token(user=cast.viewer, name="nightly", expires_at=None, now=now)
    create_user_token(user=cast.owner, name="laptop", expires_at=None, now=now)
    for text in ("night", "viewer", "vera@", "brandt"):
        assert found(admin, "projects/usertoken", text) == {new.row.pk}
    for text in (new.token, new.token[:12], new.row.digest, new.row.digest[:8]):
        assert found(admin, "projects/usertoken", text) == set()
    for text in ("rack", "Payments", "linux", "owner"):
        assert found(admin, "runners/registrationtoken", text) == {registration.pk}
    assert found(admin, "runners/registrationtoken", registration.digest) == set()
    assert UserToken.objects.count() == 2
    assert "Never paste a token here" in admin.get("/admin/projects/usertoken/").text


@pytest.mark.parametrize("text", ["abc", "9" * 40, "-1", "' OR 1=1 --", "%", "\0", "#", "½", " "])
@pytest.mark.parametrize("page", FORGES, ids=lambda page: page.model.__name__)
def test_whatever_is_searched_for_is_answered(
    page: Any, text: str, running_task: Task, admin: Client
) -> None:
    opts = page.model._meta
    found(admin, f"{opts.app_label}/{opts.model_name}", text)


@pytest.mark.parametrize(
    ("question", "is_shown"),
    [
        ("removed_at__isempty=1", True),
        ("removed_at__isempty=0", False),
        ("paused_at__isempty=0", False),
        ("quarantined_until__isempty=0", False),
        ("version=", True),
    ],
)
def test_filters_of_runners_say_yes_and_no(
    question: str, is_shown: bool, runner: Runner, admin: Client
) -> None:
    page = admin.get(f"/admin/runners/runner/?{question}").text
    assert (f"/admin/runners/runner/{runner.pk}/change/" in page) == is_shown
    assert re.search(r">\s*No</a>", page) and re.search(r">\s*Yes</a>", page)
    assert "Not empty" not in page
    assert "_facets" not in page, "to count each filter is to read the whole table"


def test_the_audit_log_offers_every_verb_and_kind_without_reading_itself(
    cast: Cast, admin: Client
) -> None:
    entry = record(Verb.CREATED, cast.project)
    record(Verb.CHANGED, cast.project)
    record(Verb.CREATED, cast.viewers_membership)
    with CaptureQueriesContext(connection) as queries:
        page = admin.get("/admin/projects/auditentry/", {"verb": "created", "kind": "project"})
    assert not [query for query in queries if "DISTINCT" in query["sql"]]
    body = page.content.decode()
    assert all(escape(label) in body for _, label in (*Verb.choices, *Kind.choices))
    assert list(page.context["cl"].result_list) == [entry]


@pytest.mark.parametrize(
    "text", ["owner", "Restart of the web", "restart OF the web", "192.0.2.7", " 2001:db8::7 "]
)
def test_an_audit_entry_is_found_by_who_what_and_where_in_full(
    text: str, cast: Cast, admin: Client
) -> None:
    others = {"at": timezone.now(), "way": "page", "verb": "ran", "kind": "template"}
    entries = [
        AuditEntry.objects.create(**others, actor=actor, name=name, address=address)
        for actor, name, address in (
            ("owner", "Another", "192.0.2.1"),
            ("viewer", "Restart of the web", "192.0.2.1"),
            ("viewer", "Another", "192.0.2.7"),
            ("viewer", "Another", "2001:db8::7"),
        )
    ]
    AuditEntry.objects.create(**others, actor="own", name="Restart", address="192.0.2.77")
    place = {"owner": 0, "192.0.2.7": 2, "2001:db8::7": 3}.get(text.strip(), 1)
    assert found(admin, "projects/auditentry", text) == {entries[place].pk}


def test_a_name_is_found_as_it_stands_whatever_letters_it_has(admin: Client) -> None:
    entry = AuditEntry.objects.create(
        at=timezone.now(), way="page", verb="ran", kind="template", actor="own", name="Überwachung"
    )
    assert found(admin, "projects/auditentry", "Überwachung") == {entry.pk}
    assert list(Filters({"name": "Überw"}).apply(AuditEntry.objects.all())) == [entry]


@pytest.mark.parametrize("text", ["owner", "192.0.2.7"])
def test_a_search_of_the_audit_log_is_served_by_indexes(
    text: str, cast: Cast, admin: Client
) -> None:
    with CaptureQueriesContext(connection) as queries:
        found(admin, "projects/auditentry", text)
    asked = [query["sql"] for query in queries if text in query["sql"]]
    assert asked
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            for sql in asked:
                cursor.execute("EXPLAIN QUERY PLAN " + sql)
                plan = "\n".join(row[3] for row in cursor.fetchall())
                assert "SEARCH projects_auditentry" in plan and "SCAN projects_a" not in plan, plan
        return
    with connection.cursor() as cursor:
        # With few rows a scan is right; asked is whether indexes can serve.
        cursor.execute("SET LOCAL enable_seqscan = off")
        # Nor does it read all of the log in its order.
        cursor.execute("SET LOCAL enable_indexscan = off")
        for sql in asked:
            cursor.execute("EXPLAIN " + sql)
            plan = "\n".join(row[0] for row in cursor.fetchall())
            assert "Bitmap Index Scan" in plan and "Seq Scan on projects_audit" not in plan, plan

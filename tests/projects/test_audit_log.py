"""The audit log itself: append-only in the database, complete, and true about who acted."""

from __future__ import annotations

import ast
import io
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction
from django.test import Client
from django.utils import timezone

from projects.audit.actor import Actor, Way, acting, by_command
from projects.audit.append_only import REFUSAL
from projects.audit.entry import AuditEntry, Kind, Verb
from projects.audit.reading import Filters, page_of
from projects.audit.recording import KINDS, record
from projects.errors import (
    AlreadyMemberError,
    AuditLogError,
    AuditOutsideTransactionError,
    LastOwnerError,
    RoleAboveOwnError,
    UnknownUserError,
)
from projects.members import add_member, change_role, remove_member
from projects.models import AccessKey, Membership, VariableGroup
from projects.permissions import Role
from projects.removal import remove_users
from projects.tokens import digest_of
from runners.operations import create_runner, quarantine_runner
from runners.registration import create_registration_token
from runners.worker.protocol import PROTOCOL_VERSION, RegisterRequest, UnregisterRequest
from tests.cast import CANARY, Cast
from tests.writes import assert_nothing_secret, one_entry

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def entry(cast: Cast) -> AuditEntry:
    with transaction.atomic():
        return record(Verb.CHANGED, cast.project)


STATEMENTS = ["UPDATE {} SET name = 'other'", "DELETE FROM {}"]
if connection.vendor == "postgresql":
    STATEMENTS.append("TRUNCATE {}")


@pytest.mark.parametrize("statement", STATEMENTS)
def test_the_database_refuses_to_change_or_to_forget(statement: str, entry: AuditEntry) -> None:
    refused = pytest.raises(DatabaseError, match=REFUSAL)
    with refused, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement.format("projects_auditentry"))
    assert AuditEntry.objects.get(pk=entry.pk).name == "Payments"


def test_the_model_offers_no_way_to_change_or_to_delete(entry: AuditEntry) -> None:
    rows = AuditEntry.objects.all()
    for attempt in (
        entry.save,
        entry.delete,
        rows.delete,
        lambda: rows.update(name="other"),
        lambda: rows.bulk_update([entry], ["name"]),
    ):
        with pytest.raises(AuditLogError):
            attempt()


@pytest.mark.django_db(transaction=True)
def test_only_flush_which_empties_everything_empties_the_log_and_then_it_is_kept_again() -> None:
    at = timezone.now()
    row = {"at": at, "way": "page", "actor": "ana", "verb": "ran", "kind": "task", "name": "1"}
    AuditEntry.objects.create(**row)
    call_command("flush", interactive=False, verbosity=0)
    assert not AuditEntry.objects.exists()
    AuditEntry.objects.create(**row)
    with pytest.raises(DatabaseError, match=REFUSAL), connection.cursor() as cursor:
        cursor.execute("DELETE FROM projects_auditentry")


@pytest.mark.django_db(transaction=True)
def test_nothing_is_recorded_outside_the_transaction_of_its_change() -> None:
    from projects.models import Project

    project = Project.objects.create(name="Payments")
    with pytest.raises(AuditOutsideTransactionError):
        record(Verb.CHANGED, project)


def test_a_change_that_is_rolled_back_leaves_no_record(cast: Cast) -> None:
    before = AuditEntry.objects.count()
    with pytest.raises(LastOwnerError):
        remove_member(membership=owners(cast), by=cast.owner)
    assert AuditEntry.objects.count() == before


# --- complete ---

OPERATIONS = (
    "projects/operations.py",
    "projects/members.py",
    "projects/removal.py",
    "runners/operations.py",
    "runners/registration.py",
    "tasks/operations.py",
)
# Public functions of these modules that change nothing a person decided, and why.
NOT_RECORDED = {
    "tags_named": "part of what saves a runner or a template",
    "queue_for": "follows from a template's tags",
    "connect_runner": "a worker's session; the runner's row shows it",
    "note_heartbeat": "a sign of life",
    "note_ending": "what a worker still ends; the runner's row shows it",
    "note_trouble": "what a worker says of its host; the runner's row shows it",
    "name_from": "computes",
    "free_name": "looks",
    "demand_other_owners": "looks",
    "why_not_removable": "looks",
    "has_role_above": "looks",
    "hold_projects_of": "locks",
    "is_secret_of": "compares",
    "unlike_stored": "compares",
}


def functions_of(path: str) -> dict[str, set[str]]:
    """Names of all functions of a module, each with the names that it calls or passes on."""
    tree = ast.parse((ROOT / path).read_text())
    return {
        node.name: {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    }


def test_every_operation_records_what_it_does() -> None:
    calls: dict[str, set[str]] = {}
    for path in OPERATIONS:
        calls |= functions_of(path)
    recording = {"record", "record_saved", "record_event"}
    while found := {name for name in calls if calls[name] & recording} - recording:
        recording |= found
    public = {name for name in calls if not name.startswith("_")}
    assert public - recording == NOT_RECORDED.keys()


_WRITE = re.compile(
    r"(?<!self)\.save\(|\.delete\(\)|objects\b[^\n]*\.(?:create|update|get_or_create|bulk_create)\("
)


def test_pages_and_api_write_only_through_operations() -> None:
    files = [
        path for room in ("pages", "api", "lists") for path in (ROOT / "forge" / room).glob("*.py")
    ]
    guilty = [
        f"{path.name}: {line.strip()}"
        for path in files
        for line in path.read_text().splitlines()
        if _WRITE.search(line)
    ]
    # The row of a task notes until when somebody watches its log, and a session what its forms have
    # made: nobody's decisions.
    known = ("watched_until", "request.session.save()")
    assert [line for line in guilty if not any(word in line for word in known)] == []


def test_every_model_that_people_change_has_a_kind() -> None:
    """A new model must be thought of: in KINDS, or here with the reason why not."""
    exempt = {
        "projects.auditentry": "the log itself",
        "projects.secretvariable": "recorded with its group",
        "runners.tag": "made where it is named",
        "runners.queue": "follows from templates",
        "runners.runnertoken": "recorded with its runner",
        "tasks.templateaccesskey": "recorded with its template",
        "runners.brokercontact": "the controller's",
        "tasks.taskattempt": "what became of a task",
        "tasks.logchunk": "a task's output",
        "tasks.logoutline": "what was found in it",
        "tasks.leadership": "a controller's",
    }
    models = {
        model._meta.label_lower
        for app in ("projects", "runners", "tasks")
        for model in apps.get_app_config(app).get_models()
    }
    assert models == (KINDS.keys() - {"auth.user", "auth.group"}) | exempt.keys()


# --- who acted ---


def add_runner(cast: Cast) -> Any:
    return create_runner(
        project=cast.project,
        name="db-1",
        tags=(),
        concurrency=1,
        takes_untagged=True,
        by=cast.owner,
        now=timezone.now(),
    )


def test_where_nobody_acts_it_is_forge_itself(cast: Cast) -> None:
    runner = add_runner(cast).runner
    with one_entry() as entries:
        quarantine_runner(runner=runner, reason="It flooded the broker.", now=timezone.now())
    entry = entries[0]
    assert (entry.way, entry.actor, entry.verb) == (Way.SYSTEM, "Forge", Verb.QUARANTINED)
    assert entry.detail == "It flooded the broker."


def test_a_command_names_itself_and_the_account_that_ran_it(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "deploy")
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps({"password": "a long password"})))
    call_command("quickstart_seed", stdout=io.StringIO())
    made = AuditEntry.objects.filter(kind=Kind.RUNNER).get()
    assert (made.way, made.actor) == (Way.COMMAND, "deploy")
    assert made.means == "manage.py quickstart_seed"
    assert_nothing_secret()


def test_actors_do_not_leak_from_one_request_into_the_next(cast: Cast) -> None:
    with acting(lambda: Actor(Way.PAGE, "ana")), by_command("outer"):
        add_runner(cast)
    runner = AuditEntry.objects.get(kind=Kind.RUNNER)
    assert runner.way == Way.COMMAND
    with one_entry() as entries:
        quarantine = AuditEntry.objects.count()
        row = add_member(
            project=cast.project, user_name="outsider", role=Role.VIEWER, by=cast.owner
        )
    assert quarantine and row.pk and entries[0].way == Way.SYSTEM


def send(path: str, token: str, message: Any) -> Any:
    headers = {"Authorization": f"Bearer {token}"}
    client = Client(headers=headers)
    return client.post(f"/runner/v1/{path}", message.as_bytes(), content_type="application/json")


def test_a_host_that_registers_and_unregisters_is_named(cast: Cast) -> None:
    now = timezone.now()
    token = create_registration_token(
        project=cast.project,
        name="rack 7",
        tags=(),
        concurrency=1,
        takes_untagged=True,
        max_uses=1,
        expires_at=now + timedelta(hours=1),
        by=cast.owner,
        now=now,
    ).token
    own = "fgr_" + "x" * 43
    message = RegisterRequest(
        protocol=PROTOCOL_VERSION,
        version="1",
        system="Linux",
        digest=digest_of(own),
        host_name="web-1",
        name=None,
    )
    with one_entry() as entries:
        assert send("register", token, message).status_code == 200
    assert (entries[0].way, entries[0].actor, entries[0].means) == ("runner", "web-1", "rack 7")
    assert entries[0].address == "127.0.0.1"
    with one_entry() as entries:
        assert send("unregister", own, UnregisterRequest(host_name="web-1")).status_code == 200
    assert (entries[0].verb, entries[0].actor) == (Verb.REMOVED, "web-1")
    assert_nothing_secret()


def test_what_became_of_secrets_is_noted_and_never_what_they_are(
    cast: Cast, access_key: AccessKey, variable_group: VariableGroup
) -> None:
    changes = [entry.changes for entry in AuditEntry.objects.order_by("pk")]
    assert {"secret": "set"} in [change.get("value") for change in changes]
    assert {"secret": "set"} in [change.get("API_TOKEN") for change in changes]
    assert CANARY not in str(changes)


# --- members ---


def owners(cast: Cast) -> Membership:
    return Membership.objects.get(project=cast.project, user=cast.owner)


def test_nobody_gives_changes_or_takes_a_role_above_their_own(cast: Cast) -> None:
    for role in (Role.OWNER,):
        with pytest.raises(RoleAboveOwnError, match="yours is manager"):
            add_member(project=cast.project, user_name="outsider", role=role, by=cast.manager)
    with pytest.raises(RoleAboveOwnError):
        change_role(membership=owners(cast), role=Role.VIEWER, by=cast.manager)
    with pytest.raises(RoleAboveOwnError):
        remove_member(membership=owners(cast), by=cast.manager)
    with pytest.raises(RoleAboveOwnError, match="no member"):
        add_member(project=cast.project, user_name="outsider", role=Role.VIEWER, by=cast.outsider)


def test_a_member_is_an_active_account_and_is_one_once(cast: Cast) -> None:
    add = {"project": cast.project, "role": Role.VIEWER, "by": cast.owner}
    with pytest.raises(AlreadyMemberError):
        add_member(user_name="viewer", **add)  # type: ignore[arg-type]
    cast.outsider.is_active = False
    cast.outsider.save()
    with pytest.raises(UnknownUserError):
        add_member(user_name="outsider", **add)  # type: ignore[arg-type]


def test_the_last_active_owner_stays_and_any_other_may_go(cast: Cast) -> None:
    second = add_member(project=cast.project, user_name="outsider", role=Role.OWNER, by=cast.owner)
    cast.outsider.is_active = False
    cast.outsider.save()
    with pytest.raises(LastOwnerError):
        change_role(membership=owners(cast), role=Role.MANAGER, by=cast.owner)
    cast.outsider.is_active = True
    cast.outsider.save()
    change_role(membership=owners(cast), role=Role.MANAGER, by=cast.owner)
    with pytest.raises(LastOwnerError):
        remove_member(membership=second, by=cast.outsider)
    with pytest.raises(LastOwnerError):
        remove_users([cast.outsider])


# --- quick ---


def plan_of(rows: Any) -> str:
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            # With few rows a scan and a sort are right; asked is whether an index can serve.
            for way in ("seqscan", "bitmapscan", "sort"):
                cursor.execute(f"SET LOCAL enable_{way} = off")
        sql, parameters = rows.query.sql_with_params()
        explain = "EXPLAIN " if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN "
        cursor.execute(explain + sql, parameters)
        return "\n".join(str(line) for line in cursor.fetchall())


def queries(cast: Cast, entry: AuditEntry) -> Iterator[tuple[str, Any]]:
    everything = AuditEntry.objects.all()
    project = everything.filter(project_id=cast.project.pk)
    yield "audit_by_time", everything[:51]
    yield "audit_by_time", everything.after(entry)[:51]
    yield "audit_by_project", project[:51]
    yield "audit_by_project", project.after(entry)[:51]
    yield "audit_by_object", everything.about(Kind.RUNNER, 7)[:8]
    yield "audit_by_actor", Filters({"who": "ana"}).apply(everything)[:51]
    yield "audit_by_address", Filters({"address": "192.0.2.1"}).apply(everything)[:51]
    yield "audit_by_way", Filters({"way": "admin"}).apply(everything)[:51]
    yield "audit_by_verb", Filters({"verb": "removed"}).apply(everything)[:51]
    yield "audit_by_time", Filters({"since": "2026-01-01"}).apply(everything)[:51]


def test_each_question_is_answered_by_an_index_without_sorting(
    cast: Cast, entry: AuditEntry
) -> None:
    for index, rows in queries(cast, entry):
        plan = plan_of(rows)
        assert index in plan, plan
        assert "TEMP B-TREE" not in plan and "Sort Key" not in plan, plan


def test_names_are_found_by_how_they_begin_with_an_index_on_postgresql(
    cast: Cast, entry: AuditEntry
) -> None:
    rows = Filters({"name": "paym"}).apply(AuditEntry.objects.all())
    assert [row.pk for row in page_of(rows).rows] == [entry.pk]
    if connection.vendor == "postgresql":
        # It finds the rows, which are few; putting them in order is a step of its own.
        assert "audit_by_name" in plan_of(rows.order_by())

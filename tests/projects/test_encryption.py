"""Secrets at rest: unreadable without the key, in their own place only, movable to a new key."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.core.checks import run_checks
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.core.serializers import deserialize, serialize
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from projects import checks
from projects.encryption import Sealed, SealedField, new_key
from projects.errors import SecretsKeyError, SecretUnreadableError
from projects.models import AccessKey, Project, SecretVariable, VariableGroup
from projects.operations import write_access_key, write_variable_group
from projects.reencryption import reencrypt, trouble
from tests.cast import CANARY, Cast

ROOT = Path(__file__).resolve().parents[2]


def stored(table: str, column: str = "secret") -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {column} FROM {table} WHERE {column} IS NOT NULL")  # noqa: S608
        return [row[0] for row in cursor.fetchall()]


def test_what_is_stored_shows_nothing_and_opens_again(
    access_key: AccessKey, variable_group: VariableGroup
) -> None:
    everything = stored("projects_accesskey") + stored("projects_secretvariable")
    assert len(everything) == 2 and CANARY not in str(everything)
    key = AccessKey.objects.get()
    assert key.open() == {"value": CANARY}
    assert variable_group.secrets.get().open() == CANARY
    for shown in (repr(key.secret), str(key.secret), repr(key), str(vars(key))):
        assert CANARY not in shown and everything[0] not in shown


def test_two_equal_secrets_look_different() -> None:
    assert Sealed.seal("the same", "place") != Sealed.seal("the same", "place")


def test_without_a_key_nothing_is_stored_and_the_error_says_how_to_make_one(
    cast: Cast, settings: Any
) -> None:
    settings.FORGE_SECRETS_KEY = ""
    key = AccessKey(project=cast.project, name="k", kind="string")
    with pytest.raises(SecretsKeyError, match=r"manage\.py new_secrets_key"):
        write_access_key(key=key, parts={"value": CANARY}, now=timezone.now())
    assert not AccessKey.objects.exists()


@pytest.mark.parametrize("wrong", ["x", "a" * 44, "ä" * 44, "A" * 43, "A" * 88])
def test_a_key_that_is_none_is_named_and_not_shown(wrong: str, settings: Any) -> None:
    settings.FORGE_SECRETS_KEY = wrong
    (found,) = [error for error in run_checks() if error.id == "projects.E001"]
    assert "FORGE_SECRETS_KEY is not a key" in found.msg and (
        len(wrong) < 9 or wrong not in found.msg
    )
    settings.FORGE_SECRETS_KEY, settings.FORGE_SECRETS_KEY_FALLBACKS = new_key(), [new_key(), wrong]
    assert "Key 2 in FORGE_SECRETS_KEY_FALLBACKS" in str(run_checks())


def test_a_fallback_opens_and_the_first_key_closes(access_key: AccessKey, settings: Any) -> None:
    old = settings.FORGE_SECRETS_KEY
    settings.FORGE_SECRETS_KEY, settings.FORGE_SECRETS_KEY_FALLBACKS = new_key(), [old]
    assert access_key.open() == {"value": CANARY}
    assert not access_key.secret.is_under_first_key()
    write_access_key(key=access_key, parts={"value": CANARY + "2"}, now=timezone.now())
    settings.FORGE_SECRETS_KEY_FALLBACKS = []
    assert AccessKey.objects.get().open() == {"value": CANARY + "2"}


def test_a_lost_key_is_said_wherever_a_secret_is_met(
    access_key: AccessKey, variable_group: VariableGroup, settings: Any
) -> None:
    settings.FORGE_SECRETS_KEY = new_key()
    with pytest.raises(SecretUnreadableError, match="the access key Registry cannot be read"):
        access_key.open()
    assert "neither FORGE_SECRETS_KEY nor its fallbacks" in access_key.problem
    assert "API_TOKEN of Production" in variable_group.problem
    assert "2 of 2 stored secrets cannot be read" in trouble()
    (warning,) = checks.check_stored_secrets(databases=["default"])
    assert "API_TOKEN of Production" in warning.msg
    settings.FORGE_SECRETS_KEY = ""
    assert "FORGE_SECRETS_KEY is not set" in trouble()


@pytest.mark.django_db(transaction=True)
def test_a_start_says_in_a_line_what_cannot_be_read_and_else_nothing(
    access_key: AccessKey, settings: Any, caplog: Any
) -> None:
    # What an earlier test has left to threads of its own may speak in between.
    own = [checks.logger.name]
    checks.report_trouble().join()
    assert not [one for one in caplog.records if one.name in own]
    assert checks.check_stored_secrets(databases=["default"]) == []
    settings.FORGE_SECRETS_KEY = new_key()
    checks.report_trouble().join()
    (record,) = [one for one in caplog.records if one.name in own]
    assert "1 of 1 stored secrets cannot be read" in record.getMessage()


def test_a_secret_can_be_replaced_under_a_new_key_after_the_old_was_lost(
    variable_group: VariableGroup, settings: Any
) -> None:
    settings.FORGE_SECRETS_KEY = new_key()
    given = {"API_TOKEN": "another-" + CANARY}
    write_variable_group(group=variable_group, secrets=given, now=timezone.now())
    assert variable_group.problem == "" and trouble() == ""


def test_a_token_copied_into_another_row_is_noticed(cast: Cast, access_key: AccessKey) -> None:
    thief = AccessKey(project=cast.outsiders_project, name="Mine", kind="string")
    write_access_key(key=thief, parts={"value": "something-else"}, now=timezone.now())
    AccessKey.objects.filter(pk=thief.pk).update(secret=access_key.secret)
    with pytest.raises(SecretUnreadableError, match="belongs to another row"):
        AccessKey.objects.get(pk=thief.pk).open()
    AccessKey.objects.filter(pk=access_key.pk).update(project=cast.outsiders_project)
    with pytest.raises(SecretUnreadableError, match="belongs to another row"):
        AccessKey.objects.get(pk=access_key.pk).open()


def test_a_variable_moved_to_another_group_or_name_is_noticed(
    cast: Cast, variable_group: VariableGroup
) -> None:
    other = VariableGroup.objects.create(project=cast.project, name="Other")
    SecretVariable.objects.update(group=other)
    with pytest.raises(SecretUnreadableError, match="belongs to another row"):
        SecretVariable.objects.get().open()
    SecretVariable.objects.update(group=variable_group, name="REGION_NAME")
    with pytest.raises(SecretUnreadableError, match="belongs to another row"):
        SecretVariable.objects.get().open()


def test_everything_sealed_is_moved_to_the_first_key_once(
    access_key: AccessKey, variable_group: VariableGroup, settings: Any
) -> None:
    assert {
        model
        for model in apps.get_models()
        if any(isinstance(column, SealedField) for column in model._meta.fields)
    } == {AccessKey, SecretVariable}
    old, new = settings.FORGE_SECRETS_KEY, new_key()
    settings.FORGE_SECRETS_KEY, settings.FORGE_SECRETS_KEY_FALLBACKS = new, [old]
    said = io.StringIO()
    call_command("reencrypt_secrets", stdout=said)
    assert said.getvalue() == "2 re-encrypted, 0 under this key before.\n"
    call_command("reencrypt_secrets", stdout=said)
    assert said.getvalue().endswith("0 re-encrypted, 2 under this key before.\n")
    settings.FORGE_SECRETS_KEY_FALLBACKS = []
    assert AccessKey.objects.get().open() == {"value": CANARY}
    assert SecretVariable.objects.get().open() == CANARY


def test_what_cannot_be_moved_stays_and_is_named(
    access_key: AccessKey, variable_group: VariableGroup, settings: Any
) -> None:
    old = settings.FORGE_SECRETS_KEY
    settings.FORGE_SECRETS_KEY = new_key()
    write_access_key(key=access_key, parts={"value": CANARY}, now=timezone.now())
    before = stored("projects_secretvariable")
    said = io.StringIO()
    with pytest.raises(CommandError, match="1 secrets could not be read and stay"):
        call_command("reencrypt_secrets", stdout=io.StringIO(), stderr=said)
    assert "API_TOKEN of Production" in said.getvalue()
    assert stored("projects_secretvariable") == before
    settings.FORGE_SECRETS_KEY_FALLBACKS = [old]
    assert reencrypt().moved == 1


def test_a_replacement_during_the_move_wins(access_key: AccessKey, settings: Any) -> None:
    old = settings.FORGE_SECRETS_KEY
    settings.FORGE_SECRETS_KEY, settings.FORGE_SECRETS_KEY_FALLBACKS = new_key(), [old]
    stale = AccessKey.objects.get()
    write_access_key(key=access_key, parts={"value": "newer-" + CANARY}, now=timezone.now())
    moved = Sealed.seal(json.dumps({"value": CANARY}), stale.place)
    assert not AccessKey.objects.filter(pk=stale.pk, secret=stale.secret).update(secret=moved)
    assert AccessKey.objects.get().open() == {"value": "newer-" + CANARY}


def test_a_new_key_needs_no_settings() -> None:
    answer = subprocess.run(
        [sys.executable, "manage.py", "new_secrets_key"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr
    assert len(answer.stdout.strip()) == 44


@pytest.mark.parametrize("ending", ["", "\n"])
def test_the_keys_may_stand_in_files(ending: str, tmp_path: Path) -> None:
    keys = [new_key(), new_key(), new_key()]
    (tmp_path / "key").write_text(keys[0] + ending)
    (tmp_path / "older").write_text(f"{keys[1]},{keys[2]}{ending}")
    code = (
        "from forge import settings as s; "
        "print(s.FORGE_SECRETS_KEY, *s.FORGE_SECRETS_KEY_FALLBACKS, sep='\\n')"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={
            "PATH": "/usr/bin:/bin",
            "SECRET_KEY": "x",
            "FORGE_SECRETS_KEY_FILE": str(tmp_path / "key"),
            "FORGE_SECRETS_KEY_FALLBACKS_FILE": str(tmp_path / "older"),
        },
        capture_output=True,
        text=True,
    )
    assert answer.stdout.split() == keys, answer.stderr


def test_a_dump_holds_the_sealed_text_and_loads_again(access_key: AccessKey) -> None:
    text = serialize("json", AccessKey.objects.all())
    assert CANARY not in text and access_key.secret.token in text
    AccessKey.objects.all().delete()
    for found in deserialize("json", text):
        found.save()
    assert AccessKey.objects.get().open() == {"value": CANARY}


def test_a_text_can_never_be_stored_unsealed(access_key: AccessKey) -> None:
    with pytest.raises(TypeError, match="never a text"):
        AccessKey.objects.update(secret="clear text")


# --- what may be entered ---


def new(cast: Cast, kind: str, **fields: str) -> AccessKey:
    return AccessKey(project=cast.project, name="New", kind=kind, **fields)


GOOD_KEY = (
    "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5v\nkQ==\n"
    "-----END OPENSSH PRIVATE KEY-----\n"
)


@pytest.mark.parametrize(
    ("kind", "parts", "field", "sentence"),
    [
        ("string", {}, "value", "Enter the secret"),
        ("string", {"value": "tiny-1"}, "value", "at least 8 characters"),
        ("string", {"value": " tiny-1\n   "}, "value", "at least 8 characters"),
        ("string", {"value": " " * 20}, "value", "at least 8 characters"),
        ("string", {"value": "--------------"}, "value", "in many logs by chance"),
        ("string", {"value": "Localhost"}, "value", "in many logs by chance"),
        ("string", {"value": "x" * 32_001}, "value", "at most 32000"),
        ("string", {"value": "nul-\0-nul-nul"}, "value", "NUL byte"),
        ("string", {"value": "half-\ud800-a-pair"}, "value", "not valid Unicode"),
        ("string", {"password": CANARY}, "password", "has no such secret"),
        ("none", {"value": CANARY}, "value", "has no such secret"),
        ("login_password", {"password": "tiny-1"}, "password", "at least 8"),
        ("ssh", {"passphrase": CANARY}, "private_key", "Enter the secret"),
        ("ssh", {"private_key": "ssh-ed25519 AAAA me"}, "private_key", "not a private key"),
        ("ssh", {"private_key": GOOD_KEY, "passphrase": "tiny-1"}, "passphrase", "at least 8"),
    ],
)
def test_a_secret_that_cannot_be_kept_or_masked_is_refused_and_not_repeated(
    kind: str, parts: dict[str, str], field: str, sentence: str, cast: Cast
) -> None:
    with pytest.raises(ValidationError) as caught:
        write_access_key(key=new(cast, kind), parts=parts, now=timezone.now())
    assert caught.value.message_dict.keys() == {field}
    (found,) = caught.value.message_dict[field]
    assert sentence in found
    assert not any(text.strip() and text.strip() in found for text in parts.values())
    assert not AccessKey.objects.exists()


def test_an_ssh_key_is_stored_as_openssh_reads_it(cast: Cast) -> None:
    pasted = "\r\n  " + GOOD_KEY.replace("\n", " \r\n")
    key = write_access_key(
        key=new(cast, "ssh", login="deploy"), parts={"private_key": pasted}, now=timezone.now()
    )
    assert key.open() == {"private_key": GOOD_KEY}


def test_only_keys_that_sign_in_have_a_login(cast: Cast) -> None:
    with pytest.raises(ValidationError, match="have a login"):
        write_access_key(
            key=new(cast, "string", login="x"), parts={"value": CANARY}, now=timezone.now()
        )


def test_the_database_holds_the_rules_too(cast: Cast, access_key: AccessKey) -> None:
    rows = AccessKey.objects.filter(pk=access_key.pk)
    for change in ({"secret": None}, {"kind": "other"}, {"kind": "none"}, {"login": "x"}):
        with pytest.raises(IntegrityError), transaction.atomic():
            rows.update(**change)
    group = VariableGroup.objects.create(project=cast.project, name="G")
    row = SecretVariable(group=group, name="A")
    row.seal(CANARY, now=timezone.now())
    row.save()
    again = SecretVariable(group=group, name="A", secret=row.secret, changed_at=timezone.now())
    with pytest.raises(IntegrityError), transaction.atomic():
        again.save()


@pytest.mark.parametrize(
    ("secrets", "sentence"),
    [
        ({"FORGE_X": CANARY}, "begin with FORGE_"),
        ({"1A": CANARY}, "cannot be a variable name"),
        ({"A" * 101: CANARY}, "cannot be a variable name"),
        ({"LD_PRELOAD": CANARY}, "what code runs before a script"),
        ({"BASH_ENV": CANARY}, "what code runs before a script"),
        ({"PYTHONPATH": CANARY}, "what code runs before a script"),
        ({"REGION": CANARY}, "both a plain and a secret variable"),
        ({"A": "tiny-1"}, "A: a secret needs at least 8"),
        ({f"A{number}": CANARY for number in range(101)}, "At most 100"),
    ],
)
def test_a_group_refuses_what_it_cannot_hold(
    secrets: dict[str, str | None], sentence: str, cast: Cast
) -> None:
    group = VariableGroup(project=cast.project, name="G", variables={"REGION": "eu"})
    with pytest.raises(ValidationError) as caught:
        write_variable_group(group=group, secrets=secrets, now=timezone.now())
    assert sentence in str(caught.value) and CANARY not in str(caught.value)
    assert not VariableGroup.objects.exists()


def test_plain_variables_of_a_group_may_not_hook_the_interpreter(cast: Cast) -> None:
    group = VariableGroup(project=cast.project, name="G", variables={"BASH_ENV": "/tmp/x"})
    with pytest.raises(ValidationError, match="what code runs before a script"):
        write_variable_group(group=group, secrets={}, now=timezone.now())


@pytest.mark.parametrize("value", ["nul-\0", "half of a pair: \ud800"])
def test_plain_variables_of_a_group_are_what_a_program_can_receive(value: str, cast: Cast) -> None:
    group = VariableGroup(project=cast.project, name="G", variables={"REGION": value})
    with pytest.raises(ValidationError, match="REGION: the value"):
        write_variable_group(group=group, secrets={}, now=timezone.now())


def test_a_secret_is_removed_by_naming_it(variable_group: VariableGroup) -> None:
    given = {"API_TOKEN": None, "OTHER": CANARY}
    write_variable_group(group=variable_group, secrets=given, now=timezone.now())
    assert VariableGroup.objects.get().secret_names == ["OTHER"]


def test_a_project_takes_its_secrets_with_it(
    access_key: AccessKey, variable_group: VariableGroup
) -> None:
    Project.objects.filter(pk=access_key.project_id).delete()
    assert stored("projects_accesskey") == [] and stored("projects_secretvariable") == []

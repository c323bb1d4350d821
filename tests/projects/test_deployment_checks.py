"""`manage.py check --deploy` with the environment that docs/deployment.md tells to set."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def documented_environment() -> dict[str, str]:
    text = (ROOT / "docs" / "deployment.md").read_text()
    block = re.search(r"```sh environment\n(.*?)```", text, re.DOTALL)
    assert block
    return dict(re.findall(r"^(\w+)=(\S+)$", block[1], re.MULTILINE))


def check(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
    )


def test_the_documented_environment_passes_djangos_checks_for_production(tmp_path: Path) -> None:
    environment = documented_environment()
    files = {
        "SECRET_KEY_FILE": secrets.token_urlsafe(50),
        "FORGE_SECRETS_KEY_FILE": _new_key(),
        "DATABASE_URL_FILE": f"sqlite:///{tmp_path / 'forge.sqlite3'}",
        "REDIS_URL_FILE": "redis://127.0.0.1:1/0",
    }
    assert files.keys() == {name for name in environment if name.endswith("_FILE")}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        environment[name] = str(tmp_path / name)
    answer = check(environment)
    assert answer.returncode == 0, answer.stderr
    assert "no issues" in answer.stdout + answer.stderr


def test_the_checks_notice_what_is_missing(tmp_path: Path) -> None:
    """So that the test above proves something."""
    environment = documented_environment()
    answer = check(
        {"SECRET_KEY": "short", "FORGE_URL": "http://forge.example.net", "DEBUG": "True"}
        | {"DATABASE_URL": f"sqlite:///{tmp_path / 'forge.sqlite3'}"}
    )
    assert answer.returncode != 0
    assert "security.W" in answer.stderr and environment["FORGE_URL"].startswith("https://")


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"SECRET_KEY": ""}, "SECRET_KEY is not set."),
        ({"FORGE_URL": "forge.example.net"}, "FORGE_URL is no address of a web server."),
        ({"FORGE_URL": "https://"}, "FORGE_URL is no address of a web server."),
        ({"REDIS_URL": "broker:6379"}, "REDIS_URL is no address of a broker."),
        ({"REDIS_URL": "redis://127.0.0.1:6379/3"}, "REDIS_URL names a database other than 0."),
        ({"DATABASE_URL_FILE": "/no/such/file"}, "'/no/such/file'"),
        ({"DATABASE_URL": "nonsense"}, "DATABASE_URL is no address of a database."),
        ({"SECRET_KEY_FILE": "/no/such/file"}, "SECRET_KEY_FILE names /no/such/file, which cannot"),
        ({"FORGE_OFFLINE_SECONDS": "abc"}, "FORGE_OFFLINE_SECONDS has to be a number without"),
        ({"FORGE_UNREACHABLE_SECONDS": "1h"}, "FORGE_UNREACHABLE_SECONDS has to be a number"),
        ({"FORGE_UNREACHABLE_SECONDS": "3,600"}, "FORGE_UNREACHABLE_SECONDS has to be a number"),
        ({"FORGE_BROKER_PROJECT_BYTES": "16M"}, "FORGE_BROKER_PROJECT_BYTES has to be a whole"),
        ({"FORGE_OFFLINE_SECONDS": "-5"}, "FORGE_OFFLINE_SECONDS has to be a number above 0."),
        ({"FORGE_OFFLINE_SECONDS": "6"}, "is shorter than twice FORGE_HEARTBEAT_SECONDS"),
        ({"FORGE_BROKER_COMMANDS": "1.5"}, "FORGE_BROKER_COMMANDS has to be a whole number."),
    ],
)
def test_a_wrong_setting_is_one_sentence(wrong: dict[str, str], sentence: str) -> None:
    answer = subprocess.run(
        [sys.executable, "manage.py", "check_broker"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "SECRET_KEY": "x" * 50, **wrong},
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 1
    assert sentence in answer.stderr and len(answer.stderr.splitlines()) == 1, answer.stderr


@pytest.mark.parametrize("key", ["$" + "k" * 50, "$HOME" + "k" * 50])
def test_a_key_is_what_stands_in_its_file_whatever_it_begins_with(key: str, tmp_path: Path) -> None:
    """An editor ends the file with a line end, which is no part of the key."""
    (tmp_path / "key").write_text(f"{key}\n")
    show = "from django.conf import settings as s; print(s.SECRET_KEY, s.SECRET_KEY_FALLBACKS)"
    given = {"SECRET_KEY_FILE": str(tmp_path / "key"), "SECRET_KEY_FALLBACKS": f"$old, {key}"}
    answer = subprocess.run(
        [sys.executable, "manage.py", "shell", "--no-imports", "-c", show],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **given},
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.strip() == f"{key} ['$old', '{key}']"


def _new_key() -> str:
    answer = subprocess.run(
        [sys.executable, "manage.py", "new_secrets_key"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    return answer.stdout.strip()

"""The start check: a broker that cannot do what Forge needs is named in one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from django.db import connection
from django.test import Client

from forge import health
from runners import accounts, broker
from runners.broker import administrator
from runners.errors import BrokerUnsuitableError
from runners.nodes import Node
from runners.suitability import PROBE_PREFIX, check
from tests import broker as real_broker
from tests.deployment.client import wait_for

ROOT = Path(__file__).resolve().parents[2]
# What `/readyz` answers without one, while the rest is fine.
NO_CONTROLLER = {"database": True, "broker": True, "controller": False}


@pytest.fixture
def node(real: str) -> Node:
    return Node("it", administrator())


def run_acl(*words: str) -> None:
    administrator().execute_command("ACL", *words)  # type: ignore[no-untyped-call]


def signed_in_as(url: str, name: str, *rules: str) -> Node:
    """The broker as an account with these rules sees it."""
    run_acl("SETUSER", name, "reset", "on", ">secret", "~*", "&*", "+@all", *rules)
    return Node("it", redis.Redis(port=urlsplit(url).port or 0, username=name, password="secret"))


def names(node: Node) -> set[str]:
    return set(map(str, node.client.acl_users()))


def test_a_broker_as_it_comes_is_suitable_and_keeps_no_probe(node: Node) -> None:
    before = names(node)
    advice = check(node)
    assert names(node) == before
    assert any("no memory limit" in sentence for sentence in advice)
    assert any("proto-max-bulk-len" in sentence for sentence in advice)


def test_no_advice_is_given_where_all_limits_are_set(node: Node) -> None:
    node.client.config_set("maxmemory", "256mb", "proto-max-bulk-len", "1mb")  # type: ignore[misc]
    node.client.config_set("maxmemory-clients", "25%", "acllog-max-len", "16")  # type: ignore[misc]
    try:
        assert check(node) == []
    finally:
        node.client.config_set("maxmemory", "0", "proto-max-bulk-len", "512mb")  # type: ignore[misc]
        node.client.config_set("maxmemory-clients", "0", "acllog-max-len", "128")  # type: ignore[misc]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("-acl", "to manage accounts"),
        ("-acl|setuser", "to manage accounts"),
        ("-acl|deluser", "to manage accounts"),
        ("-acl|dryrun", "to manage accounts"),
        ("-info", "what Forge needs"),
        ("-client", "what Forge needs"),
    ],
)
def test_an_account_with_too_few_rights_is_told_which(
    rule: str, words: str, node: Node, real: str
) -> None:
    limited = signed_in_as(real, "limited", rule)
    try:
        with pytest.raises(BrokerUnsuitableError, match=words) as caught:
            check(limited)
        assert "secret" not in str(caught.value)
    finally:
        run_acl("DELUSER", "limited")
        for name in names(node):
            if name.startswith(PROBE_PREFIX):
                run_acl("DELUSER", name)


def test_a_broker_that_evicts_is_unsuitable(node: Node) -> None:
    node.client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(BrokerUnsuitableError, match="Set maxmemory-policy noeviction"):
            check(node)
    finally:
        node.client.config_set("maxmemory-policy", "noeviction")


def test_a_replica_names_its_master(node: Node) -> None:
    run = node.command
    run("REPLICAOF", "127.0.0.1", "1")
    try:
        with pytest.raises(BrokerUnsuitableError, match=r"its master, 127\.0\.0\.1:1, into REDIS"):
            check(node)
    finally:
        run("REPLICAOF", "NO", "ONE")


def test_a_cluster_is_unsuitable(real: str, request: Any, tmp_path: Path) -> None:
    kind = request.node.callspec.params["broker_url"]
    binary = real_broker.binaries()[kind]
    # The other nodes' port is 10,000 above unless it is told, where connections come and go.
    options = ["--cluster-enabled", "yes", "--cluster-port", str(real_broker.free_port())]
    with (
        real_broker.running(binary, tmp_path, *options) as url,
        pytest.raises(BrokerUnsuitableError, match="is a cluster"),
    ):
        check(Node("it", redis.Redis.from_url(url)))


def test_a_wrong_password_is_unsuitable_and_not_repeated(node: Node, real: str) -> None:
    port = urlsplit(real).port or 0
    with pytest.raises(BrokerUnsuitableError, match="Correct REDIS_URL") as caught:
        check(Node("it", redis.Redis(port=port, password="wrong-and-secret")))
    assert "wrong-and-secret" not in str(caught.value)


def test_a_broker_that_is_away_is_only_away() -> None:
    with pytest.raises(redis.ConnectionError):
        check(Node("it", redis.Redis(port=real_broker.free_port())))


# --- the processes ---


def environment(url: str, folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "REDIS_URL": url,
        "DATABASE_URL": f"sqlite:///{folder / 'db.sqlite3'}",
        "SECRET_KEY": "x" * 50,
    }


def manage(url: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *words],
        cwd=ROOT,
        env=environment(url, folder),
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def evicting(node: Node) -> Iterator[None]:
    node.client.config_set("maxmemory-policy", "allkeys-lru")
    yield
    node.client.config_set("maxmemory-policy", "noeviction")


def test_the_controller_ends_with_status_2_and_one_line(
    evicting: None, real: str, tmp_path: Path
) -> None:
    answer = manage(real, tmp_path, "controller")
    assert answer.returncode == 2
    (line,) = answer.stderr.splitlines()
    assert line.startswith("forge: 127.0.0.1:") and "maxmemory-policy noeviction" in line
    assert real_broker.PASSWORD not in line


def test_the_command_says_what_it_found(real: str, tmp_path: Path) -> None:
    assert manage(real, tmp_path, "check_broker").returncode == 0
    administrator().config_set("maxmemory-policy", "volatile-ttl")
    try:
        answer = manage(real, tmp_path, "check_broker")
    finally:
        administrator().config_set("maxmemory-policy", "noeviction")
    assert answer.returncode == 2 and "volatile-ttl" in answer.stderr
    nowhere = f"redis://:hush@127.0.0.1:{real_broker.free_port()}/0"
    answer = manage(nowhere, tmp_path, "check_broker")
    assert answer.returncode == 1 and "does not answer" in answer.stderr
    assert "hush" not in answer.stderr + answer.stdout


def test_the_controller_waits_for_a_broker_and_then_tries_it(
    real: str, request: Any, tmp_path: Path
) -> None:
    kind = request.node.callspec.params["broker_url"]
    port = real_broker.free_port()
    url = f"redis://:{real_broker.PASSWORD}@127.0.0.1:{port}/0"
    assert manage(url, tmp_path, "migrate", "-v", "0").returncode == 0
    log = tmp_path / "controller.log"
    with log.open("wb") as output:
        controller = subprocess.Popen(
            [sys.executable, "manage.py", "controller"],
            cwd=ROOT,
            env=environment(url, tmp_path),
            stdout=output,
            stderr=output,
            preexec_fn=real_broker.die_with_parent,
        )
    try:
        wait_for(lambda: "does not answer yet" in log.read_text(), "it waits")
        assert controller.poll() is None
        options = ("--maxmemory-policy", "allkeys-lru")
        binary = real_broker.binaries()[kind]
        with real_broker.running(binary, tmp_path, *options, port=port):
            assert controller.wait(60) == 2
        assert "Set maxmemory-policy noeviction" in log.read_text()
    finally:
        if controller.poll() is None:
            controller.send_signal(signal.SIGKILL)
            controller.wait()


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no standby")
@pytest.mark.django_db
def test_readyz_is_503_while_postgresql_is_read_only() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION READ ONLY")
    answer = Client().get("/readyz")
    assert answer.status_code == 503 and answer.json()["database"] is False


@pytest.mark.django_db(transaction=True)
def test_readyz_is_503_while_the_broker_cannot_do_what_is_needed(
    evicting: None, real: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "_broker", health._Broker())
    answer = Client().get("/readyz")
    assert (answer.status_code, answer.json()) == (503, {**NO_CONTROLLER, "broker": False})
    administrator().config_set("maxmemory-policy", "noeviction")
    monkeypatch.setattr(health, "_broker", health._Broker())
    assert Client().get("/readyz").status_code == 200
    settings.REDIS_URL = f"redis://127.0.0.1:{real_broker.free_port()}/0"
    for cached in (broker.administrator, accounts._knows_setinfo):
        cached.cache_clear()
    assert Client().get("/readyz").json() == {**NO_CONTROLLER, "broker": False}

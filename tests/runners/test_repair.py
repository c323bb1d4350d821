"""Accounts repair themselves: whatever is done to them on whichever node, the rows win."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis
from django.utils import timezone

from projects.tokens import digest_of
from runners import accounts
from runners import repair as repair_module
from runners.broker import administrator, project_prefix
from runners.models import Queue, Runner, RunnerToken
from runners.nodes import Node, Nodes
from runners.operations import (
    NewRunner,
    end_older_tokens,
    queue_for,
    remove_runner,
    rotate_token,
    tags_named,
)
from runners.repair import Repair
from tests import broker as real_broker
from tests.cast import Cast
from tests.deployment.client import wait_for
from tests.runners.conftest import existing_accounts
from tests.runners.test_accounts import new_runner, refused, sign_in

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def nodes(real: str) -> Nodes:
    return Nodes()


_repair = Repair()


def repair(nodes: list[Node]) -> int:
    """One round of the controller's, with all rows read."""
    return _repair.round(nodes, everything=True)


@pytest.fixture
def victim(nodes: Nodes, cast: Cast) -> NewRunner:
    new = new_runner(cast, cast.project, "web-1", "linux")
    queue_for(project=cast.project, tags=tags_named(project=cast.project, names=["linux"]))
    assert repair(nodes.all()) == 0
    return new


def line_of(node: redis.Redis, account: str) -> str:
    (line,) = [line for line in map(str, node.acl_list()) if f" {account} " in line]
    return line


def test_what_the_web_process_wrote_is_right_in_the_eyes_of_the_controller(
    nodes: Nodes, victim: NewRunner, cast: Cast
) -> None:
    new_runner(cast, cast.project, "plain")
    new_runner(cast, cast.outsiders_project, "other", "gpu", "linux")
    assert repair(nodes.all()) == 0


def test_between_full_rounds_an_edit_is_noticed_by_what_the_broker_says(
    nodes: Nodes, victim: NewRunner
) -> None:
    assert _repair.round(nodes.all(), everything=False) == 0
    administrator().acl_setuser(victim.runner.account, enabled=True, commands=["+get"])
    assert _repair.round(nodes.all(), everything=False) == 1
    assert _repair.round(nodes.all(), everything=False) == 0
    assert _repair.round(nodes.all(), everything=False) == 0


def test_lost_accounts_come_back(nodes: Nodes, victim: NewRunner, real: str) -> None:
    accounts.remove_account(victim.runner.account)
    assert repair(nodes.all()) == 1
    with sign_in(real, victim) as client:
        assert client.ping()
    assert repair(nodes.all()) == 0


def test_an_account_that_no_row_explains_is_removed(nodes: Nodes, victim: NewRunner) -> None:
    for name in ("runner-999999", "runner-x", "runner-", "runner-9" + "9" * 40):
        administrator().acl_setuser(name, enabled=True, nopass=True, commands=["+@all"])
    assert repair(nodes.all()) == 4
    assert existing_accounts() == {victim.runner.account}


def test_accounts_that_are_not_forges_are_left_alone(nodes: Nodes, victim: NewRunner) -> None:
    administrator().acl_setuser("monitoring", enabled=True, nopass=True, commands=["+ping"])
    try:
        assert repair(nodes.all()) == 0
        assert "monitoring" in map(str, administrator().acl_users())
    finally:
        administrator().acl_deluser("monitoring")


EDITS: dict[str, tuple[tuple[str, ...], str]] = {
    "everything": (("+@all", "~*", "&*"), "it had"),
    "one command more": (("+get", "~*"), "it had +get, ~*"),
    "one selector more": (("(+get ~forge:*)",), "it had (+get ~forge:*)"),
    "channels": (("allchannels",), "it had &*"),
    "no password": (("nopass",), "it needed no password"),
    "another password": ((">another",), "it took another password"),
    "its password gone": (("resetpass",), "it did not take its token"),
    "off": (("off",), "it was off"),
    "a command less": (("-ping",), "it lacked +ping"),
    "selectors gone": (("clearselectors",), "it lacked ("),
    "all gone": (("reset",), "it was off"),
    "a queue less": (
        ("clearselectors", "(-@all +brpop ~forge:project:0:tasks)"),
        "it had (+brpop ~forge:project:0:tasks)",
    ),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_by_hand_is_noticed_put_right_and_logged(
    edit: str, nodes: Nodes, victim: NewRunner, caplog: pytest.LogCaptureFixture
) -> None:
    before = line_of(administrator(), victim.runner.account)
    rules, words = EDITS[edit]
    administrator().execute_command("ACL", "SETUSER", victim.runner.account, *rules)  # type: ignore[no-untyped-call]
    with caplog.at_level(logging.WARNING):
        assert repair(nodes.all()) == 1
    assert line_of(administrator(), victim.runner.account) == before
    assert words in caplog.text and "of runner web-1" in caplog.text
    assert digest_of(victim.token) not in caplog.text
    assert repair(nodes.all()) == 0


def widened(victim: NewRunner, *rules: str) -> None:
    administrator().execute_command("ACL", "SETUSER", victim.runner.account, *rules)  # type: ignore[no-untyped-call]


def is_cut(client: redis.Redis) -> bool:
    try:
        client.connection_pool  # noqa: B018
        client.ping()
    except redis.RedisError:
        return True
    return False


@pytest.mark.parametrize(
    "hold",
    [
        ("GET", "forge:x"),
        ("MONITOR",),
        ("BLPOP", "forge:project:0:tasks", "30"),
        ("PSUBSCRIBE", "*"),
    ],
    ids=" ".join,
)
def test_what_used_a_wider_account_is_cut_off_with_the_correction(
    hold: tuple[str, ...], nodes: Nodes, victim: NewRunner, real: str
) -> None:
    widened(victim, "+@all", "~*", "&*", ">another")
    pool = sign_in(real, victim).connection_pool
    connection: Any = pool.make_connection()
    connection.connect()
    connection.send_command(*hold)
    wait_for(lambda: _has_client(victim.runner.account), "the connection is there")
    assert repair(nodes.all()) == 1
    wait_for(lambda: not _has_client(victim.runner.account), "the connection is gone")
    connection.disconnect()
    with pytest.raises(redis.AuthenticationError):
        _sign_in_with(real, victim.runner.account, "another").ping()


def _has_client(account: str) -> bool:
    return any(client["user"] == account for client in administrator().client_list())


def _sign_in_with(url: str, account: str, password: str) -> redis.Redis:
    return redis.Redis.from_url(url, username=account, password=password, socket_timeout=5)


def test_a_live_connection_of_a_narrowed_account_stays_and_works_again(
    nodes: Nodes, victim: NewRunner, real: str
) -> None:
    with sign_in(real, victim, single_connection_client=True) as client:
        assert client.ping()
        widened(victim, "-ping")
        assert refused(client, "PING")
        assert repair(nodes.all()) == 1
        assert client.ping()


def test_a_runner_removed_while_the_broker_was_away_loses_its_account(
    nodes: Nodes, victim: NewRunner
) -> None:
    Runner.objects.filter(pk=victim.runner.pk).update(removed_at=timezone.now())
    assert repair(nodes.all()) == 1
    assert existing_accounts() == set()


def test_flushing_everything_harms_no_account(nodes: Nodes, victim: NewRunner, real: str) -> None:
    administrator().flushall()
    assert repair(nodes.all()) == 0
    prefix = project_prefix(victim.runner.project_id)
    administrator().lpush(f"{prefix}{Queue.UNTAGGED}", "hint")
    with sign_in(real, victim) as client:
        assert client.brpop([f"{prefix}{Queue.UNTAGGED}"], timeout=1)[1] == b"hint"


def test_an_account_is_not_given_back_to_a_removed_runner(victim: NewRunner) -> None:
    stale = Runner.objects.get(pk=victim.runner.pk)
    remove_runner(runner=victim.runner, now=timezone.now())
    accounts.apply_account(stale)
    assert existing_accounts() == set()


def changing_after_the_rows_were_read(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]
) -> None:
    """Another process acts between reading the rows and writing the account from them."""
    write, has_changed = repair_module._write, threading.Event()

    def slow(*arguments: Any) -> None:
        if not has_changed.is_set():
            has_changed.set()
            change()
        write(*arguments)

    monkeypatch.setattr(repair_module, "_write", slow)


def test_a_repair_does_not_bring_a_token_back_that_ends_meanwhile(
    nodes: Nodes, victim: NewRunner, cast: Cast, real: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = timezone.now()
    rotated = rotate_token(runner=victim.runner, overlap=timedelta(hours=1), by=cast.owner, now=now)
    accounts.remove_account(victim.runner.account)
    changing_after_the_rows_were_read(
        monkeypatch, lambda: end_older_tokens(runner=victim.runner, now=timezone.now())
    )
    assert repair(nodes.all()) == 1
    with sign_in(real, rotated) as client:
        assert client.ping()
    with pytest.raises(redis.AuthenticationError), sign_in(real, victim) as client:
        client.ping()


def test_a_repair_does_not_bring_a_runner_back_that_is_removed_meanwhile(
    nodes: Nodes, victim: NewRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts.remove_account(victim.runner.account)
    changing_after_the_rows_were_read(
        monkeypatch, lambda: remove_runner(runner=victim.runner, now=timezone.now())
    )
    repair(nodes.all())
    assert existing_accounts() == set()


# --- several nodes ---


@pytest.fixture
def replica(real: str, nodes: Nodes, tmp_path: Any, request: Any) -> Iterator[redis.Redis]:
    """A replica of the broker, as one is set up: with the master's password."""
    kind = request.node.callspec.params["broker_url"]
    with real_broker.running(real_broker.binaries()[kind], tmp_path) as url:
        client = redis.Redis.from_url(url)
        client.config_set("masterauth", real_broker.PASSWORD)
        port = str(administrator().connection_pool.connection_kwargs["port"])
        client.execute_command("REPLICAOF", "127.0.0.1", port)  # type: ignore[no-untyped-call]
        wait_for(lambda: client.info("replication")["master_link_status"] == "up", "it follows")
        yield client
        client.close()


def names_on(node: redis.Redis) -> set[str]:
    return set(map(str, node.acl_users())) - {"default"}


def test_a_replica_is_found_and_gets_the_accounts_too(
    nodes: Nodes, victim: NewRunner, replica: redis.Redis
) -> None:
    assert names_on(replica) == set()
    assert repair(nodes.all()) == 1
    with redis.Redis(
        port=replica.connection_pool.connection_kwargs["port"],
        username=victim.runner.account,
        password=victim.token,
    ) as client:
        assert client.ping() and refused(client, "GET", "forge:x")
    widened_there = ("ACL", "SETUSER", victim.runner.account, "+@all", "~*")
    replica.execute_command(*widened_there)  # type: ignore[no-untyped-call]
    assert repair(nodes.all()) == 1
    remove_runner(runner=victim.runner, now=timezone.now())
    assert repair(nodes.all()) == 1
    assert names_on(replica) == set()


def test_a_node_that_does_not_answer_keeps_no_other_from_being_repaired(
    nodes: Nodes,
    victim: NewRunner,
    replica: redis.Redis,
    settings: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings.FORGE_BROKER_NODES = [f"redis://127.0.0.1:{real_broker.free_port()}/0"]
    assert repair(nodes.all()) == 1
    accounts.remove_account(victim.runner.account)
    assert repair(nodes.all()) == 1
    assert repair(nodes.all()) == 0
    # Said once, not at every round.
    assert caplog.text.count("tried again until it answers") == 1
    assert real_broker.PASSWORD not in caplog.text


def test_a_node_that_only_the_settings_know_is_signed_in_to_with_the_same_credentials(
    real: str, victim: NewRunner, settings: Any, tmp_path: Any, request: Any
) -> None:
    kind = request.node.callspec.params["broker_url"]
    with real_broker.running(real_broker.binaries()[kind], tmp_path) as url:
        place = url.rpartition("@")[2]
        settings.FORGE_BROKER_NODES = [f"redis://{place}"]
        assert repair(Nodes().all()) == 1
        with redis.Redis.from_url(url) as client:
            assert names_on(client) == {victim.runner.account}


def test_a_thousand_accounts_are_compared_and_restored_quickly(
    nodes: Nodes, cast: Cast, real: str
) -> None:
    """What it costs is printed; a limit in seconds would only measure the machine."""
    rows = [Runner(project=cast.project, name=f"r{number}") for number in range(1000)]
    made = Runner.objects.bulk_create(rows)
    RunnerToken.objects.bulk_create(
        RunnerToken(runner=runner, digest=f"{number:064x}", created_at=timezone.now())
        for number, runner in enumerate(made)
    )
    restored = _timed(lambda: repair(nodes.all()))
    # Redis 7.0 describes each new account once, 0.9 ms each, and remembers that.
    first = _timed(lambda: repair(nodes.all()))
    compared = _timed(lambda: repair(nodes.all()))
    unchanged = _timed(lambda: _repair.round(nodes.all(), everything=False))
    print(
        f"\n1,000 accounts: restored in {restored[1]:.2f} s, compared in {first[1]:.3f} s the "
        f"first time and in {compared[1]:.3f} s then, seen to be unchanged in {unchanged[1]:.3f} s"
    )
    assert (restored[0], first[0], compared[0], unchanged[0]) == (1000, 0, 0, 0)
    Runner.objects.all().delete()
    assert repair(nodes.all()) == 1000


def _timed(work: Callable[[], int]) -> tuple[int, float]:
    begun = time.perf_counter()
    return work(), time.perf_counter() - begun


def test_a_node_says_its_place_and_never_its_password(real: str) -> None:
    assert all(real_broker.PASSWORD not in node.place for node in Nodes().all())
    assert isinstance(Nodes().all()[0], Node)

"""Broker accounts: what a runner's token opens, tried with a real client on a real broker."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from django.utils import timezone

from projects.models import Project
from runners import accounts
from runners.broker import administrator, project_prefix
from runners.models import Runner
from runners.operations import NewRunner, create_runner, queue_for, remove_runner, tags_named
from tests.cast import Cast

pytestmark = pytest.mark.django_db(transaction=True)


def new_runner(cast: Cast, project: Project, name: str, *tags: str) -> NewRunner:
    return create_runner(
        project=project,
        name=name,
        tags=tags,
        concurrency=1,
        takes_untagged=True,
        by=cast.owner,
        now=timezone.now(),
    )


def sign_in(url: str, new: NewRunner, **options: Any) -> redis.Redis:
    port = urlsplit(url).port or 0
    return redis.Redis(
        port=port, username=new.runner.account, password=new.token, socket_timeout=5, **options
    )


@pytest.fixture
def thief(real: str, cast: Cast) -> Iterator[redis.Redis]:
    """A client that holds the token of one runner of the outsider's project."""
    new = new_runner(cast, cast.outsiders_project, "thief")
    with sign_in(real, new) as client:
        yield client


@pytest.fixture
def victim(real: str, cast: Cast) -> NewRunner:
    return new_runner(cast, cast.project, "web-1", "linux")


def refused(client: redis.Redis, *command: Any) -> bool:
    """Whether the broker denies the command for want of permission."""
    try:
        client.execute_command(*command)  # type: ignore[no-untyped-call]
    except redis.exceptions.NoPermissionError:
        return True
    except redis.ResponseError as error:
        return "permission" in str(error) or "not allowed" in str(error)
    return False


def test_a_runner_takes_hints_from_its_own_queues(real: str, victim: NewRunner) -> None:
    prefix = project_prefix(victim.runner.project_id)
    administrator().lpush(f"{prefix}tasks", "hint")
    with sign_in(real, victim) as client:
        assert client.brpop([f"{prefix}tasks"], timeout=1)[1] == b"hint"


def test_a_new_queue_opens_to_runners_that_have_its_tags(
    real: str, victim: NewRunner, cast: Cast
) -> None:
    tags = tags_named(project=cast.project, names=["linux"])
    queue = queue_for(project=cast.project, tags=tags)
    key = f"{project_prefix(cast.project.pk)}{queue.name}"
    with sign_in(real, victim) as client:
        assert client.brpop([key], timeout=0.05) is None
    other = new_runner(cast, cast.project, "plain")
    with sign_in(real, other) as client:
        assert refused(client, "BRPOP", key, "0.05")


@pytest.mark.parametrize(
    "command",
    [
        ("BRPOP", "{other}tasks", "0.05"),
        ("BRPOP", "{mine}tasks", "{other}tasks", "0.05"),
        ("RPOP", "{mine}tasks"),
        ("LPUSH", "{other}tasks", "forged"),
        ("LPUSH", "{mine}tasks", "forged"),
        ("LLEN", "{other}tasks"),
        ("LRANGE", "{other}tasks", "0", "-1"),
        ("LRANGE", "{mine}tasks", "0", "-1"),
        ("GET", "{other}secret"),
        ("SET", "{mine}mine", "1"),
        ("KEYS", "*"),
        ("SCAN", "0"),
        ("DEL", "{other}tasks"),
        ("DEL", "{other}runner-1@web-1.celery.pidbox"),
        ("COPY", "{other}tasks", "{mine}tasks"),
        ("SMEMBERS", "{other}_kombu.binding.celery.pidbox"),
        ("PUBLISH", "{other}/0.celeryev/worker.heartbeat", "x"),
        ("PUBLISH", "{mine}/0.celery.pidbox", "x"),
        ("PUBLISH", "{other}/0.celery.pidbox", "x"),
        ("PUBLISH", "/0.celeryev/worker.heartbeat", "x"),
        ("PUBLISH", "forge:live", "1"),
        ("SUBSCRIBE", "{other}/0.celery.pidbox"),
        ("PSUBSCRIBE", "*"),
        ("PSUBSCRIBE", "forge:project:*:/0.celery.pidbox"),
        ("PSUBSCRIBE", "{other}/0.celeryev/*"),
        ("EVAL", "return 1", "0"),
        ("EVALSHA", "0" * 40, "0"),
        ("CLIENT", "UNBLOCK", "1"),
        ("CLIENT", "KILL", "TYPE", "normal"),
        ("CLIENT", "LIST"),
        ("CLIENT", "TRACKING", "on"),
        ("CONFIG", "GET", "*"),
        ("ACL", "LIST"),
        ("ACL", "SETUSER", "runner-1", "allkeys"),
        ("SHUTDOWN", "NOSAVE"),
        ("FLUSHALL",),
        ("DEBUG", "SLEEP", "1"),
        ("MONITOR",),
        ("SELECT", "1"),
        ("INFO",),
        ("REPLICAOF", "NO", "ONE"),
        ("SORT", "{other}tasks", "STORE", "{mine}x"),
        ("MIGRATE", "127.0.0.1", "1", "{other}tasks", "0", "10"),
    ],
    ids=" ".join,
)
def test_a_stolen_token_opens_nothing_of_others(
    command: tuple[str, ...], thief: redis.Redis, victim: NewRunner, cast: Cast
) -> None:
    names = {
        "mine": project_prefix(cast.outsiders_project.pk),
        "other": project_prefix(cast.project.pk),
    }
    assert refused(thief, *(part.format(**names) for part in command))


def test_every_command_of_the_server_that_is_not_needed_is_refused(thief: redis.Redis) -> None:
    """Whatever a later version of the server adds is closed as well."""
    needed = {"auth", "hello", "reset", "quit", "ping", "multi", "exec", "brpop", "llen"}
    needed |= {"lpush", "sadd", "srem", "smembers", "del", "publish", "psubscribe", "punsubscribe"}
    commands = {name.lower() for name in administrator().command()}
    tried = sorted(commands - needed)
    open_ones = [name for name in tried if not _is_closed(thief, name)]
    assert len(tried) > 150
    assert open_ones == []


def _is_closed(client: redis.Redis, name: str) -> bool:
    account = client.connection_pool.connection_kwargs["username"]
    arguments = ["x"] * _arity(name)
    try:
        return _dry_run(account, name, *arguments)
    except redis.ResponseError as error:
        # A command that consists of others, such as ACL: each of them has HELP.
        assert "not found" in str(error) or "wrong number" in str(error), (name, error)
        return _dry_run(account, name, "help")


def _dry_run(*arguments: str) -> bool:
    answer = administrator().execute_command("ACL", "DRYRUN", *arguments)  # type: ignore[no-untyped-call]
    return answer not in (b"OK", "OK")


def _arity(name: str) -> int:
    description = administrator().command()[name]
    return max(abs(int(description["arity"])) - 1, 0)


def test_project_1_is_not_a_prefix_of_project_12(real: str, cast: Cast) -> None:
    first = Project.objects.create(pk=1_000_001, name="One")
    second = Project.objects.create(pk=1_000_001_2, name="Twelve")
    with sign_in(real, new_runner(cast, first, "one")) as client:
        assert refused(client, "LLEN", f"{project_prefix(second.pk)}tasks")


def test_removal_cuts_connections_at_once_also_one_that_waits(real: str, victim: NewRunner) -> None:
    key = f"{project_prefix(victim.runner.project_id)}tasks"
    client = sign_in(real, victim)
    assert client.ping()
    ended = threading.Event()

    def wait() -> None:
        try:
            client.brpop([key], timeout=4)
        except redis.RedisError:
            ended.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    _await_blocked_client()
    remove_runner(runner=victim.runner, now=timezone.now())
    waiting.join(timeout=30)
    assert ended.is_set()
    with pytest.raises(redis.AuthenticationError), sign_in(real, victim) as again:
        again.ping()


def _await_blocked_client() -> None:
    for _ in range(500):
        if administrator().info("clients")["blocked_clients"]:
            return
        threading.Event().wait(0.01)
    raise AssertionError("no client waits")


def test_applying_an_account_again_drops_no_connection(real: str, victim: NewRunner) -> None:
    with sign_in(real, victim, single_connection_client=True) as client:
        before = client.ping()
        accounts.apply_account(Runner.objects.get(pk=victim.runner.pk))
        assert before and client.ping()


def test_neither_the_database_nor_the_broker_holds_a_token(
    real: str, victim: NewRunner, cast: Cast
) -> None:
    listed = json.dumps(
        [str(line) for line in administrator().acl_list()] + [str(vars(victim.runner))]
    )
    assert victim.token not in listed

"""Broker accounts: what a runner's token opens. What it does not: tests/attacks."""

from __future__ import annotations

import json
import threading
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
from tests.deployment.client import wait_for

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


def test_removal_cuts_connections_at_once_also_one_that_waits(real: str, victim: NewRunner) -> None:
    key = f"{project_prefix(victim.runner.project_id)}tasks"
    client = sign_in(real, victim)
    assert client.ping()
    ended = threading.Event()

    def wait() -> None:
        try:
            client.brpop([key], timeout=0)
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
    wait_for(lambda: administrator().info("clients")["blocked_clients"], "a client waits")


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

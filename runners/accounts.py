"""Broker accounts of runners: one ACL user each, with exactly what a Celery worker needs.

The rules were found by running a real worker against them (DESIGN section 3). What they leave
out on purpose: scripts (EVALSHA alone can block the server), reading any key but its own
queues, publishing on the control channel (a runner could shut down its siblings), and the
connection commands (CLIENT UNBLOCK, CLIENT TRACKING).

ACLs do not replicate and do not survive a restart of the broker, so the controller compares and
corrects them on every node (`runners.repair`); here is what the other processes do at once, on
the node of REDIS_URL.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from datetime import datetime
from functools import cache
from typing import Any

import redis
from django.utils import timezone

from runners.broker import administrator, database_number, project_prefix
from runners.models import Queue, Runner
from runners.nodes import Node

logger = logging.getLogger(__name__)

ACCOUNT_PREFIX = "runner-"
# What means nothing but itself in a key pattern and in a selector. No queue has another name;
# one that had would open more than itself.
_LITERAL = re.compile(r"\A[A-Za-z0-9_.+-]+\Z")


def rules_for(
    runner: Runner, queues: Iterable[Queue], *, digests: Iterable[str], with_setinfo: bool
) -> list[str]:
    """The ACL SETUSER arguments of a runner that may consume `queues`.

    `digests` are of the tokens that open it: one, and the older ones during a rotation.
    """
    prefix = project_prefix(runner.project_id)
    events = f"{prefix}/{database_number()}.celeryev/*"
    control = f"{prefix}/{database_number()}.celery.pidbox"
    passwords = [f"#{digest}" for digest in digests]
    rules = ["reset", "on", *passwords, "-@all", "+ping", "+multi", "+exec"]
    if with_setinfo:
        rules.append("+client|setinfo")
    # Its own name is the queue of a runner that no other queue fits (see runners.connect).
    names = [runner.account, *(queue.name for queue in queues if _LITERAL.match(queue.name))]
    keys = " ".join(f"~{prefix}{name}" for name in names)
    rules += [
        f"(-@all +brpop {keys})",
        f"(-@all +llen ~{prefix}*)",
        f"(-@all +lpush ~{prefix}*.reply.celery.pidbox)",
        f"(-@all +sadd +srem +smembers ~{prefix}_kombu.*)",
        f"(-@all +del ~{prefix}{runner.account}@*.celery.pidbox)",
        f"(-@all +publish &{events})",
        f"(-@all +psubscribe +punsubscribe &{control})",
    ]
    return rules


@cache
def _knows_setinfo() -> bool:
    return Node("", administrator()).knows_setinfo()


def _acl(*arguments: str) -> Any:
    return administrator().execute_command("ACL", *arguments)  # type: ignore[no-untyped-call]


def apply_account(runner: Runner) -> None:
    """Create or correct the runner's account, if its row still says that it has one.

    Afterwards the tokens are read again: one that ended meanwhile, and that somebody else has
    taken off the account already, was put back by this and is taken off again. Raises
    redis.RedisError.
    """
    if not Runner.objects.with_account(timezone.now()).filter(pk=runner.pk).exists():
        return
    digests = runner.valid_digests(now=timezone.now())
    _set_account(runner, digests)
    while (now_valid := runner.valid_digests(now=timezone.now())) != digests:
        digests = now_valid
        _set_account(runner, digests)
        cut_connections(runner)


def _set_account(runner: Runner, digests: Iterable[str]) -> None:
    rules = rules_for(runner, runner.queues(), digests=digests, with_setinfo=_knows_setinfo())
    _acl("SETUSER", runner.account, *rules)


def cut_connections(runner: Runner) -> None:
    """End the account's connections: a password that is taken off leaves them open.

    The worker connects again, with the token that it has by then. Raises redis.RedisError.
    """
    administrator().execute_command(  # type: ignore[no-untyped-call]
        "CLIENT", "KILL", "USER", runner.account
    )


def cut_ended_tokens(runner: Runner, *, now: datetime) -> None:
    """Take the runner's ended tokens off its account, and their connections down.

    Raises redis.RedisError, and then it is to be done again.
    """
    ended = list(runner.tokens.to_cut(now=now).values_list("pk", flat=True))
    apply_account(runner)
    cut_connections(runner)
    runner.tokens.filter(pk__in=ended).update(cut_at=now)


def remove_account(name: str) -> None:
    """Delete an account; the broker drops its connections at once. Raises redis.RedisError."""
    _acl("DELUSER", name)


def try_to_apply(runner: Runner) -> None:
    """As `apply_account`; a broker that is away is logged and left to the controller."""
    try:
        apply_account(runner)
    except redis.RedisError as error:
        logger.warning("account of runner %s not applied yet: %s", runner.name, error)


def try_to_narrow(runner: Runner) -> None:
    """As `apply_account`, and what was taken under the wider rules ends.

    A broker that is away is logged and left to the controller, which does the same.
    """
    try:
        apply_account(runner)
        cut_connections(runner)
    except redis.RedisError as error:
        logger.warning("account of runner %s not narrowed yet: %s", runner.name, error)


def try_to_cut(runner: Runner, *, now: datetime) -> None:
    """As `cut_ended_tokens`; a broker that is away is logged and left to the controller."""
    try:
        cut_ended_tokens(runner, now=now)
    except redis.RedisError as error:
        logger.warning("ended tokens of runner %s not cut yet: %s", runner.name, error)


def try_to_remove(runner: Runner) -> None:
    """As `remove_account`; a broker that is away is logged and left to the controller."""
    try:
        remove_account(runner.account)
    except redis.RedisError as error:
        logger.warning("account of runner %s not removed yet: %s", runner.name, error)

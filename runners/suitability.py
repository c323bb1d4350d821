"""Whether the broker can do what Forge needs of it, tried out with a probe account.

Some managed services forbid `ACL SETUSER`, some evict keys, some are clusters. Each of that
would show much later and somewhere else, so it is asked at the start and said in one line. A
broker that does not answer is no unsuitable broker: it may be back in a moment.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from django.conf import settings

from runners.accounts import rules_for
from runners.errors import BrokerUnsuitableError
from runners.models import Queue, Runner
from runners.nodes import Node, label_of

OLDEST = {"redis": (7, 0), "valkey": (7, 2)}
# Not under the prefix of runners' accounts, where the controller removes what no row explains.
PROBE_PREFIX = "forge-probe-"
GENEROUS_BULK_BYTES = 8 * 1024**2
GENEROUS_DENIALS = 32
LIMITS_PAGE = "docs/broker.md"


def check(node: Node) -> list[str]:
    """Try what Forge needs; returns advice, a sentence each.

    Raises BrokerUnsuitableError for a broker with which Forge can never work, and
    redis.RedisError for one that does not answer.
    """
    try:
        node.client.ping()
        server = node.client.info("server")
        _check_version(server)
        _check_mode(server, node.client.info("replication"))
        memory = node.client.info("memory")
        _check_policy(memory)
        _check_accounts(node)
        _check_connections(node)
    except redis.AuthenticationError as error:
        raise BrokerUnsuitableError(
            "does not accept the name and password in REDIS_URL. Correct REDIS_URL."
        ) from error
    except redis.exceptions.NoPermissionError as error:
        raise BrokerUnsuitableError(
            f"forbids the account in REDIS_URL what Forge needs ({error}). Give that account "
            "+@all ~* &*, or use a broker that allows it."
        ) from error
    return [*_advice_on_memory(memory), *_advice_on_clients(node)]


def problem_of(node: Node) -> str:
    """As `check`, in one sentence: empty if all is well. Raises redis.RedisError."""
    try:
        check(node)
    except BrokerUnsuitableError as error:
        return str(error)
    return ""


def _check_version(server: dict[str, Any]) -> None:
    name = str(server.get("server_name", "redis")).lower()
    name = name if name in OLDEST else "redis"
    version = str(server.get(f"{name}_version", server.get("redis_version", "0")))
    if _numbers(version) < OLDEST[name]:
        oldest = ".".join(map(str, OLDEST[name]))
        raise BrokerUnsuitableError(
            f"is {name.capitalize()} {version}; Forge needs Redis 7.0 or Valkey 7.2 or later, "
            f"because older ones have no ACL selectors. Install {name} {oldest} or later."
        )


def _numbers(version: str) -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _check_mode(server: dict[str, Any], replication: dict[str, Any]) -> None:
    mode = server.get("redis_mode", server.get("server_mode", "standalone"))
    if mode == "sentinel":
        raise BrokerUnsuitableError(
            "is a Sentinel. Put the address of the master that it watches into REDIS_URL."
        )
    if mode == "cluster":
        raise BrokerUnsuitableError(
            "is a cluster, which Celery cannot use. Use one server, with replicas if you like."
        )
    if replication.get("role") != "master":
        master = f"{replication.get('master_host')}:{replication.get('master_port')}"
        raise BrokerUnsuitableError(
            f"is a replica and cannot be written to. Put its master, {master}, into REDIS_URL."
        )


def _check_policy(memory: dict[str, Any]) -> None:
    policy = memory.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise BrokerUnsuitableError(
            f"has maxmemory-policy {policy}, under which it deletes hints unnoticed. Set "
            "maxmemory-policy noeviction."
        )


def _check_accounts(node: Node) -> None:
    """Make an account as a runner gets it, see that it opens its own queue only, delete it."""
    try:
        with _probe(node) as name:
            opens = _may(node, name, "BRPOP", f"forge:project:0:{Queue.UNTAGGED}", "0")
            opens_others = _may(node, name, "BRPOP", f"forge:project:1:{Queue.UNTAGGED}", "0")
    except redis.exceptions.NoPermissionError as error:
        raise BrokerUnsuitableError(
            f"forbids the account in REDIS_URL to manage accounts ({error}). Give that account "
            "+acl, or use a broker that allows ACL SETUSER: each runner gets an account."
        ) from error
    except redis.ResponseError as error:
        raise BrokerUnsuitableError(
            f"cannot keep runners' accounts (it answered: {str(error)[:200]}). Use a broker that "
            "allows ACL SETUSER, GETUSER, LIST, DRYRUN and DELUSER; some managed services do not."
        ) from error
    if not opens or opens_others:
        raise BrokerUnsuitableError(
            "does not honour ACL selectors, which keep projects apart. Use Redis 7.0 or Valkey "
            "7.2 or later."
        )


@contextmanager
def _probe(node: Node) -> Iterator[str]:
    """An account with a runner's rules, in a project that cannot be. Nobody has its password."""
    name = f"{PROBE_PREFIX}{secrets.token_hex(8)}"
    nobody = Runner(pk=0, project_id=0)
    digests = [secrets.token_hex(32)]
    queue = Queue(project_id=0, name=Queue.UNTAGGED)
    rules = rules_for(nobody, [queue], digests=digests, with_setinfo=node.knows_setinfo())
    node.command("ACL", "SETUSER", name, *rules)
    try:
        node.command("ACL", "GETUSER", name)
        node.command("ACL LIST")
        yield name
    finally:
        node.command("ACL", "DELUSER", name)


def _may(node: Node, name: str, *command: str) -> bool:
    return node.command("ACL", "DRYRUN", name, *command) in (b"OK", "OK")


def _check_connections(node: Node) -> None:
    """What the watch needs: to see connections, and to end them."""
    try:
        node.command("CLIENT", "LIST", "ID", "1")
        node.command("CLIENT", "KILL", "ID", str(2**63 - 1))
    except redis.exceptions.NoPermissionError:
        raise
    except redis.ResponseError as error:
        raise BrokerUnsuitableError(
            f"does not let Forge see and end connections (it answered: {str(error)[:200]}). Use "
            "a broker that allows CLIENT LIST and CLIENT KILL."
        ) from error


def _advice_on_memory(memory: dict[str, Any]) -> list[str]:
    if memory.get("maxmemory"):
        return []
    return ["The broker has no memory limit: it can fill its host. Set maxmemory."]


def _advice_on_clients(node: Node) -> list[str]:
    """Limits on what one client may make the server hold; silent where they cannot be read."""
    try:
        found = node.client.config_get("maxmemory-clients", "proto-max-bulk-len", "acllog-max-len")
    except redis.ResponseError:
        return []
    missing = []
    if str(found.get("maxmemory-clients", "0")) == "0":
        missing.append("maxmemory-clients 25%")
    if int(found.get("proto-max-bulk-len") or 0) > GENEROUS_BULK_BYTES:
        missing.append("proto-max-bulk-len 1mb")
    if int(found.get("acllog-max-len") or 0) > GENEROUS_DENIALS:
        missing.append("acllog-max-len 16")
    if not missing:
        return []
    lines = ", ".join(missing)
    return [
        "One client may fill the broker before it is cut off, and others are refused meanwhile. "
        f"Set {lines} ({LIMITS_PAGE})."
    ]


def broker_place() -> str:
    """Where REDIS_URL points, for messages: never with its password."""
    return label_of(settings.REDIS_URL)

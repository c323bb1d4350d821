"""The servers that make up the broker: the one of REDIS_URL, its replicas, and those listed.

Accounts do not replicate, so each node has to be told by itself. Replicas are found by asking
the master (`INFO replication`), and signed in to with the credentials of REDIS_URL.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import redis
from django.conf import settings

from runners.broker import ANSWER_TIMEOUT, CONNECT_TIMEOUT, administrator

logger = logging.getLogger(__name__)

SETINFO_SINCE = (7, 2)
# A node that does not answer is left alone for a while, longer each time: waiting for it must
# not keep the others from being looked after.
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 15.0


@dataclass
class Node:
    """One server; `place` is its host and port, for the log."""

    place: str
    client: redis.Redis
    _pause: float = 0.0
    _not_before: float = 0.0
    _knows_setinfo: bool | None = None

    def command(self, *arguments: str) -> Any:
        """Send one command. Raises redis.RedisError."""
        return self.client.execute_command(*arguments)  # type: ignore[no-untyped-call]

    def knows_setinfo(self) -> bool:
        """Whether it has CLIENT SETINFO; naming an unknown command in an ACL is an error."""
        if self._knows_setinfo is None:
            version = str(self.client.info("server")["redis_version"])
            major, minor = (int(part) for part in version.split(".")[:2])
            self._knows_setinfo = (major, minor) >= SETINFO_SINCE
        return self._knows_setinfo

    @property
    def is_due(self) -> bool:
        """Whether it answers as far as is known, or its pause is over."""
        return time.monotonic() >= self._not_before

    def note_trouble(self, error: Exception) -> None:
        """It did not answer: say so once, and leave it alone for a while."""
        if not self._pause:
            logger.warning("broker node %s: %s; tried again until it answers", self.place, error)
        self._pause = min(max(2 * self._pause, FIRST_PAUSE), LONGEST_PAUSE)
        self._not_before = time.monotonic() + self._pause
        # It may come back as another version.
        self._knows_setinfo = None

    def note_answer(self) -> None:
        if self._pause:
            logger.info("broker node %s answers again", self.place)
        self._pause = self._not_before = 0.0


class Nodes:
    """The broker's nodes, with a client kept for each. One thread uses it."""

    def __init__(self) -> None:
        self._known: dict[str, Node] = {}
        self._replicas: list[str] = []

    def all(self) -> list[Node]:
        """Every node, the master first; replicas as last heard while the master is away."""
        master = label_of(settings.REDIS_URL)
        if master not in self._known:
            self._known[master] = Node(master, administrator())
        node = self._known[master]
        if node.is_due:
            self._ask_for_replicas(node)
        urls = [*settings.FORGE_BROKER_NODES, *self._replicas]
        places = {master: settings.REDIS_URL}
        places |= {label_of(url): url for url in urls if label_of(url) != master}
        self._known = {place: self._node(place, url) for place, url in places.items()}
        return list(self._known.values())

    def _node(self, place: str, url: str) -> Node:
        return self._known.get(place) or Node(place, _client(with_credentials(url)))

    def _ask_for_replicas(self, master: Node) -> None:
        try:
            found: dict[str, Any] = master.client.info("replication")
        except redis.RedisError as error:
            master.note_trouble(error)
            return
        replicas = [item for name, item in found.items() if _is_replica(name, item)]
        self._replicas = [url_of(str(item["ip"]), int(item["port"])) for item in replicas]


def _is_replica(name: str, item: Any) -> bool:
    """`slave0: {'ip': …, 'port': …, 'state': …}`, as redis-py reads INFO."""
    return name.startswith("slave") and isinstance(item, dict) and "ip" in item


def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(
        url, socket_connect_timeout=CONNECT_TIMEOUT, socket_timeout=ANSWER_TIMEOUT
    )


def label_of(url: str) -> str:
    """Host and port of a broker URL, or its socket: never its credentials."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return parts.path
    return f"{parts.hostname or '127.0.0.1'}:{parts.port or 6379}"


def url_of(host: str, port: int) -> str:
    """REDIS_URL with another host and port."""
    parts = urlsplit(settings.REDIS_URL)
    if parts.scheme == "unix":
        # A replica is somewhere else; of the socket's URL only the credentials hold there.
        parts = parts._replace(scheme="redis", path="", query="")
    user, at, _ = parts.netloc.rpartition("@")
    host = f"[{host}]" if ":" in host else host
    return urlunsplit(parts._replace(netloc=f"{user}{at}{host}:{port}"))


def with_credentials(url: str) -> str:
    """The URL with REDIS_URL's credentials, if it has none of its own."""
    parts = urlsplit(url)
    if "@" in parts.netloc:
        return url
    user, at, _ = urlsplit(settings.REDIS_URL).netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}{at}{parts.netloc}"))

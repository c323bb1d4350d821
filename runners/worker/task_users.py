"""A Unix user for each running task, where the worker runs as root.

Then one task cannot read another's environment, memory or files, nor the worker's.
"""

from __future__ import annotations

import os
import pwd
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from runners.worker.errors import ConfigurationError, say

VARIABLE = "FORGE_RUNNER_TASK_USERS"
# Of the worker's environment they would lead the user to root's folders.
PERSONAL_VARIABLES = frozenset(
    ("XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME",
     "MAIL", "SHELL", "SSH_AUTH_SOCK", "DBUS_SESSION_BUS_ADDRESS", "TMPDIR")
)  # fmt: skip


@dataclass(frozen=True)
class TaskUser:
    """One entry of the password database; `groups` are all of its groups' numbers."""

    name: str
    uid: int
    gid: int
    home: str
    groups: tuple[int, ...]

    @property
    def environment(self) -> dict[str, str]:
        return {"HOME": self.home, "USER": self.name, "LOGNAME": self.name}

    def as_json(self) -> dict[str, object]:
        """What the supervision needs to become this user."""
        return {"uid": self.uid, "gid": self.gid, "groups": list(self.groups)}


class TaskUsers:
    """Lends each user to one task at a time. Without users every task runs as the worker's."""

    def __init__(self, users: Sequence[TaskUser]) -> None:
        self._idle = list(users)
        self._freed = threading.Condition()
        self.count = len(users)

    def bound(self, concurrency: int) -> int:
        """No more tasks at once than there are users to run them; says so where that is less."""
        if not self.count or concurrency <= self.count:
            return concurrency
        say(
            f"This runner may run {concurrency} tasks at once, but {VARIABLE} names {self.count}: "
            f"it runs {self.count}."
        )
        return self.count

    def next(self) -> TaskUser | None:
        """Whom the next task would get; None if there are none, or all are lent."""
        with self._freed:
            return self._idle[0] if self._idle else None

    @contextmanager
    def lent(self) -> Iterator[TaskUser | None]:
        """A user for one task until the end of the block, None if there are none at all.

        There are as many as tasks at once, so waiting is for the moment between two tasks only.
        """
        if not self.count:
            yield None
            return
        with self._freed:
            self._freed.wait_for(lambda: bool(self._idle))
            user = self._idle.pop(0)
        try:
            yield user
        finally:
            with self._freed:
                self._idle.append(user)
                self._freed.notify()


def task_users(text: str) -> tuple[TaskUser, ...]:
    """The users named in FORGE_RUNNER_TASK_USERS. Raises ConfigurationError."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        return ()
    if os.geteuid() != 0:
        raise ConfigurationError(
            f"{VARIABLE} is set, but this worker does not run as root, so it cannot start tasks "
            "as other users. Start it as root, or unset the variable."
        )
    users = tuple(map(_user, names))
    if len({user.uid for user in users}) < len(users):
        raise ConfigurationError(
            f"{VARIABLE} names one user twice. Each running task needs a user for itself."
        )
    return users


def _user(name: str) -> TaskUser:
    try:
        entry = pwd.getpwnam(name)
    except (KeyError, ValueError) as error:
        raise ConfigurationError(
            f"{VARIABLE}: this host has no user {name[:60]!r}. Make it with `useradd`, or take "
            "the name out."
        ) from error
    if entry.pw_uid == 0:
        raise ConfigurationError(
            f"{VARIABLE}: {name[:60]} is root, which can read everything. Name ordinary users."
        )
    groups = tuple(os.getgrouplist(entry.pw_name, entry.pw_gid))
    return TaskUser(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir, groups)


def require_passage(folder: Path) -> None:
    """Raise ConfigurationError if other users cannot get to `folder`, where tasks work."""
    for parent in folder.parents:
        if parent.exists() and not parent.stat().st_mode & 0o001:
            raise ConfigurationError(
                f"{VARIABLE} is set, but other users may not pass through {parent}. Let them with "
                f"`chmod o+x {parent}`, or set FORGE_RUNNER_DATA to a folder that they can reach."
            )

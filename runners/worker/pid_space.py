"""The space of process ids that a worker is in: its host's, or a container's of its own."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import Any, NamedTuple

from runners.worker.processes import PROC, name_of

# The host's own, which lasts until it is restarted; a fixed number of the kernel's.
_OF_HOST = "pid:[4026531836]"
# First processes of containers that end with their only child.
_INITS = ("tini", "docker-init", "podman-init", "catatonit", "dumb-init")


class PidSpace(NamedTuple):
    """When its first process ends, the kernel kills all others in it.

    name: what tells it from others, empty if that is not known. host: the host name in it.
    ends_with: whether it has ended when the worker has that noted this.
    """

    name: str = ""
    host: str = ""
    ends_with: bool = False

    @staticmethod
    def here() -> PidSpace:
        """That of this process."""
        name = ""
        with suppress(OSError):
            name = os.readlink(PROC / "self" / "ns" / "pid")
        is_first = os.getpid() == 1 or (os.getppid() == 1 and name_of(1) in _INITS)
        return PidSpace(name, socket.gethostname(), is_first)

    @staticmethod
    def read(noted: Any) -> PidSpace:
        """What became of one in JSON; of anything else nothing is known."""
        if isinstance(noted, list) and len(noted) == 3 and all(map(isinstance, noted, _TYPES)):
            return PidSpace(*noted)
        return PidSpace()

    def is_other_than(self, here: PidSpace) -> bool:
        """Whether its processes cannot all be seen from `here`."""
        return bool(self.name) and self.name != here.name

    def has_ended(self, here: PidSpace) -> bool:
        """Of one that is another than `here`: whether it is certain that nothing in it runs.

        A container that is started again has its host name again, and has ended before.
        """
        return self.ends_with or (self.name != _OF_HOST and self.host == here.host)


_TYPES = (str, str, bool)

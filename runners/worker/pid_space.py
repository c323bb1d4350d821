"""The space of process ids that a worker is in: its host's, or a container's of its own."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any, NamedTuple

from runners.worker.processes import PROC, name_of, status_of

# The host's own, from which all others can be seen; a fixed number of the kernel's.
_OF_HOST = "pid:[4026531836]"
# First processes of containers that end with their only child.
_INITS = ("tini", "docker-init", "podman-init", "catatonit", "dumb-init")


class PidSpace(NamedTuple):
    """When its first process ends, the kernel kills all others in it.

    name: what tells it from others at the same time; empty if that is not known. first: the ticks
    of its first process, which tell it from later ones of that name; 0 if they are not known.
    ends_with: whether it has ended when the worker has that noted this.
    """

    name: str = ""
    first: int = 0
    ends_with: bool = False

    @staticmethod
    def here() -> PidSpace:
        """That of this process."""
        name, first = "", 0
        with suppress(OSError):
            name = os.readlink(PROC / "self" / "ns" / "pid")
            first = status_of(1).ticks
        is_first = os.getpid() == 1 or (os.getppid() == 1 and name_of(1) in _INITS)
        return PidSpace(name, first, is_first)

    @staticmethod
    def read(noted: Any) -> PidSpace:
        """What became of one in JSON; of anything else nothing is known."""
        if isinstance(noted, list) and len(noted) == 3 and all(map(isinstance, noted, _TYPES)):
            return PidSpace(*noted)
        return PidSpace()

    def is_other_than(self, here: PidSpace) -> bool:
        """Whether its processes may be such that cannot all be seen from `here`."""
        if not self.name:
            return here.name != _OF_HOST
        return (self.name, self.first) != (here.name, here.first)

    def has_ended(self, here: PidSpace) -> bool:
        """Of one that is another than `here`: whether it is certain that nothing in it runs.

        A host name that is the same is no proof: containers may share one, or have their host's.
        """
        # Two that live have not the same name.
        was_replaced = self.name == here.name and 0 not in (self.first, here.first)
        return self.ends_with or was_replaced


_TYPES = (str, int, bool)

"""Where the process of an attempt works: its script, its folder, its secret files.

    <runner's folder>/work/<task>-<attempt>/script.sh, folder/
    <folder for secrets>/<task>-<attempt>/1, 2, …
    <runner's folder>/gone/<random name>     what is to be deleted: `runners.worker.clearance`

Secret files lie in memory where the host has such a place (`Workplaces`). Whatever ends an
attempt removes them: its supervisor, or the fork server if the supervisor was killed, or, if both
were, the next start of the worker. A worker that Forge does not take for the runner's removes none
of another one's.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from runners.worker.clearance import Clearance, is_own_folder
from runners.worker.protocol import SecretFile
from runners.worker.supervision import remove_folder
from runners.worker.task_users import TaskUser

_SHARED_MEMORY = "/dev/shm"  # noqa: S108  # a folder of our own of mode 0700 is made in it
PRIVATE = 0o700
# Others may pass through, to what is theirs, and see no names.
PASSABLE = 0o711
# As many as there are at once of one task: its script, and its start and its end in the journal.
# A disk may have room, and yet nothing left to make a file of.
PROBE_FILES = 4


@dataclass(frozen=True)
class Workplace:
    """The folders of one attempt. With a `user`, all of it belongs to that user.

    clearance: deletes it. mode: of the folder that `place` is in.
    """

    place: Path
    secrets: Path
    user: TaskUser | None
    clearance: Clearance
    mode: int = PRIVATE

    @property
    def folder(self) -> Path:
        """Empty at first; the process starts in it."""
        return self.place / "folder"

    def make(self) -> None:
        self._make_parent()
        for folder in (self.place, self.folder):
            folder.mkdir(mode=PRIVATE)
            self._give_away(folder)

    def _make_parent(self) -> None:
        """A task may have deleted more than its own; the next ones are not to fail for it."""
        with suppress(FileExistsError):
            self.place.parent.mkdir(mode=PRIVATE)
            self.place.parent.chmod(self.mode)

    def write_script(self, name: str, text: str) -> Path:
        path = self.place / name
        self._write(path, text)
        return path

    def write_secrets(self, files: Sequence[SecretFile]) -> dict[str, str]:
        """Put secrets into files of mode 0600; returns their paths by variable name."""
        if not files:
            return {}
        self.secrets.mkdir(mode=PRIVATE)
        self._give_away(self.secrets)
        paths = {}
        for number, file in enumerate(files, start=1):
            # Nothing of the message becomes part of a path.
            path = self.secrets / str(number)
            self._write(path, file.content)
            paths[file.variable] = str(path)
        return paths

    def _write(self, path: Path, text: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
            if self.user is not None:
                os.fchown(file.fileno(), self.user.uid, self.user.gid)
            file.write(text.encode(errors="surrogateescape"))

    def _give_away(self, folder: Path) -> None:
        if self.user is not None:
            os.chown(folder, self.user.uid, self.user.gid, follow_symlinks=False)

    def remove_secrets(self) -> None:
        """Those that nobody has removed before. Raises nothing."""
        remove_folder(os.fsencode(self.secrets))

    def remove(self) -> None:
        """Secret files now; the rest is out of the way, for `clearance` to delete.

        What is gone already is fine.
        """
        self.remove_secrets()
        self.clearance.take(self.place)


class Workplaces:
    """All workplaces of one runner; `is_shared` when other users' processes work in them.

    The folders in memory bear the runner's name, which several workers may have by mistake, and a
    mark of their own: that of the folder and of the `instance` of its journal.
    """

    def __init__(
        self,
        runner_folder: Path,
        environment: Mapping[str, str],
        *,
        is_shared: bool,
        instance: str = "",
    ) -> None:
        self._mode = PASSABLE if is_shared else PRIVATE
        self._base = runner_folder / "work"
        self.clearance = Clearance(runner_folder / "gone")
        self._otherwise = runner_folder / "secrets"
        # A runtime folder is one user's alone: another user's process cannot pass through it.
        runtime = "" if is_shared else environment.get("XDG_RUNTIME_DIR", "")
        self._name = f"forge-{os.geteuid()}-{runner_folder.name}"
        mark = hashlib.sha256(os.fsencode(runner_folder.absolute()) + instance.encode())
        name = f"{self._name}-{mark.hexdigest()[:12]}"
        places = [Path(text) for text in (runtime, _SHARED_MEMORY) if text]
        self._in_memory = [place / name for place in places]

    def clear(self) -> None:
        """At the start: an earlier worker's that had the same folder.

        Secret files are removed, and the rest is put aside, so that Forge does not wait for it.
        """
        self.close()
        self.clearance.find()
        if not self._base.is_symlink():
            self.clearance.take(self._base)
        self._make(self._base)

    def probe(self, *, more: int = 0) -> None:
        """Make and remove what a task needs room for, and so many files more. Raises OSError."""
        place = self._base / f"probe-{secrets.token_hex(8)}"
        workplace = Workplace(place, place / "none", None, self.clearance, self._mode)
        try:
            workplace.make()
            for number in range(PROBE_FILES + more):
                workplace.write_script(str(number), "")
        finally:
            remove_folder(os.fsencode(place))

    def clear_others(self) -> None:
        """Remove what workers of this runner left in memory that had other folders.

        Once Forge has said that this one is the runner's: then none of them has tasks any more.
        Earlier versions gave the runner's name alone.
        """
        for own in self._in_memory:
            for folder in own.parent.glob(f"{self._name}*"):
                mark = folder.name.removeprefix(self._name)
                is_of_runner = not mark or mark.startswith("-")
                if is_of_runner and folder != own and is_own_folder(folder):
                    remove_folder(os.fsencode(folder))

    def close(self) -> None:
        """Remove the folders for secrets, wherever they are."""
        for folder in (*self._in_memory, self._otherwise):
            if is_own_folder(folder):
                remove_folder(os.fsencode(folder))

    def of(
        self, task: int, attempt: int, user: TaskUser | None, *, has_secrets: bool = True
    ) -> Workplace:
        """The workplace of one attempt; memory is looked for only if there is a use for it."""
        name = f"{task}-{attempt}"
        base = self._secrets_base() if has_secrets else self._otherwise
        return Workplace(self._base / name, base / name, user, self.clearance, self._mode)

    def _secrets_base(self) -> Path:
        """In memory if the host lets us, else beside the journal.

        Looked for each time: a host may take the memory of a user who logs out. Anybody may
        write into /dev/shm: what has this name and is not ours is left alone.
        """
        for folder in self._in_memory:
            if _is_in_memory(folder.parent) and self._make(folder):
                return folder
        self._make(self._otherwise)
        return self._otherwise

    def _make(self, folder: Path) -> bool:
        """Make the folder if need be; False if it cannot be had."""
        try:
            folder.mkdir(mode=PRIVATE, exist_ok=True)
            if not is_own_folder(folder):
                return False
            folder.chmod(self._mode)
        except OSError:
            return False
        return True


def _is_in_memory(place: Path) -> bool:
    """Whether the file system of this folder is a tmpfs or ramfs that we may write to."""
    if not os.access(place, os.W_OK | os.X_OK):
        return False
    best, kind = "", ""
    try:
        mounts = Path("/proc/self/mounts").read_text().splitlines()
        real = str(place.resolve(strict=True))
    except OSError:
        return False
    for line in mounts:
        _, mounted, file_system, *_ = line.split(" ")
        is_above = real == mounted or real.startswith(mounted.rstrip("/") + "/")
        if is_above and len(mounted) >= len(best):
            best, kind = mounted, file_system
    return kind in ("tmpfs", "ramfs")

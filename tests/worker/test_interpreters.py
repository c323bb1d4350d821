"""Which `bash` and `python3` run a script, and who looks for them."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from runners.worker.entry import Entry
from runners.worker.execution import Outcome, Run
from runners.worker.lease import Lease
from runners.worker.protocol import Job
from runners.worker.supervision import ForkServer, boot_seconds
from runners.worker.task_users import TaskUser, task_users
from runners.worker.workplace import Workplaces

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

OTHER = "#!/bin/sh\necho other\n"


@pytest.fixture
def server() -> Iterator[ForkServer]:
    server = ForkServer()
    server.start()
    yield server
    server.close()


class Scripts:
    """Runs scripts as a worker with the PATH of this process does."""

    def __init__(self, server: ForkServer, entry: Entry, folder: Path) -> None:
        self._server = server
        self._entry = entry
        self._folder = folder

    def run(
        self,
        script: str,
        *,
        app: str = "bash",
        environment: dict[str, str] | None = None,
        user: TaskUser | None = None,
    ) -> Outcome:
        workplaces = Workplaces(self._folder, {}, is_shared=user is not None)
        workplaces.clear()
        job = Job(7, 1, app, script, environment or {}, 600.0, "p", "t")
        lease = Lease(sent=boot_seconds(), seconds=600.0, is_fenced=False)
        workplace = workplaces.of(7, 1, user)
        run = Run(job, self._entry, workplace, lease, wrote=lambda: None)
        return run.execute(self._server, {}, lambda: None)

    def output(self, script: str, **options: object) -> str:
        outcome = self.run(script, **options)  # type: ignore[arg-type]
        assert outcome.outcome == "succeeded", outcome.reason
        return self._entry.read(0, 10_000).decode()


@pytest.fixture
def scripts(server: ForkServer, entry: Entry, tmp_path: Path) -> Scripts:
    (tmp_path / "runner").mkdir()
    return Scripts(server, entry, tmp_path / "runner")


def put(folder: Path, name: str, mode: int = 0o755) -> Path:
    """Put another program of that name there."""
    folder.mkdir(parents=True)
    (folder / name).write_text(OTHER)
    (folder / name).chmod(mode)
    return folder


def prepend(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_the_worker_itself_does_not_look_along_the_path(
    scripts: Scripts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "bin", "bash")
    monkeypatch.chdir(tmp_path)
    # What is there for the worker is not for the task's process, which is in a folder of its own.
    prepend(monkeypatch, Path("/proc/self/cwd/bin"))
    assert scripts.output("echo ran") == "ran\n"


def test_the_first_one_on_the_workers_path_is_taken(
    scripts: Scripts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepend(monkeypatch, put(tmp_path / "bin", "bash"))
    assert scripts.output("echo ran") == "other\n"


def test_the_path_of_the_task_is_for_its_script_alone(scripts: Scripts, tmp_path: Path) -> None:
    path = str(put(tmp_path / "bin", "bash"))
    output = scripts.output('echo "$BASH $PATH"; bash', environment={"PATH": path})
    assert output == f"{shutil.which('bash')} {path}\nother\n"


def test_python_knows_where_it_lies_also_with_a_path_of_the_tasks_own(
    scripts: Scripts, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(sys.executable).parent
    # Not the host's own, which may be a script that wants other programs.
    prepend(monkeypatch, folder)
    script = "import sys; print(sys.executable)"
    output = scripts.output(script, app="python", environment={"PATH": "/nothing"})
    assert output == f"{folder}/python3\n"


def test_what_is_not_executable_is_passed_over(
    scripts: Scripts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepend(monkeypatch, put(tmp_path / "bin", "bash", 0o644))
    assert scripts.output("echo ran") == "ran\n"


def test_without_python3_the_workers_own_is_taken(
    scripts: Scripts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    script = "import sys; print(sys.executable)"
    assert scripts.output(script, app="python") == f"{sys.executable}\n"


@pytest.mark.parametrize("path", ["", "/nothing", "/nothing:/dev/null"])
def test_a_missing_bash_is_named(
    scripts: Scripts, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setenv("PATH", path)
    outcome = scripts.run("echo ran", environment={"PATH": os.defpath})
    assert (outcome.outcome, outcome.reason) == (
        "failed",
        "The program could not be started: "
        "bash is not installed on this host, or not on the PATH of the runner",
    )


@pytest.fixture
def hidden() -> Iterator[Path]:
    """A folder that only root may look into, and those above it everybody."""
    with TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        found = put(Path(folder) / "bin", "bash")
        found.chmod(0o700)
        yield found


@pytest.fixture
def open_scripts(server: ForkServer, entry: Entry) -> Iterator[Scripts]:
    """In a folder that task users can reach."""
    with TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Scripts(server, entry, Path(folder))


@as_root
def test_it_is_looked_for_as_the_user_of_the_task(
    open_scripts: Scripts, hidden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepend(monkeypatch, hidden)
    assert open_scripts.output("id -un", user=task_users("nobody")[0]) == "nobody\n"


@as_root
def test_a_folder_that_the_user_may_not_enter_is_named_where_nothing_else_is_found(
    open_scripts: Scripts, hidden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"/nothing:{hidden}")
    reason = open_scripts.run("echo ran", user=task_users("nobody")[0]).reason
    assert reason.endswith(f"lies where the task's user may not look, as in {hidden}")


def test_a_folder_of_the_path_is_the_one_that_the_kernel_means(
    scripts: Scripts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`..` behind a link leads to where the link does, as in the scripts that start a worker."""
    (tmp_path / "releases" / "42").mkdir(parents=True)
    (tmp_path / "current").symlink_to(tmp_path / "releases" / "42")
    folder = tmp_path / "releases" / "bin"
    folder.mkdir()
    (folder / "bash").write_text(OTHER)
    (folder / "bash").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/current/../bin:{os.environ['PATH']}")
    assert scripts.output("echo bash") == "other\n"


def test_a_relative_folder_of_the_path_that_is_gone_is_passed_over(
    scripts: Scripts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setenv("PATH", f"bin::{os.environ['PATH']}")
    assert scripts.output("echo bash") == "bash\n"

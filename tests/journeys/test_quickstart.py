"""The quick start's own life: what ends it, what a second one meets, what it says."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deployment.client import wait_for
from tests.deployment.deployment import ROOT, Deployment, processes_with


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Deployment]:
    """A quick start that a test may do anything to.

    Its periods are real ones: with short ones a runner that starts slowly is lost meanwhile.
    """
    with Deployment(tmp_path, periods={}) as deployment:
        yield deployment


def test_kill_9_leaves_no_process_and_the_next_start_ends_the_task_with_a_reason(
    own: Deployment,
) -> None:
    marker = "forge-kill-test-2301"
    script = f"(setsid env -i bash -c 'exec -a {marker} sleep 600' &) ; echo up; sleep 600"
    task = own.api.run_script(own.place["project_id"], script)
    own.api.await_output(task, b"up")
    roles = own.place["pids"]
    own.kill_quick_start()
    wait_for(
        lambda: not processes_with(marker) and not processes_with(str(own.data)),
        "nothing is left of it",
    )
    assert not [role for role, pid in roles.items() if Path(f"/proc/{pid}/exe").exists()]
    own.start()
    ended = own.api.wait_until(task)
    assert ended["state"] == "failed" and "worker was killed" in ended["reason"]
    assert own.api.log(task).startswith(b"up\n") and not ended["log_complete"]
    again = own.api.run_script(own.place["project_id"], "echo again")
    assert own.api.wait_until(again)["state"] == "succeeded"


def test_a_file_gets_plain_text_and_a_demo_that_is_disabled_is_not_run(own: Deployment) -> None:
    output = own.folder / "quickstart.log"
    first = output.read_text()
    assert "Running “" in first and "\x1b" not in first
    rows = own.api.get(f"projects/{own.place['project_id']}/templates/")["results"]
    (demo,) = (row for row in rows if f"Running “{row['name']}”" in first)
    own.api.post(f"templates/{demo['id']}/disable", reason="Seen it")
    own.stop()
    own.start()
    again = output.read_text()
    assert "Running “" in again and f"Running “{demo['name']}”" not in again


def refused(*options: str) -> str:
    """Start another quick start that cannot come up; returns the line that says why."""
    answer = subprocess.run(
        [sys.executable, "manage.py", "quickstart", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert answer.returncode == 1 and not answer.stderr, answer.stderr
    *_, last = answer.stdout.splitlines()
    assert last.startswith("quickstart: ") and "Traceback" not in answer.stdout
    return last


def test_a_second_start_on_the_same_data_is_refused_and_changes_nothing(forge: Deployment) -> None:
    before = (forge.data / "quickstart.json").read_bytes()
    assert "already runs" in refused("--data", str(forge.data), "--port", "0")
    assert (forge.data / "quickstart.json").read_bytes() == before
    assert forge.api.wait_until(forge.api.run_script(forge.place["project_id"], "true"))


@pytest.mark.parametrize(
    ("data", "why"),
    [("file", "File exists"), ("file/below", "Not a directory"), ("others", "holds other files")],
)
def test_a_data_folder_that_cannot_be_one_is_a_line(data: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("something")
    (tmp_path / "others").mkdir(mode=0o755)
    (tmp_path / "others" / "letter").write_text("something")
    assert why in refused("--data", str(tmp_path / data), "--port", "0")
    assert (tmp_path / "file").read_text() == "something"
    assert (tmp_path / "others").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("content", ["{", "[]", "\0"])
def test_damaged_secrets_are_a_line_and_are_not_made_anew(content: str, tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    (tmp_path / "secrets.json").write_text(content)
    assert "secrets.json" in refused("--data", str(tmp_path), "--port", "0")
    assert (tmp_path / "secrets.json").read_text() == content


@pytest.mark.parametrize("port", ["99999", "65536", "-1", "123456789012345678901"])
def test_a_port_that_does_not_exist_is_a_line(port: str, tmp_path: Path) -> None:
    assert "There is no port" in refused("--data", str(tmp_path / "data"), "--port", port)


def test_a_port_in_use_is_a_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        assert "is taken" in refused("--data", str(tmp_path / "data"), "--port", port)


@pytest.mark.parametrize("host", ["192.0.2.1", "::1", "no.such.host.invalid", "a..b"])
def test_a_host_that_is_not_this_one_is_a_line(host: str, tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    assert "of this machine" in refused("--data", data, "--port", "0", "--host", host)

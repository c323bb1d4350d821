"""A host registers itself, is checked, and is taken away: the command line on the host."""

from __future__ import annotations

import os
import shlex
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.broker import free_port
from tests.deployment.client import Runner, wait_for
from tests.deployment.deployment import ROOT, Deployment

Answer = subprocess.CompletedProcess[str]


class Host:
    """A host's folder and environment; each command is one process."""

    def __init__(self, url: str, folder: Path, **variables: str) -> None:
        self.data = folder / "data"
        self.token_file = self.data / "token"
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "FORGE_URL": url,
            "FORGE_RUNNER_DATA": str(self.data),
            **variables,
        }

    def run(self, *arguments: str, **variables: str) -> Answer:
        return subprocess.run(
            [sys.executable, "-m", "runners.worker", *arguments],
            cwd=ROOT,
            env={**self.environment, **variables},
            capture_output=True,
            text=True,
            timeout=90,
        )

    def register(self, token: str, *arguments: str, **variables: str) -> Answer:
        return self.run("register", *arguments, FORGE_REGISTRATION_TOKEN=token, **variables)


def assert_one_line(answer: Answer, words: str) -> None:
    """The last word is one line on standard error; nothing of Python shows."""
    assert answer.returncode == 2, answer.stdout + answer.stderr
    assert answer.stderr.count("\n") == 1
    assert answer.stderr.startswith("forge: ") and words in answer.stderr, answer.stderr


def assert_done(answer: Answer) -> str:
    assert (answer.returncode, answer.stderr) == (0, "")
    return answer.stdout


def registration(forge: Deployment, project: int, **fields: Any) -> dict[str, Any]:
    ends = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    given = {"name": "these hosts", "expires_at": ends, **fields}
    made: dict[str, Any] = forge.api.post(f"projects/{project}/registration-tokens/", **given)
    return made


def uses(forge: Deployment, made: dict[str, Any]) -> int:
    return int(forge.api.get(f"registration-tokens/{made['id']}/")["uses"])


@pytest.fixture
def project(forge: Deployment, request: pytest.FixtureRequest) -> int:
    return forge.api.project(request.node.name[-70:])


@pytest.fixture
def host(forge: Deployment, tmp_path: Path) -> Host:
    return Host(forge.place["url"], tmp_path)


def runner_of(forge: Deployment, project: int) -> Runner:
    (row,) = forge.api.get(f"projects/{project}/runners/")["results"]
    return Runner(row["id"], row["name"], "")


def test_a_host_registers_itself_and_runs_a_task(
    forge: Deployment, project: int, host: Host
) -> None:
    made = registration(forge, project, tags=["rack-7"])
    said = assert_done(host.register(made["token"], "--name", "rack-7-1"))
    runner = runner_of(forge, project)
    assert f"Registered runner rack-7-1 (number {runner.id})" in said
    assert stat.S_IMODE(host.token_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(host.data.stat().st_mode) == 0o700
    assert host.token_file.read_text().strip() not in said
    assert made["token"] not in said
    assert sorted(path.name for path in host.data.iterdir()) == ["token"]

    # Its last line is the command that starts the worker, as it stands there.
    command = said.splitlines()[-1].strip()
    assert f"FORGE_URL={forge.place['url']}" in command
    log = (host.data.parent / "log").open("wb")
    environment = {key: host.environment[key] for key in ("PATH", "HOME")}
    worker = subprocess.Popen(
        ["bash", "-c", f"exec env {command}"], cwd=ROOT, env=environment, stdout=log, stderr=log
    )
    try:
        task = forge.api.run_script(project, "echo from $FORGE_RUNNER", tags=["rack-7"])
        ended = forge.api.wait_until(task)
        assert (ended["state"], ended["runner"]) == ("succeeded", runner.id)
        assert forge.api.log(task) == b"from rack-7-1\n"
    finally:
        worker.terminate()
        worker.wait(60)
        log.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give tasks users of their own")
def test_a_host_that_gives_tasks_users_of_their_own_runs_them_by_the_printed_command(
    forge: Deployment, project: int, open_folder: Path
) -> None:
    host = Host(forge.place["url"], open_folder, FORGE_RUNNER_TASK_USERS="nobody")
    said = assert_done(host.register(registration(forge, project)["token"]))
    assert stat.S_IMODE(host.data.stat().st_mode) == 0o711
    assert stat.S_IMODE(host.token_file.stat().st_mode) == 0o600
    assert_done(host.run("verify"))
    log = (open_folder / "log").open("wb")
    environment = {key: host.environment[key] for key in ("PATH", "HOME")}
    command = f"exec env {said.splitlines()[-1].strip()}"
    worker = subprocess.Popen(
        ["bash", "-c", command], cwd=ROOT, env=environment, stdout=log, stderr=log
    )
    try:
        task = forge.api.run_script(project, "id --user --name")
        assert forge.api.wait_until(task)["state"] == "succeeded"
        assert forge.api.log(task) == b"nobody\n"
    finally:
        worker.terminate()
        worker.wait(60)
        log.close()
    host.data.chmod(0o700)
    assert_one_line(host.run("verify"), f"Let them with `chmod o+x {host.data}`")


def test_the_name_of_the_host_serves_and_makes_way(
    forge: Deployment, project: int, tmp_path: Path
) -> None:
    made = registration(forge, project, max_uses=2)
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert_done(Host(forge.place["url"], folder).register(made["token"]))
    names = {row["name"] for row in forge.api.get(f"projects/{project}/runners/")["results"]}
    first = min(names, key=len)
    assert names == {first, f"{first}-2"}
    assert first.replace("-", "") == "".join(
        letter for letter in socket.gethostname().lower() if letter.isalnum() or letter == "."
    )


class _Swallower(BaseHTTPRequestHandler):
    """Passes the first request on to Forge, and loses the answer on the way back."""

    forge: str

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name: self.headers[name] for name in ("Authorization", "Content-Type")}
        requests.post(self.forge + self.path, data=body, headers=headers, timeout=30)
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def swallower(forge: Deployment) -> Iterator[str]:
    _Swallower.forge = forge.place["url"]
    server = HTTPServer(("127.0.0.1", 0), _Swallower)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_lost_answer_is_asked_for_again_without_a_second_use(
    forge: Deployment, project: int, host: Host, swallower: str
) -> None:
    made = registration(forge, project)
    assert_one_line(host.register(made["token"], FORGE_URL=swallower), "cannot be reached")
    assert not host.token_file.exists()
    assert uses(forge, made) == 1
    runner = runner_of(forge, project)
    said = assert_done(host.register(made["token"]))
    assert f"number {runner.id}" in said
    assert uses(forge, made) == 1
    assert runner_of(forge, project).id == runner.id
    assert "ok" in assert_done(host.run("verify"))


def test_what_a_registration_token_no_longer_does_is_one_line(
    forge: Deployment, project: int, host: Host
) -> None:
    used = registration(forge, project)
    requests_left = registration(forge, project, name="revoked one", max_uses=5)
    short = (datetime.now(UTC) + timedelta(seconds=15)).isoformat()
    brief = registration(forge, project, name="brief one", expires_at=short)
    assert_done(host.register(used["token"]))
    host.token_file.rename(host.data / "elsewhere")

    assert_one_line(host.register(used["token"]), "“these hosts” is used up. Ask a manager")
    assert forge.api.send("DELETE", f"registration-tokens/{requests_left['id']}/").ok
    assert_one_line(host.register(requests_left["token"]), "“revoked one” was revoked")
    status = f"registration-tokens/{brief['id']}/"
    wait_for(lambda: forge.api.get(status)["status"] == "expired", "the token has expired")
    assert_one_line(host.register(brief["token"]), "“brief one” has expired")
    assert_one_line(host.register("fgt_" + "x" * 43), "does not know this registration token")
    assert len(forge.api.get(f"projects/{project}/runners/")["results"]) == 1
    # The token that was refused waits, and serves the next try.
    another = registration(forge, project)
    assert_done(host.register(another["token"]))


def test_a_name_that_is_taken_is_refused_and_another_is_not(
    forge: Deployment, project: int, host: Host
) -> None:
    forge.api.runner(project, "taken")
    made = registration(forge, project)
    assert_one_line(host.register(made["token"], "--name", "taken"), "already has a runner called")
    assert_one_line(host.register(made["token"], "--name", "Not A Name"), "Use lower-case letters")
    assert uses(forge, made) == 0
    assert_done(host.register(made["token"], "--name", "free"))


def test_what_is_missing_is_said(forge: Deployment, host: Host, tmp_path: Path) -> None:
    assert_one_line(host.run("register"), "FORGE_REGISTRATION_TOKEN is not set")
    assert_one_line(host.register("fgr_" + "x" * 43), "is not a registration token")
    assert_one_line(host.register("fgt_" + "x" * 43, FORGE_URL=""), "FORGE_URL is not set")
    assert_one_line(
        host.register("fgt_" + "x" * 43, FORGE_RUNNER_TOKEN="fgr_" + "x" * 43), "Unset it first"
    )
    nowhere = f"http://127.0.0.1:{free_port()}"
    assert_one_line(host.register("fgt_" + "x" * 43, FORGE_URL=nowhere), "cannot be reached")
    flower = forge.place["flower_url"]
    assert_one_line(host.register("fgt_" + "x" * 43, FORGE_URL=flower), "")
    file = {"FORGE_RUNNER_TOKEN_FILE": "/proc/no/such/place"}
    assert_one_line(host.register("fgt_" + "x" * 43, **file), "cannot be written")


def test_a_token_that_is_there_is_replaced_only_on_demand(
    forge: Deployment, project: int, host: Host
) -> None:
    made = registration(forge, project, max_uses=2)
    assert_done(host.register(made["token"]))
    before = host.token_file.read_text()
    assert_one_line(host.register(made["token"]), "holds a runner token already")
    assert (host.token_file.read_text(), uses(forge, made)) == (before, 1)
    assert_done(host.register(made["token"], "--force"))
    assert (host.token_file.read_text() != before, uses(forge, made)) == (True, 2)


def test_the_registration_token_may_stand_in_a_file(
    forge: Deployment, project: int, host: Host, tmp_path: Path
) -> None:
    made = registration(forge, project)
    file = tmp_path / "registration"
    file.write_text(made["token"] + "\n")
    place = tmp_path / "elsewhere" / "runner-token"
    variables = {
        "FORGE_REGISTRATION_TOKEN_FILE": str(file),
        "FORGE_RUNNER_TOKEN_FILE": str(place),
    }
    said = assert_done(host.run("register", **variables))
    assert f"FORGE_RUNNER_TOKEN_FILE={shlex.quote(str(place))}" in said
    assert stat.S_IMODE(place.stat().st_mode) == 0o600


def test_a_host_unregisters_itself_and_its_tasks_end(
    forge: Deployment, project: int, host: Host
) -> None:
    made = registration(forge, project)
    assert_done(host.register(made["token"], "--name", "leaving"))
    runner = runner_of(forge, project)
    worker = forge.worker(runner, FORGE_RUNNER_TOKEN_FILE=str(host.token_file))
    task = forge.api.run_script(project, "echo up; sleep 600")
    forge.api.await_output(task, b"up")
    said = assert_done(host.run("unregister"))
    assert "Removed runner leaving" in said and "1 of its tasks was ended" in said
    assert not host.token_file.exists()
    ended = forge.api.wait_until(task)
    assert ended["state"] == "failed" and "unregistered by its host" in ended["reason"]
    assert forge.api.get(f"projects/{project}/runners/")["count"] == 0
    assert worker.process.wait(60) == 2
    assert "removed from Forge" in worker.said() and "Traceback" not in worker.said()
    assert_one_line(host.run("unregister"), "FORGE_RUNNER_TOKEN is not set")


def test_unregister_keeps_a_token_that_this_forge_does_not_know(host: Host) -> None:
    host.data.mkdir()
    host.token_file.write_text("fgr_" + "x" * 43)
    assert_one_line(host.run("unregister"), "does not know the token in")
    assert host.token_file.exists()


# --- verify ---


def test_verify_says_line_by_line_what_is_fine_and_disturbs_no_worker(
    forge: Deployment, project: int, host: Host
) -> None:
    made = registration(forge, project)
    assert_done(host.register(made["token"], "--name", "checked"))
    runner = runner_of(forge, project)
    worker = forge.worker(runner, FORGE_RUNNER_TOKEN_FILE=str(host.token_file))
    connected = worker.said().count("ready")
    lines = assert_done(host.run("verify")).splitlines()
    assert [line[:4] for line in lines] == ["ok  "] * 5
    words = ["Settings: Forge at http", "Connection: 127", "Token: runner checked of project"]
    words += ["Protocol: ", "Broker: signed in through the tunnel at http"]
    assert all(word in line for word, line in zip(words, lines, strict=True))
    assert worker.process.poll() is None and worker.said().count("ready") == connected
    task = forge.api.wait_until(forge.api.run_script(project, "true"))
    assert task["state"] == "succeeded"


def test_verify_notes_an_open_file_and_an_older_token(
    forge: Deployment, project: int, host: Host
) -> None:
    made = registration(forge, project)
    assert_done(host.register(made["token"]))
    host.token_file.chmod(0o644)
    runner = runner_of(forge, project)
    forge.api.post(f"runners/{runner.id}/rotate", overlap_seconds=7200)
    said = assert_done(host.run("verify"))
    assert f"chmod 600 {host.token_file}" in said
    assert "A newer token has replaced this one, which works for 2.0 h more" in said


def test_verify_says_what_to_do_about_what_is_not_fine(
    forge: Deployment, project: int, host: Host
) -> None:
    assert_one_line(host.run("verify"), "`python -m runners.worker register` gets one")
    unknown = {"FORGE_RUNNER_TOKEN": "fgr_" + "x" * 43}
    assert_one_line(host.run("verify", **unknown), "does not accept this runner's token")
    nowhere = {"FORGE_URL": f"http://127.0.0.1:{free_port()}"}
    assert_one_line(host.run("verify", **unknown, **nowhere), "cannot be reached")
    plain = {"FORGE_URL": "http://forge.example.net"}
    assert_one_line(host.run("verify", **unknown, **plain), "Use https://")
    runner = forge.api.runner(project, "gone")
    forge.api.remove_runner(runner.id)
    gone = host.run("verify", FORGE_RUNNER_TOKEN=runner.token)
    assert_one_line(gone, "the runner was removed")
    assert gone.stdout.count("ok ") == 2  # settings and connection


def test_without_a_command_the_commands_are_listed(host: Host) -> None:
    answer = host.run("--help")
    assert answer.returncode == 0
    assert all(name in answer.stdout for name in ("register", "unregister", "verify"))
    assert "forge-runner 0.1.0" in host.run("--version").stdout

"""Secrets from the form to the process: there for it, nowhere else, gone with it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
import requests

from tests.deployment.client import Runner, wait_for
from tests.deployment.deployment import ROOT, Deployment, Worker
from tests.frozen import freeze

TOKEN = "canary/7fQ=+ 'p\"é&x9"
PASSWORD = "canary-hunter2-p4ssw0rd"
Answer = subprocess.CompletedProcess[str]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def private_key() -> str:
    """Looks like a key, with a last line too short for itself; each line can be searched for."""
    lines = [f"canaryKEY{number:02d}" + "Ab9/" * 12 for number in range(6)]
    body = "\n".join([*lines, "kQ=="])
    return f"-----BEGIN OPENSSH PRIVATE KEY-----\n{body}\n-----END OPENSSH PRIVATE KEY-----\n"


def given(forge: Deployment, project: int, **fields: Any) -> dict[str, Any]:
    """Template fields: one secret variable and one SSH key, both of this project."""
    number = time.monotonic_ns()
    group = forge.api.variable_group(
        project, f"group {number}", variables={"REGION": "eu"}, secrets={"API_TOKEN": TOKEN}
    )
    key = forge.api.access_key(
        project,
        f"key {number}",
        "ssh",
        login="deploy",
        private_key=private_key(),
        passphrase=PASSWORD,
    )
    uses = [{"access_key": key, "variable": "DEPLOY"}]
    return {"variable_groups": [group], "access_keys": uses, **fields}


def test_a_secret_reaches_the_process_and_not_the_log(forge: Deployment, tmp_path: Path) -> None:
    project = forge.place["project_id"]
    found = tmp_path / "found"
    script = (
        f'printf %s "$API_TOKEN" > {found}; cat "$DEPLOY_FILE" > {found}.key; '
        f'stat -c %a "$DEPLOY_FILE" > {found}.mode; '
        'echo "token=$API_TOKEN, login=$DEPLOY_LOGIN, pass=$DEPLOY_PASSPHRASE, in $REGION"'
    )
    task = forge.api.wait_until(forge.api.run_script(project, script, **given(forge, project)))
    assert task["state"] == "succeeded", task["reason"]
    assert found.read_text() == TOKEN
    assert found.with_suffix(".key").read_text() == private_key()
    assert found.with_suffix(".mode").read_text() == "600\n"
    assert forge.api.log(task["id"]) == b"token=[masked], login=deploy, pass=[masked], in eu\n"


SHOW = """
import base64, json, os, sys, time, urllib.parse
token, key = os.environ["API_TOKEN"], open(os.environ["DEPLOY_FILE"]).read()
out = sys.stdout.buffer
for text in (token, key):
    data = text.encode()
    forms = [data, base64.b64encode(data), base64.b64encode(b"me:" + data),
             base64.encodebytes(data), base64.urlsafe_b64encode(b"x" + data),
             urllib.parse.quote(text).encode(),
             urllib.parse.quote_plus(text).encode(), json.dumps(text).encode(),
             json.dumps(text, ensure_ascii=False).encode(), repr(text).encode()]
    for form in forms:
        out.write(b"<" + form + b">\\n")
    out.flush()
    for line in (token, key.splitlines()[2]):
        half = len(line.encode()) // 2
        out.write(line.encode()[:half]); out.flush(); time.sleep(0.2)
        out.write(line.encode()[half:]); out.flush()
        for byte in line.encode():
            out.write(bytes([byte])); out.flush()
        out.write(b"\\n"); out.flush()
print("end")
"""


def test_both_are_masked_in_every_usual_form_and_in_two_halves(forge: Deployment) -> None:
    project = forge.place["project_id"]
    fields = given(forge, project, app="python")
    task = forge.api.wait_until(forge.api.run_script(project, SHOW, **fields))
    assert task["state"] == "succeeded", forge.api.log(task["id"])
    log = forge.api.log(task["id"])
    assert log.endswith(b"end\n") and log.count(b"[masked]") >= 24
    assert b"canary" not in log and b"Y2FuYXJ5" not in log and b"7fQ" not in log
    assert b"Ab9/Ab9/Ab9/" not in log and b"QWI5L0Fi" not in log and b"Ab9%2F" not in log
    assert task["log_bytes"] == len(log) and task["log_complete"]


@pytest.fixture
def own(forge: Deployment) -> Iterator[tuple[int, Runner, Worker]]:
    """A project with a runner and a worker of its own, which a test may kill."""
    number = time.monotonic_ns()
    project = forge.api.project(f"Secrets {number}")
    runner = forge.api.runner(project, f"secrets-{number}")
    worker = forge.worker(runner)
    yield project, runner, worker
    worker.end()


def running(forge: Deployment, project: int, tmp_path: Path) -> tuple[int, Path, int]:
    """A task that has its secret file and stays: its id, the file's path, the program's pid."""
    told = tmp_path / "told"
    script = f'echo "$DEPLOY_FILE $$" > {told}.new; mv {told}.new {told}; echo up; sleep 1000'
    task = forge.api.run_script(project, script, **given(forge, project))
    forge.api.await_output(task, b"up")
    path, pid = told.read_text().split()
    assert Path(path).read_text() == private_key()
    return task, Path(path), int(pid)


@pytest.mark.parametrize("how", ["stop", "worker", "supervisor"])
def test_the_file_is_gone_whatever_ends_the_task(
    how: str, forge: Deployment, own: tuple[int, Runner, Worker], tmp_path: Path
) -> None:
    project, _, worker = own
    task, file, program = running(forge, project, tmp_path)
    supervisor = psutil.Process(program).ppid()
    if how == "stop":
        forge.api.post(f"tasks/{task}/stop")
        assert forge.api.wait_until(task)["state"] == "stopped"
    elif how == "supervisor":
        os.kill(supervisor, signal.SIGKILL)
        assert "supervisor was lost" in forge.api.wait_until(task)["reason"]
    else:
        worker.kill()
        wait_for(lambda: not psutil.pid_exists(supervisor), "the supervisor has left")
    assert not file.exists() and not file.parent.exists()
    assert not psutil.pid_exists(program)


def test_what_a_crash_of_everything_left_goes_at_the_next_start(
    forge: Deployment, own: tuple[int, Runner, Worker], tmp_path: Path
) -> None:
    project, _, worker = own
    task, file, program = running(forge, project, tmp_path)
    supervisor = psutil.Process(program).parent()
    assert supervisor is not None
    server = supervisor.parent()
    assert server is not None
    orphans = psutil.Process(program).children(recursive=True)
    # In this order nobody is left who could clean up: stopped, then killed together. The worker
    # first, as it wakes the fork server now and then, and that a supervisor that it sees stopped.
    for process in (psutil.Process(worker.process.pid), server, supervisor):
        freeze(process)
    worker.kill()
    for process in (server, supervisor):
        with suppress(psutil.NoSuchProcess):  # it may have gone with the one before
            process.kill()
    wait_for(lambda: not supervisor.is_running(), "the supervisor is gone")
    assert file.exists()
    for orphan in orphans:  # nobody of Forge's is left to end them
        with suppress(psutil.NoSuchProcess):
            orphan.kill()
    worker.start()
    wait_for(lambda: not file.exists(), "the next start removed the file")
    assert forge.api.wait_until(task)["state"] in ("failed", "lost")


def test_a_reason_made_on_the_runner_is_masked(
    forge: Deployment, own: tuple[int, Runner, Worker]
) -> None:
    """PATH is a variable as others are, and its value stands in what explains a failed start."""
    project, _, _ = own
    group = forge.api.variable_group(project, "path", secrets={"PATH": f"/nowhere/{PASSWORD}"})
    task = forge.api.wait_until(
        forge.api.run_script(project, "no-such-program", variable_groups=[group])
    )
    assert PASSWORD not in task["reason"] + forge.api.log(task["id"]).decode()


# --- nowhere else ---


def _listen(monitor: Any, seen: list[bytes]) -> None:
    """Note every command that the broker gets, until the connection is closed."""
    with suppress(redis.RedisError, OSError, ValueError, AttributeError):
        for command in monitor.listen():
            seen.append(str(command).encode())  # noqa: PERF401  # read while it grows


def places_with(forge: Deployment, canary: bytes, program: int) -> list[str]:
    """Where `canary` is found: files, broker, and what /proc tells of all but the task's tree."""
    # A journal goes when all of it has arrived, also while this looks.
    paths = [path for path in forge.folder.rglob("*") if path.is_file()]
    found = [str(path) for path in paths if canary in _read(str(path))]
    with redis.Redis.from_url(forge.place["broker_url"]) as broker:
        keys = [key for key in broker.scan_iter() if canary in (broker.dump(key) or b"")]
    found += [f"broker key {key!r}" for key in keys]
    for process in psutil.process_iter():
        told = [f"/proc/{process.pid}/{name}" for name in ("cmdline", "environ")]
        found += [
            path for path in told if canary in _read(path) and not _is_below(process, program)
        ]
    return found


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


def _is_below(process: psutil.Process, program: int) -> bool:
    try:
        return program in (process.pid, *(parent.pid for parent in process.parents()))
    except psutil.NoSuchProcess:
        return False


def test_a_marked_secret_is_nowhere_but_in_the_tasks_own_tree(
    forge: Deployment, own: tuple[int, Runner, Worker], tmp_path: Path
) -> None:
    project, runner, worker = own
    seen: list[bytes] = []
    with redis.Redis.from_url(forge.place["broker_url"]) as broker, broker.monitor() as monitor:
        threading.Thread(target=_listen, args=(monitor, seen), daemon=True).start()
        task, file, program = running(forge, project, tmp_path)
        for canary in (PASSWORD.encode(), b"canaryKEY", b"canary/7fQ"):
            assert places_with(forge, canary, program) == []
            assert canary in Path(f"/proc/{program}/environ").read_bytes() + file.read_bytes()
        forge.api.post(f"tasks/{task}/stop")
        forge.api.wait_until(task)
    assert seen and not [item for item in seen if b"canary" in item]
    assert places_with(forge, b"canary", 0) == []
    lists = [
        f"projects/{project}/{noun}/" for noun in ("access-keys", "variable-groups", "templates")
    ]
    for path in (f"tasks/{task}/", *lists):
        assert b"canary" not in forge.api.send("GET", path).content
    assert "canary" not in worker.said() and runner.token not in worker.said()


# --- the key that secrets are stored under ---


def manage(
    forge: Deployment, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    known = json.loads((forge.data / "secrets.json").read_text())
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "SECRET_KEY": known["secret_key"],
            "DATABASE_URL": f"sqlite:///{forge.data / 'forge.sqlite3'}",
            "FORGE_SECRETS_KEY": known["secrets_key"],
            "FORGE_SECRETS_KEY_FALLBACKS": known.get("secrets_key_fallbacks", ""),
            **variables,
        },
        capture_output=True,
        text=True,
    )


def restart_with(forge: Deployment, **keys: str) -> None:
    forge.stop()
    path = forge.data / "secrets.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))
    (forge.folder / "quickstart.log").unlink()
    forge.start()


def test_the_key_is_rotated_and_a_wrong_one_is_said_everywhere(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with Deployment(tmp_path_factory.mktemp("rotation")) as forge:
        project = forge.place["project_id"]
        fields = given(forge, project)
        script = '[ "$API_TOKEN" ] && cat "$DEPLOY_FILE" >/dev/null && echo fine'
        template = forge.api.template(project, script, **fields)
        old = json.loads((forge.data / "secrets.json").read_text())["secrets_key"]
        new = manage(forge, "new_secrets_key").stdout.strip()

        restart_with(forge, secrets_key=new, secrets_key_fallbacks=old)
        assert forge.api.wait_until(forge.api.run(project, template))["state"] == "succeeded"
        assert manage(forge, "reencrypt_secrets").stdout.startswith("2 re-encrypted, 0 under")
        assert manage(forge, "reencrypt_secrets").stdout.startswith("0 re-encrypted, 2 under")

        restart_with(forge, secrets_key=new, secrets_key_fallbacks="")
        task = forge.api.wait_until(forge.api.run(project, template))
        assert task["state"] == "succeeded", task["reason"]

        restart_with(forge, secrets_key=old)
        _assert_said_everywhere(forge, project, template)

        restart_with(forge, secrets_key=new)
        assert forge.api.wait_until(forge.api.run(project, template))["state"] == "succeeded"


def _assert_said_everywhere(forge: Deployment, project: int, template: int) -> None:
    task = forge.api.wait_until(forge.api.run(project, template))
    assert task["state"] == "failed" and "cannot be read" in task["reason"]
    assert "Give Forge that key back" in task["reason"]
    plain = forge.api.wait_until(forge.api.run_script(project, "echo unharmed"))
    assert plain["state"] == "succeeded"
    (key,) = forge.api.get(f"projects/{project}/access-keys/")["results"]
    assert "cannot be read" in key["problem"]
    for role in ("web", "controller"):
        log = forge.data / "logs" / f"{role}.log"
        wait_for(partial(_holds, log, "2 of 2 stored secrets cannot be read"), str(log))
    checked = manage(forge, "check", "--database", "default", "--fail-level", "WARNING")
    assert checked.returncode == 1 and "2 of 2 stored secrets" in checked.stderr
    moved = manage(forge, "reencrypt_secrets")
    assert moved.returncode == 1 and "2 secrets could not be read" in moved.stderr
    malformed = manage(forge, "check", FORGE_SECRETS_KEY="no key")
    assert malformed.returncode == 1 and "FORGE_SECRETS_KEY is not a key" in malformed.stderr


def _holds(file: Path, words: str) -> bool:
    return words in file.read_text()


# --- a Unix user for each task ---


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may pass through; pytest's own are closed."""
    folder = Path(tempfile.mkdtemp(prefix="forge-", dir="/var/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@as_root
def test_each_task_has_a_user_for_itself(
    forge: Deployment, open_folder: Path, tmp_path: Path
) -> None:
    project = forge.api.project(f"Users {time.monotonic_ns()}")
    runner = forge.api.runner(project, "users-1", concurrency=5)
    worker = forge.worker(
        runner, FORGE_RUNNER_TASK_USERS="nobody,daemon", FORGE_RUNNER_DATA=str(open_folder)
    )
    assert (
        "This runner may run 5 tasks at once, but FORGE_RUNNER_TASK_USERS names 2: it runs 2"
        in (worker.said())
    )
    first = forge.api.run_script(
        project,
        'echo "$(id -un) $HOME $USER $$ $DEPLOY_FILE $PWD $0"; '
        'cat "$DEPLOY_FILE" | wc -l; sleep 1000',
        **given(forge, project),
    )
    forge.api.await_output(first, b"\n9\n")
    name, home, user, pid, file, folder, script = forge.api.log(first).decode().split()[:7]
    assert name == user and home == os.path.expanduser(f"~{name}")
    spy = forge.api.wait_until(
        forge.api.run_script(
            project,
            f"id -un; for f in /proc/{pid}/environ /proc/{worker.process.pid}/environ "
            f"/proc/$PPID/environ {file} {script} {folder}/x; do cat $f >/dev/null && echo leak; "
            f"done; ls {folder} {open_folder} && echo leak; kill -9 {pid} $PPID; touch ~/x 2>&1; "
            "pwd; ls -ld . | cut -c1-10; echo mine > file && cat file",
        )
    )
    said = forge.api.log(spy["id"]).decode()
    assert "leak" not in said and "mine\n" in said and "drwx------" in said
    assert said.split()[0] != name and {said.split()[0], name} == {"nobody", "daemon"}
    third = forge.api.run_script(project, "id -un")
    fourth = forge.api.run_script(project, "id -un")
    names = [
        forge.api.log(task["id"]).decode().strip() for task in forge.api.finished([third, fourth])
    ]
    assert name not in names
    worker.kill()
    wait_for(lambda: not psutil.pid_exists(int(pid)), "the task of the other user is gone")
    wait_for(lambda: not Path(file).exists(), "its secret file too")
    worker.start()
    assert forge.api.wait_until(first)["state"] in ("failed", "lost")
    assert not Path(folder).exists()
    fifth = forge.api.run_script(
        project,
        "trap '' INT TERM; echo up; while :; do sleep 1; done",
        stop_steps=[{"signal": "INT", "grace_seconds": 1}],
    )
    forge.api.await_output(fifth, b"up")
    forge.api.post(f"tasks/{fifth}/stop")
    assert forge.api.wait_until(fifth)["state"] == "stopped"
    worker.end()


@as_root
@pytest.mark.parametrize(
    ("users", "data", "words"),
    [
        ("no-such-user", "", "this host has no user 'no-such-user'"),
        ("nobody", "/root/forge-runner-of-a-test", "other users may not pass through /root"),
    ],
)
def test_unusable_task_users_are_one_line(
    users: str, data: str, words: str, forge: Deployment, tmp_path: Path
) -> None:
    runner = forge.api.runner(forge.api.project(f"Users {time.monotonic_ns()}"), "users-2")
    answer = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "runners.worker", "worker"],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "FORGE_URL": forge.place["url"],
            "FORGE_RUNNER_TOKEN": runner.token,
            "FORGE_RUNNER_DATA": data or str(tmp_path),
            "FORGE_RUNNER_TASK_USERS": users,
        },
        capture_output=True,
        text=True,
        timeout=90,
    )
    shutil.rmtree("/root/forge-runner-of-a-test", ignore_errors=True)
    assert answer.returncode == 2 and words in answer.stderr
    assert len(answer.stderr.strip().splitlines()) == 1


def test_the_pages_of_a_real_deployment_show_no_secret(forge: Deployment) -> None:
    place = forge.place
    given(forge, place["project_id"])
    browser = requests.Session()
    browser.trust_env = False
    page = browser.get(f"{place['url']}/sign-in/", timeout=30)
    token = page.text.split('name="csrfmiddlewaretoken" value="')[1].split('"')[0]
    fields = {"username": place["username"], "password": place["password"]}
    browser.post(
        f"{place['url']}/sign-in/", data={**fields, "csrfmiddlewaretoken": token}, timeout=30
    )
    for path in ("access-keys", "variable-groups", "templates", "tasks"):
        shown = browser.get(f"{place['url']}/projects/{place['project_id']}/{path}/", timeout=30)
        assert shown.ok and "canary" not in shown.text
    for path in ("accesskey", "variablegroup", "secretvariable"):
        shown = browser.get(f"{place['url']}/admin/projects/{path}/", timeout=30)
        assert shown.ok and "canary" not in shown.text

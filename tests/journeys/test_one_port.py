"""A runner in a network of its own, from which one port of one host can be reached.

Forge stands behind a real nginx with the configuration of docs/nginx.conf and a certificate of a
private CA. The runner's network namespace lets nothing out but TCP 443 of that host.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis

from tests import broker as real_broker
from tests.deployment.authority import Authority
from tests.deployment.client import wait_for
from tests.deployment.deployment import ROOT, Worker
from tests.deployment.front import nginx
from tests.deployment.production import Production

NAME = "forge.test"
CUT_SECONDS = 60
_WAYS = (("INPUT", "-i"), ("OUTPUT", "-o"))
NEEDED = ("ip", "iptables", "nginx", "openssl")


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


class Zone:
    """A network namespace with one cable to this host, whose firewall lets out one port."""

    def __init__(self) -> None:
        number = os.getpid() % 250
        self.name = f"forge{os.getpid()}"
        self.cable = f"fg{os.getpid()}"
        self.host = f"10.77.{number}.1"
        self.address = f"10.77.{number}.2"
        self.hosts = Path("/etc/netns") / self.name

    def open(self) -> None:
        run("ip", "netns", "add", self.name)
        inside = f"{self.cable}i"
        run("ip", "link", "add", self.cable, "type", "veth", "peer", "name", inside)
        run("ip", "link", "set", inside, "netns", self.name)
        run("ip", "addr", "add", f"{self.host}/30", "dev", self.cable)
        run("ip", "link", "set", self.cable, "up")
        self.run("ip", "addr", "add", f"{self.address}/30", "dev", inside)
        self.run("ip", "link", "set", inside, "up")
        self.run("ip", "link", "set", "lo", "up")
        self.run("iptables", "-P", "OUTPUT", "DROP")
        self.run("iptables", "-A", "OUTPUT", "-o", "lo", "-j", "ACCEPT")
        only = ("-p", "tcp", "-d", self.host, "--dport", "443", "-j", "ACCEPT")
        self.run("iptables", "-A", "OUTPUT", *only)
        self.hosts.mkdir(parents=True)
        (self.hosts / "hosts").write_text(f"127.0.0.1 localhost\n{self.host} {NAME}\n")

    def run(self, *command: str) -> None:
        run(*self.prefix, *command)

    @property
    def prefix(self) -> tuple[str, ...]:
        return ("ip", "netns", "exec", self.name)

    @contextmanager
    def cut(self) -> Iterator[None]:
        """Every packet is dropped, without a word to either side."""
        rules = [(chain, "!", way, "lo", "-j", "DROP") for chain, way in _WAYS]
        for chain, *rule in rules:
            self.run("iptables", "-I", chain, *rule)
        try:
            yield
        finally:
            for chain, *rule in rules:
                self.run("iptables", "-D", chain, *rule)

    def close(self) -> None:
        for command in (("netns", "del", self.name), ("link", "del", self.cable)):
            subprocess.run(["ip", *command], capture_output=True)
        shutil.rmtree(self.hosts, ignore_errors=True)


class ZoneWorker(Worker):
    """A worker, and any other command of a runner host, inside the zone."""

    def __init__(self, zone: Zone, url: str, *options: object, **variables: str) -> None:
        self.zone = zone
        super().__init__(url, *options, python=sys.executable, cwd=ROOT, **variables)  # type: ignore[arg-type]

    def start(self) -> None:
        if self._command[0] != "ip":
            self._command = [*self.zone.prefix, *self._command]
        super().start()


def missing() -> str:
    if os.geteuid() != 0:
        return "network namespaces need root"
    absent = [name for name in NEEDED if shutil.which(name) is None]
    return f"not installed: {', '.join(absent)}" if absent else ""


@pytest.fixture(scope="module")
def zone() -> Iterator[Zone]:
    if why := missing():
        if "netns" in real_broker.required():
            pytest.fail(f"netns is required: {why}")
        pytest.skip(why)
    found = Zone()
    try:
        found.open()
        yield found
    finally:
        found.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority") / "ca")


@pytest.fixture(scope="module")
def forge(
    zone: Zone, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Production]:
    folder = tmp_path_factory.mktemp("forge")
    production = Production(
        folder,
        broker=[next(iter(real_broker.binaries().values()))],
        url=f"https://{NAME}",
        server={
            "ALLOWED_HOSTS": f"{NAME},127.0.0.1",
            "FORGE_BEHIND_PROXY": "True",
            "FORGE_UNREACHABLE_SECONDS": "600",
        },
    )
    listen = f"{zone.host}:443"
    with (
        production as running,
        nginx(folder, authority, name=NAME, listen=listen, web_port=running.web_port),
    ):
        yield running


@pytest.fixture
def worker(
    zone: Zone, forge: Production, authority: Authority, request: pytest.FixtureRequest
) -> Iterator[ZoneWorker]:
    name = "zone-" + str(abs(hash(request.node.name)) % 10_000)
    runner = forge.api.runner(forge.seeded["project_id"], name)
    ca = str(authority.certificate)
    worker = ZoneWorker(zone, forge.url, runner, forge.folder, FORGE_CA_FILE=ca)
    forge.api.await_status(runner.id, "idle")
    yield worker
    worker.end()
    forge.api.remove_runner(runner.id)


def project_of(forge: Production) -> int:
    return int(forge.seeded["project_id"])


def test_nothing_but_the_one_port_can_be_reached(zone: Zone, forge: Production) -> None:
    for port in (forge.broker_port, forge.web_port, 80, 22):
        probe = f"import socket; socket.create_connection(('{zone.host}', {port}), 1)"
        answer = subprocess.run([*zone.prefix, sys.executable, "-c", probe], capture_output=True)
        assert answer.returncode != 0


def test_a_task_runs_streams_and_stops_through_one_port(
    forge: Production, worker: ZoneWorker, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    script = f"echo begun; while [ ! -e {gate} ]; do sleep 0.05; done; echo done"
    task = forge.api.run_script(project_of(forge), script)
    forge.api.await_output(task, b"begun")
    assert forge.api.task(task)["state"] == "running"
    gate.touch()
    assert forge.api.wait_until(task)["state"] == "succeeded"
    assert forge.api.log(task) == b"begun\ndone\n"
    endless = forge.api.run_script(project_of(forge), "echo up; sleep 600")
    forge.api.await_output(endless, b"up")
    forge.api.post(f"tasks/{endless}/stop")
    assert forge.api.wait_until(endless)["state"] == "stopped"
    runner = forge.api.get(f"runners/{worker.runner.id}/")
    assert runner["status"] == "idle"


def test_a_host_registers_itself_through_one_port(
    zone: Zone, forge: Production, authority: Authority, tmp_path: Path
) -> None:
    project = project_of(forge)
    ends = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    made = forge.api.post(f"projects/{project}/registration-tokens/", name="zone", expires_at=ends)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "FORGE_URL": forge.url,
        "FORGE_CA_FILE": str(authority.certificate),
        "FORGE_REGISTRATION_TOKEN": made["token"],
        "FORGE_RUNNER_DATA": str(tmp_path / "data"),
    }
    for command in (("register", "--name", "zone-registered"), ("verify",)):
        answer = subprocess.run(
            [*zone.prefix, sys.executable, "-m", "runners.worker", *command],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert answer.returncode == 0, answer.stderr
    assert "through the tunnel" in answer.stdout
    rows = forge.api.get(f"projects/{project}/runners/")["results"]
    assert "zone-registered" in {row["name"] for row in rows}


def test_a_minute_without_a_packet_loses_nothing(
    zone: Zone, forge: Production, worker: ZoneWorker, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    lines = "for n in $(seq 800); do echo line $n; sleep 0.1; done"
    script = f"echo $FORGE_TASK_ID >> {ledger}; {lines}"
    long = forge.api.run_script(project_of(forge), script, name="through the cut")
    forge.api.await_output(long, b"line 5\n")
    with zone.cut():
        queued = forge.api.run_script(project_of(forge), f"echo $FORGE_TASK_ID >> {ledger}")
        # The length of the cut is the test; nothing is expected to happen meanwhile.
        time.sleep(CUT_SECONDS)
        assert forge.api.task(queued)["state"] == "queued"
    for task in (queued, long):
        ended = forge.api.wait_until(task)
        assert (ended["state"], ended["log_complete"]) == ("succeeded", True), ended
    assert forge.api.log(long) == b"".join(b"line %d\n" % n for n in range(1, 801))
    assert sorted(map(int, ledger.read_text().split())) == sorted([long, queued])


def test_the_broker_counts_the_tunnel_as_the_runners_own_account(
    forge: Production, worker: ZoneWorker
) -> None:
    def users() -> set[str]:
        with redis.Redis.from_url(forge.broker_url) as administrator:
            return {client["user"] for client in administrator.client_list()}

    wait_for(lambda: f"runner-{worker.runner.id}" in users(), "it is signed in as its account")


def test_without_the_ca_and_over_plain_http_it_says_so_in_one_line(
    zone: Zone, forge: Production, authority: Authority
) -> None:
    runner = forge.api.runner(project_of(forge), "strange-1")
    cases = {
        f"https://{NAME}": ({}, "FORGE_CA_FILE"),
        f"http://{NAME}": ({}, "https://"),
        f"https://{zone.host}": ({"FORGE_CA_FILE": str(authority.certificate)}, "certificate"),
        f"https://{NAME}/": ({"FORGE_CA_FILE": "/nowhere.pem"}, "/nowhere.pem"),
    }
    for url, (variables, words) in cases.items():
        worker = ZoneWorker(zone, url, runner, forge.folder, **variables)
        worker.process.wait(60)
        said = worker.said()
        worker.log.unlink()
        assert worker.process.returncode == 2, said
        assert said.count("\n") == 1 and said.startswith("forge: ") and words in said, said
    wait_for(lambda: forge.api.status(runner.id) == "never_contacted", "it never got in")

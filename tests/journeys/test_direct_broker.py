"""Runners that reach the broker at an address of its own, over TLS, instead of the tunnel."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests import broker as real_broker
from tests.broker import free_port
from tests.deployment.authority import Authority
from tests.deployment.client import wait_for
from tests.deployment.deployment import ROOT, Worker
from tests.deployment.production import Production


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority") / "ca")


@pytest.fixture(scope="module")
def forge(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    # The embedded Valkey has no TLS inside; Debian's Redis does.
    server = real_broker.binaries().get("redis")
    if server is None:
        if "redis" in real_broker.required():
            pytest.fail("redis is required and not installed")
        pytest.skip("no redis-server with TLS on this machine")
    certificate, key = authority.issue("localhost", "DNS:localhost,IP:127.0.0.1")
    port = free_port()
    options = ["--tls-port", str(port), "--tls-auth-clients", "no"]
    options += ["--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
    options += ["--tls-ca-cert-file", str(authority.certificate)]
    production = Production(
        tmp_path_factory.mktemp("forge"),
        broker=[server, *options],
        server={"FORGE_RUNNER_BROKER_URL": f"rediss://localhost:{port}/0"},
    )
    with production as running:
        yield running


def test_a_task_runs_and_stops_over_a_direct_connection(
    forge: Production, authority: Authority
) -> None:
    project = forge.seeded["project_id"]
    runner = forge.api.runner(project, "direct-1")
    worker = forge.worker(runner, FORGE_CA_FILE=str(authority.certificate))
    assert forge.api.wait_until(forge.api.run_script(project, "echo hello"))["runner"] == runner.id
    endless = forge.api.run_script(project, "echo up; sleep 600")
    forge.api.await_output(endless, b"up")
    forge.api.post(f"tasks/{endless}/stop")
    assert forge.api.wait_until(endless)["state"] == "stopped"
    assert "Traceback" not in worker.said()


def test_a_broker_that_was_away_is_found_again(forge: Production, authority: Authority) -> None:
    project = forge.seeded["project_id"]
    runner = forge.api.runner(project, "direct-2", tags=["second"])
    worker = forge.worker(runner, FORGE_CA_FILE=str(authority.certificate))
    forge.broker.kill()
    wait_for(lambda: "broker is away" in worker.said().lower(), "the worker notices")
    forge.broker.start()
    task = forge.api.run_script(project, "echo back", tags=["second"])
    assert forge.api.wait_until(task)["runner"] == runner.id
    assert "Traceback" not in worker.said()


def test_a_first_start_waits_for_an_account_that_is_missing(
    forge: Production, authority: Authority, tmp_path: Path
) -> None:
    project = forge.seeded["project_id"]
    runner = forge.api.runner(project, "direct-4", tags=["fourth"])
    account = f"runner-{runner.id}"
    with redis.Redis.from_url(forge.broker_url) as admin:
        wait_for(lambda: account in map(str, admin.acl_users()), "it has its account")
        forge.controller.end()
        admin.execute_command("ACL", "DELUSER", account)  # type: ignore[no-untyped-call]
    variables = {"FORGE_CA_FILE": str(authority.certificate)}
    worker = Worker(forge.url, runner, tmp_path, python=sys.executable, cwd=ROOT, **variables)
    wait_for(lambda: "so this worker waits for it" in worker.said(), "it waits")
    assert "refuses this runner's account. Check that the Forge controller" in worker.said()
    forge.controller.start()
    task = forge.api.run_script(project, "echo here", tags=["fourth"])
    assert forge.api.wait_until(task)["runner"] == runner.id
    worker.end()


def test_an_untrusted_certificate_of_the_broker_is_one_line(
    forge: Production, tmp_path: Path
) -> None:
    runner = forge.api.runner(forge.seeded["project_id"], "direct-3")
    with pytest.raises(AssertionError) as ended:
        forge.worker(runner)
    said = str(ended.value).split("\nassert", maxsplit=1)[0].removeprefix("AssertionError: ")
    assert said.startswith("forge: The broker at localhost:"), said
    assert "certificate" in said and said.strip().count("\n") == 0

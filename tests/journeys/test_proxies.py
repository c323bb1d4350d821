"""A runner behind an HTTP proxy, and a Forge whose nginx asks for client certificates."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import broker as real_broker
from tests.broker import free_port
from tests.deployment.authority import Authority
from tests.deployment.client import Runner
from tests.deployment.deployment import ROOT, Worker
from tests.deployment.front import ConnectProxy, nginx
from tests.deployment.production import Production

# No resolver knows it: only through the proxy can it be reached.
NAME = "forge.invalid"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority") / "ca")


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    if shutil.which("nginx") is None:
        if "nginx" in real_broker.required():
            pytest.fail("nginx is required and not installed")
        pytest.skip("no nginx on this machine")
    return tmp_path_factory.mktemp("front"), free_port()


@pytest.fixture(scope="module")
def forge(
    authority: Authority, front: tuple[Path, int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Production]:
    folder, port = front
    production = Production(
        tmp_path_factory.mktemp("forge"),
        broker=[next(iter(real_broker.binaries().values()))],
        url=f"https://{NAME}",
        server={"ALLOWED_HOSTS": f"{NAME},127.0.0.1", "FORGE_BEHIND_PROXY": "True"},
    )
    asks = f"ssl_client_certificate {authority.certificate}; ssl_verify_client on;"
    listen = f"127.0.0.1:{port}"
    with (
        production as running,
        nginx(folder, authority, name=NAME, listen=listen, web_port=running.web_port, more=asks),
    ):
        yield running


@pytest.fixture
def proxy(front: tuple[Path, int]) -> Iterator[ConnectProxy]:
    _, port = front
    found = ConnectProxy({f"{NAME}:443": ("127.0.0.1", port)})
    yield found
    found.close()


def test_api_and_tunnel_go_through_the_proxy_and_show_the_client_certificate(
    forge: Production, authority: Authority, proxy: ConnectProxy
) -> None:
    certificate, key = authority.issue("runner", "DNS:runner")
    project = forge.seeded["project_id"]
    runner = forge.api.runner(project, "proxied-1")
    worker = forge.worker(
        runner,
        HTTPS_PROXY=f"http://127.0.0.1:{proxy.port}",
        FORGE_CA_FILE=str(authority.certificate),
        FORGE_CLIENT_CERT=str(certificate),
        FORGE_CLIENT_KEY=str(key),
    )
    task = forge.api.wait_until(forge.api.run_script(project, "echo through"))
    assert (task["state"], task["runner"]) == ("succeeded", runner.id), worker.said()
    assert set(proxy.asked) == {f"{NAME}:443"}
    # The runner API's connections and the tunnels are several.
    assert len(proxy.asked) >= 4


def test_without_the_client_certificate_it_says_so_in_one_line(
    forge: Production, authority: Authority, proxy: ConnectProxy
) -> None:
    runner = forge.api.runner(forge.seeded["project_id"], "proxied-2")
    worker = _started(forge, authority, runner, HTTPS_PROXY=f"http://127.0.0.1:{proxy.port}")
    assert worker.process.wait(60) == 2
    said = worker.said()
    assert said.startswith("forge: ") and said.count("\n") == 1, said
    assert "certificate" in said


def test_a_client_certificate_that_cannot_be_read_is_one_line(
    forge: Production, authority: Authority
) -> None:
    runner = forge.api.runner(forge.seeded["project_id"], "proxied-3")
    worker = _started(forge, authority, runner, FORGE_CLIENT_CERT="/nowhere.pem")
    assert worker.process.wait(60) == 2
    assert worker.said().startswith("forge: FORGE_CLIENT_CERT: /nowhere.pem")


def _started(forge: Production, authority: Authority, runner: Runner, **more: str) -> Worker:
    variables = {"FORGE_CA_FILE": str(authority.certificate), **more}
    return Worker(forge.url, runner, forge.folder, python=sys.executable, cwd=ROOT, **variables)

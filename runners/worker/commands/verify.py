"""`verify`: whether a worker would start here, without starting one."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import click

from runners.worker.client import Client
from runners.worker.configuration import Configuration
from runners.worker.protocol import PROTOCOL_VERSION, VERSION, VerifyReply, VerifyRequest
from runners.worker.task_users import require_passage

OK, NOTE = "ok  ", "note"


@click.command()
def verify() -> None:
    """Check settings, certificate, token, version and broker; a running worker is not disturbed.

    Exit status 0 if a worker would start, 2 with what to do if not.
    """
    for mark, line in _checks():
        click.echo(f"{mark}  {line}")


def _checks() -> Iterator[tuple[str, str]]:
    """Each check builds on the one before, so the first that fails is the last line.

    Raises WorkerError.
    """
    configuration = Configuration.from_environment(os.environ)
    tokens = configuration.tokens
    source = tokens.file or "FORGE_RUNNER_TOKEN"
    yield OK, f"Settings: Forge at {configuration.url}, the token from {source}"
    if tokens.file is not None and _is_open_to_others(tokens.file):
        yield NOTE, f"Other users can read the token. Close it with: chmod 600 {tokens.file}"
    if configuration.task_users:
        require_passage(configuration.data / "work")
    client = Client(configuration)
    client.reach()
    yield OK, _transport(configuration.url)
    found = client.verify(VerifyRequest(PROTOCOL_VERSION, VERSION))
    yield OK, f"Token: runner {found.welcome.name} of project {found.welcome.project_name}"
    if found.token_seconds is not None:
        yield NOTE, _replaced(found.token_seconds)
    yield OK, f"Protocol: {PROTOCOL_VERSION}; Forge takes {_versions(found)}"
    yield OK, _broker(configuration, found)


def _is_open_to_others(file: Path) -> bool:
    return bool(file.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))


def _transport(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme == "http":
        return f"Connection: {parts.netloc} answers, in plain text"
    bundle = os.environ.get("FORGE_CA_FILE") or os.environ.get("REQUESTS_CA_BUNDLE")
    return f"Certificate: {parts.netloc} is trusted" + (f", by {bundle}" if bundle else "")


def _versions(found: VerifyReply) -> str:
    oldest, newest = found.oldest_protocol, found.protocol
    return f"{oldest}" if oldest == newest else f"{oldest} to {newest}"


def _replaced(seconds: float) -> str:
    left = f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"
    return (
        f"A newer token has replaced this one, which works for {left} more. Put the newer one here."
    )


def _broker(configuration: Configuration, found: VerifyReply) -> str:
    """Sign in as the worker would. Raises ConfigurationError and BrokerError."""
    # Here, not above: the other commands do not need Celery's half a second.
    from runners.worker.node import check_broker
    from runners.worker.tokens import BrokerCredentials
    from runners.worker.tunnel import Tunnel

    account = f"runner-{found.welcome.runner}"
    credentials = BrokerCredentials(account, configuration.tokens)
    if found.welcome.broker_url:
        url = check_broker(configuration, found.welcome, credentials, None)
        return f"Broker: signed in at {urlsplit(url).netloc} as {account}"
    with tempfile.TemporaryDirectory(prefix="forge-") as folder:
        tunnel = Tunnel(configuration, configuration.tokens.current, Path(folder))
        tunnel.open()
        try:
            check_broker(configuration, found.welcome, None, tunnel)
        finally:
            tunnel.close()
    return f"Broker: signed in through the tunnel at {configuration.url} as {account}"

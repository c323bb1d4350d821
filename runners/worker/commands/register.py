"""`register`: exchange a registration token for this host's own runner token."""

from __future__ import annotations

import hashlib
import os
import shlex
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from runners.worker import client
from runners.worker.commands.token_file import TokenFile
from runners.worker.configuration import (
    Trust,
    data_folder,
    forge_url,
    registration_token,
    token_file,
)
from runners.worker.errors import ConfigurationError, RefusedError
from runners.worker.host import system
from runners.worker.protocol import PROTOCOL_VERSION, VERSION, RegisterReply, RegisterRequest
from runners.worker.task_users import task_users

# What the worker needs as well, if it was set here.
_PASSED_ON = (
    "FORGE_URL",
    "FORGE_RUNNER_DATA",
    "FORGE_RUNNER_TOKEN_FILE",
    "FORGE_RUNNER_TASK_USERS",
    "XDG_STATE_HOME",
    "FORGE_ALLOW_PLAINTEXT",
    "FORGE_CA_FILE",
    "FORGE_CLIENT_CERT",
    "FORGE_CLIENT_KEY",
    "REQUESTS_CA_BUNDLE",
)


@click.command()
@click.option("--name", help="What the runner is called; default: this host's name.")
@click.option("--force", is_flag=True, help="Replace a token that is kept here already.")
def register(name: str | None, force: bool) -> None:
    """Add this host as a runner of the project whose registration token this is.

    The registration token comes from FORGE_REGISTRATION_TOKEN or FORGE_REGISTRATION_TOKEN_FILE.
    The runner's own token is made here and kept in FORGE_RUNNER_TOKEN_FILE, by default `token` in
    the data folder. After an answer that was lost, the same command again gets the same runner.
    """
    url = forge_url(os.environ)
    secret = registration_token(os.environ)
    file = _file(os.environ)
    _check_place(file, is_forced=force)
    made = _exchange(url, secret, file, name)
    click.echo(
        f"Registered runner {made.name} (number {made.runner}) of project {made.project_name}. "
        f"Its token is in {file.path}."
    )
    click.echo("Start its worker with:")
    click.echo(f"  {start_command(os.environ)}")


def _file(environment: Mapping[str, str]) -> TokenFile:
    """Where the worker will find it. Raises ConfigurationError."""
    path = token_file(environment)
    users = task_users(environment.get("FORGE_RUNNER_TASK_USERS", ""))
    # They work in folders below the data folder.
    return TokenFile(path, is_passable=bool(users) and path.parent == data_folder(environment))


def _check_place(file: TokenFile, *, is_forced: bool) -> None:
    if os.environ.get("FORGE_RUNNER_TOKEN") and not os.environ.get("FORGE_RUNNER_TOKEN_FILE"):
        raise ConfigurationError(
            "FORGE_RUNNER_TOKEN is set, and a worker would use it instead of the token that is "
            "about to be made. Unset it first."
        )
    if file.exists() and not is_forced:
        raise ConfigurationError(
            f"{file.path} holds a runner token already. Start its worker, or take that runner "
            "away with unregister, or replace the token with --force."
        )


def _exchange(url: str, secret: str, file: TokenFile, name: str | None) -> RegisterReply:
    """Raises RevokedError, RefusedError and UnreachableError."""
    request = RegisterRequest(
        protocol=PROTOCOL_VERSION,
        version=VERSION,
        digest=hashlib.sha256(file.pending().encode()).hexdigest(),
        host_name=socket.gethostname()[:255],
        system=system(),
        name=name,
    )
    try:
        made = client.register(url, Trust.from_environment(os.environ), secret, request)
    except RefusedError as error:
        if error.code == "token_not_new":
            file.drop_pending()  # any other refusal is not about this token
        raise
    file.confirm()
    return made


def start_command(environment: Mapping[str, str]) -> str:
    """The one command that starts the worker, to be pasted into a shell."""
    settings = [
        f"{name}={shlex.quote(environment[name])}" for name in _PASSED_ON if environment.get(name)
    ]
    celery = Path(sys.executable).with_name("celery")
    program = shlex.quote(str(celery)) if celery.exists() else "celery"
    return " ".join([*settings, program, "-A runners.worker worker"])

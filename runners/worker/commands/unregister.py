"""`unregister`: take this host's runner away."""

from __future__ import annotations

import os
import socket

import click

from runners.worker.client import Client
from runners.worker.commands.token_file import TokenFile
from runners.worker.configuration import Configuration
from runners.worker.errors import RevokedError
from runners.worker.protocol import UnregisterRequest


@click.command()
def unregister() -> None:
    """Remove this host's runner from Forge and delete its token here.

    A worker that runs ends, and so do its tasks. It cannot be undone.
    """
    configuration = Configuration.from_environment(os.environ)
    file = configuration.tokens.file
    try:
        gone = Client(configuration).unregister(UnregisterRequest(socket.gethostname()[:255]))
    except RevokedError as error:
        if file is None:
            raise
        # Not deleted here: with a wrong FORGE_URL it would be the token of a good runner.
        raise RevokedError(
            f"Forge at {configuration.url} does not know the token in {file}. If the runner was "
            "removed there, delete the file.",
            error.code,
        ) from error
    tasks = f" {gone.ended} of its tasks {'was' if gone.ended == 1 else 'were'} ended."
    tasks = tasks if gone.ended else ""
    click.echo(f"Removed runner {gone.name} from Forge at {configuration.url}.{tasks}")
    if file is None:
        click.echo("Take FORGE_RUNNER_TOKEN out of the environment; it opens nothing any more.")
    else:
        TokenFile(file).delete()
        click.echo(f"Deleted {file}.")

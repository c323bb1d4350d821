"""What an operator does on a runner host: `python -m runners.worker register | …`.

Installed from the wheel it is also called `forge-runner`. An error is one line and exit status 2.
"""

from __future__ import annotations

import click

from runners.worker.commands.register import register
from runners.worker.commands.unregister import unregister
from runners.worker.commands.verify import verify
from runners.worker.protocol import VERSION


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="forge-runner", message="%(prog)s %(version)s")
def main() -> None:
    """Register this host as a Forge runner, check it, and take it away again.

    The address of Forge comes from FORGE_URL; tokens come from files or from the environment.
    """


main.add_command(register)
main.add_command(unregister)
main.add_command(verify)

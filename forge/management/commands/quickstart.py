"""`manage.py quickstart`: a whole Forge on one machine, for trying it out."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import threading
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import requests
from django.core.management.base import BaseCommand

from forge.quickstart.data_folder import DataFolder
from forge.quickstart.errors import QuickStartError
from forge.quickstart.start import QuickStart
from runners.worker.fields import printable

DEFAULT_DATA = "var"
DEFAULT_PORT = 8000
# What a person can do something about: no traceback. A full disk is an OSError.
FAILURES = (QuickStartError, requests.RequestException, OSError)


class Command(BaseCommand):
    help = (
        "Start an embedded broker, web, controller, Flower and one runner, run a demo task, and "
        "stay until Ctrl-C. With --once: run all demo templates in a temporary folder and exit."
    )
    # It does not touch the database itself.
    requires_system_checks: list[str] = []  # type: ignore[assignment]

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--data", default=DEFAULT_DATA, help="the data folder (default: var)")
        parser.add_argument("--port", type=int, help="the port of the pages (0: any free one)")
        parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
        parser.add_argument("--once", action="store_true", help="run the demo tasks and exit")

    def handle(self, *args: Any, **options: Any) -> None:
        os.umask(0o077)
        status = _once(options) if options["once"] else _stay(options)
        sys.exit(status)


def _say(line: str) -> None:
    print(line, flush=True)


def _show(text: str) -> None:
    sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.flush()


def _run(start: QuickStart, template_id: int) -> dict[str, Any]:
    """Run a template and show its log, in colours where somebody looks at them."""
    return start.run_template(template_id, _show, has_colours=sys.stdout.isatty())


def _make(path: Path, options: dict[str, Any], *, port: int) -> QuickStart:
    is_given = options["port"] is not None
    return QuickStart(
        DataFolder(path), host=options["host"], port=port, is_given=is_given, say=_say
    )


def _end_on_signals(start: QuickStart) -> None:
    """Also before it is up: the first signal ends the start in good order."""

    def end(number: int, frame: object) -> None:
        start.close()
        if threading.current_thread() is threading.main_thread() and not start.is_up:
            raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)


def _stay(options: dict[str, Any]) -> int:
    port = DEFAULT_PORT if options["port"] is None else options["port"]
    # Without a name it would be the folder that the command was typed in.
    start = _make(Path(options["data"] or DEFAULT_DATA), options, port=port)
    _end_on_signals(start)
    try:
        _say("Starting Forge. The first start takes a few seconds.")
        start.up()
        _demonstrate(start)
        _say(_addresses(start))
        start.watch()
        _say("\nEnding Forge.")
    except FAILURES as error:
        _say(f"quickstart: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        start.down()
    return 0


def _demonstrate(start: QuickStart) -> None:
    """One task, with its log as it comes, so that there is something to look at."""
    templates = start.seeded["template_ids"]
    if not templates:
        return
    name = printable(start.api.get(f"templates/{templates[0]}/")["name"], 100)
    _say(f"\nRunning “{name}” on runner {start.seeded['runner_name']}:\n")
    task = _run(start, templates[0])
    _say(f"\nTask #{task['id']} {task['state']}. {printable(task['reason'], 500)}")


def _addresses(start: QuickStart) -> str:
    return f"""
  Forge      {start.url}
  sign in    {start.seeded["username"]}
  password   {start.seeded["password"]}
  API        {start.url}/api/docs/
  Flower     {start.flower_url}  (same sign-in)

Ctrl-C ends it; the data stays."""


def _once(options: dict[str, Any]) -> int:
    folder = Path(tempfile.mkdtemp(prefix="forge-quickstart-"))
    start = _make(folder, options, port=options["port"] or 0)
    _end_on_signals(start)
    try:
        start.up()
        tasks = [_run(start, template) for template in start.seeded["template_ids"]]
        failed = [task for task in tasks if task["state"] != "succeeded"]
        status = 1 if failed or len(tasks) != 3 else 0
        last = _summary(start, tasks, failed)
    except FAILURES as error:
        status, last = 1, f"quickstart: {error}"
    except KeyboardInterrupt:
        status, last = 130, "quickstart: interrupted"
    finally:
        start.down()
    if status == 0:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        _say(f"The data folder is kept: {folder}")
    _say(last)
    return status


def _summary(start: QuickStart, tasks: list[dict[str, Any]], failed: list[dict[str, Any]]) -> str:
    runner = start.seeded["runner_name"]
    if failed:
        reasons = " ".join(f"#{task['id']}: {task['reason']}" for task in failed)
        return (
            f"quickstart: {len(failed)} of {len(tasks)} tasks failed on runner {runner}. {reasons}"
        )
    return f"quickstart: {len(tasks)} tasks succeeded on runner {runner}"

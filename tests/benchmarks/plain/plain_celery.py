"""The floor: plain Celery and one task that starts the same program. Run by dispatch.py."""

from __future__ import annotations

import os
import subprocess

from celery import Celery

app = Celery("plain", broker=os.environ["PLAIN_BROKER"], backend=os.environ["PLAIN_BROKER"])
app.conf.worker_hijack_root_logger = False


@app.task(name="plain.run")
def run() -> str:
    """Start Bash; its first instruction is to say what time it is."""
    command = ["bash", "-c", "echo $EPOCHREALTIME"]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout

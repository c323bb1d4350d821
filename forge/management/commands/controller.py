"""`manage.py controller`: keep the broker equal to the rows."""

from __future__ import annotations

import signal
import sys
from typing import Any

from django.core.management.base import BaseCommand

from forge.controller.run import Controller


class Command(BaseCommand):
    help = (
        "Publish hints, keep broker accounts, watch for lost runners, relay events to Flower. "
        "Any number may run; one leads."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        controller = Controller()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: controller.close())
        sys.exit(controller.run())

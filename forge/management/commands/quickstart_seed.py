"""`manage.py quickstart_seed`: what the quick start fills a new Forge with. Not for hands."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from forge.quickstart.seed import seed
from projects.audit.actor import by_command


class Command(BaseCommand):
    help = "Reads secrets as JSON from standard input, fills Forge, prints what was made as JSON."

    def handle(self, *args: Any, **options: Any) -> None:
        known = json.load(sys.stdin)
        with by_command("quickstart_seed"):
            self.stdout.write(json.dumps(seed(known, now=timezone.now())))

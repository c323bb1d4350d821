"""`manage.py flush`: Django's own, for a database that refuses to forget its audit log."""

from __future__ import annotations

from typing import Any

from django.core.management.commands import flush
from django.db import connections

from projects.audit.append_only import lifted


class Command(flush.Command):
    help = f"{flush.Command.help} Empties the audit log too, which refuses any other deletion."

    def handle(self, **options: Any) -> None:
        with lifted(connections[options["database"]]):
            super().handle(**options)

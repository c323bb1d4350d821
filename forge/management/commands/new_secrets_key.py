"""`manage.py new_secrets_key`: a key for FORGE_SECRETS_KEY."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from projects.encryption import new_key


class Command(BaseCommand):
    help = "Prints a new key for FORGE_SECRETS_KEY. Whoever loses it loses all stored secrets."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(new_key())

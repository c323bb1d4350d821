"""`manage.py reencrypt_secrets`: the end of a change of FORGE_SECRETS_KEY."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from projects.audit.actor import by_command
from projects.errors import SecretsKeyError
from projects.reencryption import reencrypt


class Command(BaseCommand):
    help = (
        "Puts every stored secret under FORGE_SECRETS_KEY. Older keys must still stand in "
        "FORGE_SECRETS_KEY_FALLBACKS and can be dropped afterwards. May be run at any time."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with by_command("reencrypt_secrets"):
                count = reencrypt()
        except SecretsKeyError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{count.moved} re-encrypted, {count.current} under this key before.")
        for sentence in count.unreadable:
            self.stderr.write(sentence)
        if count.unreadable:
            raise CommandError(
                f"{len(count.unreadable)} secrets could not be read and stay as they are. Do not "
                "drop the older keys yet."
            )

"""`manage.py make_sample_data`: believable data in any amount, for looking and for measuring."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from forge.sample.making import has_data, make
from forge.sample.scene import Amounts

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    help = (
        "Fills the database with projects, members, runners, templates and tasks of the last "
        "three months, by bulk inserts. Nobody made here can sign in. No worker is behind the "
        "runners, so they count as offline after FORGE_OFFLINE_SECONDS."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--projects", type=int, default=20, help="default: 20")
        parser.add_argument("--runners", type=int, default=60, help="default: 60")
        parser.add_argument("--tasks", type=int, default=5000, help="default: 5000")
        parser.add_argument("--seed", type=int, default=1, help="the same gives the same data")
        parser.add_argument(
            "--add", action="store_true", help="also to a database that has projects already"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        amounts = Amounts(options["projects"], options["runners"], options["tasks"])
        if amounts.projects < 1 or min(amounts.runners, amounts.tasks) < 0:
            raise CommandError("At least one project is needed, and nothing below zero.")
        if has_data() and not options["add"]:
            raise CommandError(
                "This database has projects already. Use an empty one, or say --add: nothing that "
                "is there is changed, but what is made cannot be told apart from it afterwards."
            )
        begun = time.monotonic()
        make(amounts, seed=options["seed"], now=timezone.now(), tell=self.stdout.write)
        self.stdout.write(
            f"Made {amounts.projects:,} projects, {amounts.runners:,} runners and "
            f"{amounts.tasks:,} tasks in {time.monotonic() - begun:.0f} s."
        )

"""What the audit log must say after a write, for the suites that walk all of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from django.utils import timezone

from projects.audit.entry import AuditEntry
from projects.models import UserToken
from projects.operations import create_user_token
from runners.models import RegistrationToken, Runner, RunnerToken
from runners.operations import pause_runner, rotate_token
from tasks.models import TaskTemplate
from tasks.operations import disable_template
from tests.cast import CANARY, Cast


@contextmanager
def one_entry() -> Iterator[list[AuditEntry]]:
    """Within this, exactly one entry is added; the list holds it afterwards."""
    before = set(AuditEntry.objects.values_list("pk", flat=True))
    found: list[AuditEntry] = []
    yield found
    found += AuditEntry.objects.exclude(pk__in=before)
    assert len(found) == 1, [str(entry) for entry in found]


def in_need_of_everything(runner: Runner, cast: Cast) -> None:
    """It is connected, and has an older token to end, a pause to resume, a quarantine to lift."""
    now = timezone.now()
    rows = type(runner).objects.filter(pk=runner.pk)
    rows.update(session="one", connected_at=now, last_heartbeat_at=now)
    runner.refresh_from_db()
    rotate_token(runner=runner, overlap=timedelta(hours=1), by=cast.owner, now=now)
    pause_runner(runner=runner, reason="Kernel update", until=None, by=cast.owner, now=now)
    assert runner.quarantine(reason="It wrote too much.", now=now)


def disabled(template: TaskTemplate, cast: Cast) -> None:
    """The template is disabled, and waits for being enabled."""
    now = timezone.now()
    disable_template(template=template, reason="Replaced", by=cast.owner, now=now)


def token_row(cast: Cast) -> UserToken:
    now = timezone.now()
    return create_user_token(user=cast.owner, name="mine", expires_at=None, now=now).row


def assert_nothing_secret() -> None:
    """In no entry there is a secret, a token or a digest."""
    text = json.dumps([entry.as_json() for entry in AuditEntry.objects.all()])
    digests = [
        digest
        for model in (RunnerToken, RegistrationToken, UserToken)
        for digest in model._default_manager.values_list("digest", flat=True)
    ]
    assert not [word for word in (CANARY, "fgr_", "fgt_", "fgu_", *digests) if word in text]

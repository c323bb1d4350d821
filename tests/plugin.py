"""The environment of the tests, set before Django reads it. Loaded by `-p tests.plugin`."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# A machine that stands still for a moment in the middle of an example has found nothing.
settings.register_profile("forge", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("forge")

os.environ.setdefault("SECRET_KEY", "only-for-tests-" + "x" * 40)
os.environ.setdefault("DATABASE_URL", "sqlite:///:memory:")
os.environ.setdefault("FORGE_SECRETS_KEY", "only-for-tests-this-is-32-bytes-in-base64xx=")
# Nothing listens there: what needs a broker starts its own.
os.environ.setdefault("REDIS_URL", "redis://127.0.0.1:1/0")
os.environ.setdefault("DJANGO_ALLOW_ASYNC_UNSAFE", "true")

# --- what tests/attacks counted: printed at the end, also when several processes ran it ---

_attacks: list[list[Any]] = []


def _counted() -> list[list[Any]]:
    ledger = sys.modules.get("tests.attacks.ledger")
    return ledger.as_plain(ledger.ROWS) if ledger else []


def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["attacks"] = _counted()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    _attacks.extend(getattr(node, "workeroutput", {}).get("attacks", []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    rows = [*_attacks, *_counted()]
    if rows:
        from tests.attacks.ledger import table

        terminalreporter.section("what the thief tried")
        for line in table(rows):
            terminalreporter.write_line(line)

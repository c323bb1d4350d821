"""Error pages with details show the way through the code and nobody's values."""

from __future__ import annotations

import sys
from typing import Any

from django.test import RequestFactory
from django.views.debug import ExceptionReporter, SafeExceptionReporterFilter

from tests.cast import CANARY


def report(settings: Any, **options: Any) -> str:
    """Django's page about an error in a function that holds the canary."""
    settings.DEBUG = True
    settings.REDIS_URL = f"redis://:{CANARY}@broker.example/0"
    request = RequestFactory().post("/access-keys/", {"value": CANARY})
    try:
        _store(CANARY)
    except LookupError:
        reporter = ExceptionReporter(request, *sys.exc_info())
        for name, value in options.items():
            setattr(reporter, name, value)
        return str(reporter.get_traceback_html()) + str(reporter.get_traceback_text())
    raise AssertionError


def _store(private_key: str) -> None:
    raise LookupError(len(private_key))


def test_values_are_hidden_and_code_is_shown(settings: Any) -> None:
    shown = report(settings)
    assert CANARY not in shown
    assert "_store(CANARY)" in shown and "private_key" in shown and "LookupError" in shown


def test_djangos_own_filter_would_show_them(settings: Any) -> None:
    assert CANARY in report(settings, filter=SafeExceptionReporterFilter())

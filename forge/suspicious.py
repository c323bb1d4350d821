"""Requests that Django calls suspicious: a line now and then, not a traceback for each.

A wrong `Host` costs its sender nothing; with 2 KB of log for each, strangers could fill a disk.
"""

from __future__ import annotations

import logging


class SuspiciousHandler(logging.Handler):
    """For the logger `django.security`: what it says goes to the bounded log of refusals."""

    def emit(self, record: logging.LogRecord) -> None:
        # Logging is set up before the apps, and these belong to one.
        from runners.endpoint import address_of
        from runners.quotas import network_of
        from runners.refusals import refusals

        request = getattr(record, "request", None)
        network = network_of(address_of(request) if request is not None else None)
        code = "suspicious_" + record.name.rpartition(".")[2].lower()
        refusals.of_stranger(network, code, record.getMessage())

"""The form of a line in the server's log."""

from __future__ import annotations

import logging
import re

MOST = 500  # characters of what a refused request asked for
# But for the line end, which `Line` sees to, and the tab.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


class Line(logging.Formatter):
    """Nothing that people entered acts in it, or looks like a line of its own.

    Tracebacks quote what was entered as it was. So what follows a record's first line is indented,
    and control characters are written as Python writes them.
    """

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record).replace("\n", "\n  ")
        return _CONTROLS.sub(lambda found: repr(found[0])[1:-1], text)


class BriefRefusals(logging.Filter):
    """For the logger `django.request`: a request that was wrong is no error in the program.

    Its address may have 60,000 characters, and a log has room for the first of them.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.ERROR:
            record.exc_info = record.exc_text = None
            text = record.getMessage()
            record.msg, record.args = text if len(text) <= MOST else f"{text[:MOST]}…", ()
        return True

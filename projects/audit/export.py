"""The audit log as a file: CSV for spreadsheets, JSON lines for programs; made as it is sent."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any
from unicodedata import normalize

from projects.audit.entry import COLUMNS, AuditEntry, AuditEntryQuerySet

BATCH = 2000
# What spreadsheets take for the beginning of a formula; some, also where it is written wide.
# https://owasp.org/www-community/attacks/CSV_Injection
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
FORMS = {"csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl; charset=utf-8"}


def exported(rows: AuditEntryQuerySet, form: str) -> Iterator[bytes]:
    """The entries, newest first, in pieces; `form` is a key of FORMS.

    Each piece is a query of its own, so that a slow reader holds no transaction open.
    """
    write = _csv if form == "csv" else _json_lines
    if form == "csv":
        yield _csv_line(COLUMNS)
    last: AuditEntry | None = None
    while True:
        batch = list((rows.after(last) if last else rows)[:BATCH])
        if batch:
            yield b"".join(map(write, batch))
        if len(batch) < BATCH:
            return
        last = batch[-1]


def _json_lines(entry: AuditEntry) -> bytes:
    return json.dumps(entry.as_json(), ensure_ascii=False).encode() + b"\n"


def _csv(entry: AuditEntry) -> bytes:
    return _csv_line(map(_cell, entry.as_json().values()))


def _csv_line(cells: Any) -> bytes:
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue().encode()


def _cell(value: Any) -> Any:
    """What somebody entered never becomes a formula in somebody else's spreadsheet."""
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False) if value else ""
    if isinstance(value, str) and normalize("NFKC", value[:1]).startswith(_FORMULA):
        return f"'{value}"
    return value

"""How the large tables are filled: by COPY on PostgreSQL, four times as fast as INSERT."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from django.db import connection
from django.db.models import Model

_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_TEXTS: dict[type, Callable[[Any], str]] = {
    type(None): lambda _: "\\N",
    bool: lambda value: "t" if value else "f",
    int: str,
    str: lambda value: str(value.translate(_ESCAPES)),
    datetime: datetime.isoformat,
    bytes: lambda value: f"\\\\x{value.hex()}",
    dict: lambda value: json.dumps(value).translate(_ESCAPES),
    list: lambda value: json.dumps(value).translate(_ESCAPES),
}


def pour(rows: Sequence[Model]) -> None:
    """Insert rows of one model; afterwards they have their numbers."""
    if not rows:
        return
    if connection.vendor == "postgresql":
        _copy(rows)
    else:
        type(rows[0])._default_manager.bulk_create(rows)


def _copy(rows: Sequence[Model]) -> None:
    meta = type(rows[0])._meta
    fields = meta.concrete_fields
    names = [field.attname for field in fields]
    columns = ", ".join(connection.ops.quote_name(str(field.column)) for field in fields)
    table = connection.ops.quote_name(meta.db_table)
    with connection.cursor() as cursor:
        for row, number in zip(rows, _numbers(cursor, meta.db_table, len(rows)), strict=True):
            row.pk = number
        lines = ("\t".join(_text(row.__dict__[name]) for name in names) for row in rows)
        with cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
            copy.write("".join(f"{line}\n" for line in lines))


def _numbers(cursor: Any, table: str, count: int) -> list[int]:
    """The next ids, as if each row had been inserted by itself."""
    take = "SELECT nextval(pg_get_serial_sequence(%s, 'id')) FROM generate_series(1, %s)"
    cursor.execute(take, (table, count))
    return [number for (number,) in cursor.fetchall()]


def _text(value: Any) -> str:
    write = _TEXTS.get(type(value))
    # Members of TextChoices and other subclasses are written as what they extend.
    return write(value) if write else str(value)

"""Names that are compared without regard to capital letters."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet


def name_as_stored(rows: QuerySet[Any], name: str) -> str:
    """How the row of `rows` that has this name writes it; `name` if there is none any more."""
    return str(rows.filter(name__iexact=name).values_list("name", flat=True).first() or name)

"""How the database itself keeps the audit log: triggers refuse every UPDATE and DELETE.

Whoever owns the database can lift them, as with any of its rules; Forge does so only in `flush`,
which empties everything.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

TABLE = "projects_auditentry"
REFUSAL = "The audit log is append-only."

_SQLITE = tuple(
    f"CREATE TRIGGER audit_no_{what.lower()} BEFORE {what} ON {TABLE} "
    f"BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END"
    for what in ("UPDATE", "DELETE")
)
_POSTGRESQL = (
    "CREATE OR REPLACE FUNCTION forge_refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS "
    f"$$ BEGIN RAISE EXCEPTION '{REFUSAL}' USING ERRCODE = 'restrict_violation'; END $$",
    f"CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON {TABLE} "
    "FOR EACH ROW EXECUTE FUNCTION forge_refuse_audit_change()",
    f"CREATE TRIGGER audit_not_emptied BEFORE TRUNCATE ON {TABLE} "
    "FOR EACH STATEMENT EXECUTE FUNCTION forge_refuse_audit_change()",
)
_LIFT = {
    "sqlite": tuple(f"DROP TRIGGER IF EXISTS audit_no_{what}" for what in ("update", "delete")),
    "postgresql": tuple(
        f"DROP TRIGGER IF EXISTS {name} ON {TABLE}"
        for name in ("audit_append_only", "audit_not_emptied")
    ),
}
_KEEP = {"sqlite": _SQLITE, "postgresql": _POSTGRESQL}


def keep(connection: BaseDatabaseWrapper) -> None:
    """Refuse changes from now on."""
    _run(connection, _KEEP[connection.vendor])


def lift(connection: BaseDatabaseWrapper) -> None:
    """Allow them."""
    _run(connection, _LIFT[connection.vendor])


@contextmanager
def lifted(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Within this, rows can be deleted. Where the table is not there yet, nothing happens."""
    if TABLE not in connection.introspection.table_names():
        yield
        return
    lift(connection)
    try:
        yield
    finally:
        keep(connection)


def _run(connection: BaseDatabaseWrapper, statements: tuple[str, ...]) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)

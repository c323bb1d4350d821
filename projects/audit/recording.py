"""`record` and `record_saved`: how operations write into the audit log."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Any

from django.db import models, transaction
from django.utils import timezone
from django.views.debug import SafeExceptionReporterFilter

from projects.audit.actor import MAXIMUM_NAME, current
from projects.audit.entry import MAXIMUM_DETAIL, AuditEntry, Kind, Verb
from projects.errors import AuditOutsideTransactionError

KINDS: dict[str, Kind] = {
    "projects.project": Kind.PROJECT,
    "projects.membership": Kind.MEMBER,
    "projects.usertoken": Kind.USER_TOKEN,
    "projects.accesskey": Kind.ACCESS_KEY,
    "projects.variablegroup": Kind.VARIABLE_GROUP,
    "auth.user": Kind.USER,
    "auth.group": Kind.GROUP,
    "runners.runner": Kind.RUNNER,
    "runners.registrationtoken": Kind.REGISTRATION_TOKEN,
    "tasks.tasktemplate": Kind.TEMPLATE,
    "tasks.task": Kind.TASK,
}
# Columns whose values nobody may see, wherever they stand, and one that is no change.
UNTOLD = frozenset({"digest", "secret", "password", "nonce", "session", "instance", "last_login"})
# What looks like a secret by its name is none of the log's business, even in a plain variable.
_LOOKS_SECRET = SafeExceptionReporterFilter.hidden_settings
MAXIMUM_TEXT = 2_000
MAXIMUM_DIFF = 20_000
MAXIMUM_NAMES = 100
# Lines of a text that are compared with those of another.
MAXIMUM_COMPARED = 1_000
CONTEXT = 2
_START = re.compile(r"(?<= )([-+])(\d+)")
_CUT = " [cut]"

Snapshot = dict[str, Any]
Changes = dict[str, dict[str, Any]]


def record(
    verb: Verb,
    row: models.Model,
    *,
    detail: str = "",
    changes: Changes | None = None,
    name: str = "",
) -> AuditEntry:
    """Write down that whoever acts did this to `row`, in the transaction of the change itself.

    Raises AuditOutsideTransactionError where there is none.
    """
    kind = KINDS[row._meta.label_lower]
    project_id, project = _project_of(row)
    return _write(
        verb,
        kind,
        object_id=row.pk,
        name=name or _name_of(row),
        project_id=project_id,
        project=project,
        detail=detail,
        changes=changes or {},
    )


def secrets_just_set(row: models.Model) -> frozenset[str]:
    """Names of the secrets that the newest entry about `row` set, if whoever acts now made it."""
    actor = current()
    entry = AuditEntry.objects.about(KINDS[row._meta.label_lower], row.pk).first()
    if entry is None or actor.user_id is None or entry.actor_id != actor.user_id:
        return frozenset()
    told = {"set", "replaced"}
    return frozenset(name for name, what in entry.changes.items() if what.get("secret") in told)


def record_event(verb: Verb, kind: Kind, *, name: str, detail: str = "") -> AuditEntry:
    """Write down what was done to no row, such as a sign-in to an account that is not there."""
    return _write(verb, kind, name=name, detail=detail, changes={})


def _write(verb: Verb, kind: Kind, *, name: str, detail: str, **more: Any) -> AuditEntry:
    if not transaction.get_connection().in_atomic_block:
        raise AuditOutsideTransactionError(f"{verb.label} {kind.label}")
    actor = current()
    return AuditEntry.objects.create(
        at=timezone.now(),
        way=actor.way,
        actor=actor.name[:MAXIMUM_NAME] or "nobody",
        actor_id=actor.user_id,
        means=actor.means[:100],
        address=actor.address,
        verb=verb,
        kind=kind,
        name=name[:250] or "without a name",
        detail=detail[:MAXIMUM_DETAIL],
        **more,
    )


def _name_of(row: models.Model) -> str:
    """A member is called what the user is; a user is called by the user name."""
    is_member = row._meta.label_lower == "projects.membership"
    named = getattr(row, "user", row) if is_member else row
    return str(getattr(named, "name", "") or getattr(named, "username", "") or named)


def _project_of(row: models.Model) -> tuple[int | None, str]:
    project = row if row._meta.label_lower == "projects.project" else getattr(row, "project", None)
    return (None, "") if project is None else (project.pk, str(project))


# --- what a row says, before and after ---


def snapshot(row: models.Model) -> Snapshot | None:
    """What the database has of this row now; None if it is not there yet.

    Everything that people may edit, links to other rows too, and nothing of UNTOLD. To be taken
    before the change, in its transaction.
    """
    if row.pk is None:
        return None
    stored = type(row)._default_manager.filter(pk=row.pk).first()
    return None if stored is None else _told(stored)


def record_saved(
    row: models.Model,
    before: Snapshot | None,
    *,
    secrets: Mapping[str, str] | None = None,
    verb: Verb | None = None,
) -> AuditEntry | None:
    """Write down a row that was created (`before` None) or changed, after it was saved.

    `secrets` says by name what became of its secrets: set, replaced, removed. A save that changed
    nothing is not an event, and leaves no entry.
    """
    stored = type(row)._default_manager.get(pk=row.pk)
    changes = differences(before or {}, _told(stored))
    changes |= {name: {"secret": what} for name, what in (secrets or {}).items()}
    if before is not None and not changes:
        return None
    done = verb or (Verb.CREATED if before is None else Verb.CHANGED)
    return record(done, stored, changes=changes)


def _told(row: models.Model) -> Snapshot:
    told = {
        field.name: _value(getattr(row, field.name))
        for field in row._meta.concrete_fields
        if field.editable and not field.primary_key and field.name not in UNTOLD
    }
    told.pop("project", None)
    for link in row._meta.many_to_many:
        told[link.name] = _linked(row, link)
    return told


def _linked(row: models.Model, link: Any) -> list[str]:
    """Names of what a row is linked to; of links with a say of their own, what they say."""
    through = link.remote_field.through
    if through._meta.auto_created:
        names = map(str, getattr(row, link.name).all())
    else:
        found = through._default_manager.filter(**{link.m2m_field_name(): row})
        names = map(str, found)
    return sorted(names)[:MAXIMUM_NAMES]


def _value(value: Any) -> Any:
    if isinstance(value, models.Model):
        return str(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, dict):
        return {str(name): _hidden(str(name), item) for name, item in value.items()}
    if isinstance(value, list):
        return [_value(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _hidden(name: str, value: Any) -> Any:
    """The value, or a mark for it that changes with it and gives nothing of it away."""
    return _Hidden(str(value)) if _LOOKS_SECRET.search(name) else value


class _Hidden:
    """A value that can be compared and never be written down."""

    def __init__(self, value: str) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hidden) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "[not shown]"


def differences(old: Snapshot, new: Snapshot) -> Changes:
    """Field by field what is different; of mappings, name by name: `environment.TARGET`."""
    found: Changes = {}
    for name in [*new, *(name for name in old if name not in new)]:
        was, is_now = old.get(name), new.get(name)
        if isinstance(was, dict) or isinstance(is_now, dict):
            inner = differences(was or {}, is_now or {})
            found |= {f"{name}.{key}": change for key, change in inner.items()}
        elif was != is_now and not (name not in old and _is_empty(is_now)):
            found[name] = _change(was, is_now)
    return found


def _is_empty(value: Any) -> bool:
    """Whether a new row says nothing by it."""
    return value is None or value in ("", [])


def _change(old: Any, new: Any) -> dict[str, Any]:
    if isinstance(old, _Hidden) or isinstance(new, _Hidden):
        return {"secret": "set" if old is None else "removed" if new is None else "replaced"}
    if "\n" in f"{old or ''}{new or ''}" and isinstance(new, str):
        return _diff(str(old or ""), new)
    return {"old": _short(old), "new": _short(new)}


def _diff(old: str, new: str) -> dict[str, Any]:
    """The lines that differ; of so many that some are left out, how many there were."""
    # Whether the last line has an end is told only where nothing else differs.
    bare = [text.removesuffix("\n") for text in (old, new)]
    texts = bare if bare[0] != bare[1] else [old, new]
    # Not splitlines: what a shell takes for one line is to be one here.
    was, is_now = (text.split("\n") if text else [] for text in texts)
    lines = _compared(was, is_now)
    text = "\n".join(lines)
    if len(text) <= MAXIMUM_DIFF:
        return {"diff": text}
    signs = [line[:1] for line in lines]
    counts = {"added": signs.count("+"), "removed": signs.count("-")}
    return {"diff": _cut(text, MAXIMUM_DIFF), **counts}


def _compared(old: list[str], new: list[str]) -> list[str]:
    """A unified diff, of which long ones say of all in the middle that it was replaced.

    Only what is between the same beginning and the same end is compared line by line: that can take
    as long as the cube of its length, for texts that are made for it.
    """
    same = 0
    while same < min(len(old), len(new)) and old[same] == new[same]:
        same += 1
    tail = 0
    while tail < min(len(old), len(new)) - same and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    gone, come = len(old) - same - tail, len(new) - same - tail
    if max(gone, come) > MAXIMUM_COMPARED:
        place = f"@@ -{same + 1},{gone} +{same + 1},{come} @@"
        minus = [f"-{line}" for line in old[same : same + gone]]
        return [place, *minus, *(f"+{line}" for line in new[same : same + come])]
    begin = max(0, same - CONTEXT)
    rest = max(0, tail - CONTEXT)
    was, is_now = old[begin : len(old) - rest], new[begin : len(new) - rest]
    lines = _without_heads(difflib.unified_diff(was, is_now, lineterm="", n=CONTEXT))
    return [_moved(line, begin) if line.startswith("@@") else line for line in lines]


def _moved(place: str, by: int) -> str:
    """`@@ -1,3 +1,4 @@` of a part that begins further below."""
    return _START.sub(lambda found: f"{found[1]}{int(found[2]) + by}", place)


def _without_heads(lines: Iterable[str]) -> Iterable[str]:
    """Without `---` and `+++`: there are no files here."""
    return (line for number, line in enumerate(lines) if number > 1)


def _short(value: Any) -> Any:
    return _cut(value, MAXIMUM_TEXT) if isinstance(value, str) else value


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - len(_CUT)] + _CUT

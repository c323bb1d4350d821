"""Entries of the audit log as people read them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from projects.audit.actor import Way
from projects.audit.entry import AuditEntry, Kind, Verb
from projects.audit.reading import trail
from projects.words import counted

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User

MAXIMUM_NAMED = 3
# After the first sign of `@@ -12,5 +12,6 @@`.
_PLACE = re.compile(r"@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@")
MAXIMUM_INLINE = 40
_ICONS: dict[str, str] = {
    Verb.CREATED: "plus",
    Verb.CHANGED: "edit",
    Verb.REMOVED: "trash",
    Verb.PAUSED: "paused",
    Verb.RESUMED: "play",
    Verb.DISABLED: "revoked",
    Verb.ENABLED: "check",
    Verb.DRAINED: "draining",
    Verb.ROTATED: "key",
    Verb.ENDED_OLDER: "key",
    Verb.REVOKED: "revoked",
    Verb.QUARANTINED: "unhealthy",
    Verb.LIFTED: "check",
    Verb.RAN: "play",
    Verb.APPROVED: "check",
    Verb.STOPPED: "stop",
    Verb.FORCE_STOPPED: "stop",
    Verb.STOPPED_ALL: "stop",
    Verb.SIGNED_IN: "right",
    Verb.SIGN_IN_FAILED: "failed",
    Verb.SIGNED_OUT: "out",
    Verb.CHANGED_PASSWORD: "key",
    Verb.REENCRYPTED: "key",
}
# What somebody on watch looks at first.
_LOOKS: dict[str, str] = {
    Verb.SIGN_IN_FAILED: "bad",
    Verb.QUARANTINED: "bad",
    Verb.REMOVED: "warn",
    Verb.REVOKED: "warn",
    Verb.STOPPED_ALL: "warn",
}
# These say all by themselves: whose account it was stands beside them.
_DANGLING = re.compile(r" (to|of|in)$")
_ALONE = frozenset({Verb.SIGNED_IN, Verb.SIGNED_OUT})


@dataclass(frozen=True)
class Change:
    """One field of a change. `diff` are (sign, line) pairs of a long text; where the log does not
    have all of them, `counts` are how many were added and removed.
    """

    field: str
    old: str = ""
    new: str = ""
    secret: str = ""
    diff: list[tuple[str, str]] | None = None
    counts: tuple[int, int] | None = None

    @property
    def numbered(self) -> list[tuple[str, int | str, str]]:
        """The lines of `diff` with their numbers: of the new text, and where taken away, the old.

        Where lines are left out between two places there is a line with the sign `@`.
        """
        found: list[tuple[str, int | str, str]] = []
        old = new = 0
        for sign, text in self.diff or []:
            if sign == "@" and (place := _PLACE.match(text)):
                old, new = int(place[1]), int(place[2])
                found += [("@", "", "")] if found else []
                continue
            found.append((sign, old if sign == "-" else new, text))
            old += sign != "+"
            new += sign != "-"
        return found

    @property
    def in_short(self) -> str:
        """For the line under the sentence."""
        if self.secret:
            return f"{self.field} {self.secret}"
        if self.diff is not None:
            signs = [sign for sign, _ in self.diff]
            added, removed = self.counts or (signs.count("+"), signs.count("-"))
            return f"{self.field} +{added:,} −{removed:,}"
        if len(self.old) + len(self.new) > MAXIMUM_INLINE:
            return self.field
        return f"{self.field} {self.old or 'nothing'} → {self.new or 'nothing'}"


@dataclass(frozen=True)
class Line:
    entry: AuditEntry
    changes: list[Change]

    @property
    def icon(self) -> str:
        return _ICONS.get(self.entry.verb, "edit")

    @property
    def look(self) -> str:
        return _LOOKS.get(self.entry.verb, "")

    @property
    def done(self) -> str:
        """What was done, where everything is done to the same object: `Gave a new token`."""
        return _DANGLING.sub("", self.entry.verb_label)

    @property
    def object_words(self) -> str:
        """`runner`, before its name; nothing where the verb says it."""
        if self.entry.verb in _ALONE:
            return ""
        words = self.entry.kind_label
        return words if words.startswith("API") else words[:1].lower() + words[1:]

    @property
    def shows_name(self) -> bool:
        return self.entry.verb not in _ALONE

    @property
    def how(self) -> str:
        """`API token nightly deploy`, `Page`, `manage.py quickstart_seed`."""
        entry = self.entry
        if entry.way == Way.COMMAND:
            return entry.means or "Command line"
        if entry.way == Way.RUNNER and entry.means:
            return f"Host, with registration token {entry.means}"
        label = Way(entry.way).label if entry.way in Way.values else entry.way
        return f"{label} {entry.means}".strip()

    @property
    def summary(self) -> str:
        """What changed, in a line; of what is new, how much: its page says it."""
        parts = [self.entry.detail] if self.entry.detail else []
        if self.entry.verb == Verb.CREATED:
            parts += [f"With {counted(len(self.changes), 'field')}."] if self.changes else []
        else:
            named = [change.in_short for change in self.changes[:MAXIMUM_NAMED]]
            more = len(self.changes) - len(named)
            parts += [", ".join(named) + (f" and {more} more" if more else "")] if named else []
        return " ".join(parts)

    @property
    def trail_query(self) -> str:
        entry = self.entry
        if entry.object_id is None:
            return urlencode({"kind": entry.kind})
        return urlencode({"kind": entry.kind, "object": entry.object_id})

    @property
    def who_query(self) -> str:
        return urlencode({"who": self.entry.actor})


def lines_of(rows: Iterable[AuditEntry]) -> list[Line]:
    return [Line(entry, list(_changes_of(entry.changes))) for entry in rows]


def _changes_of(changes: dict[str, dict[str, Any]]) -> Iterable[Change]:
    for name, change in changes.items():
        field = name.replace("_", " ") if name.islower() else name
        if "secret" in change:
            yield Change(field, secret=str(change["secret"]))
        elif "diff" in change:
            lines = str(change["diff"]).split("\n")
            counts = (change["added"], change["removed"]) if "added" in change else None
            yield Change(field, diff=[(line[:1], line[1:]) for line in lines], counts=counts)
        else:
            yield Change(field, _shown(change.get("old")), _shown(change.get("new")))


def _shown(value: Any) -> str:
    if value is None or value == "":
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def trail_of(user: User | AnonymousUser, kind: Kind, object_id: int) -> list[Line]:
    """The latest of what was done to one object, for those who may read the log."""
    rows = AuditEntry.objects.for_user(user)
    return lines_of(trail(rows, kind, object_id))

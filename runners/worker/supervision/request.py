"""What a supervisor is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runners.worker.supervision.errors import SupervisionError
from runners.worker.supervision.process import Terms


def request_of(
    argv: Sequence[str],
    environment: Mapping[str, str],
    directory: Path,
    *,
    user: Mapping[str, object] | None,
    places: Sequence[str] | None,
    terms: Terms | None,
) -> dict[str, Any]:
    """The arguments of a `Program`, and the terms. Raises SupervisionError: no program can be so.

    Nothing is looked for here: that may take for ever where the file system does not answer.
    """
    if not argv or not argv[0]:
        raise SupervisionError("there is no program to start")
    for text in (
        *argv,
        *(places or ()),
        *environment.keys(),
        *environment.values(),
        str(directory),
    ):
        if "\0" in text:
            raise SupervisionError("an argument or environment variable contains a NUL character")
    for name in environment:
        if not name or "=" in name:
            raise SupervisionError(f"{name!r} is no name for an environment variable")
    return {
        "argv": list(argv),
        "environment": dict(environment),
        "directory": str(directory.absolute()),
        "user": dict(user) if user else None,
        "places": None if places is None else list(places),
        **_terms(terms),
    }


def _terms(terms: Terms | None) -> dict[str, Any]:
    if terms is None:
        return {}
    request: dict[str, Any] = {"start_by": terms.start_by}
    if terms.until is not None:
        steps = [[int(step.signal), step.grace_seconds] for step in terms.steps]
        request["lease"] = {"until": terms.until, "steps": steps}
    return request

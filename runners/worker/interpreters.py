"""What runs the script of each app, and where on this host that may lie."""

from __future__ import annotations

import os
import sys

# app: the program, and what its script is called
INTERPRETERS = {"bash": ("bash", "script.sh"), "python": ("python3", "script.py")}


def places_of(program: str) -> list[str]:
    """The paths at which an interpreter may lie, by the worker's own PATH, the first one first.

    For Python the worker's own comes last. Nothing is looked at here: a folder of the PATH may lie
    on a file system that does not answer, and keep for ever whoever does.
    """
    path = os.environ.get("PATH")
    if path is None:
        path = os.confstr("CS_PATH") or os.defpath
    folders = path.split(os.pathsep) if path else []
    places = [os.path.join(folder, program) for folder in map(_absolute, folders) if folder]
    if program == "python3" and sys.executable:
        places.append(sys.executable)
    return list(dict.fromkeys(places))


def _absolute(folder: str) -> str:
    """As the kernel takes it here; empty for one within a folder that is gone."""
    try:
        return os.path.join(os.getcwd(), folder) if not os.path.isabs(folder) else folder
    except OSError:
        return ""

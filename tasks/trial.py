"""The test task of a new runner: a template for its set of tags, made once, and a run of it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from runners.models import Queue
from tasks.duplicating import MAXIMUM_NAME
from tasks.errors import TemplateNameTakenError
from tasks.models import App, Task, TaskTemplate
from tasks.operations import run_template, save_template

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from runners.models import Runner

TIMEOUT_SECONDS = 60
DESCRIPTION = "Says which runner ran it and what its host has; changes nothing"
# For any POSIX shell. Not every host knows the name of its user, or the command hostname.
SCRIPT = """\
say() { printf '%-16s  %s\\n' "$1" "$2"; }

say Runner "$FORGE_RUNNER"
say Host "$(uname -n)"
say User "$(id -un 2>/dev/null || id -u)"
say Folder "$(pwd)"
say System "$(uname -srm)"
say Date "$(date '+%Y-%m-%d %H:%M:%S %Z')"

for program in bash python3 ansible-playbook terraform git; do
  say "$program" "$(command -v "$program" || echo 'not on the PATH')"
done
"""


def run_trial(*, runner: Runner, by: User, now: datetime) -> Task:
    """Queue a test task for runners that have this one's tags; whichever is free first takes it.

    A template that has its name is run as it is, whoever made it. Raises what `run_template` does,
    and TemplateNameTakenError if one of that name came and went in this moment.
    """
    return run_template(template=_template_for(runner), by=by, now=now)


def _template_for(runner: Runner) -> TaskTemplate:
    tags = list(runner.tags.order_by("name").values_list("name", flat=True))
    rows = TaskTemplate.objects.present().filter(
        project_id=runner.project_id, name__iexact=name_for(tags)
    )
    if found := rows.first():
        return found
    template = TaskTemplate(
        project=runner.project,
        name=name_for(tags),
        description=DESCRIPTION,
        app=App.BASH,
        script=SCRIPT,
        timeout_seconds=TIMEOUT_SECONDS,
        # A test of one host does not wait for that of another.
        allow_parallel=True,
    )
    try:
        return save_template(template=template, tags=tags)
    except TemplateNameTakenError:
        if found := rows.first():
            return found  # another click was faster
        raise


def name_for(tags: Sequence[str]) -> str:
    """`Test task (gpu, linux)` for these tags, in order.

    Where they do not all fit, a digest of all keeps sets apart that begin alike.
    """
    name = f"Test task ({', '.join(tags)})" if tags else "Test task"
    shown = len(tags)
    while len(name) > MAXIMUM_NAME:
        shown -= 1
        digest = hashlib.sha256(Queue.name_for(tags).encode()).hexdigest()[:8]
        more = f"{len(tags) - shown} more, {digest}"
        name = f"Test task ({', '.join(tags[:shown])} and {more})"
    return name

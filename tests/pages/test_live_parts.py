"""What refreshes itself: a control that is drawn anew keeps the focus by its id, and by that only.

The focus itself: tests/browser/test_live_parts.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from html.parser import HTMLParser

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from projects.models import AccessKey, Project, VariableGroup
from runners.models import Runner
from runners.operations import create_runner, pause_runner, rotate_token
from tasks.lifecycle import TaskState
from tasks.models import Task, TaskAttempt, TaskTemplate
from tasks.operations import disable_template, run_template, save_template
from tasks.policies import LostRunnerPolicy
from tests.cast import Cast

Browser = Callable[[User | None], Client]
# Of a task's page: what its stream draws anew, and what follows it.
TASK_PARTS = (
    ('id="task-head">', '<p class="vh" role="status"'),
    ('<div id="task-waiting">', "data-stream="),
    ('id="task-side">', "</aside>"),
)
CONTROLS = {"a", "button", "input", "select", "summary", "textarea"}


@dataclass
class Markup(HTMLParser):
    """The ids of a page, and its controls without one."""

    ids: list[str] = field(default_factory=list)
    nameless: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        if "id" in told:
            self.ids.append(str(told["id"]))
        if (tag in CONTROLS or "tabindex" in told) and "id" not in told:
            self.nameless.append(self.get_starttag_text() or tag)

    @property
    def repeated(self) -> list[str]:
        return [name for name, count in Counter(self.ids).items() if count > 1]


def markup_of(client: Client, address: str) -> Markup:
    answer = client.get(address)
    assert answer.status_code == 200, address
    found = Markup()
    found.feed(answer.text)
    return found


@pytest.fixture
def filled(cast: Cast, running_task: Task, runner: Runner) -> None:
    """Something of everything that a live part shows."""
    now, project = timezone.now(), cast.project
    late = now - timedelta(minutes=12)
    failed = run_template(template=running_task.template, by=cast.operator, now=now)
    Task.objects.filter(pk=failed.pk).update(
        state=TaskState.FAILED, finished_at=now, runner=runner, reason="It ended with status 3."
    )
    for _ in range(2):
        run_template(template=running_task.template, by=cast.operator, now=now)
    for name, tags in (("Off", ["gpu"]), ("Plain", [])):
        template = TaskTemplate(project=project, name=name, script="x\n")
        save_template(template=template, tags=tags)
        run_template(template=template, by=cast.operator, now=now)
    template.description, template.script = "Changed", "y\n"
    save_template(template=template, tags=[])
    off = TaskTemplate.objects.get(name="Off")
    disable_template(template=off, reason="Not now", by=cast.manager, now=now)
    for name in ("gpu-1", "gpu-2"):
        create_runner(
            project=project, name=name, tags=["gpu"], concurrency=1, takes_untagged=True,
            by=cast.owner, now=now,
        )  # fmt: skip
    pause_runner(runner=runner, reason="Update", until=None, by=cast.manager, now=now)
    rotate_token(runner=runner, overlap=timedelta(hours=1), by=cast.manager, now=now)
    Runner.objects.filter(pk=runner.pk).update(
        connected_at=late,
        last_heartbeat_at=late,
        session="one",
        quarantined_until=now + timedelta(1),
        quarantine_reason="Too much",
        trouble="No space left",
    )
    Task.objects.filter(pk=running_task.pk).update(
        state=TaskState.UNREACHABLE, unreachable_at=late, wait_ends_at=now + timedelta(minutes=12)
    )


def addresses(project: Project) -> dict[str, str]:
    """The pages, with which query each asks for its live part."""
    place = f"/projects/{project.pk}/"
    return {
        "/": "",
        "/runners/": "",
        "/runners/?q=nothing-like-it": "",
        place: "period=24h",
        f"{place}tasks/": "",
        f"{place}tasks/?q=nothing-like-it": "",
        f"{place}tasks/?before=1": "",
        f"{place}queue/": "",
        f"{place}queue/?after=999999": "",
        f"{place}templates/": "",
        f"{place}runners/": "",
        f"{place}runners/?q=nothing-like-it": "",
    } | {f"/runners/{row.pk}/": "" for row in project.runners.all()}


def live(address: str, query: str) -> str:
    return f"{address}{'&' if '?' in address else '?'}part=live&{query}"


def complaints(reader: Client, project: Project) -> dict[str, list[str]]:
    """By page: controls of its live part without an id, and ids that it has more than once."""
    found = {}
    for address, query in addresses(project).items():
        part, whole = markup_of(reader, live(address, query)), markup_of(reader, address)
        found[address] = part.nameless + whole.repeated
    return {address: told for address, told in found.items() if told}


def test_every_control_of_what_refreshes_itself_has_an_id_of_its_own(
    cast: Cast, filled: None, browser: Browser
) -> None:
    assert complaints(browser(cast.owner), cast.project) == {}


def test_so_has_every_control_of_a_task(
    cast: Cast,
    filled: None,
    runner: Runner,
    access_key: AccessKey,
    variable_group: VariableGroup,
    browser: Browser,
) -> None:
    group = {"id": variable_group.pk, "name": "Production", "variables": ["REGION"], "secrets": []}
    key = {"id": access_key.pk, "name": "Registry", "kind": "string", "variable": "REGISTRY"}
    failed = Task.objects.get(state=TaskState.FAILED)
    now = timezone.now()
    TaskAttempt.objects.create(
        task=failed, number=1, runner=runner, state=TaskState.LOST, reason="It was silent.",
        claimed_at=now, ended_at=now,
    )  # fmt: skip
    Task.objects.filter(pk=failed.pk).update(
        sources={"groups": [group], "keys": [key]}, claimed_at=now, attempt=2, max_attempts=2,
        lost_runner_policy=LostRunnerPolicy.RETRY,
    )  # fmt: skip
    again = run_template(template=failed.template, by=cast.operator, now=now)
    Task.objects.filter(pk=again.pk).update(rerun_of=failed)
    reader, found = browser(cast.owner), {}
    for task in Task.objects.all():
        whole = markup_of(reader, f"/tasks/{task.pk}/")
        text = reader.get(f"/tasks/{task.pk}/").text
        nameless = []
        for begin, end in TASK_PARTS:
            part = Markup()
            part.feed(text.partition(begin)[2].partition(end)[0])
            assert begin in text
            nameless += part.nameless
        if told := nameless + whole.repeated:
            found[f"{task.pk}, {task.state}"] = told
    assert found == {}


def test_so_has_what_is_offered_where_nothing_is_yet(cast: Cast, browser: Browser) -> None:
    assert complaints(browser(cast.outsider), cast.outsiders_project) == {}


def test_a_live_part_has_no_form_whose_token_would_make_it_another_each_time(
    cast: Cast, runner: Runner, filled: None, browser: Browser
) -> None:
    reader = browser(cast.owner)
    for address, query in addresses(cast.project).items():
        assert "csrfmiddlewaretoken" not in reader.get(live(address, query)).text, address
    text = reader.get(f"/runners/{runner.pk}/").text
    for path in ("resume", "lift"):
        assert f'form="of-runner" formaction="/runners/{runner.pk}/{path}/"' in text
    assert '<form method="post" id="of-runner" hidden>' in text

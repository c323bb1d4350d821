"""A list costs what it shows, however much there is: its queries, and with FORGE_LONG its time.

The long form needs PostgreSQL: `FORGE_LONG=1 tools/on-postgres python -m pytest` this file. It
prints the best time of each list with a thousand and with a million tasks, and asserts their ratio:
of several times, the best is what the list itself takes, and the rest what else the machine did.

A thousandth of 200 projects and 1,000 runners is one of each, and a table of one row is drawn
sooner than one of 25 whatever the database does. So a thousand tasks are measured twice, with one
runner and with enough projects and runners to fill each page, and the slower one counts.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from io import StringIO

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import Count
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from forge.sample.making import make
from forge.sample.scene import Amounts
from projects.models import Project
from runners.models import Runner
from tasks.models import Task, TaskTemplate

SMALL = Amounts(projects=1, runners=1, tasks=1_000)
PAGEFUL = Amounts(projects=60, runners=250, tasks=1_000)
LARGE = Amounts(projects=200, runners=1_000, tasks=1_000_000)
RATIO = 1.5
ROUNDS = 9
# What two runs of the same page differ by on a machine that does other things too: of pages that
# take less than ten milliseconds, it would be the ratio of noise that is asserted.
NOISE_MS = 3.0
# Above this a page with much more on it is compared with one that has little.
MUCH_MORE = 1.4
# A page asks more where it has something to explain, as what waits: far less than once a row.
MORE_TO_TELL = 6
MOST_QUERIES = 30
# A page without a list: how fast the machine is while something is measured.
CONTROL = "/projects/{project}/templates/new/"


@dataclass(frozen=True)
class Scene:
    """The largest project, what its filters may say, and who looks."""

    project: int
    often: int
    never: int
    runner: int
    person: int
    middle: int
    day: str
    administrator: Client

    def address(self, pattern: str) -> str:
        return pattern.format_map(vars(self))


TASKS = (
    "", "state=active", "state=failed", "state=succeeded", "state=stopped", "template={often}",
    "state=queued", "state=running", "state=unreachable", "state=lost", "state=lost&by={person}",
    "state=lost&template={often}&before={middle}", "state=running&by={person}&since=30d",
    "state=unreachable&q=ada", "part=rows&state=lost&top={middle}",
    "template={never}", "runner={runner}", "by={person}", "since=1h", "since=24h", "since=7d",
    "since=30d", "q=health", "q=fail", "q=nothing+is+called+so", "q=ada", "q=web", "q=a",
    "state=failed&q=ada",
    "q=ada&before={middle}", "part=rows&q=ada&top={middle}", "q=%23{middle}",
    "state=failed&template={often}", "state=stopped&by={person}&since=30d", "before={middle}",
    "after={middle}", "state=failed&before={middle}", "q=deploy&before={middle}",
    "part=rows&top={middle}", "from={day}", "until={day}", "state=failed&q=ada&until={day}",
)  # fmt: skip
AUDIT = (
    "", "who=ada.albrecht", "verb=stopped", "kind=task", "way=page", "name=heal", "name=zz",
    "address=10.1.1.1", "verb=ran&kind=template&who=ada.albrecht",
)  # fmt: skip
PAGES = (
    "/", "/?part=live", "/?page=2", "/?q=pay", "/?part=projects&q=a", "/tokens/",
    "/runners/", "/runners/?part=live", "/runners/?page=2", "/runners/?status=trouble",
    "/runners/?status=busy&tag=linux&project={project}&q=web&version=1", "/projects/{project}/",
    "/projects/{project}/?part=live", "/projects/{project}/?period=30d",
    *(f"/projects/{{project}}/{name}/" for name in (
        "templates", "runners", "members", "access-keys", "variable-groups", "registration-tokens",
        "queue", "stop-all",
    )),
    "/find/?q=deploy", "/find/?part=list&q=de&project={project}", "/find/?q={middle}",
    "/projects/{project}/queue/?part=live", "/projects/{project}/queue/?after={middle}",
    "/projects/{project}/queue/?before={middle}",
    "/projects/{project}/runners/?tag=linux&q=web&status=ready",
    "/projects/{project}/runners/?page=2", "/projects/{project}/runners/?part=live",
    *(f"/projects/{{project}}/tasks/?{query}" for query in TASKS),
    *(f"/projects/{{project}}/audit/?{query}" for query in AUDIT),
    *(f"/audit/?{query}" for query in AUDIT),
)  # fmt: skip
API = (
    "/api/v1/projects/", "/api/v1/tokens/", "/api/v1/audit/", "/api/v1/runners/",
    "/api/v1/runners/?status=trouble&tag=linux&q=web",
    *(f"/api/v1/projects/{{project}}/{name}/" for name in (
        "tasks", "templates", "runners", "members", "access-keys", "variable-groups",
        "registration-tokens", "audit",
    )),
    "/api/v1/projects/{project}/queue", "/api/v1/projects/{project}/queue?after={middle}",
    *(f"/api/v1/projects/{{project}}/tasks/?{query}" for query in (
        "state=failed&state=lost", "template={often}", "before={middle}", "page=4",
    )),
)  # fmt: skip
ADMIN = tuple(
    f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
    for app in ("auth", "projects", "runners", "tasks")
    for model in apps.get_app_config(app).get_models()
    if model._meta.model_name != "permission"
)
ADMIN_ASKED = (
    "/admin/tasks/task/?q=health", "/admin/tasks/task/?q={middle}",
    "/admin/tasks/task/?state__exact=failed", "/admin/tasks/task/?project__id__exact={project}",
    "/admin/tasks/task/?p=3", "/admin/runners/runner/?q=web", "/admin/projects/project/?q=pay",
    "/admin/projects/auditentry/?q=ada.albrecht",
)  # fmt: skip
EVERY = (*PAGES, *API, *ADMIN, *ADMIN_ASKED)
# Of a thousand tasks in three months none is of the last hour, and hardly one waits: there is
# nothing to compare with.
TIMED = tuple(one for one in EVERY if "since=1h" not in one and "/queue" not in one)


def fill(amounts: Amounts) -> Scene:
    """Make so much, and choose whom the filters name; the rest of the database may have rows."""
    before = Project.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    make(amounts, seed=1, now=timezone.now())
    project = Project.objects.filter(pk__gt=before).order_by("pk").first()
    assert project is not None
    tasks = Task.objects.filter(project=project).order_by("-pk")
    templates = TaskTemplate.objects.filter(project=project).order_by("pk")
    busiest = Runner.objects.filter(project=project).annotate(n=Count("tasks")).latest("n")
    newest = tasks.values_list("pk", "created_by_id", "created_at")
    middle = newest[len(newest) // 2]
    root = User.objects.filter(username="root").first() or User.objects.create_superuser("root")
    client = Client()
    client.force_login(root)
    return Scene(
        project=project.pk,
        often=templates[0].pk,
        never=templates.last().pk,  # type: ignore[union-attr]
        runner=busiest.pk,
        person=newest[0][1] or 0,
        middle=middle[0],
        day=f"{middle[2]:%Y-%m-%d}",
        administrator=client,
    )


def ask(scene: Scene, pattern: str) -> bytes:
    """The figures of charts are made anew only so often, as in use."""
    address = scene.address(pattern)
    answer = scene.administrator.get(address)
    assert answer.status_code == 200, (address, answer.status_code)
    return bytes(answer.content)


def queries_of(scene: Scene, pattern: str) -> int:
    cache.clear()
    ask(scene, pattern)
    cache.clear()
    with CaptureQueriesContext(connection) as queries:
        ask(scene, pattern)
    return len(queries)


@pytest.mark.django_db
def test_a_list_takes_no_more_queries_with_many_rows_than_with_few(settings) -> None:
    settings.FORGE_OFFLINE_SECONDS = 3600.0
    scene = fill(Amounts(projects=1, runners=2, tasks=60))
    # Of few rows there is no third page.
    patterns = [one for one in EVERY if "page=" not in one and "?p=" not in one]
    few = {pattern: queries_of(scene, pattern) for pattern in patterns}
    scene = fill(Amounts(projects=30, runners=90, tasks=900))
    many = {pattern: queries_of(scene, pattern) for pattern in patterns}
    assert {pattern: (few[pattern], many[pattern]) for pattern in patterns
            if many[pattern] > min(few[pattern] + MORE_TO_TELL, MOST_QUERIES)} == {}  # fmt: skip


def test_every_list_of_the_pages_and_of_the_api_is_asked() -> None:
    """Whoever adds a list adds it here: known by the plural in its address."""
    asked = {pattern.split("?")[0] for pattern in EVERY}
    lists = (
        "home",
        "tokens",
        "audit-all",
        "runners-all",
        "api-runners-all",
        "api-projects",
        "api-tokens",
        "api-audit-all",
    )
    of_project = (
        "project", "templates", "tasks", "queue", "runners", "access-keys", "variable-groups",
        "registration-tokens", "members", "audit", "api-templates", "api-tasks", "api-runners",
        "api-access-keys", "api-variable-groups", "api-registration-tokens", "api-members",
        "api-audit", "api-queue",
    )  # fmt: skip
    addresses = {reverse(name) for name in lists}
    addresses |= {reverse(name, args=(7,)).replace("7", "{project}") for name in of_project}
    assert addresses <= asked


@pytest.mark.django_db
def test_sample_data_is_not_mixed_with_what_is_there_unless_told() -> None:
    sizes = ("--projects", "2", "--runners", "3", "--tasks", "20")
    call_command("make_sample_data", *sizes, stdout=StringIO())
    with pytest.raises(CommandError, match="has projects already"):
        call_command("make_sample_data", *sizes)
    call_command("make_sample_data", *sizes, "--add", stdout=StringIO())
    assert (Project.objects.count(), Runner.objects.count(), Task.objects.count()) == (4, 6, 40)


# --- the long form ---


@dataclass
class Timing:
    """The best in milliseconds, of a list and of the control that was asked beside it.

    size: how many bytes the list had.
    """

    own: float
    control: float
    size: int


def timing_of(scene: Scene, pattern: str) -> Timing:
    own, control = [], []
    size = len(ask(scene, pattern))
    for _ in range(ROUNDS):
        own.append(_milliseconds(scene, pattern))
        control.append(_milliseconds(scene, CONTROL))
    return Timing(min(own), min(control), size)


def _milliseconds(scene: Scene, pattern: str) -> float:
    begun = time.perf_counter()
    ask(scene, pattern)
    return (time.perf_counter() - begun) * 1000


def ratios_of(
    one: dict[str, Timing], full: dict[str, Timing], large: dict[str, Timing]
) -> dict[str, float]:
    """Without the noise, and without what made the machine slower meanwhile."""
    found = {}
    for pattern, after in large.items():
        before = max(one[pattern], full[pattern], key=lambda timing: timing.own)
        slower = max(after.control / before.control, 1.0)
        found[pattern] = max(after.own / slower - NOISE_MS, 0.0) / before.own
    return found


def is_like(before: Timing, after: Timing) -> bool:
    """Whether both show about as much: a short page beside a full one says nothing of the lists."""
    return after.size <= MUCH_MORE * before.size


def table(one: dict[str, Timing], full: dict[str, Timing], large: dict[str, Timing]) -> str:
    lines = ["    1 runner  full pages   1,000,000    ratio   best ms; the control's"]
    for pattern, ratio in ratios_of(one, full, large).items():
        timings = (one[pattern], full[pattern], large[pattern])
        own = "".join(f"{timing.own:12.1f}" for timing in timings)
        longest = max(timings[:2], key=lambda timing: timing.size)
        more = timings[2].size / longest.size
        said = "" if is_like(longest, timings[2]) else f"   {more:.1f} times as much to show"
        control = " ".join(f"{timing.control:.0f}" for timing in timings)
        lines.append(f"{own}{ratio:9.2f}   {pattern}   ({control}){said}")
    return "\n".join(lines)


@pytest.mark.long
@pytest.mark.skipif(not os.environ.get("FORGE_LONG"), reason="the long form (FORGE_LONG)")
@pytest.mark.skipif(os.environ.get("FORGE_TEST_DATABASE") != "postgres", reason="for PostgreSQL")
@pytest.mark.django_db(transaction=True)
def test_a_list_takes_as_long_with_a_million_tasks_as_with_a_thousand(settings, capsys) -> None:
    settings.FORGE_OFFLINE_SECONDS = 7200.0
    one, full, large = (
        {pattern: timing_of(scene, pattern) for pattern in TIMED}
        for scene in (fill(amounts) for amounts in (SMALL, PAGEFUL, LARGE))
    )
    ratios = ratios_of(one, full, large)
    with capsys.disabled():
        print("\n" + table(one, full, large))
    compared = {
        pattern: ratio
        for pattern, ratio in ratios.items()
        if is_like(max(one[pattern], full[pattern], key=lambda each: each.size), large[pattern])
    }
    assert len(compared) > len(ratios) * 3 / 4
    assert {pattern: ratio for pattern, ratio in compared.items() if ratio > RATIO} == {}

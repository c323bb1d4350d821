"""What the palette finds by name: what can be run, then where one can go.

A fixed number of queries, each for a handful of rows: names are looked for where they are few, in
projects, templates and runners; of tasks only the latest of a template that was found, or the one
whose number was typed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from django.db.models import Case, IntegerField, OuterRef, Q, QuerySet, Subquery, When
from django.urls import reverse

from forge.pages.places import places_of
from forge.pages.task_rows import for_rows
from forge.pages.words import whole_number
from forge.templatetags.forge_ui import STATE_LOOKS
from projects.models import Project
from runners.models import Runner
from tasks.lifecycle import TaskState
from tasks.models import Task, TaskTemplate

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from tasks.querysets import TaskQuerySet

MAXIMUM_CHARACTERS = 100
MAXIMUM_WORDS = 6
# Of each kind: whoever has more to choose from types another letter.
EACH = 5
# What nothing here shows of a template.
LONG = ("script", "environment")


@dataclass(frozen=True)
class Wish:
    """What somebody typed, as words that a name must hold, all of them."""

    text: str
    words: tuple[str, ...]

    @classmethod
    def of(cls, typed: str) -> Self:
        text = typed.replace("\0", "")[:MAXIMUM_CHARACTERS].strip()
        return cls(text, tuple(text.split()[:MAXIMUM_WORDS]))

    @property
    def number(self) -> int:
        """A task's number, as `48213` or `#48213`; 0 if it is none."""
        return whole_number(self.text.removeprefix("#"))

    def fits(self, name: str) -> bool:
        return all(word.casefold() in name.casefold() for word in self.words)

    def named(self) -> Q:
        found = Q()
        for word in self.words:
            found &= Q(name__icontains=word)
        return found


@dataclass(frozen=True)
class Hit:
    """One result: an address to open, or with `is_run` to POST to."""

    icon: str
    name: str
    about: str
    address: str
    is_run: bool = False


@dataclass(frozen=True)
class Group:
    key: str
    label: str
    hits: list[Hit]


def groups_for(user: User, wish: Wish, project: Project | None) -> list[Group]:
    """Run, then Go to; groups without a hit are left out. `project`: what is near comes first."""
    groups = [
        Group("run", "Run", _to_run(user, wish, project)),
        Group("go", "Go to", _to_open(user, wish, project)),
    ]
    return [group for group in groups if group.hits]


def _to_run(user: User, wish: Wish, project: Project | None) -> list[Hit]:
    rows = TaskTemplate.objects.for_user(user).runnable_by(user)
    templates = _nearest(rows.filter(wish.named()).defer(*LONG), wish, project)
    last = {task.template_id: task for task in _latest_of(templates)}
    return [
        Hit("play", row.name, _about_run(row, last.get(row.pk)), _run_address(row), is_run=True)
        for row in templates
    ]


def _run_address(template: TaskTemplate) -> str:
    return reverse("template-run", args=(template.pk,))


def _about_run(template: TaskTemplate, last: Task | None) -> str:
    how = f"last: {TaskState(last.state).label.lower()}" if last else "never run"
    return f"{how}, {template.project}"


def _to_open(user: User, wish: Wish, project: Project | None) -> list[Hit]:
    places = [
        Hit(place.icon, place.name, place.about, place.address)
        for place in places_of(user, project)
        if wish.fits(place.name)
    ]
    projects = Project.objects.for_user(user).filter(wish.named()).order_by("name", "pk")
    of_projects = [_project_hit(row) for row in projects[:EACH]]
    if not wish.words:
        return [*places, *of_projects]
    templates = TaskTemplate.objects.for_user(user).filter(wish.named()).defer(*LONG)
    near = _nearest(templates, wish, project)
    runners = _nearest(Runner.objects.for_user(user).filter(wish.named()), wish, project)
    return [
        *_task_hits(_numbered(user, wish) if wish.number else ()),
        *of_projects,
        *(Hit("template", one.name, f"template, {one.project}", _page(one)) for one in near),
        *(Hit("runner", one.name, f"runner, {one.project}", _page(one)) for one in runners),
        *_task_hits(_latest_of(near)),
        *places,
    ]


def _numbered(user: User, wish: Wish) -> TaskQuerySet:
    return for_rows(Task.objects.for_user(user).filter(pk=wish.number))


def _project_hit(row: Project) -> Hit:
    return Hit("overview", row.name, "project", reverse("project", args=(row.pk,)))


def _page(row: TaskTemplate | Runner) -> str:
    return reverse("runner" if isinstance(row, Runner) else "template", args=(row.pk,))


def _task_hits(tasks: Iterable[Task]) -> list[Hit]:
    return [
        Hit(
            STATE_LOOKS[task.state][1],
            f"#{task.pk} {task.template.name}",
            f"{TaskState(task.state).label.lower()}, {task.project}",
            reverse("task", args=(task.pk,)),
        )
        for task in tasks
    ]


def _nearest(rows: QuerySet[Any, Any], wish: Wish, project: Project | None) -> list[Any]:
    """The first few: of this project, then those whose name begins so, then by name."""
    here = Case(When(project=project, then=0), default=1, output_field=IntegerField())
    begins = Case(When(name__istartswith=wish.text, then=0), default=1, output_field=IntegerField())
    return list(rows.select_related("project").order_by(here, begins, "name", "pk")[:EACH])


def _latest_of(templates: list[TaskTemplate]) -> list[Task]:
    """The latest task of each, the newest first: one step into an index for each template."""
    newest = Task.objects.filter(template=OuterRef("pk")).order_by("-pk").values("pk")[:1]
    rows = TaskTemplate.objects.filter(pk__in=[one.pk for one in templates]).order_by()
    ids = [pk for pk in rows.values_list(Subquery(newest), flat=True) if pk is not None]
    return list(for_rows(Task.objects.filter(pk__in=ids)).order_by("-pk"))

"""What the palette finds by name: what can be run, and where one can go.

What is in the project at hand comes first, then what has a word that begins as typed. A run leads
only where both are so of one template alone: Enter after a few letters must not start what nobody
meant. After the word "run" only runs are found, as their options read.

A fixed number of queries, each for a handful of rows: names are looked for where they are few, in
projects, templates and runners; of tasks only the latest of a template that was found, or the one
whose number was typed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from django.db.models import Case, IntegerField, OuterRef, Q, QuerySet, Subquery, Value, When
from django.urls import reverse

from forge.lists.task_rows import for_rows
from forge.pages.places import places_of
from forge.templatetags.forge_ui import STATE_LOOKS
from projects.models import Project
from projects.words import whole_number
from runners.models import Runner
from tasks.lifecycle import TaskState
from tasks.models import Task, TaskTemplate
from tasks.querysets import LONG

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from tasks.querysets import TaskQuerySet

MAXIMUM_CHARACTERS = 100
MAXIMUM_WORDS = 6
# Of each kind: whoever has more to choose from types another letter.
EACH = 5
# Fewer letters may mean anything.
LEAST_TO_RUN = 3
RUN = "run"


@dataclass(frozen=True)
class Wish:
    """What somebody typed, as words that a name must hold, all of them.

    `is_run`: the word "run" stood before them, and is none of them.
    """

    text: str
    words: tuple[str, ...]
    is_run: bool = False

    @classmethod
    def of(cls, typed: str) -> Self:
        text = typed.replace("\0", "")[:MAXIMUM_CHARACTERS].strip()
        return cls(text, tuple(text.split()[:MAXIMUM_WORDS]))

    def to_run(self) -> Self | None:
        """What somebody wants to run who typed `run` and a name; None for what says no such."""
        first, *others = self.text.split(maxsplit=1) or ("",)
        if first.casefold() != RUN or not others:
            return None
        return replace(type(self).of(others[0]), is_run=True)

    @property
    def number(self) -> int:
        """A task's number, as `48213` or `#48213`; 0 if it is none."""
        return whole_number(self.text.removeprefix("#"))

    def begins(self, name: str) -> bool:
        """Whether each word begins a word of the name; without a word nothing does."""
        return bool(self.words) and all(
            re.search(_beginning(word), name, re.IGNORECASE) for word in self.words
        )

    def fits(self, name: str) -> bool:
        return all(word.casefold() in name.casefold() for word in self.words)

    def named(self) -> Q:
        found = Q()
        for word in self.words:
            found &= Q(name__icontains=word)
        return found

    def beginning(self) -> Q:
        """As `begins`, for the database."""
        found = Q()
        for word in self.words:
            found &= Q(name__iregex=_beginning(word))
        return found


def _beginning(word: str) -> str:
    """A pattern that SQLite, PostgreSQL and Python read alike: the word, where a word begins."""
    return rf"(^|\W|_){re.escape(word)}"


@dataclass(frozen=True)
class Hit:
    """One result: an address to open, or with `is_run` to POST to.

    `is_near`: of the project at hand. A run that is not shall be asked about: its address, opened,
    is the question. `is_meant`: whether Enter may take it although nobody has chosen it.
    """

    icon: str
    name: str
    about: str
    address: str
    is_near: bool
    begins: bool
    is_run: bool = False
    is_meant: bool = True

    @property
    def is_asked(self) -> bool:
        return self.is_run and not self.is_near


@dataclass(frozen=True)
class Group:
    key: str
    label: str
    hits: list[Hit]


def groups_for(user: User, wish: Wish, project: Project | None) -> list[Group]:
    """Groups without a hit are left out. `project`: the one at hand, what is in it comes first.

    Run stands first if nothing was typed, or if its first hit may well be what was meant. After
    the word "run" it stands alone, if anything is called so that can be run.
    """
    if to_run := wish.to_run():
        hits = _Finder(user, to_run, project).to_run()
        if hits:
            return [Group("run", "Run", hits)]
    finder = _Finder(user, wish, project)
    run, go = Group("run", "Run", finder.to_run()), Group("go", "Go to", finder.to_open())
    is_run_meant = not wish.words or any(hit.is_meant for hit in run.hits)
    return [group for group in ((run, go) if is_run_meant else (go, run)) if group.hits]


@dataclass(frozen=True)
class _Finder:
    user: User
    wish: Wish
    project: Project | None

    def to_run(self) -> list[Hit]:
        rows = TaskTemplate.objects.for_user(self.user).runnable_by(self.user)
        templates = self._nearest(rows.filter(self.wish.named()).defer(*LONG))
        last = {task.template_id: task for task in _latest_of(templates)}
        meant = self._meant_to_run()
        return [
            replace(self._run_hit(row, last.get(row.pk)), is_meant=row.pk == meant)
            for row in templates
        ]

    def _meant_to_run(self) -> int | None:
        """The template of the project at hand that alone begins so, if enough was typed.

        Those count too that cannot be run: whoever typed such a name does not mean another one.
        """
        if sum(map(len, self.wish.words)) < LEAST_TO_RUN:
            return None
        begin = [
            row.pk
            for row in self._templates
            if self._is_near(row.project_id) and self.wish.begins(row.name)
        ]
        return begin[0] if len(begin) == 1 else None

    @cached_property
    def _templates(self) -> list[TaskTemplate]:
        """Those to open, of the project at hand first, and of those what begins as typed."""
        rows = TaskTemplate.objects.for_user(self.user).filter(self.wish.named())
        return self._nearest(rows.defer(*LONG))

    def to_open(self) -> list[Hit]:
        user, wish = self.user, self.wish
        project = self.project
        places = [
            self._hit(place.icon, place.name, place.about, place.address, place.is_of_project)
            for place in places_of(user, project)
            if wish.fits(place.name)
        ]
        projects = Project.objects.for_user(user).filter(wish.named()).order_by("name", "pk")
        of_projects = [self._project_hit(row) for row in projects[:EACH]]
        if not wish.words:
            return [*places, *of_projects]
        near = self._templates
        runners = self._nearest(Runner.objects.for_user(user).filter(wish.named()))
        found = [
            *of_projects,
            *(self._page_hit("template", one) for one in near),
            *(self._page_hit("runner", one) for one in runners),
            *self._task_hits(_latest_of(near)),
            *places,
        ]
        numbered = self._task_hits(_numbered(user, wish) if wish.number else ())
        return [*numbered, *sorted(found, key=lambda hit: (not hit.is_near, not hit.begins))]

    def _hit(
        self, icon: str, name: str, about: str, address: str, is_near: bool, *, is_run: bool = False
    ) -> Hit:
        begins = self.wish.begins(name)
        return Hit(icon, name, about, address, is_near=is_near, begins=begins, is_run=is_run)

    def _is_near(self, project_id: int) -> bool:
        return self.project is not None and project_id == self.project.pk

    def _run_hit(self, row: TaskTemplate, last: Task | None) -> Hit:
        how = f"last: {TaskState(last.state).label.lower()}" if last else "never run"
        address = reverse("template-run", args=(row.pk,))
        is_near = self._is_near(row.project_id)
        return self._hit("play", row.name, f"{how}, {row.project}", address, is_near, is_run=True)

    def _project_hit(self, row: Project) -> Hit:
        address = reverse("project", args=(row.pk,))
        return self._hit("overview", row.name, "project", address, self._is_near(row.pk))

    def _page_hit(self, kind: str, row: TaskTemplate | Runner) -> Hit:
        """`kind` is the word for it, its drawing, and the name of its page."""
        address = reverse(kind, args=(row.pk,))
        is_near = self._is_near(row.project_id)
        return self._hit(kind, row.name, f"{kind}, {row.project}", address, is_near)

    def _task_hits(self, tasks: Iterable[Task]) -> list[Hit]:
        return [
            self._hit(
                STATE_LOOKS[task.state][1],
                f"#{task.pk} {task.template.name}",
                f"{TaskState(task.state).label.lower()}, {task.project}",
                reverse("task", args=(task.pk,)),
                self._is_near(task.project_id),
            )
            for task in tasks
        ]

    def _nearest(self, rows: QuerySet[Any, Any]) -> list[Any]:
        """The first few: of this project, then by whether the name, or a word of it, begins so."""
        here = Case(When(project=self.project, then=0), default=1, output_field=IntegerField())
        begins: Case | Value = Value(0)
        if self.wish.words:
            begins = Case(
                When(name__istartswith=self.wish.text, then=0),
                When(self.wish.beginning(), then=1),
                default=2,
                output_field=IntegerField(),
            )
        found = rows.select_related("project").order_by(here, begins, "name", "pk")
        return list(found[:EACH])


def _numbered(user: User, wish: Wish) -> TaskQuerySet:
    return for_rows(Task.objects.for_user(user).filter(pk=wish.number))


def _latest_of(templates: list[TaskTemplate]) -> list[Task]:
    """The latest task of each, the newest first: one step into an index for each template."""
    newest = Task.objects.filter(template=OuterRef("pk")).order_by("-pk").values("pk")[:1]
    rows = TaskTemplate.objects.filter(pk__in=[one.pk for one in templates]).order_by()
    ids = [pk for pk in rows.values_list(Subquery(newest), flat=True) if pk is not None]
    return list(for_rows(Task.objects.filter(pk__in=ids)).order_by("-pk"))

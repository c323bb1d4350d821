"""Removing accounts, whose names stand on rows of other rooms: who made a task, paused a runner.

That is taken away first, in many small transactions that hold nothing else. A person may have run
a million tasks, and a claim that holds its runner may wait for its project: whoever holds the
projects of an account must neither wait for its runners nor go through its tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model
from django.db import models, transaction

from projects.audit.entry import Verb
from projects.audit.recording import record, record_saved, snapshot
from projects.errors import AccountInUseError
from projects.members import demand_other_owners, hold_projects_of
from projects.models import Membership

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    Field = models.ForeignKey[Any, Any]

# So many rows are locked at once, for some milliseconds.
BATCH = 500
# So many are looked for at once.
MANY = 10_000


def let_go(users: Sequence[User]) -> None:
    """What comes before `remove_users`, and in no transaction of the caller's.

    If the name of one of these accounts stands anywhere, they are made inactive, so that it comes
    to stand nowhere else, and it is taken away. Raises LastOwnerError, and then nothing was done.
    """
    if not any(_named(users)):
        return
    with transaction.atomic():
        hold_projects_of(users)
        for user in users:
            demand_other_owners(user)
            before = snapshot(user)
            get_user_model().objects.filter(pk=user.pk).update(is_active=False)
            if before is not None:
                record_saved(user, before)
    for field in _naming():
        _take_away(field, users)


def remove_users(users: Sequence[User]) -> None:
    """Delete accounts with their memberships and API tokens: all of them, or none.

    Raises LastOwnerError, and AccountInUseError where `let_go` is to be called (again) first.
    """
    with transaction.atomic():
        projects = hold_projects_of(users)
        accounts = get_user_model().objects.select_for_update().order_by("pk")
        # From here on nothing that names them, and no membership, can be committed.
        held = list(accounts.filter(pk__in=[user.pk for user in users]))
        members = Membership.objects.filter(user__in=held).order_by()
        is_elsewhere = members.exclude(project_id__in=projects).exists()
        if is_elsewhere or any(_named(held)):
            raise AccountInUseError([user.get_username() for user in held])
        for user in held:
            demand_other_owners(user)
            record(Verb.REMOVED, user, name=user.get_username())
            user.delete()


def _naming() -> list[Field]:
    """All columns that name an account and outlive it."""
    relations = get_user_model()._meta.get_fields(include_hidden=True)
    return [
        relation.field
        for relation in relations
        if isinstance(relation, models.ManyToOneRel) and relation.on_delete is models.SET_NULL
    ]


def _named(users: Sequence[User]) -> Iterator[bool]:
    return (_rows(field, users).exists() for field in _naming())


def _rows(field: Field, users: Sequence[User]) -> models.QuerySet[Any]:
    rows = field.model._base_manager.filter(**{f"{field.name}__in": users})
    return rows.order_by()


def _take_away(field: Field, users: Sequence[User]) -> None:
    rows = _rows(field, users)
    while found := list(rows.values_list("pk", flat=True)[:MANY]):
        for start in range(0, len(found), BATCH):
            _take_away_of(rows, field, found[start : start + BATCH])


def _take_away_of(rows: models.QuerySet[Any], field: Field, some: list[int]) -> None:
    """Of rows that others hold it is taken away one by one: who holds one waits for nobody."""
    nobody = {field.name: None}
    with transaction.atomic():
        free = rows.filter(pk__in=some).select_for_update(no_key=True, skip_locked=True)
        mine = list(free.values_list("pk", flat=True))
        rows.filter(pk__in=mine).update(**nobody)
    for pk in set(some).difference(mine):
        rows.filter(pk=pk).update(**nobody)

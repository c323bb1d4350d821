"""What must never be false stands in the database that the migrations made, not in models alone."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.db import connection

OURS = ("projects", "runners", "tasks")
MODELS = [model for name in OURS for model in apps.get_app_config(name).get_models()]


@pytest.mark.django_db
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_constraint_and_index_is_in_the_database(model: type) -> None:
    """A change of a column may drop those that have no other column, without a word."""
    meta = model._meta  # type: ignore[attr-defined]
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, meta.db_table)
    wanted = {one.name for one in (*meta.constraints, *meta.indexes)}
    assert wanted <= found.keys()

"""Two requests at the same moment."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from time import sleep
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connections

from projects.models import Membership, Project
from tests.api.conftest import Api

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def clients(api: Callable[..., Api], no_broker: None) -> list[Api]:
    user = User.objects.create_user("owner")
    project = Project.objects.create(name="Payments")
    Membership.objects.create(project=project, user=user, role="owner")
    return [api(user) for _ in range(4)]


def at_once(clients: list[Api], send: Callable[[Api], int]) -> list[int]:
    """The statuses of the same request from every client at the same moment."""
    barrier = Barrier(len(clients))

    def one(client: Api) -> int:
        barrier.wait()
        try:
            # SQLite in memory, as in tests, does not wait for its lock: 503 says try again.
            while (status := send(client)) == 503:
                sleep(0.01)
            return status
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(clients)) as pool:
        return sorted(pool.map(one, clients))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("projects/", {"name": "Same"}),
        ("projects/{}/templates/", {"name": "Same", "script": "true", "tags": ["new"]}),
        ("projects/{}/runners/", {"name": "same", "tags": ["new"]}),
    ],
)
def test_of_two_creates_with_one_name_one_wins(
    path: str, body: dict[str, object], clients: list[Api]
) -> None:
    address = path.format(Project.objects.get(name="Payments").pk)
    statuses = at_once(clients, lambda client: client.post(address, body).status_code)
    assert statuses == [201, 409, 409, 409]


def test_of_two_changes_at_once_none_undoes_the_other(clients: list[Api]) -> None:
    project = Project.objects.get(name="Payments").pk
    body = {"name": "n", "script": "s"}
    pk = clients[0].post(f"projects/{project}/templates/", body).json()["id"]
    changes: list[dict[str, Any]] = [
        {"name": "N"},
        {"script": "S"},
        {"app": "python"},
        {"tags": ["t"]},
    ]
    wanted = {id(client): change for client, change in zip(clients, changes, strict=True)}
    address = f"templates/{pk}/"
    at_once(clients, lambda client: client.patch(address, wanted[id(client)]).status_code)
    row = clients[0].get(f"templates/{pk}/").json()
    assert all(row.items() >= change.items() for change in changes if "tags" not in change)
    assert row["tags"] == ["t"]

"""The runners of all projects over the API."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from django.utils import timezone

from runners.models import Runner
from tests.api.conftest import Api
from tests.cast import Cast


def test_runners_of_all_ones_projects_are_listed_and_filtered(
    cast: Cast, runner: Runner, superuser: object, api: Callable[..., Api], no_broker: None
) -> None:
    other = api(cast.outsider).post(
        f"projects/{cast.outsiders_project.pk}/runners/", {"name": "a-new-one"}
    )
    assert other.status_code == 201
    Runner.objects.filter(pk=runner.pk).update(
        session="one", last_heartbeat_at=timezone.now(), version="1.4"
    )

    def names(user: object, query: str = "") -> list[str]:
        body = api(user).get(f"runners/{query}").json()
        return [row["name"] for row in body["results"]]

    assert names(cast.viewer) == ["web-1"]
    assert names(superuser) == ["a-new-one", "web-1"]
    # Nobody misses yet what was just added.
    assert names(superuser, "?status=trouble") == []
    assert names(superuser, "?status=never_contacted") == ["a-new-one"]
    long_ago = timezone.now() - timedelta(hours=2)
    Runner.objects.filter(name="a-new-one").update(created_at=long_ago)
    assert names(superuser, "?status=trouble") == ["a-new-one"]
    assert names(superuser, "?status=idle&tag=linux&version=1.4&q=web") == ["web-1"]
    row = api(cast.viewer).get("runners/").json()["results"][0]
    assert (row["project"], row["version"]) == (cast.project.pk, "1.4")


def test_a_status_that_there_is_not_is_refused_with_those_there_are(
    cast: Cast, api: Callable[..., Api]
) -> None:
    answer = api(cast.viewer).get("runners/?status=broken")
    assert answer.status_code == 400
    assert "offline, never_contacted" in answer.json()["message"]

"""Tokens over the API: rotated, made for hosts, made for scripts; each shown once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from projects.models import UserToken
from projects.operations import MAXIMUM_USER_TOKENS
from projects.tokens import digest_of
from runners.models import RegistrationToken, Runner
from tests.api.conftest import Api
from tests.cast import Cast


@pytest.fixture
def manager(cast: Cast, api: Callable[..., Api]) -> Api:
    return api(cast.manager)


def ahead(**length: int) -> str:
    return (timezone.now() + timedelta(**length)).isoformat()


# --- rotation ---


def test_a_rotation_shows_the_new_token_once_and_until_when_the_old_one_works(
    manager: Api, runner: Runner, no_broker: None
) -> None:
    before = manager.get(f"runners/{runner.pk}/").json()
    assert before["older_token_expires_at"] is None
    answer = manager.post(f"runners/{runner.pk}/rotate", {"overlap_seconds": 3600})
    body = answer.json()
    assert answer.status_code == 200
    assert answer["Cache-Control"] == "no-store"
    assert runner.tokens.get(expires_at=None).digest == digest_of(body["token"])
    until = datetime.fromisoformat(body["older_token_expires_at"]) - timezone.now()
    assert timedelta(minutes=59) < until <= timedelta(hours=1)
    assert body["token_created_at"] > before["token_created_at"]
    shown = manager.get(f"runners/{runner.pk}/")
    assert body["token"] not in shown.content.decode()
    assert shown.json()["older_token_expires_at"] == body["older_token_expires_at"]


def test_the_overlap_can_be_ended_early(manager: Api, runner: Runner) -> None:
    manager.post(f"runners/{runner.pk}/rotate", {"overlap_seconds": 3600})
    answer = manager.post(f"runners/{runner.pk}/end-older-tokens", {})
    assert (answer.status_code, answer.json()["older_token_expires_at"]) == (200, None)


@pytest.mark.parametrize("seconds", [-1, 2_592_001, 1.5, "x", None, True, [], 10**30])
def test_an_overlap_out_of_bounds_is_400(seconds: object, manager: Api, runner: Runner) -> None:
    answer = manager.post(f"runners/{runner.pk}/rotate", {"overlap_seconds": seconds})
    assert (answer.status_code, answer.json()["fields"].keys()) == (400, {"overlap_seconds"})
    assert runner.tokens.count() == 1


def test_the_overlap_is_never_guessed(manager: Api, runner: Runner) -> None:
    assert manager.post(f"runners/{runner.pk}/rotate", {}).status_code == 400


# --- registration tokens ---


def test_a_registration_token_is_shown_once(manager: Api, cast: Cast) -> None:
    path = f"projects/{cast.project.pk}/registration-tokens/"
    given = {"name": "rack 7", "tags": ["linux"], "max_uses": 3, "expires_at": ahead(days=1)}
    answer = manager.post(path, given)
    body = answer.json()
    assert answer.status_code == 201
    assert answer["Cache-Control"] == "no-store"
    assert (body["status"], body["uses"], body["concurrency"]) == ("active", 0, 4)
    row = RegistrationToken.objects.get(digest=digest_of(body["token"]))
    for address in (path, f"registration-tokens/{row.pk}/"):
        text = manager.get(address).content.decode()
        assert body["token"] not in text and row.digest not in text


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "two\nlines"),
        ("max_uses", 0),
        ("max_uses", 1001),
        ("concurrency", 0),
        ("tags", ["A b"]),
        ("expires_at", "yesterday"),
        ("expires_at", None),
        ("uses", 0),
        ("token", "fgt_mine"),
        ("expires_at", "2020-01-01T00:00:00Z"),
        ("expires_at", "2999-01-01T00:00:00Z"),
    ],
)
def test_a_value_that_is_not_allowed_is_400_and_names_its_field(
    field: str, value: object, manager: Api, cast: Cast
) -> None:
    given = {"name": "ok", "expires_at": ahead(hours=1), field: value}
    answer = manager.post(f"projects/{cast.project.pk}/registration-tokens/", given)
    assert (answer.status_code, answer.json()["fields"].keys()) == (400, {field})
    assert not RegistrationToken.objects.exists()


@pytest.mark.parametrize(
    ("zone", "end"),
    [("Europe/Berlin", "0001-01-01T00:00:00"), ("America/New_York", "9999-12-31T23:00:00")],
)
@pytest.mark.parametrize(
    "path", ["tokens/", "projects/{}/registration-tokens/", "runners/{}/pause"]
)
def test_a_time_at_the_edge_of_the_calendar_is_400(
    path: str, zone: str, end: str, manager: Api, cast: Cast, runner: Runner
) -> None:
    """Without a zone it is in the server's, and there it is beyond what can be told."""
    given = {"until": end, "reason": "Moved"} if "pause" in path else {"expires_at": end}
    name = {} if "pause" in path else {"name": "ok"}
    number = runner.pk if "runners" in path else cast.project.pk
    with timezone.override(zone):
        answer = manager.post(path.format(number), {**given, **name})
    assert answer.status_code == 400, answer.text


def test_a_registration_token_without_an_end_is_refused(manager: Api, cast: Cast) -> None:
    answer = manager.post(f"projects/{cast.project.pk}/registration-tokens/", {"name": "ok"})
    assert (answer.status_code, answer.json()["fields"].keys()) == (400, {"expires_at"})


def test_deleting_one_revokes_it_and_keeps_its_history(
    manager: Api, registration: RegistrationToken
) -> None:
    path = f"registration-tokens/{registration.pk}/"
    assert manager.delete(path).status_code == 204
    first = manager.get(path).json()
    assert first["status"] == "revoked" and first["revoked_at"]
    assert manager.delete(path).status_code == 204
    assert manager.get(path).json() == first


# --- API tokens of users ---


def with_token(token: str) -> Api:
    client = Api(None)
    client.headers["authorization"] = f"Bearer {token}"
    return client


def made(client: Api, **given: Any) -> Any:
    answer = client.post("tokens/", {"name": "nightly", "expires_at": None, **given})
    assert answer.status_code == 201, answer.content
    assert answer["Cache-Control"] == "no-store"
    return answer.json()


def test_a_token_made_over_the_api_signs_in_and_is_shown_once(manager: Api) -> None:
    body = made(manager, expires_at=ahead(days=30))
    assert with_token(body["token"]).get("projects/").status_code == 200
    shown = manager.get(f"tokens/{body['id']}/")
    assert body["token"] not in shown.content.decode()
    assert shown.json()["last_used_at"]
    names = [row["name"] for row in manager.get("tokens/").json()["results"]]
    assert sorted(names) == ["nightly", "tests"]


def test_a_revoked_token_opens_nothing(manager: Api) -> None:
    body = made(manager)
    client = with_token(body["token"])
    assert client.delete(f"tokens/{body['id']}/").status_code == 204
    assert client.get("projects/").status_code == 401


def test_nobody_sees_or_revokes_the_tokens_of_another_not_even_a_superuser(
    manager: Api, superuser: User, api: Callable[..., Api]
) -> None:
    body = made(manager)
    root = api(superuser)
    assert root.get(f"tokens/{body['id']}/").status_code == 404
    assert root.delete(f"tokens/{body['id']}/").status_code == 404
    assert body["id"] not in [row["id"] for row in root.get("tokens/").json()["results"]]


def test_a_token_cannot_make_one_that_outlives_it(manager: Api) -> None:
    short = with_token(made(manager, expires_at=ahead(hours=1))["token"])
    for ends in (None, ahead(hours=2)):
        answer = short.post("tokens/", {"name": "longer", "expires_at": ends})
        assert (answer.status_code, answer.json()["fields"].keys()) == (400, {"expires_at"})
        assert "may not outlive it" in answer.json()["message"]
    made(short, expires_at=ahead(minutes=30))


def test_the_end_must_be_said_and_lie_ahead(manager: Api) -> None:
    for given in ({"name": "a"}, {"name": "a", "expires_at": "2020-01-01T00:00:00Z"}):
        answer = manager.post("tokens/", given)
        assert (answer.status_code, answer.json()["fields"].keys()) == (400, {"expires_at"})


def test_the_number_of_tokens_of_a_user_is_bounded(manager: Api, cast: Cast) -> None:
    UserToken.objects.bulk_create(
        UserToken(user=cast.manager, name=f"t{n}", digest=f"{n:064x}")
        for n in range(MAXIMUM_USER_TOKENS - 1)
    )
    answer = manager.post("tokens/", {"name": "one more", "expires_at": None})
    assert (answer.status_code, answer.json()["code"]) == (409, "too_many_user_tokens")
    assert "Revoke one that is not used" in answer.json()["message"]


def test_a_token_does_not_outlive_the_deactivation_of_its_user(manager: Api, cast: Cast) -> None:
    client = with_token(made(manager)["token"])
    User.objects.filter(pk=cast.manager.pk).update(is_active=False)
    assert client.get("projects/").status_code == 401
    assert client.get("tokens/").status_code == 401


def test_a_session_makes_tokens_too(cast: Cast) -> None:
    client = Client()
    client.force_login(cast.viewer)
    answer = client.post(
        "/api/v1/tokens/", {"name": "a", "expires_at": None}, content_type="application/json"
    )
    assert answer.status_code == 201

"""A change over the API that names what was read of it undoes nobody else's."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from projects.models import AccessKey, VariableGroup
from tasks.models import TaskTemplate
from tests.api.conftest import Api
from tests.cast import CANARY, Cast

CHANGES = ("templates", "access-keys", "variable-groups", "projects")


@pytest.fixture
def places(
    cast: Cast, template: TaskTemplate, access_key: AccessKey, variable_group: VariableGroup
) -> dict[str, str]:
    rows = (template, access_key, variable_group, cast.project)
    return {name: f"{name}/{row.pk}/" for name, row in zip(CHANGES, rows, strict=True)}


@pytest.fixture
def owner(cast: Cast, api: Callable[..., Api]) -> Api:
    return api(cast.owner)


@pytest.mark.parametrize("kind", CHANGES)
def test_a_change_of_what_was_changed_since_is_refused_and_another_taken(
    kind: str, places: dict[str, str], owner: Api
) -> None:
    place = places[kind]
    read = owner.get(place)["ETag"]
    assert owner.get(place)["ETag"] == read
    first = owner.patch(place, {"name": "first"}, HTTP_IF_MATCH=read)
    assert first.status_code == 200
    late = owner.patch(place, {"name": "late"}, HTTP_IF_MATCH=read)
    assert (late.status_code, late.json()["code"]) == (412, "changed_meanwhile")
    assert owner.get(place).json()["name"] == "first"
    assert owner.get(place)["ETag"] == first["ETag"] != read
    for etag in (f"W/{first['ETag']}", "*", ""):
        answer = owner.patch(place, {"name": "first"}, HTTP_IF_MATCH=etag)
        assert answer.status_code == 200


@pytest.mark.parametrize("etag", ['""', '"a", "b"', "\u00e9", '"' * 9, "x" * 5000])
def test_what_is_no_version_changes_nothing(etag: str, places: dict[str, str], owner: Api) -> None:
    answer = owner.patch(places["templates"], {"name": "X"}, HTTP_IF_MATCH=etag)
    assert answer.status_code == 412
    assert owner.get(places["templates"]).json()["name"] == "Restart"


def test_a_version_says_nothing_of_a_secret(places: dict[str, str], owner: Api) -> None:
    place = places["access-keys"]
    before = owner.get(place)["ETag"]
    changed = owner.patch(place, {"value": CANARY})["ETag"]
    again = owner.patch(place, {"value": CANARY})["ETag"]
    # The same secret three times: three versions, because only the moment goes into them.
    assert len({before, changed, again}) == 3


@pytest.mark.parametrize("version", ['"0"', None])
def test_nobody_learns_whether_they_guess_a_secret_of_somebody_else(
    version: str | None, places: dict[str, str], cast: Cast, owner: Api, api: Callable[..., Api]
) -> None:
    guesser = api(cast.manager)
    for place, guess, other in (
        (places["access-keys"], {"value": CANARY}, {"value": "something-else"}),
        (places["variable-groups"], {"secrets": {"TOKEN": CANARY}},
         {"secrets": {"TOKEN": "something-else"}}),
    ):  # fmt: skip
        read = owner.get(place)["ETag"]
        assert owner.patch(place, guess, HTTP_IF_MATCH=read).status_code == 200
        stale = version or read
        assert owner.patch(place, guess, HTTP_IF_MATCH=read).status_code == 200
        # A change of another field does not make the secret the guesser's own.
        assert guesser.patch(place, {"name": "Renamed"}).status_code == 200
        answers = [guesser.patch(place, sent, HTTP_IF_MATCH=stale) for sent in (guess, other)]
        assert [answer.status_code for answer in answers] == [412, 412]
        assert answers[0].json() == answers[1].json()

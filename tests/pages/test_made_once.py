"""Reloading a page that shows a token once: nothing is made a second time."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from django.test import Client

from forge.pages import made_once
from projects.models import UserToken
from runners.models import RegistrationToken, Runner, RunnerToken
from tests.cast import Cast

MADE = (UserToken, RegistrationToken, Runner, RunnerToken)
NAMED = {"name": "rack-7"}
RUNNER = NAMED | {"tags": "linux", "concurrency": "3"}
FORMS = {
    "/tokens/": NAMED | {"lifetime": "604800"},
    "/projects/{project}/registration-tokens/new/": RUNNER | {"max_uses": "2", "lifetime": "86400"},
    "/projects/{project}/runners/new/": RUNNER,
    "/runners/{runner}/rotate/": {"overlap": "3600"},
}
A_TOKEN = re.compile(r"fg[rtu]_[\w-]{20,}")


def word_in(client: Client, address: str) -> str:
    found = re.search(r'name="once" value="([^"]+)"', client.get(address).text)
    assert found, f"the form at {address} carries no word"
    return found[1]


def counts() -> list[int]:
    return [model.objects.count() for model in MADE]


@pytest.fixture
def owner(cast: Cast, browser: Callable[..., Client]) -> Client:
    return browser(cast.owner)


@pytest.mark.parametrize(("address", "fields"), FORMS.items(), ids=FORMS.keys())
def test_a_repeated_form_makes_nothing_and_says_when_it_did(
    address: str, fields: dict[str, str], owner: Client, cast: Cast, runner: Runner
) -> None:
    address = address.format(project=cast.project.pk, runner=runner.pk)
    fields = fields | {"once": word_in(owner, address)}
    assert A_TOKEN.search(owner.post(address, fields).text)
    made = counts()
    for _ in range(2):
        again = owner.post(address, fields)
        assert again.status_code == 200
        assert "was made already" in again.text and not A_TOKEN.search(again.text)
        assert re.search(r"It was made <time [^>]*>\d+ s ago", again.text)
    assert counts() == made
    (link,) = re.findall(r'class="btn primary" href="([^"]+)"', again.text)
    assert owner.get(link).status_code == 200
    (another,) = re.findall(r'href="([^"]+)">Make another token', again.text)
    assert word_in(owner, another) != fields["once"]


def test_the_link_leads_to_the_runner_that_was_added(owner: Client, cast: Cast) -> None:
    address = f"/projects/{cast.project.pk}/runners/new/"
    fields = RUNNER | {"once": word_in(owner, address)}
    owner.post(address, fields)
    made = Runner.objects.get(name="rack-7")
    text = owner.post(address, fields).text
    assert f'href="/runners/{made.pk}/"' in text and f'href="/runners/{made.pk}/rotate/"' in text


def test_other_content_is_no_repetition(owner: Client) -> None:
    """As from a page that the browser kept and showed again after going back."""
    fields = FORMS["/tokens/"] | {"once": word_in(owner, "/tokens/")}
    for name in ("laptop", "nightly"):
        assert A_TOKEN.search(owner.post("/tokens/", fields | {"name": name}).text)
    assert UserToken.objects.count() == 2


def test_what_was_refused_can_be_sent_again(owner: Client) -> None:
    fields = FORMS["/tokens/"] | {"once": word_in(owner, "/tokens/")}
    for status in (400, 400):
        assert owner.post("/tokens/", fields | {"name": ""}).status_code == status
    assert A_TOKEN.search(owner.post("/tokens/", fields).text)


def test_a_word_of_somebody_else_means_nothing(
    owner: Client, cast: Cast, browser: Callable[..., Client]
) -> None:
    fields = FORMS["/tokens/"] | {"once": word_in(owner, "/tokens/")}
    owner.post("/tokens/", fields)
    assert A_TOKEN.search(browser(cast.manager).post("/tokens/", fields).text)


def test_a_session_remembers_so_many_and_nothing_that_was_typed(owner: Client) -> None:
    for n in range(made_once.REMEMBERED + 5):
        fields = FORMS["/tokens/"] | {
            "name": f"secret name {n}",
            "once": word_in(owner, "/tokens/"),
        }
        owner.post("/tokens/", fields)
    kept = owner.session["made_once"]
    assert len(kept) == made_once.REMEMBERED
    assert "secret name" not in str(kept)


@pytest.mark.parametrize("word", ["", "x", "a" * 5000, "<b>" * 10])
def test_a_form_without_a_word_of_ours_is_taken_as_it_is(word: str, owner: Client) -> None:
    fields = FORMS["/tokens/"] | {"once": word}
    for _ in range(2):
        assert A_TOKEN.search(owner.post("/tokens/", fields).text)
    assert UserToken.objects.count() == 2

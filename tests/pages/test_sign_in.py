"""Who guesses passwords is slowed down, and nobody locks anybody else out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from forge.pages import sign_in
from forge.pages.known_browsers import COOKIE, MOST_MARKS
from forge.pages.sign_in import of_known, of_strangers, per_account, per_address
from projects.audit.entry import AuditEntry
from tests.cast import Cast

RIGHT = "correct horse battery"


@pytest.fixture
def fresh_quotas(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """As many tries at once as ever, and hardly any more after them, however slow the machine."""
    settings.FORGE_WRONG_PASSWORDS_PER_SECOND = 0.0001
    settings.FORGE_WRONG_PASSWORDS_PER_ADDRESS_PER_SECOND = 0.0005
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    for quota in (per_account, per_address):
        monkeypatch.setattr(quota, "_burst_seconds", 100_000)
        quota.forget()
    yield
    for quota in (per_account, per_address):
        quota.forget()


def try_to_sign_in(client: Client, password: str, name: str = "owner", **where: str) -> Any:
    given = {"username": name, "password": password}
    return client.post("/sign-in/", given, headers={"X-Forwarded-For": where.get("at", "")})


@pytest.fixture
def owner(cast: Cast, settings: Any, fresh_quotas: None) -> User:
    settings.FORGE_BEHIND_PROXY = True
    cast.owner.set_password(RIGHT)
    cast.owner.save()
    return cast.owner


def test_guessing_at_one_account_ends_in_429_with_the_wait(owner: User) -> None:
    answers = [
        try_to_sign_in(Client(), f"guess {number}", at=f"192.0.2.{number}") for number in range(12)
    ]
    assert [answer.status_code for answer in answers[:10]] == [200] * 10
    assert answers[11].status_code == 429
    assert int(answers[11]["Retry-After"]) >= 1
    assert "too many tries with a wrong password" in answers[11].text
    # Not even with the right one: the answer tells nothing about the password.
    assert try_to_sign_in(Client(), RIGHT, at="192.0.2.200").status_code == 429
    # What was not looked at is not written down: a flood cannot fill the log.
    failures = AuditEntry.objects.filter(verb="sign_in_failed").count()
    assert failures <= 11


def test_nobody_can_lock_somebody_else_out(owner: User) -> None:
    known = Client()
    assert try_to_sign_in(known, RIGHT, at="198.51.100.7").status_code == 302
    known.post("/sign-out/")
    for number in range(60):
        try_to_sign_in(Client(), "guess", at=f"192.0.2.{number}")
        try_to_sign_in(Client(), "guess", name=f"user {number}", at="198.51.100.7")
    # The account is under attack, and so is the address: this browser is let in at once.
    assert try_to_sign_in(known, RIGHT, at="198.51.100.7").status_code == 302


def test_the_mark_of_a_browser_is_for_its_account_and_cannot_be_made_up(owner: User) -> None:
    known = Client()
    try_to_sign_in(known, RIGHT)
    known.post("/sign-out/")
    for _ in range(12):
        try_to_sign_in(known, "guess", name="manager")
    assert try_to_sign_in(known, "guess", name="manager").status_code == 429
    forged = Client()
    forged.cookies["forge_device"] = "WyJvd25lciIsIngiXQ:1:AAAA"
    for number in range(12):
        answer = try_to_sign_in(forged, "guess", at=f"203.0.113.{number}")
    assert answer.status_code == 429
    # It does not make a thief's guesses free either.
    for _ in range(12):
        answer = try_to_sign_in(known, "guess")
    assert answer.status_code == 429


def test_one_address_cannot_try_many_accounts(owner: User) -> None:
    answers = [
        try_to_sign_in(Client(), "guess", name=f"user {number}", at="192.0.2.1").status_code
        for number in range(60)
    ]
    assert answers[:50] == [200] * 50 and 429 in answers[50:]


def test_right_passwords_use_nothing_up(owner: User) -> None:
    for _ in range(15):
        answer = try_to_sign_in(Client(), RIGHT, at="192.0.2.1")
        assert answer.status_code == 302


def test_the_memory_of_tries_is_bounded(owner: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runners.quotas.MAXIMUM_SENDERS", 20)
    for number in range(40):
        per_account.wait_before((f"user {number}", ""))
    assert len(per_account) == 20


@pytest.mark.parametrize("way", ["{} ", " {}", "{}\t", "\u3000{}", "\uff4f{}"])
def test_no_way_to_write_a_name_gives_more_tries(way: str, owner: User) -> None:
    """The last one begins with a wide letter, which the form takes for the same as the usual."""
    name = way.format("wner" if "\uff4f" in way else "owner")
    for number in range(11):
        try_to_sign_in(Client(), "guess", at=f"192.0.2.{number}")
    assert try_to_sign_in(Client(), RIGHT, at="192.0.2.99").status_code == 429
    assert try_to_sign_in(Client(), RIGHT, name=name, at="192.0.2.99").status_code == 429
    per_account.forget()
    assert try_to_sign_in(Client(), RIGHT, name=name, at="192.0.2.99").status_code == 302


@pytest.mark.parametrize("name", ["x" * 100_000, "\0owner", "", "\ufdfa" * 150])
def test_whatever_is_sent_as_a_name_is_answered(name: str, owner: User) -> None:
    known = Client()
    assert try_to_sign_in(known, RIGHT).status_code == 302
    known.post("/sign-out/")
    for client in (known, Client()):
        assert try_to_sign_in(client, "guess", name=name).status_code == 200


def under_attack(name: str = "owner") -> None:
    for number in range(12):
        try_to_sign_in(Client(), "guess", name=name, at=f"192.0.2.{number}")


def signed_in_before(client: Client, *names: str) -> Client:
    for name in names:
        assert try_to_sign_in(client, RIGHT, name=name, at="198.51.100.7").status_code == 302
        client.post("/sign-out/")
    return client


def test_a_mark_is_worth_nothing_under_another_password(owner: User) -> None:
    thief = signed_in_before(Client(), "owner")
    owner.set_password("another one entirely")
    owner.save()
    under_attack()
    # What the thief tries is counted with what all strangers do, and is as late.
    assert try_to_sign_in(thief, "guess", at="198.51.100.7").status_code == 429
    per_account.forget()
    answer = try_to_sign_in(thief, "another one entirely", at="198.51.100.7")
    assert answer.status_code == 302
    thief.post("/sign-out/")
    under_attack()
    assert try_to_sign_in(thief, "another one entirely").status_code == 302


def test_an_older_key_of_the_installation_keeps_the_marks(owner: User, settings: Any) -> None:
    known = signed_in_before(Client(), "owner")
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "a newer one"
    under_attack()
    assert try_to_sign_in(known, RIGHT).status_code == 302


@pytest.fixture
def people(owner: User) -> list[str]:
    """User names of more accounts than a browser keeps marks of."""
    names = [f"person-{number}" for number in range(MOST_MARKS + 2)]
    for name in names:
        User.objects.create_user(name, password=RIGHT)
    return names


def test_a_browser_that_several_people_share_knows_all_of_them(people: list[str]) -> None:
    console = signed_in_before(Client(), *people[:MOST_MARKS])
    for name in people[:MOST_MARKS]:
        under_attack(name)
        assert try_to_sign_in(console, RIGHT, name=name).status_code == 302
        console.post("/sign-out/")


def test_a_browser_keeps_a_bounded_number_of_marks(people: list[str]) -> None:
    console = signed_in_before(Client(), *people, people[-1])
    cookie = console.cookies[COOKIE]
    assert len(cookie.value) < 1000 and cookie["httponly"] and cookie["path"] == "/sign-in/"
    under_attack(people[0])
    assert try_to_sign_in(console, RIGHT, name=people[0]).status_code == 429
    under_attack(people[-MOST_MARKS])
    assert try_to_sign_in(console, RIGHT, name=people[-MOST_MARKS]).status_code == 302


# --- turns ---


@contextmanager
def taken(turns: sign_in.Turns, *accounts: str) -> Iterator[None]:
    """As while the passwords of these are looked at."""
    for account in accounts:
        assert turns.take(account)
    try:
        yield
    finally:
        for account in accounts:
            turns.give_back(account)


@pytest.fixture
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign_in, "PATIENCE_SECONDS", 0.01)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("_no_patience")
def test_one_account_takes_no_turns_of_all_others(owner: User, people: list[str]) -> None:
    """Somebody with many marks of one account, while others sign in."""
    many = [signed_in_before(Client(), "owner") for _ in range(3)]
    known = signed_in_before(Client(), people[0])
    with taken(of_known, "owner"):
        for client in many:
            assert try_to_sign_in(client, RIGHT).status_code == 429
        assert try_to_sign_in(known, RIGHT, name=people[0]).status_code == 302
    assert try_to_sign_in(many[0], RIGHT).status_code == 302


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("_no_patience")
def test_who_finds_all_turns_taken_is_not_said_to_have_been_wrong(
    owner: User, people: list[str]
) -> None:
    known = signed_in_before(Client(), "owner")
    with taken(of_known, *people[:3]), taken(of_strangers, "x", "x", "x"):
        for client in (known, Client()):
            answer = try_to_sign_in(client, RIGHT)
            assert answer.status_code == 429 and answer["Retry-After"]
            assert "others came before yours" in answer.text
            assert "Try again in 1 second." in answer.text
            assert "wrong password" not in answer.text and "never waits" not in answer.text
        # It is no wrong try, however often one has to come again.
        for _ in range(12):
            try_to_sign_in(known, RIGHT)
    assert try_to_sign_in(known, RIGHT).status_code == 302


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("_no_patience")
def test_a_password_that_finds_no_turn_is_not_counted_as_wrong(
    owner: User, people: list[str], browser: Callable[[User], Client], monkeypatch: Any
) -> None:
    monkeypatch.setattr("forge.pages.password.PATIENCE_SECONDS", 0.01)
    client = browser(owner)
    sent = {
        "old_password": RIGHT,
        "new_password1": "staple 7 more",
        "new_password2": "staple 7 more",
    }
    with taken(of_known, *people[:3]):
        for _ in range(12):
            answer = client.post("/password/", sent)
            assert answer.status_code == 429 and "others came before yours" in answer.text
    assert client.post("/password/", sent).status_code == 302
    owner.refresh_from_db()
    assert owner.check_password("staple 7 more")

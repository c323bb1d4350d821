"""Rotation: which tokens work when, at the API and at a real broker."""

from __future__ import annotations

import json
import threading
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connections
from django.test import Client
from django.utils import timezone
from redis.backoff import NoBackoff
from redis.retry import Retry

from runners import accounts
from runners.broker import administrator
from runners.errors import RunnerRemovedError, TooManyTokensError
from runners.models import Runner, RunnerToken
from runners.operations import (
    LONGEST_OVERLAP,
    MAXIMUM_TOKENS,
    NewRunner,
    create_runner,
    end_older_tokens,
    remove_runner,
    rotate_token,
)
from tests.cast import Cast

HOUR = timedelta(hours=1)


@pytest.fixture
def new(cast: Cast) -> NewRunner:
    return create_runner(
        project=cast.project,
        name="db-1",
        tags=(),
        concurrency=1,
        takes_untagged=True,
        by=cast.owner,
        now=timezone.now(),
    )


def rotate(new: NewRunner, cast: Cast, overlap: timedelta, now: datetime | None = None) -> str:
    at = now or timezone.now()
    return rotate_token(runner=new.runner, overlap=overlap, by=cast.manager, now=at).token


def verify(token: str, **headers: str) -> Any:
    return Client().post(
        "/runner/v1/verify",
        json.dumps({"protocol": 1, "version": "0.1.0"}),
        content_type="application/json",
        headers={"authorization": f"Bearer {token}", **headers},
    )


@pytest.mark.django_db
def test_both_tokens_work_during_the_overlap_and_say_so(new: NewRunner, cast: Cast) -> None:
    assert verify(new.token).json()["token_seconds"] is None
    second = rotate(new, cast, HOUR)
    assert 3000 < verify(new.token).json()["token_seconds"] <= 3600
    answer = verify(second).json()
    assert answer["token_seconds"] is None
    assert answer["identity"] == new.runner.identity.hex
    assert answer["welcome"]["name"] == "db-1"


@pytest.mark.django_db
def test_verifying_begins_no_session_and_displaces_nobody(new: NewRunner) -> None:
    Runner.objects.update(session="theirs", instance="theirs")
    assert verify(new.token).status_code == 200
    assert Runner.objects.values_list("session", "connected_at").get() == ("theirs", None)


@pytest.mark.django_db
def test_an_ended_token_is_refused_with_the_reason(new: NewRunner, cast: Cast) -> None:
    rotate(new, cast, timedelta())
    answer = verify(new.token)
    assert (answer.status_code, answer.json()["code"]) == (401, "replaced")


@pytest.mark.django_db
def test_a_removed_runner_is_told_apart_from_an_unknown_token(new: NewRunner) -> None:
    remove_runner(runner=new.runner, now=timezone.now())
    assert verify(new.token).json()["code"] == "removed"
    assert verify("fgr_" + "x" * 43).json()["code"] == "unauthorized"


@pytest.mark.django_db
def test_the_token_of_another_runner_does_not_pass_for_ones_own(
    new: NewRunner, runner: Runner
) -> None:
    assert verify(new.token, **{"Forge-Runner": new.runner.account}).status_code == 200
    answer = verify(new.token, **{"Forge-Runner": runner.account})
    assert (answer.status_code, answer.json()["code"]) == (401, "other_runner")


@pytest.mark.django_db
def test_no_older_token_outlives_the_overlap_of_the_latest_rotation(
    new: NewRunner, cast: Cast
) -> None:
    now = timezone.now()
    rotate(new, cast, LONGEST_OVERLAP, now)
    rotate(new, cast, timedelta(minutes=5), now)
    third = rotate(new, cast, HOUR, now)
    ends = [token.expires_at for token in new.runner.tokens.order_by("pk")]
    # One that was to end sooner still does.
    soon = now + timedelta(minutes=5)
    assert ends == [soon, soon, now + HOUR, None]
    assert verify(third).status_code == 200


@pytest.mark.django_db
def test_ending_the_overlap_leaves_the_newest(new: NewRunner, cast: Cast) -> None:
    second = rotate(new, cast, HOUR)
    assert end_older_tokens(runner=new.runner, now=timezone.now()) == 1
    assert (verify(new.token).status_code, verify(second).status_code) == (401, 200)
    assert end_older_tokens(runner=new.runner, now=timezone.now()) == 0


@pytest.mark.django_db
@pytest.mark.parametrize("overlap", [-timedelta(seconds=1), LONGEST_OVERLAP + timedelta(seconds=1)])
def test_an_overlap_out_of_bounds_is_refused(
    overlap: timedelta, new: NewRunner, cast: Cast
) -> None:
    with pytest.raises(ValidationError, match="30 days"):
        rotate(new, cast, overlap)
    assert new.runner.tokens.count() == 1


@pytest.mark.django_db
def test_a_removed_runner_is_not_rotated(new: NewRunner, cast: Cast) -> None:
    remove_runner(runner=new.runner, now=timezone.now())
    with pytest.raises(RunnerRemovedError, match="db-1 was removed"):
        rotate(new, cast, HOUR)


@pytest.mark.django_db
def test_the_number_of_tokens_at_once_is_bounded_and_can_be_brought_down(
    new: NewRunner, cast: Cast
) -> None:
    for _ in range(MAXIMUM_TOKENS - 1):
        rotate(new, cast, HOUR)
    with pytest.raises(TooManyTokensError, match="End the older ones first"):
        rotate(new, cast, HOUR)
    assert verify(rotate(new, cast, timedelta())).status_code == 200
    assert new.runner.tokens.valid(now=timezone.now()).count() == 1


@pytest.mark.django_db
def test_the_database_holds_one_current_token_a_runner(new: NewRunner) -> None:
    with pytest.raises(IntegrityError):
        new.runner.tokens.create(digest="f" * 64, created_at=timezone.now())


@pytest.mark.django_db
def test_the_use_of_each_token_is_noted_about_once_a_minute(new: NewRunner, cast: Cast) -> None:
    rotate(new, cast, HOUR)
    old = new.runner.tokens.exclude(expires_at=None)
    verify(new.token)
    used = old.get().last_used_at
    assert used is not None
    verify(new.token)
    assert old.get().last_used_at == used
    assert new.runner.tokens.get(expires_at=None).last_used_at is None


@pytest.mark.django_db
def test_no_token_shows_in_a_repr(new: NewRunner) -> None:
    assert new.token not in repr(new)


@pytest.mark.django_db(transaction=True)
def test_two_rotations_at_once_leave_one_current_token(new: NewRunner, cast: Cast) -> None:
    start, tokens = threading.Barrier(4), []

    def manager() -> None:
        start.wait()
        tokens.append(rotate(new, cast, HOUR))
        connections.close_all()

    threads = [threading.Thread(target=manager) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [verify(token).status_code for token in tokens] == [200] * 4
    assert RunnerToken.objects.filter(expires_at=None).count() == 1


# --- at the broker ---

on_a_broker = pytest.mark.django_db(transaction=True)


def sign_in(url: str, new: NewRunner, token: str) -> redis.Redis:
    port = urlsplit(url).port or 0
    return redis.Redis(
        port=port,
        username=new.runner.account,
        password=token,
        socket_timeout=60,
        single_connection_client=True,
        retry=Retry(NoBackoff(), 0),
    )


def is_cut(client: redis.Redis) -> bool:
    """Whether the connection has ended; connecting again needs the token to be valid."""
    try:
        return not client.ping()
    except redis.ConnectionError:
        return True


@pytest.fixture
def placed(real: str, new: NewRunner) -> NewRunner:
    """The runner, with its account on the broker."""
    return new


@on_a_broker
def test_the_account_takes_every_valid_token(real: str, placed: NewRunner, cast: Cast) -> None:
    tokens = [placed.token, rotate(placed, cast, HOUR), rotate(placed, cast, HOUR)]
    for token in tokens:
        with sign_in(real, placed, token) as client:
            assert client.ping()


@on_a_broker
def test_without_an_overlap_the_old_token_and_its_connections_end_at_once(
    real: str, placed: NewRunner, cast: Cast
) -> None:
    with sign_in(real, placed, placed.token) as old:
        assert old.ping()
        second = rotate(placed, cast, timedelta())
        assert is_cut(old)
    with pytest.raises(redis.AuthenticationError), sign_in(real, placed, placed.token) as again:
        again.ping()
    with sign_in(real, placed, second) as client:
        assert client.ping()
    assert not RunnerToken.objects.to_cut(now=timezone.now()).exists()


@on_a_broker
def test_at_the_end_of_the_overlap_the_controller_does_it(
    real: str, placed: NewRunner, cast: Cast
) -> None:
    from forge.controller.tokens import TokenLoop

    rotate(placed, cast, HOUR)
    loop = TokenLoop(threading.Event(), threading.Event())
    with sign_in(real, placed, placed.token) as old:
        loop.turn()
        assert old.ping()
        RunnerToken.objects.exclude(expires_at=None).update(expires_at=timezone.now())
        loop.turn()
        assert is_cut(old)
    with pytest.raises(redis.AuthenticationError), sign_in(real, placed, placed.token) as again:
        again.ping()
    assert not RunnerToken.objects.to_cut(now=timezone.now()).exists()


@on_a_broker
def test_what_a_broker_that_was_away_missed_is_done_later(
    real: str, placed: NewRunner, cast: Cast, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as away:
        away.setattr(accounts, "administrator", _unreachable)
        rotate(placed, cast, timedelta())
    assert RunnerToken.objects.to_cut(now=timezone.now()).exists()
    accounts.cut_ended_tokens(placed.runner, now=timezone.now())
    with pytest.raises(redis.AuthenticationError), sign_in(real, placed, placed.token) as old:
        old.ping()


def _unreachable() -> redis.Redis:
    return redis.Redis(port=1, socket_connect_timeout=0.1)


@on_a_broker
def test_a_slow_writer_does_not_bring_an_ended_token_back(
    real: str, placed: NewRunner, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It read the tokens before the rotation and writes the account after it."""
    second: list[str] = []
    rules_for = accounts.rules_for

    def slow(*arguments: Any, **options: Any) -> list[str]:
        rules = rules_for(*arguments, **options)
        if not second:
            second.append("")
            second[0] = rotate(placed, cast, timedelta())
        return rules

    monkeypatch.setattr(accounts, "rules_for", slow)
    accounts.apply_account(placed.runner)
    with pytest.raises(redis.AuthenticationError), sign_in(real, placed, placed.token) as old:
        old.ping()
    with sign_in(real, placed, second[0]) as client:
        assert client.ping()
    assert administrator().ping()

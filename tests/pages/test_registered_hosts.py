"""Beside a new registration token: who has come with it, and what most likely keeps a host."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from forge.pages.registered_hosts import MAXIMUM
from projects.tokens import digest_of
from runners.models import RegistrationToken, Runner, RunnerToken
from runners.registration import register_runner
from runners.worker.protocol import RegisterRequest
from tests.cast import Cast

pytestmark = pytest.mark.django_db
LIVE = "data-live hx-get"


def panel(token: RegistrationToken, cast: Cast) -> str:
    client = Client()
    client.force_login(cast.manager)
    return client.get(f"/registration-tokens/{token.pk}/hosts/").text


def register(token: RegistrationToken, name: str, *, seconds: float = 0) -> Runner:
    """The runner of a host that came so long ago."""
    request = RegisterRequest(1, "0.1.0", digest_of(f"fgr_{name}"), name, "Linux", name)
    at = timezone.now() - timedelta(seconds=seconds)
    runner = register_runner(token=token, request=request, now=timezone.now())
    RunnerToken.objects.filter(runner=runner).update(created_at=at)
    Runner.objects.filter(pk=runner.pk).update(created_at=at)
    return runner


def hear(*runners: Runner) -> None:
    now = timezone.now()
    fields = {"session": "one", "connected_at": now, "last_heartbeat_at": now}
    Runner.objects.filter(pk__in=[one.pk for one in runners]).update(**fields)


def made(token: RegistrationToken, *, seconds: float, **changes: Any) -> RegistrationToken:
    """The token as if it were so old."""
    at = timezone.now() - timedelta(seconds=seconds)
    RegistrationToken.objects.filter(pk=token.pk).update(created_at=at, **changes)
    token.refresh_from_db()
    return token


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://forge.example.net", "curl https://forge.example.net/healthz"),
        ("http://127.0.0.1:8000", "only the machine that it runs on can reach"),
    ],
)
def test_while_nobody_has_come_it_says_what_is_likely_after_a_minute(
    cast: Cast, registration: RegistrationToken, settings: Any, url: str, said: str
) -> None:
    settings.FORGE_URL = url
    text = panel(made(registration, seconds=30), cast)
    assert "Waiting for the first host" in text and LIVE in text
    assert "If nothing happens within a minute" in text
    text = panel(made(registration, seconds=61), cast)
    assert said in text and "Most likely" in text and LIVE in text


def test_each_host_turns_green_and_in_the_end_the_whole(
    cast: Cast, registration: RegistrationToken
) -> None:
    made(registration, seconds=300, max_uses=2)
    first = register(registration, "rack-7-1")
    text = panel(registration, cast)
    assert "1 of 2 hosts registered" in text and "1 is not ready yet." in text
    assert "rack-7-1</a>: registered, its worker is awaited" in text and LIVE in text
    hear(first)
    text = panel(registration, cast)
    assert 'rack-7-1</a><span class="vh">: ready' in text and "All are ready." in text
    assert LIVE in text and "good" not in text
    hear(first, register(registration, "rack-7-2"))
    text = panel(registration, cast)
    assert "All 2 hosts are ready" in text and "contact good" in text and LIVE not in text


def test_a_host_that_registered_and_does_not_come_is_marked(
    cast: Cast, registration: RegistrationToken, settings: Any
) -> None:
    settings.FORGE_URL = "https://forge.example.net"
    made(registration, seconds=300)
    runner = register(registration, "rack-7-1", seconds=61)
    text = panel(registration, cast)
    assert "contact unsure" in text and "registered, but no worker has come since" in text
    then = timezone.now() - timedelta(seconds=20)
    Runner.objects.filter(pk=runner.pk).update(session="one", connected_at=then)
    assert "rack-7-1</a>: does not reach the broker" in panel(registration, cast)
    Runner.objects.filter(pk=runner.pk).update(last_heartbeat_at=then, session="")
    assert "rack-7-1</a>: was here, and is gone" in panel(registration, cast)


def test_a_single_host_that_is_ready_is_named(cast: Cast, registration: RegistrationToken) -> None:
    hear(register(made(registration, seconds=60), "rack-7-1"))
    assert "rack-7-1 is ready" in panel(registration, cast)


def test_a_removed_runner_is_no_host_and_an_ended_token_awaits_none(
    cast: Cast, registration: RegistrationToken
) -> None:
    made(registration, seconds=60)
    runner = register(registration, "rack-7-1")
    Runner.objects.filter(pk=runner.pk).update(removed_at=timezone.now())
    text = panel(registration, cast)
    assert "rack-7-1" not in text and "No host has registered" in text
    assert "does not work any more" in text and "Most likely" not in text


def test_of_very_many_hosts_the_newest_are_shown(
    cast: Cast, registration: RegistrationToken, django_assert_max_num_queries: Any
) -> None:
    made(registration, seconds=60, max_uses=MAXIMUM + 2)
    runners = [register(registration, f"rack-{number}") for number in range(MAXIMUM + 2)]
    hear(*runners)
    with django_assert_max_num_queries(30):
        text = panel(registration, cast)
    assert f"The newest {MAXIMUM} are shown. All are ready." in text
    assert f"{MAXIMUM + 2} of {MAXIMUM + 2} hosts registered" in text
    assert ">rack-1</a>" not in text and f">rack-{MAXIMUM + 1}</a>" in text

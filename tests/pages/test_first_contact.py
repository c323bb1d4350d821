"""Beside a new runner's token: how far it has come, and what most likely keeps it."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from forge.pages.first_contact import is_loopback
from runners.models import BrokerContact, Runner, RunnerToken
from runners.operations import rotate_token
from tests.cast import Cast

pytestmark = pytest.mark.django_db
NOW = timezone.now


def panel(runner: Runner, cast: Cast) -> str:
    client = Client()
    client.force_login(cast.manager)
    return client.get(f"/runners/{runner.pk}/contact/").text


def made(runner: Runner, *, seconds: float, **changes: Any) -> None:
    """The runner was made so long ago; `changes` are seconds before now."""
    moments = {name: NOW() - timedelta(seconds=ago) for name, ago in changes.items()}
    at = NOW() - timedelta(seconds=seconds)
    used = moments.pop("last_used_at", None)
    RunnerToken.objects.filter(runner=runner).update(last_used_at=used, created_at=at)
    Runner.objects.filter(pk=runner.pk).update(created_at=at, session="one", **moments)


def test_at_first_it_says_what_to_look_at(cast: Cast, runner: Runner, settings: Any) -> None:
    settings.FORGE_URL = "https://forge.example.net"
    made(runner, seconds=30)
    text = panel(runner, cast)
    assert "Waiting for first contact" in text and "If nothing happens within a minute" in text


def test_after_a_minute_of_silence_it_is_the_way_out(
    cast: Cast, runner: Runner, settings: Any
) -> None:
    settings.FORGE_URL = "https://forge.example.net"
    made(runner, seconds=61)
    text = panel(runner, cast)
    assert "no way out to Forge" in text
    assert "curl https://forge.example.net/healthz" in text


def test_an_address_that_no_other_host_finds_is_named(
    cast: Cast, runner: Runner, settings: Any
) -> None:
    settings.FORGE_URL = "http://127.0.0.1:8000"
    made(runner, seconds=61)
    text = panel(runner, cast)
    assert "only the machine that it runs on can reach" in text
    assert "the worker's own output says what is wrong" in text


def test_a_token_that_was_used_without_a_worker(cast: Cast, runner: Runner) -> None:
    made(runner, seconds=90, last_used_at=0)
    assert "If nothing happens" in panel(runner, cast)
    made(runner, seconds=90, last_used_at=20)
    text = panel(runner, cast)
    assert "Its worker has ended" in text and "Token accepted" in text


@pytest.mark.parametrize(
    ("own", "said"), [("", "WebSockets are held up"), ("redis://b.example:7000", "b.example:7000")]
)
def test_a_worker_that_does_not_reach_the_broker(
    cast: Cast, runner: Runner, settings: Any, own: str, said: str
) -> None:
    settings.FORGE_RUNNER_BROKER_URL = own
    made(runner, seconds=90, last_used_at=20, connected_at=20)
    assert said in panel(runner, cast)
    BrokerContact.note_loss(OSError("refused"), now=NOW())
    assert "Forge has lost the broker" in panel(runner, cast)


def test_a_worker_that_is_gone_again(cast: Cast, runner: Runner) -> None:
    made(runner, seconds=900, last_used_at=500, connected_at=500, last_heartbeat_at=400)
    assert "It was here, and is gone" in panel(runner, cast)


def test_a_new_token_begins_the_wait_anew(cast: Cast, runner: Runner, settings: Any) -> None:
    settings.FORGE_URL = "https://forge.example.net"
    made(runner, seconds=900)
    assert "no way out to Forge" in panel(runner, cast)
    rotate_token(runner=runner, overlap=timedelta(), by=cast.manager, now=NOW())
    assert "If nothing happens within a minute" in panel(runner, cast)
    Runner.objects.filter(pk=runner.pk).update(
        session="one", connected_at=NOW(), last_heartbeat_at=NOW()
    )
    after = re.search(
        r"First contact .*?, ([\d.]+) (ms|s) after the token was made", panel(runner, cast)
    )
    assert after


def test_when_it_is_ready_the_token_leaves_the_page(cast: Cast, runner: Runner) -> None:
    made(runner, seconds=90, last_used_at=20, connected_at=20, last_heartbeat_at=1)
    text = panel(runner, cast)
    assert "web-1 is ready" in text
    assert 'id="step-token" hx-swap-oob="true"' in text and "Token in use" in text
    assert 'id="step-start" hx-swap-oob="true"' in text and "fgr_" not in text


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8000", True),
        ("http://[::1]:8000", True),
        ("http://localhost", True),
        ("http://forge.localhost", True),
        ("https://forge.example.net", False),
        ("http://10.0.0.7:8000", False),
    ],
)
def test_a_loopback_address_is_known(url: str, expected: bool) -> None:
    assert is_loopback(url) is expected

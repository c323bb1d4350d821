"""Pages with tokens: registration tokens, rotation, API tokens. Each token is shown once."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone

from projects.models import UserToken
from projects.tokens import digest_of
from runners.models import RegistrationToken, Runner
from runners.operations import rotate_token
from tasks.lifecycle import TaskState
from tasks.models import Task
from tests.cast import Cast


@pytest.fixture
def owner(cast: Cast, browser: Callable[..., Client]) -> Client:
    return browser(cast.owner)


def token_in(answer: Any, prefix: str) -> str:
    """The one token that the page shows; nothing may keep it."""
    assert answer.status_code == 200
    assert answer["Cache-Control"] == "no-store"
    (token,) = set(re.findall(rf"{prefix}[\w-]{{20,}}", answer.content.decode()))
    assert all(token not in str(session.get_decoded()) for session in Session.objects.all())
    return str(token)


# --- registration tokens ---

GOOD = {"name": "rack 7", "max_uses": "20", "lifetime": "86400", "tags": "linux gpu"}
GOOD |= {"concurrency": "3", "takes_untagged": "on"}


def test_a_registration_token_is_shown_once_with_the_commands(owner: Client, cast: Cast) -> None:
    path = f"/projects/{cast.project.pk}/registration-tokens/"
    answer = owner.post(f"{path}new/", GOOD)
    token = token_in(answer, "fgt_")
    row = RegistrationToken.objects.get(digest=digest_of(token))
    text = answer.content.decode()
    assert (row.max_uses, row.concurrency, row.created_by) == (20, 3, cast.owner)
    assert timedelta(hours=23) < row.expires_at - timezone.now() <= timedelta(days=1)
    assert "forge-runner register" in text and "umask 077" in text
    # Into a file: a command line is for everybody on the host to read.
    assert f"FORGE_REGISTRATION_TOKEN={token}" not in text
    listed = owner.get(path).content.decode()
    assert token not in listed
    assert "1 works: 20 hosts can still add themselves." in listed
    assert "0 of 20" in listed


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"name": ""}, "This field is required"),
        ({"max_uses": "0"}, "Enter a whole number from 1 to "),
        ({"max_uses": "1001"}, "to 1,000."),
        ({"lifetime": "1"}, "not one of the available choices"),
        ({"lifetime": "never"}, "not one of the available choices"),
        ({"tags": "Linux"}, "The tag Linux has capital letters. Use linux."),
    ],
)
def test_what_is_wrong_with_a_registration_token_is_said(
    change: dict[str, str], sentence: str, owner: Client, cast: Cast
) -> None:
    path = f"/projects/{cast.project.pk}/registration-tokens/new/"
    answer = owner.post(path, GOOD | change)
    assert answer.status_code == 400
    assert sentence in answer.content.decode()
    assert not RegistrationToken.objects.exists()


def test_revoking_one_says_what_stays_and_does_it(
    owner: Client, registration: RegistrationToken, runner: Runner
) -> None:
    Runner.objects.update(registered_with=registration)
    path = f"/registration-tokens/{registration.pk}/revoke/"
    assert "1 runner that it made stays and works on" in owner.get(path).content.decode()
    registration.refresh_from_db()
    assert registration.revoked_at is None
    answer = owner.post(path, follow=True)
    text = answer.content.decode()
    assert "Revoked rack 7. No further host can use it." in text
    assert "None works now" in text and "Revoked" in text
    assert "registered with <b>rack 7</b>" in owner.get(f"/runners/{runner.pk}/").content.decode()


# --- rotation ---


def hear(runner: Runner) -> None:
    now = timezone.now()
    fields = {"session": "one", "connected_at": now, "last_heartbeat_at": now}
    Runner.objects.filter(pk=runner.pk).update(**fields)


def test_a_runner_that_never_connected_is_set_up_with_all_commands(
    owner: Client, runner: Runner, cast: Cast
) -> None:
    path = f"/runners/{runner.pk}/rotate/"
    in_list = owner.get(f"/projects/{cast.project.pk}/runners/").text
    assert f'id="act-{runner.pk}" href="{path}">Set up' in in_list
    assert f'id="act-set-up" href="{path}">Set up' in owner.get(f"/runners/{runner.pk}/").text
    asked = owner.get(path).text
    assert '<option value="0" selected>Not at all' in asked
    assert "all commands that set up its host" in asked and "notices" not in asked
    answer = owner.post(path, {"overlap": "0"})
    token = token_in(answer, "fgr_")
    assert "Set up web-1" in answer.text and "Older tokens have ended." in answer.text
    for command in ("python3 -m venv ~/forge-runner", "pip install", "celery -A runners.worker"):
        assert command in answer.text
    assert answer.text.count(token) >= 4
    assert f'id="contact" data-live hx-get="/runners/{runner.pk}/contact/"' in answer.text
    assert "The worker notices it" not in answer.text


def test_who_may_not_make_a_token_is_not_led_to_one(
    cast: Cast, runner: Runner, browser: Callable[..., Client]
) -> None:
    operator = browser(cast.operator)
    for path in (f"/projects/{cast.project.pk}/runners/", f"/runners/{runner.pk}/"):
        assert "/rotate/" not in operator.get(path).text
    assert "A manager sets it up" in operator.get(f"/runners/{runner.pk}/").text


def test_a_rotation_shows_the_new_token_once_with_what_to_do(owner: Client, runner: Runner) -> None:
    hear(runner)
    path = f"/runners/{runner.pk}/rotate/"
    asked = owner.get(path).text
    assert "Make a new token for web-1?" in asked
    assert '<option value="3600" selected>1 hour' in asked
    answer = owner.post(path, {"overlap": "3600"})
    token = token_in(answer, "fgr_")
    assert runner.tokens.get(expires_at=None).digest == digest_of(token)
    text = answer.content.decode()
    assert "Older tokens go on working for 1 hour." in text
    assert "mv ~/.local/state/forge-runner/token.new ~/.local/state/forge-runner/token" in text
    page = owner.get(f"/runners/{runner.pk}/").content.decode()
    assert token not in page
    assert "Older one" in page and "works until" in page


def test_without_an_overlap_the_page_says_that_the_old_one_has_ended(
    owner: Client, runner: Runner
) -> None:
    hear(runner)
    answer = owner.post(f"/runners/{runner.pk}/rotate/", {"overlap": "0"})
    assert "Older tokens have ended." in answer.content.decode()
    assert "Older one" not in owner.get(f"/runners/{runner.pk}/").content.decode()


def test_the_pages_say_which_tasks_a_worker_without_the_newest_token_kills(
    owner: Client, runner: Runner, cast: Cast, running_task: Task
) -> None:
    hear(runner)
    rotate_token(runner=runner, overlap=timedelta(days=1), by=cast.owner, now=timezone.now())
    number = f'<a class="link" href="/tasks/{running_task.pk}/">#{running_task.pk}</a>'
    words = f"ends within seconds, and its task {number} is killed at once"
    for page in ("rotate", "end-older"):
        text = owner.get(f"/runners/{runner.pk}/{page}/").text
        assert words in text and "without the steps of a stop" in text
    assert "every one with “Not at all”" in owner.get(f"/runners/{runner.pk}/rotate/").text
    Task.objects.update(runner=None, state=TaskState.QUEUED)
    for page in ("rotate", "end-older"):
        text = owner.get(f"/runners/{runner.pk}/{page}/").text
        assert "ends within seconds. It holds no task now.</li>" in " ".join(text.split()).replace(
            " </li>", "</li>"
        )


@pytest.mark.parametrize("overlap", ["", "1", "-1", "x", "99999999999"])
def test_an_overlap_that_is_not_offered_is_refused(
    overlap: str, owner: Client, runner: Runner
) -> None:
    assert owner.post(f"/runners/{runner.pk}/rotate/", {"overlap": overlap}).status_code == 400
    assert runner.tokens.count() == 1


def test_the_older_token_is_ended_from_the_runners_page(
    owner: Client, runner: Runner, cast: Cast, browser: Callable[..., Client]
) -> None:
    overlap = timedelta(days=1)
    rotate_token(runner=runner, overlap=overlap, by=cast.owner, now=timezone.now())
    action = f"/runners/{runner.pk}/end-older/"
    assert action in owner.get(f"/runners/{runner.pk}/").content.decode()
    seen = browser(cast.viewer).get(f"/runners/{runner.pk}/").content.decode()
    assert "works until" in seen and action not in seen
    asked = owner.get(action).text
    assert "End the older token of web-1?" in asked and "The newest one was never used" in asked
    answer = owner.post(action, follow=True)
    assert "Only the newest token of web-1 works now." in answer.content.decode()
    assert runner.tokens.valid(now=timezone.now()).count() == 1
    assert "web-1 has no older token" in owner.get(action).text


# --- API tokens ---


def test_an_api_token_is_shown_once_and_listed_with_its_use(owner: Client, cast: Cast) -> None:
    assert "None yet" in owner.get("/tokens/").content.decode()
    token = token_in(owner.post("/tokens/", {"name": "laptop", "lifetime": "604800"}), "fgu_")
    row = UserToken.objects.get(digest=digest_of(token))
    assert row.expires_at is not None
    assert timedelta(days=6) < row.expires_at - timezone.now() <= timedelta(days=7)
    signed_in = Client().get("/api/v1/projects/", headers={"authorization": f"Bearer {token}"})
    assert signed_in.status_code == 200
    text = owner.get("/tokens/").content.decode()
    assert "laptop" in text and token not in text
    assert re.search(r"\b\d+ s ago", text)


def test_a_token_as_long_as_the_account_has_no_end(owner: Client) -> None:
    owner.post("/tokens/", {"name": "forever", "lifetime": "never"})
    assert UserToken.objects.get().expires_at is None


def test_a_revoked_api_token_opens_nothing(owner: Client) -> None:
    token = token_in(owner.post("/tokens/", {"name": "laptop", "lifetime": "604800"}), "fgu_")
    path = f"/tokens/{UserToken.objects.get().pk}/revoke/"
    assert "Revoke API token laptop?" in owner.get(path).content.decode()
    assert owner.post(path)["Location"] == "/tokens/"
    refused = Client().get("/api/v1/projects/", headers={"authorization": f"Bearer {token}"})
    assert refused.status_code == 401


def test_each_sees_only_their_own(
    owner: Client, cast: Cast, browser: Callable[..., Client]
) -> None:
    owner.post("/tokens/", {"name": "private affair", "lifetime": "604800"})
    assert "private affair" not in browser(cast.manager).get("/tokens/").content.decode()


def test_an_expired_one_says_so(owner: Client, cast: Cast) -> None:
    past = timezone.now() - timedelta(days=1)
    UserToken.objects.create(user=cast.owner, name="old", digest="d" * 64, expires_at=past)
    assert "Expired: it opens nothing" in owner.get("/tokens/").content.decode()


def test_one_too_many_is_a_sentence(owner: Client, cast: Cast) -> None:
    UserToken.objects.bulk_create(
        UserToken(user=cast.owner, name=f"t{n}", digest=f"{n:064x}") for n in range(50)
    )
    answer = owner.post("/tokens/", {"name": "laptop", "lifetime": "604800"})
    assert answer.status_code == 400
    assert "You have 50 API tokens, and more are not possible." in answer.content.decode()


def test_the_menu_leads_to_the_tokens(owner: Client, cast: Cast) -> None:
    assert 'href="/tokens/"' in owner.get(f"/projects/{cast.project.pk}/").content.decode()

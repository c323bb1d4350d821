"""Hosts that add themselves: what a registration token allows, and what it does not."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connections
from django.test import Client
from django.utils import timezone

from projects.audit.entry import AuditEntry
from projects.tokens import digest_of, new_token
from runners import quotas
from runners.models import RegistrationToken, Runner, RunnerToken
from runners.operations import create_runner, remove_runner, rotate_token
from runners.refusals import RefusalLog
from runners.registration import (
    NewRegistrationToken,
    create_registration_token,
    free_name,
    name_from,
    register_runner,
)
from runners.worker.protocol import RegisterRequest
from tests.cast import Cast

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def nobody_was_heard_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    log = RefusalLog()
    for place in ("runners.endpoint", "runners.registration"):
        monkeypatch.setattr(f"{place}.refusals", log)
    quotas.requests.forget()
    yield
    quotas.requests.forget()


def new_registration(cast: Cast, **changes: Any) -> NewRegistrationToken:
    now = timezone.now()
    given: dict[str, Any] = {
        "project": cast.project,
        "name": "rack 7",
        "tags": ["linux", "gpu"],
        "concurrency": 3,
        "takes_untagged": False,
        "max_uses": 2,
        "expires_at": now + timedelta(hours=1),
        "by": cast.manager,
        "now": now,
    }
    return create_registration_token(**{**given, **changes})


def send(token: str, **changes: Any) -> Any:
    """One registration, as a host sends it."""
    given = {
        "protocol": 1,
        "version": "0.1.0",
        "digest": digest_of("fgr_one"),
        "host_name": "Web_7.Example.net",
        "system": "Debian",
    }
    return Client().post(
        "/runner/v1/register",
        json.dumps({**given, **changes}),
        content_type="application/json",
        headers={"authorization": f"Bearer {token}"},
    )


def test_a_host_gets_a_runner_with_what_the_token_gives(cast: Cast) -> None:
    new = new_registration(cast)
    answer = send(new.token)
    runner = Runner.objects.get(pk=answer.json()["runner"])
    assert answer.json() == {
        "runner": runner.pk,
        "name": "web-7.example.net",
        "project_name": "Payments",
    }
    assert (runner.project, runner.concurrency, runner.takes_untagged) == (cast.project, 3, False)
    assert {tag.name for tag in runner.tags.all()} == {"linux", "gpu"}
    assert (runner.created_by, runner.registered_with) == (cast.manager, new.row)
    assert runner.tokens.get().digest == digest_of("fgr_one")


def test_the_same_request_again_is_the_same_runner_and_costs_no_use(cast: Cast) -> None:
    new = new_registration(cast, max_uses=1)
    first, again = send(new.token), send(new.token)
    assert first.content == again.content
    new.row.refresh_from_db()
    assert (new.row.uses, Runner.objects.count()) == (1, 1)


def test_repeating_works_even_when_the_token_has_ended_since(cast: Cast) -> None:
    new = new_registration(cast)
    first = send(new.token)
    new.row.revoke(now=timezone.now())
    assert send(new.token).content == first.content


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"uses": 2}, "used_up", "is used up"),
        ({"expires_at": timezone.now(), "created_at": timezone.now() - timedelta(1)}, "expired",
         "has expired"),
        ({"revoked_at": timezone.now()}, "revoked", "was revoked"),
    ],
)  # fmt: skip
def test_a_token_that_works_no_longer_says_why_and_what_to_do(
    change: dict[str, Any],
    code: str,
    words: str,
    cast: Cast,
    caplog: pytest.LogCaptureFixture,
) -> None:
    new = new_registration(cast)
    RegistrationToken.objects.filter(pk=new.row.pk).update(**change)
    answer = send(new.token)
    assert (answer.status_code, answer.json()["code"]) == (403, code)
    assert words in answer.json()["message"]
    assert "Ask a manager of project Payments for a new one" in answer.json()["message"]
    assert not Runner.objects.exists()
    assert (
        f"refused sender 127.0.0.1: {code}: registration token rack 7 ({new.row.pk}) of project "
        "Payments: " in caplog.text
    )
    assert new.token not in caplog.text


def test_a_host_with_the_longest_name_registers(cast: Cast) -> None:
    """Longer than the audit log has room for."""
    new = new_registration(cast)
    assert send(new.token, host_name="web-" + "7" * 251).status_code == 200
    entry = AuditEntry.objects.get(kind="runner")
    assert entry.actor == "web-" + "7" * 146


def test_what_a_host_says_of_itself_acts_in_no_log(cast: Cast) -> None:
    new = new_registration(cast)
    assert send(new.token, host_name="web\n7\x1b[31m\u202e.example.net").status_code == 200
    assert AuditEntry.objects.get(kind="runner").actor == "web 7 [31m .example.net"


def test_registrations_have_a_quota_by_network(cast: Cast, settings: Any) -> None:
    settings.FORGE_RUNNER_REQUESTS_PER_SECOND = 0.01
    new = new_registration(cast, max_uses=1)
    answers = [send(new.token) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert int(answers[1]["Retry-After"]) >= 1
    assert answers[1].json()["code"] == "too_many_requests"


@pytest.mark.parametrize("token", ["fgt_" + "x" * 43, "fgr_" + "x" * 43, "", "fgt_\xff"])
def test_an_unknown_token_is_401(token: str, cast: Cast) -> None:
    assert send(token).status_code == 401


@pytest.mark.parametrize(
    "digest", ["", "x" * 64, "A" * 64, "a" * 63, "a" * 65, 7, None, ["a" * 64], "a" * 63 + "\n"]
)
def test_a_malformed_digest_is_400_and_costs_no_use(digest: object, cast: Cast) -> None:
    new = new_registration(cast)
    answer = send(new.token, digest=digest)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")
    assert "digest must be a SHA-256" in answer.json()["message"]
    new.row.refresh_from_db()
    assert new.row.uses == 0


def test_a_token_of_another_runner_cannot_be_taken_over(cast: Cast) -> None:
    known = create_runner(
        project=cast.outsiders_project, name="other", tags=(), concurrency=1,
        takes_untagged=True, by=cast.outsider, now=timezone.now(),
    )  # fmt: skip
    new = new_registration(cast)
    answer = send(new.token, digest=digest_of(known.token))
    assert (answer.status_code, answer.json()["code"]) == (409, "token_not_new")
    # Nothing is said of whose it is.
    assert "other" not in answer.json()["message"]
    new.row.refresh_from_db()
    assert (new.row.uses, known.runner.tokens.count()) == (0, 1)


def test_another_registration_token_does_not_get_the_runner_either(cast: Cast) -> None:
    first, second = new_registration(cast), new_registration(cast, name="rack 8")
    assert send(first.token).status_code == 200
    assert send(second.token).json()["code"] == "token_not_new"


@pytest.mark.parametrize("end", ["removed", "rotated"])
def test_a_digest_that_has_served_its_time_is_not_taken_again(end: str, cast: Cast) -> None:
    new = new_registration(cast)
    runner = Runner.objects.get(pk=send(new.token).json()["runner"])
    now = timezone.now()
    if end == "removed":
        remove_runner(runner=runner, now=now)
    else:
        rotate_token(runner=runner, overlap=timedelta(), by=cast.owner, now=now)
    assert send(new.token).json()["code"] == "token_not_new"


def test_a_default_name_makes_way_and_a_chosen_one_is_refused(cast: Cast) -> None:
    new = new_registration(cast, max_uses=9)
    names = [send(new.token, digest=digest_of(str(n))).json()["name"] for n in range(3)]
    assert names == ["web-7.example.net", "web-7.example.net-2", "web-7.example.net-3"]
    answer = send(new.token, digest=digest_of("x"), name="WEB-7.example.net")
    assert answer.status_code == 400  # capital letters
    answer = send(new.token, digest=digest_of("x"), name="web-7.example.net")
    assert (answer.status_code, answer.json()["code"]) == (409, "name_taken")
    assert "already has a runner called web-7.example.net" in answer.json()["message"]
    new.row.refresh_from_db()
    assert new.row.uses == 3


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("web-1", "web-1"),
        ("Web_1.Example", "web-1.example"),
        ("-.-", "runner"),
        ("", "runner"),
        ("日本", "runner"),
        ("a" * 80, "a" * 60),
        ("x" * 59 + ".y", "x" * 59),
        ("a; rm -rf /", "a-rm--rf"),
    ],
)
def test_a_host_name_becomes_a_runner_name(host: str, name: str) -> None:
    assert name_from(host) == name


def test_a_long_name_is_cut_to_make_room_for_its_number(cast: Cast) -> None:
    new = new_registration(cast, max_uses=3)
    long = "a" * 60
    for number in range(2):
        send(new.token, digest=digest_of(str(number)), host_name=long)
    assert free_name(cast.project, long) == "a" * 58 + "-3"


def test_an_old_protocol_is_told_to_update(cast: Cast) -> None:
    assert send(new_registration(cast).token, protocol=0).status_code == 426


@pytest.mark.parametrize("seconds", [0, -1, 365 * 86400 + 1])
def test_the_end_is_bounded(seconds: int, cast: Cast) -> None:
    now = timezone.now()
    with pytest.raises(Exception, match="within 365 days"):
        new_registration(cast, expires_at=now + timedelta(seconds=seconds), now=now)


def test_the_database_itself_bounds_the_uses(registration: RegistrationToken) -> None:
    with pytest.raises(IntegrityError):
        RegistrationToken.objects.filter(pk=registration.pk).update(uses=2)


def test_the_token_is_in_no_text_of_its_row(cast: Cast) -> None:
    new = new_registration(cast)
    assert new.token not in repr(new) + str(vars(new.row))
    assert new.row.digest == digest_of(new.token)


@pytest.mark.django_db(transaction=True)
def test_two_hosts_at_once_never_both_take_the_last_use(cast: Cast) -> None:
    new = new_registration(cast, max_uses=3)
    start, answers = threading.Barrier(8), []

    def host(number: int) -> None:
        start.wait()
        answers.append(send(new.token, digest=digest_of(new_token("fgr_"))).status_code)
        connections.close_all()

    threads = [threading.Thread(target=host, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200] * 3 + [403] * 5
    new.row.refresh_from_db()
    assert (new.row.uses, Runner.objects.count()) == (3, 3)
    assert len(set(Runner.objects.values_list("name", flat=True))) == 3


@pytest.mark.django_db(transaction=True)
def test_one_host_that_asks_twice_at_once_gets_one_runner(cast: Cast) -> None:
    new = new_registration(cast, max_uses=5)
    start, answers = threading.Barrier(4), []
    request = RegisterRequest(1, "0.1.0", digest_of("fgr_same"), "web-1", "Debian")

    def host() -> None:
        start.wait()
        token = RegistrationToken.objects.get(pk=new.row.pk)
        answers.append(register_runner(token=token, request=request, now=timezone.now()).pk)
        connections.close_all()

    threads = [threading.Thread(target=host) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    new.row.refresh_from_db()
    assert (len(answers), len(set(answers)), new.row.uses) == (4, 1, 1)
    assert RunnerToken.objects.count() == 1

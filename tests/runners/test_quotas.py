"""Quotas of the runner API, and the log of what was refused."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from projects.tokens import digest_of
from runners import quotas
from runners import refusals as refusals_module
from runners.models import Runner, RunnerToken
from runners.operations import NewRunner, remove_runner
from runners.quotas import Bucket, Quota, network_of
from runners.refusals import RefusalLog
from tests.cast import Cast
from tests.runners.test_accounts import new_runner

pytestmark = pytest.mark.django_db(transaction=True)

SESSION = "s" * 16


@pytest.fixture(autouse=True)
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[RefusalLog]:
    """Nobody was heard before; and the log of refusals."""
    for quota in (quotas.requests, quotas.message_bytes, quotas.wrong_tokens):
        quota.forget()
    log = RefusalLog()
    monkeypatch.setattr("runners.endpoint.refusals", log)
    monkeypatch.setattr("tasks.intake.refusals", log)
    yield log
    for quota in (quotas.requests, quotas.message_bytes, quotas.wrong_tokens):
        quota.forget()


@pytest.fixture
def sender(cast: Cast) -> NewRunner:
    new = new_runner(cast, cast.project, "web-1")
    Runner.objects.update(session=SESSION)
    return new


def send(token: str, path: str, body: Any = None, **options: Any) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body or {"session": SESSION})
    headers = {"authorization": f"Bearer {token}", **options}
    return Client().post(
        f"/runner/v1/{path}", content, content_type="application/json", headers=headers
    )


BEAT = {"session": SESSION, "held": []}


def test_a_runner_that_asks_too_often_is_told_when_to_come_back(
    sender: NewRunner, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.FORGE_RUNNER_REQUESTS_PER_SECOND = 0.01
    answers = [send(sender.token, "heartbeat", BEAT) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 429, 429]
    assert 1 <= int(answers[1]["Retry-After"]) <= 100
    assert answers[1].json()["code"] == "too_many_requests"
    assert "Runner web-1 may send 0.01 requests" in answers[1].json()["message"]
    assert f"refused runner web-1 ({sender.runner.pk}): too_many_requests" in caplog.text


def test_claims_beyond_the_quota_do_not_cost_a_runner_its_heartbeat(
    sender: NewRunner, settings: Any
) -> None:
    settings.FORGE_RUNNER_REQUESTS_PER_SECOND = 0.01
    claim = {"task": 1, "attempt": 1, "nonce": "n" * 16}
    assert [send(sender.token, "claim", claim).status_code for _ in range(2)] == [409, 429]
    assert send(sender.token, "heartbeat", BEAT).status_code == 200


def test_one_runner_spends_nothing_of_another(sender: NewRunner, cast: Cast, settings: Any) -> None:
    settings.FORGE_RUNNER_REQUESTS_PER_SECOND = 0.01
    other = new_runner(cast, cast.project, "web-2")
    Runner.objects.update(session=SESSION)
    assert [send(sender.token, "heartbeat", BEAT).status_code for _ in range(2)] == [200, 429]
    assert send(other.token, "heartbeat", BEAT).status_code == 200


def test_bytes_are_counted_whatever_is_in_them(sender: NewRunner, settings: Any) -> None:
    settings.FORGE_RUNNER_BYTES_PER_SECOND = 100
    big = {**BEAT, "padding": "x" * 20_000}
    assert send(sender.token, "heartbeat", big).status_code == 200
    answer = send(sender.token, "heartbeat", BEAT)
    assert answer.status_code == 429 and int(answer["Retry-After"]) >= 100


def test_wrong_tokens_are_counted_by_address_and_right_ones_still_open(
    sender: NewRunner, settings: Any
) -> None:
    settings.FORGE_WRONG_TOKENS_PER_SECOND = 0.1
    wrong = "fgr_" + "x" * 43
    answers = [send(wrong, "heartbeat", BEAT) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [401, 401, 401, 429, 429, 429]
    assert int(answers[-1]["Retry-After"]) >= 1
    # Behind the same address an honest runner works on.
    assert send(sender.token, "heartbeat", BEAT).status_code == 200


@pytest.mark.parametrize("end", ["unknown", "replaced", "removed"])
def test_a_token_that_opens_nothing_is_looked_up_once(
    end: str, sender: NewRunner, settings: Any, django_assert_num_queries: Any
) -> None:
    settings.FORGE_WRONG_TOKENS_PER_SECOND = 0.1
    now = timezone.now()
    if end == "replaced":
        RunnerToken.objects.update(expires_at=now)
    if end == "removed":
        Runner.objects.update(removed_at=now)
    token = "fgr_" + "x" * 43 if end == "unknown" else sender.token
    for status in (401, 401, 401, 429):
        with django_assert_num_queries(1):
            assert send(token, "heartbeat", BEAT).status_code == status


def test_thousands_of_addresses_take_no_more_memory_than_a_few(
    settings: Any, monkeypatch: pytest.MonkeyPatch, log: RefusalLog
) -> None:
    settings.FORGE_BEHIND_PROXY = True
    monkeypatch.setattr(quotas, "MAXIMUM_SENDERS", 100)
    monkeypatch.setattr(refusals_module, "MAXIMUM_KEYS", 100)
    for number in range(400):
        address = f"10.0.{number // 250}.{number % 250}"
        send("fgr_" + "x" * 43, "heartbeat", BEAT, **{"x-forwarded-for": address})
    assert len(quotas.wrong_tokens) == 100
    assert len(log._lines) == 100


def test_strangers_cannot_flood_the_log(settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    settings.FORGE_BEHIND_PROXY = True
    for number in range(300):
        send("fgr_" + "x" * 43, "heartbeat", BEAT, **{"x-forwarded-for": f"10.0.1.{number % 250}"})
    lines = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert 10 < len(lines) < 60


def test_a_runner_that_is_refused_again_and_again_writes_one_line_and_then_how_many(
    sender: NewRunner,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    log: RefusalLog,
) -> None:
    monkeypatch.setattr(refusals_module, "QUIET_SECONDS", 600.0)
    for _ in range(20):
        assert send(sender.token, "heartbeat", b"rubbish").status_code == 400
    assert caplog.text.count("malformed") == 1
    monkeypatch.setattr(refusals_module, "QUIET_SECONDS", 0.0)
    for line in log._lines.values():
        line.due_at = 0.0
    send(sender.token, "heartbeat", b"rubbish")
    assert "(19 more were not logged)" in caplog.text


def test_what_a_sender_wrote_acts_on_no_log(
    sender: NewRunner, caplog: pytest.LogCaptureFixture
) -> None:
    hostile = "\x1b]0;owned\x07\x1b[31m\r\n2026-01-01 CRITICAL forged line\u202e\x9b"
    send(sender.token, "heartbeat", {"session": SESSION, "held": hostile, hostile: 1})
    send(sender.token, "claim", {"task": hostile, "attempt": 1, "nonce": "n" * 16})
    send("fgr_" + "x" * 10 + hostile, "heartbeat", BEAT)
    logged = "".join(record.getMessage() for record in caplog.records)
    assert logged and logged.isprintable()


def test_the_token_of_a_removed_runner_is_named_in_the_log_and_not_shown(
    real: str, sender: NewRunner, caplog: pytest.LogCaptureFixture
) -> None:
    remove_runner(runner=sender.runner, now=timezone.now())
    assert send(sender.token, "heartbeat", BEAT).status_code == 401
    assert f"removed: a token of runner web-1 ({sender.runner.pk})" in caplog.text
    assert sender.token not in caplog.text and digest_of(sender.token) not in caplog.text


def test_a_foreign_task_in_a_report_is_logged_as_a_fence(
    sender: NewRunner, caplog: pytest.LogCaptureFixture
) -> None:
    started = [{"task": number, "attempt": 1, "age_seconds": 0} for number in (7, 8, 9)]
    report = {"started": started, "pieces": [], "results": []}
    assert send(sender.token, "report", report).status_code == 200
    assert "fence: attempt 1 of task 7 is not its to write, and 2 more" in caplog.text


@pytest.mark.parametrize(
    ("address", "sender"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        (None, "unknown"),
        ("not\nan address", "unknown"),
    ],
)
def test_an_address_is_one_sender_and_so_is_a_network_of_ipv6(
    address: str | None, sender: str
) -> None:
    assert network_of(address) == sender


def test_a_bucket_gives_back_as_time_goes_by(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("runners.quotas.time.monotonic", lambda: now[0])
    bucket = Bucket(rate=10, burst=20)
    assert bucket.wait_before(25) == 0
    assert bucket.wait_before(1) == pytest.approx(0.5)
    assert bucket.wait_before(1) == pytest.approx(0.5)
    now[0] += 0.6
    assert bucket.wait_before(1) == 0


def test_a_quota_counts_right_from_many_threads(settings: Any) -> None:
    settings.FORGE_RUNNER_REQUESTS_PER_SECOND = 0.001
    quota = Quota("FORGE_RUNNER_REQUESTS_PER_SECOND", burst_seconds=100_000)
    passed: list[int] = []

    def ask() -> None:
        passed.append(sum(1 for _ in range(200) if not quota.wait_before("one")))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(passed) == 101

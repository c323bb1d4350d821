"""Searches through logs, which take the whole process for as long as they last."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from django.test import Client
from django.utils import timezone

from forge.pages import log_search
from tasks.log import append
from tasks.log_search import find_lines
from tasks.models import Task
from tests.cast import Cast

pytestmark = pytest.mark.django_db(transaction=True)


def test_searches_of_one_user_take_turns_and_leave_others_their_share(
    cast: Cast,
    running_task: Task,
    browser: Callable[..., Client],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    append(running_task, offset=0, data=b"one\ntwo\n", now=timezone.now())
    address = f"/tasks/{running_task.pk}/log/search?q=two"
    inside, may_go_on = threading.Event(), threading.Event()

    def slowly(*args: object, **options: object) -> object:
        inside.set()
        may_go_on.wait()
        return find_lines(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(log_search, "PATIENCE_SECONDS", 0.01)
    answers: list[int] = []
    first = browser(cast.viewer)
    with monkeypatch.context() as patch:
        patch.setattr("forge.pages.log_search.find_lines", slowly)
        long = threading.Thread(target=lambda: answers.append(first.get(address).status_code))
        long.start()
        inside.wait()
    late = browser(cast.viewer).get(address)
    assert late.status_code == 429 and "Try again" in late.json()["message"]
    assert browser(cast.operator).get(address).json()["lines"] == [2]
    may_go_on.set()
    long.join()
    assert answers == [200]
    assert browser(cast.viewer).get(address).json()["lines"] == [2]

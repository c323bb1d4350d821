"""Figures as people say them, times as pages write them, pages for when things go wrong."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.http import HttpRequest
from django.test import Client
from django.utils import timezone

from forge.pages import home
from forge.pages.icons import ICONS
from forge.templatetags.forge_ui import (
    RUNNER_LOOKS,
    STATE_LOOKS,
    _moment_in_words,
    breakable,
    in_sentence,
    minute,
    moment,
    slots,
    timed,
)
from projects.words import about, bytes_in_words, counted, duration_in_words, listed, number
from runners.status import RunnerStatus
from tasks.lifecycle import TaskState
from tests.cast import Cast
from tests.moments import NOW, TOLD, day_of


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "0 ms"), (0.038, "38 ms"), (1, "1 s"), (1.94, "1.9 s"), (41.2, "41 s"),
        (59.6, "1 min 00 s"), (151, "2 min 31 s"), (3600, "1 h 00 min"), (3661, "1 h 01 min"),
        (90_000, "1 d 1 h"),
    ],
)  # fmt: skip
def test_durations(seconds: float, words: str) -> None:
    assert duration_in_words(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (1000, "1.0 KB"), (96_000, "96 KB"),
        (999_600, "1.0 MB"), (1_440_000, "1.4 MB"), (3_000_000_000, "3.0 GB"),
    ],
)  # fmt: skip
def test_sizes(count: int, words: str) -> None:
    assert bytes_in_words(count) == words


def test_counts_and_lists() -> None:
    assert counted(1, "task") == "1 task"
    assert counted(1200, "task") == "1,200 tasks"
    assert number(0) == "None"
    assert number(4) == "4"
    assert number(1200) == "1,200"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed([]) == ""
    assert about(45) == "45 s"
    assert about(750) == "12 min"
    assert in_sentence("Added by Tomás Reis") == "added by Tomás Reis"


@pytest.mark.parametrize(
    ("age", "text"), [(timedelta(seconds=4), "4 s ago"), (timedelta(days=800), "2")]
)
def test_a_moment_names_itself_and_keeps_the_exact_time(age: timedelta, text: str) -> None:
    at = timezone.now() - age
    written = moment(at)
    assert f">{text}" in written
    assert f'datetime="{at.isoformat()}"' in written
    assert "UTC" in written
    assert "never" in moment(None, "never")


def test_what_ends_soon_ends_at_an_hour_of_a_day() -> None:
    """`27 Nov` alone may be in a minute, and in a day."""
    now = datetime(2026, 11, 26, 20, 15, tzinfo=UTC)

    def said(**ahead: float) -> str:
        return _moment_in_words(now + timedelta(**ahead), now)

    assert said(hours=3) == "23:15"
    assert said(hours=4) == "27 Nov 00:15"
    assert said(hours=47) == "28 Nov 19:15"
    assert said(hours=49) == "28 Nov"
    assert said(days=60) == "2027-01-25"
    assert said(hours=-30) == "25 Nov 14:15"


def test_a_time_in_a_sentence_has_its_day_unless_that_is_today() -> None:
    now = timezone.now()
    assert f">{now:%H:%M}</time>" in minute(now)
    later = now + timedelta(days=7)
    assert f">{day_of(later, now)} {later:%H:%M}</time>" in minute(later)
    assert 'data-time="minute"' in minute(later)


@pytest.mark.parametrize(("apart", "told"), TOLD.items())
def test_a_moment_keeps_its_hour_over_midnight(apart: timedelta, told: str) -> None:
    now = timezone.make_aware(NOW)
    assert _moment_in_words(now + apart, now) == told


def test_a_clock_that_runs_ahead_does_not_show_a_negative_age() -> None:
    assert "-" not in moment(timezone.now() + timedelta(seconds=30)).split(">")[1]
    assert moment(datetime(2020, 5, 4, tzinfo=UTC)).endswith(">2020-05-04</time>")


def test_every_state_and_status_has_an_icon() -> None:
    assert STATE_LOOKS.keys() == set(TaskState)
    assert RUNNER_LOOKS.keys() == set(RunnerStatus)
    for _, drawing in (*STATE_LOOKS.values(), *RUNNER_LOOKS.values()):
        assert drawing in ICONS


def test_a_hundred_slots_fit_into_a_row() -> None:
    drawn = slots(100, 100)
    assert drawn.count("<rect") == 12
    assert "100/100" in drawn


def test_a_mistake_of_forge_has_a_page_of_its_own(
    cast: Cast, browser: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(request: HttpRequest) -> None:
        raise RuntimeError("a detail that nobody may see")

    monkeypatch.setattr(home, "_projects", broken)
    answer = browser(cast.owner).get("/")
    text = answer.content.decode()
    assert answer.status_code == 500
    assert "Forge made a mistake" in text
    assert "a detail" not in text


def test_names_of_parts_break_after_a_part_and_stay_text() -> None:
    assert breakable("dc-1.example.net.") == "dc-1.<wbr>example.<wbr>net."
    assert breakable("tasks.<b>+gpu") == "tasks.<wbr>&lt;b&gt;+<wbr>gpu"


def test_times_in_sentences_are_times_and_the_rest_is_text(settings: Any) -> None:
    settings.TIME_ZONE = "UTC"
    today = f"{timezone.now():%Y-%m-%d}"
    text = timed("dc-1 is paused by <ana> until 14:30 UTC: Update.")
    assert "by &lt;ana&gt; until <time" in text
    assert f'datetime="{today}T14:30:00+00:00"' in text
    assert f'title="{today} 14:30 UTC"' in text
    assert text.endswith('data-time="minute">14:30 UTC</time>: Update.')
    later = timed("Older tokens end at 2027-01-02 03:04:05 UTC.")
    assert 'datetime="2027-01-02T03:04:05+00:00"' in later


@pytest.mark.parametrize("zone", ["Asia/Kathmandu", "America/Sao_Paulo", "Europe/Berlin"])
def test_a_zone_without_a_name_is_one_too(zone: str) -> None:
    with timezone.override(zone):
        now = timezone.localtime()
        text = timed(f"No controller runs since {now:%H:%M %Z}.")
        assert f'datetime="{now:%Y-%m-%dT%H:%M}:00{now.isoformat()[-6:]}"' in text


@pytest.mark.parametrize(
    "words",
    [
        "until 25:61 UTC", "2026-13-01 10:00 UTC", "since 14:30 PST", "until 14:30",
        "since 10:20 AND", "until x14:30 UTC", "Rack move, back by 23:30 UTC", "daily at 22:00 UTC",
    ],
)  # fmt: skip
def test_words_that_only_look_like_a_time_stay(words: str) -> None:
    """Of the time of a day in somebody's own words nobody knows which day it was."""
    assert timed(words) == words

"""The task list by template, runner, person and time: in the address, and one menu for each."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from projects.models import Membership
from runners.models import Runner
from tasks.lifecycle import HELD, TERMINAL, TaskState
from tasks.models import Task, TaskTemplate
from tasks.operations import run_template
from tests.cast import Cast

Ids = Callable[..., list[int]]


@pytest.fixture
def ids(cast: Cast, browser: Callable[..., Client]) -> Ids:
    """The numbers of the tasks that an address shows."""
    client = browser(cast.viewer)

    def ids(query: str) -> list[int]:
        context = client.get(f"/projects/{cast.project.pk}/tasks/?{query}").context
        return [row.task.pk for row in context["rows"]]

    return ids


@pytest.fixture
def runs(cast: Cast, template: TaskTemplate) -> list[Task]:
    """By operator and manager in turn, a day and two hours apart, the newest two hours old."""
    now, found = timezone.now(), []
    for days in (3, 2, 1, 0):
        by = cast.operator if days % 2 else cast.manager
        queued = now - timedelta(days=days, hours=2)
        found.append(run_template(template=template, by=by, now=queued))
    return found


@pytest.mark.parametrize(
    ("query", "places"),
    [
        ("by={operator}", [2, 0]),
        ("by={manager}", [3, 1]),
        ("since=1h", []),
        ("since=24h", [3]),
        ("since=7d", [3, 2, 1, 0]),
        ("since=7d&by={operator}&state=active&q=rest", [2, 0]),
        ("since=24h&by={operator}", []),
    ],
)
def test_what_the_address_says_is_shown(
    query: str, places: list[int], cast: Cast, runs: list[Task], ids: Ids
) -> None:
    who = {"operator": cast.operator.pk, "manager": cast.manager.pk}
    assert ids(query.format(**who)) == [runs[place].pk for place in places]


@pytest.mark.parametrize(
    ("begin", "end", "places"),
    [
        (1.5, 0.5, [2]),
        (2.5, None, [3, 2, 1]),
        (None, 1.5, [1, 0]),
        (2.5, 0.5, [2, 1]),
        (0.05, None, []),
        (None, 9, []),
    ],
)
def test_a_span_of_time_is_shown(
    begin: float | None, end: float | None, places: list[int], runs: list[Task], ids: Ids
) -> None:
    """In days before now; in between lie the tasks that are queued."""
    now, parts = timezone.now(), []
    for name, days in (("from", begin), ("until", end)):
        if days is not None:
            parts.append(f"{name}={now - timedelta(days=days):%Y-%m-%dT%H:%M}Z")
    assert ids("&".join(parts)) == [runs[place].pk for place in places]


@pytest.mark.parametrize(
    "moment",
    [
        "2026-11-25T14:30%2B16:00",
        "2026-11-25T14:30%2B23:59:59",
        "2026-11-25T14:30%2B00:00:30.5",
        "2026-11-25T14:30:00." + 60 * "0",
        "2026-11-25" + 40 * "%20" + "x",
        "2026-11-25T14:30%00",
        "2026-11-25T14:30:00.00000000000000000000000000%00",
        "2026-W48-3",
        "9999-12-31T23:59-23:59",
    ],
)
@pytest.mark.parametrize("name", ["from", "until"])
def test_whatever_is_given_as_a_moment_gets_an_answer(
    name: str, moment: str, cast: Cast, browser: Callable[..., Client]
) -> None:
    client = browser(cast.viewer)
    for path, given in (("tasks", name), ("audit", {"from": "since"}.get(name, name))):
        answer = client.get(f"/projects/{cast.project.pk}/{path}/?{given}={moment}")
        assert answer.status_code in (200, 403)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/Lima"])
def test_the_first_and_the_last_moment_are_some_in_every_zone(
    zone: str, runs: list[Task], ids: Ids, settings: Any
) -> None:
    settings.TIME_ZONE = zone
    assert ids("from=1970-01-01&until=9000-12-31T23:59") == [one.pk for one in reversed(runs)]


def test_a_day_is_shown_whole(cast: Cast, runs: list[Task], ids: Ids) -> None:
    days = [f"{timezone.localtime(one.created_at):%Y-%m-%d}" for one in runs]
    assert ids(f"from={days[1]}&until={days[1]}") == [runs[1].pk]
    assert ids(f"from={days[0]}&until={days[2]}&by={cast.operator.pk}") == [runs[2].pk, runs[0].pk]


def test_each_end_of_a_span_is_taken_off_by_itself(
    cast: Cast, runs: list[Task], browser: Callable[..., Client]
) -> None:
    query = "state=active&from=2025-01-02&until=2035-01-02T04:00"
    text = browser(cast.viewer).get(f"/projects/{cast.project.pk}/tasks/?{query}").text
    later, sooner = (
        re.search(r'class="pick" href="([^"]*)">Queued ' + word, text) for word in ("from", "until")
    )
    assert later and later[1] == "?state=active&amp;until=2035-01-02T04%3A00"
    assert sooner and sooner[1] == "?state=active&amp;from=2025-01-02"
    # The search and the states of the list keep both.
    assert '<input type="hidden" name="from" value="2025-01-02">' in text
    assert "state=failed&amp;from=2025-01-02&amp;until=2035-01-02T04%3A00" in text


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (
            "state=bogus",
            "state: bogus is not known here. Use active, queued, starting, running, stopping,"
            " unreachable, failed, lost, succeeded or stopped.",
        ),
        ("since=zz", "since: zz is not known here. Use 1h, 24h, 7d or 30d."),
        ("to=zz", "to: Tasks are not filtered by this."),
        (
            "until=zz",
            "until: zz is no date. Write 2026-11-25, or 2026-11-25T14:30 with a time.",
        ),
        ("from=0001-01-01T00:00%2B14:00", "from: 0001-01-01T00:00+14:00 is no date."),
        ("from=2026-11-31", "from: 2026-11-31 is no date."),
        (
            "from=1999-11-25&until=1999-11-25T00:00",
            "until: 1999-11-25T00:00 is not after the beginning.",
        ),
        ("by=0", "by: 0 is no number of a member, nor of anybody who has started a task here."),
        ("by=anna", "by: anna is no number of a member"),
        ("by={outsider}", "by: {outsider} is no number of a member"),
        ("by=999999", "by: 999999 is no number of a member"),
        ("template=999999", "template: 999999 is no number of a template of this project."),
        ("runner=x", "runner: x is no number of a runner of this project."),
        ("state=%E2%80%AEbogus", "state: U+202Ebogus is not known here."),
    ],
)
def test_what_is_not_understood_is_said_and_the_rest_applied(
    query: str, said: str, cast: Cast, runs: list[Task], browser: Callable[..., Client]
) -> None:
    query, said = (text.format(outsider=cast.outsider.pk) for text in (query, said))
    client, path = browser(cast.viewer), f"/projects/{cast.project.pk}/tasks/"
    answer = client.get(f"{path}?{query}&q=operator")
    words = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", answer.text))
    assert "Not understood in the address, and left aside:" in words
    assert unescape(said) in unescape(words)
    expected = [runs[2].pk, runs[0].pk]
    assert [row.task.pk for row in answer.context["rows"]] == expected
    live = re.search(
        r'hx-get="([^"]+)"', answer.text[answer.text.index('class="panel" data-live') :]
    )
    assert live
    refreshed = client.get(unescape(live[1]))
    assert [row.task.pk for row in refreshed.context["rows"]] == expected


def test_whatever_pages_and_links_add_is_understood(
    cast: Cast, runner: Runner, runs: list[Task], browser: Callable[..., Client]
) -> None:
    number = runs[0].pk
    query = f"state=active&template={runs[0].template_id}&runner={runner.pk}&by={cast.viewer.pk}"
    query += "&since=7d&from=2025-01-02&until=2035-01-02&q=x"
    query += f"&before={number}&after={number}&top={number}&active={number}"
    page = browser(cast.viewer).get(f"/projects/{cast.project.pk}/tasks/?{query}").text
    assert "Not understood" not in page


def test_a_menu_offers_what_the_project_has(
    cast: Cast, runner: Runner, runs: list[Task], browser: Callable[..., Client]
) -> None:
    text = browser(cast.viewer).get(f"/projects/{cast.project.pk}/tasks/").content.decode()
    for words in ("Restart", "web-1", "operator", "last 24 hours"):
        assert f">{words}</option>" in text
    assert "outsider" not in text


def test_a_chosen_filter_is_taken_off_by_itself(
    cast: Cast, runs: list[Task], browser: Callable[..., Client]
) -> None:
    query = f"state=active&by={cast.operator.pk}&since=7d"
    text = browser(cast.viewer).get(f"/projects/{cast.project.pk}/tasks/?{query}").content.decode()
    assert (
        f'href="?state=active&amp;by={cast.operator.pk}">Queued in the <b>last 7 days</b>' in text
    )
    assert 'href="?state=active&amp;since=7d">Started by <b>operator</b>' in text
    assert f"state=failed&amp;by={cast.operator.pk}&amp;since=7d" in text


# --- states ---


def put(task: Task, state: TaskState, runner: Runner) -> None:
    """Into this state, with what a row in it has."""
    now = timezone.now()
    more: dict[str, Any] = {"is_exclusive": False}
    if state in HELD:
        more |= {"runner": runner, "nonce": "n" * 22, "claimed_at": now, "lease_expires_at": now}
        more |= {"unreachable_at": now, "wait_ends_at": now}
    elif state in TERMINAL:
        more |= {"finished_at": now, "reason": "As a test has it."}
    Task.objects.filter(pk=task.pk).update(state=state, **more)


@pytest.fixture
def one_of_each(cast: Cast, template: TaskTemplate, runner: Runner) -> dict[str, int]:
    """The number of a task in each state."""
    found = {}
    for state in TaskState:
        task = run_template(template=template, by=cast.operator, now=timezone.now())
        put(task, state, runner)
        found[state.value] = task.pk
    return found


@pytest.mark.parametrize(
    "state", ["queued", "starting", "running", "stopping", "unreachable", "lost"]
)
def test_each_single_state_is_shown_by_itself(
    state: str, cast: Cast, one_of_each: dict[str, int], ids: Ids, browser: Callable[..., Client]
) -> None:
    number = one_of_each[state]
    assert ids(f"state={state}") == [number]
    assert ids(f"state={state}&by={cast.operator.pk}&since=1h&q=restart") == [number]
    assert ids(f"state={state}&by={cast.viewer.pk}") == []
    assert ids(f"state={state}&before={number}") == []
    assert ids(f"state={state}&part=rows&top={number}&active={number}") == [number]

    client, path = browser(cast.viewer), f"/projects/{cast.project.pk}/tasks/"
    answer = client.get(f"{path}?state={state}&since=7d&by={cast.operator.pk}")
    label = TaskState(state).label
    assert f'<option value="{state}" selected>{label}</option>' in answer.text
    others = f"by={cast.operator.pk}&amp;since=7d"
    assert f'class="pick" href="?{others}">State <b>{label}</b>' in answer.text
    assert f"state={state}" in answer.context["live_query"]
    # The search keeps it, once; of the bar nothing is chosen.
    assert answer.text.count(f'<input type="hidden" name="state" value="{state}">') == 1
    bar = answer.text[answer.text.index('aria-label="State"') :].split("</div>")[0]
    assert "aria-current" not in bar and f'href="?state=active&amp;{others}"' in bar


def test_the_bar_of_states_is_the_same_choice_as_the_menu(
    cast: Cast, one_of_each: dict[str, int], ids: Ids, browser: Callable[..., Client]
) -> None:
    assert ids("state=failed") == [one_of_each["lost"], one_of_each["failed"]]
    text = browser(cast.viewer).get(f"/projects/{cast.project.pk}/tasks/?state=failed").text
    assert '<option value="failed" selected>Failed or lost</option>' in text
    assert text.count('<input type="hidden" name="state"') == 1
    assert 'class="pick"' not in text
    bar = text[text.index('aria-label="State"') :].split("</div>")[0]
    assert re.findall(r'aria-current="true">(\w+)', bar) == ["Failed"]


def test_pages_of_a_single_state_meet_without_a_gap(
    runs: list[Task], runner: Runner, ids: Ids, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forge.pages.tasks.PAGE_ROWS", 2)
    for place in (0, 2, 3):
        put(runs[place], TaskState.UNREACHABLE, runner)
    first, second = ids("state=unreachable"), ids(f"state=unreachable&before={runs[2].pk}")
    assert (first, second) == ([runs[3].pk, runs[2].pk], [runs[0].pk])
    assert ids(f"state=unreachable&after={runs[0].pk}") == first


def test_who_left_is_named_where_the_address_asks_and_a_stranger_is_not(
    cast: Cast, runs: list[Task], browser: Callable[..., Client]
) -> None:
    Membership.objects.filter(user=cast.operator).delete()
    client, path = browser(cast.viewer), f"/projects/{cast.project.pk}/tasks/"
    assert "<b>operator</b>" in client.get(f"{path}?by={cast.operator.pk}").content.decode()
    stranger = User.objects.create_user("somebody-elsewhere")
    assert "somebody-elsewhere" not in client.get(f"{path}?by={stranger.pk}").content.decode()


def test_filters_cost_a_fixed_number_of_queries(
    cast: Cast, runs: list[Task], runner: Runner, ids: Ids, django_assert_max_num_queries: Any
) -> None:
    with django_assert_max_num_queries(25):
        ids(f"by={cast.operator.pk}&since=7d&template={runs[0].template_id}&runner={runner.pk}")


# --- the text filter ---


@pytest.fixture
def mixed(cast: Cast, runner: Runner, runs: list[Task]) -> list[Task]:
    """`runs`, the first of them on a runner, the last by somebody whose name is shown in full."""
    cast.manager.first_name, cast.manager.last_name = "Ana", "Ribeiro"
    cast.manager.save()
    now = timezone.now()
    assert runs[0].claim(runner=runner, attempt=1, nonce="n" * 22, now=now)
    return runs


@pytest.mark.parametrize(
    ("query", "places"),
    [
        ("q=operator", [2, 0]),
        ("q=OPERA", [2, 0]),
        ("q=ana+rib", [3, 1]),
        ("q=manager", [3, 1]),
        ("q=web-1", [0]),
        ("q=r", [3, 2, 1, 0]),  # Restart, operator, Ribeiro and manager: each task once
        ("q=operator&state=active&since=7d", [2, 0]),
        ("q=operator&since=24h", []),
        ("q=viewer", []),
        ("q=nobody+is+called+so", []),
        ("q=%25", []),
        ("q=%00", [3, 2, 1, 0]),
    ],
)
def test_a_text_finds_templates_people_and_runners(
    query: str, places: list[int], mixed: list[Task], ids: Ids
) -> None:
    assert ids(query) == [mixed[place].pk for place in places]


def test_pages_of_what_a_text_finds_meet_without_a_gap(
    cast: Cast, mixed: list[Task], ids: Ids, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forge.pages.tasks.PAGE_ROWS", 2)
    first, second = ids("q=r"), ids(f"q=r&before={mixed[2].pk}")
    assert (first, second) == ([mixed[3].pk, mixed[2].pk], [mixed[1].pk, mixed[0].pk])
    assert ids(f"q=r&after={mixed[1].pk}") == first
    assert ids(f"q=r&part=rows&top={mixed[1].pk}") == second


def test_what_is_newer_among_the_found_is_counted_once(
    cast: Cast, mixed: list[Task], browser: Callable[..., Client]
) -> None:
    client, path = browser(cast.viewer), f"/projects/{cast.project.pk}/tasks/"
    text = client.get(f"{path}?q=r&part=rows&top={mixed[0].pk}").content.decode()
    assert "3 newer tasks" in text


def test_people_who_started_nothing_here_are_not_looked_through(
    cast: Cast, mixed: list[Task], browser: Callable[..., Client], ids: Ids
) -> None:
    run_template(template=mixed[0].template, by=cast.outsider, now=timezone.now())
    assert len(ids("q=outsider")) == 1
    place = f"/projects/{cast.outsiders_project.pk}/tasks/?q=operator"
    assert not browser(cast.outsider).get(place).context["rows"]


def test_the_page_says_what_a_text_is_looked_for_in(
    cast: Cast, mixed: list[Task], browser: Callable[..., Client]
) -> None:
    text = browser(cast.viewer).get(f"/projects/{cast.project.pk}/tasks/?q=zz").content.decode()
    assert "Find tasks by number, template, person or runner" in text
    assert "not in scripts, logs or reasons" in text

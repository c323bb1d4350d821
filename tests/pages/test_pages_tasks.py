"""The list of tasks and one task's page."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from forge.pages.tasks import MAXIMUM_NEWER, PAGE_ROWS
from runners.models import Runner, RunnerToken
from runners.operations import rotate_token
from runners.worker.entry import MISSING
from tasks.lifecycle import TaskState
from tasks.log_columns import ABOVE_LIMIT
from tasks.models import LogChunk, Task, TaskAttempt, TaskTemplate
from tests.cast import Cast


@pytest.fixture
def viewer(cast: Cast, browser: Callable[..., Client]) -> Client:
    return browser(cast.viewer)


@pytest.fixture
def many(cast: Cast, template: TaskTemplate) -> list[Task]:
    """As many tasks as two pages and one more hold, the oldest first."""
    return [finished(cast, template) for _ in range(2 * PAGE_ROWS + 1)]


def finished(cast: Cast, template: TaskTemplate, state: str = "succeeded") -> Task:
    now = timezone.now()
    return Task.objects.create(
        project=cast.project,
        template=template,
        queue=template.queue,
        app="bash",
        script="true",
        timeout_seconds=60,
        is_exclusive=False,
        state=state,
        reason="It ended.",
        created_at=now,
        queued_at=now,
        finished_at=now,
    )


def ids_on(client: Client, path: str) -> list[int]:
    context = client.get(path).context
    return [row.task.pk for row in context["rows"]]


def test_pages_go_down_and_up_without_gap_or_repetition(
    viewer: Client, cast: Cast, many: list[Task]
) -> None:
    path = f"/projects/{cast.project.pk}/tasks/"
    newest_first = [task.pk for task in reversed(many)]
    first = ids_on(viewer, path)
    second = ids_on(viewer, f"{path}?before={first[-1]}")
    third = ids_on(viewer, f"{path}?before={second[-1]}")
    assert first + second + third == newest_first
    assert ids_on(viewer, f"{path}?after={second[0]}") == first
    assert ids_on(viewer, f"{path}?after={third[0]}") == second


def test_newer_rows_are_counted_and_not_pushed_in(
    viewer: Client, cast: Cast, template: TaskTemplate, many: list[Task]
) -> None:
    path = f"/projects/{cast.project.pk}/tasks/"
    query = viewer.get(path).context["live_query"]
    finished(cast, template)
    answer = viewer.get(f"{path}?{query}")
    assert next(row.task.pk for row in answer.context["rows"]) == many[-1].pk
    assert "1 newer task" in answer.content.decode()


def test_of_many_newer_tasks_it_is_not_said_how_many(
    viewer: Client, cast: Cast, template: TaskTemplate
) -> None:
    path = f"/projects/{cast.project.pk}/tasks/"
    finished(cast, template)
    query = viewer.get(path).context["live_query"]
    for count in (MAXIMUM_NEWER, MAXIMUM_NEWER + 1, MAXIMUM_NEWER + 2):
        while Task.objects.count() <= count:
            finished(cast, template)
        exact = count == MAXIMUM_NEWER
        words = "99 newer tasks" if exact else "more than 99 newer tasks"
        assert f"</svg>{words}</a>" in viewer.get(f"{path}?{query}").text


@pytest.mark.parametrize("place", ["after=999999999", "before=1", "before=1&part=rows", "top=1"])
@pytest.mark.parametrize("filters", ["", "state=succeeded&", "q=resta&"])
def test_a_place_without_tasks_does_not_say_that_there_are_none(
    place: str, filters: str, viewer: Client, cast: Cast, template: TaskTemplate
) -> None:
    path = f"/projects/{cast.project.pk}/tasks/"
    Task.objects.filter(pk=finished(cast, template).pk).delete()
    last = finished(cast, template)
    text = viewer.get(f"{path}?{filters}{place}").text
    assert "No tasks yet" not in text and "No task matches" not in text
    found = re.search(r'href="([^"]*)">Show the newest', text)
    assert found, text
    assert ids_on(viewer, path + found[1].replace("&amp;", "&")) == [last.pk]


def test_active_tasks_come_first_and_stay_there_until_the_page_is_opened_anew(
    viewer: Client, cast: Cast, template: TaskTemplate, task: Task
) -> None:
    others = [finished(cast, template).pk for _ in range(2)][::-1]
    path = f"/projects/{cast.project.pk}/tasks/"
    page = viewer.get(path)
    assert [row.task.pk for row in page.context["rows"]] == [task.pk, *others]
    text = page.content.decode()
    assert text.index(">Active<", text.index("<tbody")) < text.index(f"#{task.pk}<")
    assert text.index(f"#{task.pk}<") < text.index(">Finished<") < text.index(f"#{others[0]}<")
    assert task.stop_before_start(reason="Enough", now=timezone.now())
    live = viewer.get(f"{path}?{page.context['live_query']}")
    assert [row.task.pk for row in live.context["rows"]] == [task.pk, *others]
    assert "Stopped" in live.content.decode()
    again = viewer.get(path)
    assert [row.task.pk for row in again.context["rows"]] == [*others, task.pk]
    assert ">Finished<" not in again.content.decode()


def test_what_is_all_active_has_no_heading(viewer: Client, cast: Cast, task: Task) -> None:
    text = viewer.get(f"/projects/{cast.project.pk}/tasks/").content.decode()
    assert 'class="day"' not in text


@pytest.mark.parametrize("segment", ["failed", "stopped", "succeeded", "active", "nonsense"])
def test_a_segment_shows_its_states(
    segment: str, viewer: Client, cast: Cast, template: TaskTemplate, task: Task
) -> None:
    rows = {state: finished(cast, template, state).pk for state in ("failed", "lost", "stopped")}
    expected = {
        "failed": {rows["failed"], rows["lost"]},
        "stopped": {rows["stopped"]},
        "succeeded": set(),
        "active": {task.pk},
        "nonsense": {*rows.values(), task.pk},
    }
    path = f"/projects/{cast.project.pk}/tasks/?state={segment}"
    assert set(ids_on(viewer, path)) == expected[segment]


@pytest.mark.parametrize("text", ["{pk}", "%23{pk}", "resta", "RESTART"])
def test_a_task_is_found_by_number_and_by_template(
    text: str, viewer: Client, cast: Cast, task: Task
) -> None:
    path = f"/projects/{cast.project.pk}/tasks/?q={text.format(pk=task.pk)}"
    assert ids_on(viewer, path) == [task.pk]


@pytest.mark.parametrize(
    "query",
    [
        "before=x",
        "after=-1",
        "top=" + "9" * 30,
        "template=x",
        "runner=999",
        "q=%00",
        "state=%27",
        "part=rows&active=x.-1..",
        "part=rows&active=" + "9." * 5000,
    ],
)
def test_a_nonsensical_address_does_no_harm(
    query: str, viewer: Client, cast: Cast, task: Task
) -> None:
    assert viewer.get(f"/projects/{cast.project.pk}/tasks/?{query}").status_code == 200


def test_a_search_without_a_hit_offers_the_way_back(viewer: Client, cast: Cast) -> None:
    text = viewer.get(f"/projects/{cast.project.pk}/tasks/?q=zzz").content.decode()
    assert "No task matches" in text


def test_the_tasks_of_other_projects_are_not_listed(
    cast: Cast, task: Task, browser: Callable[..., Client]
) -> None:
    path = f"/projects/{cast.outsiders_project.pk}/tasks/?q={task.pk}"
    assert ids_on(browser(cast.outsider), path) == []


def test_a_queued_task_says_why_it_waits(viewer: Client, task: Task) -> None:
    text = viewer.get(f"/tasks/{task.pk}/").content.decode()
    assert "This project has no runners yet." in text
    assert "Waiting" in text


def test_a_running_task_shows_its_steps_with_differences(
    viewer: Client, running_task: Task
) -> None:
    begin = timezone.now() - timedelta(seconds=60)
    Task.objects.filter(pk=running_task.pk).update(
        created_at=begin,
        queued_at=begin,
        claimed_at=begin + timedelta(milliseconds=38),
        started_at=begin + timedelta(milliseconds=56),
    )
    text = viewer.get(f"/tasks/{running_task.pk}/").content.decode()
    assert "+38 ms" in text
    assert "+18 ms" in text
    assert "by web-1" in text
    assert "no earlier run to compare with" in text


def test_a_finished_task_shows_result_and_digest(
    viewer: Client, running_task: Task, runner: Runner
) -> None:
    outcome = {"exit_code": 3, "reason": "It ended with exit code 3.", "log_sha256": "ab" * 32}
    now = timezone.now()
    assert running_task.finish(TaskState.FAILED, runner=runner, attempt=1, now=now, **outcome)
    text = viewer.get(f"/tasks/{running_task.pk}/").content.decode()
    assert "It ended with exit code 3." in text
    assert "ab" * 32 in text
    assert "may lack its end" in text


def test_a_log_above_its_limit_is_marked_while_it_grows_and_afterwards(
    viewer: Client, running_task: Task, runner: Runner
) -> None:
    rows = Task.objects.filter(pk=running_task.pk)
    rows.update(log_bytes=134_217_000, log_gap_offset=134_217_000, log_written_bytes=3_200_000_000)
    text = viewer.get(f"/tasks/{running_task.pk}/").content.decode()
    assert "This log is above its limit. 3.2 GB are written so far; the last" in text
    kept = {"log_gap_offset": 134_217_000, "log_gap_bytes": 3_050_000_123}
    outcome = {"exit_code": 0, "reason": "It ended.", "log_written_bytes": 3_200_000_000, **kept}
    now = timezone.now()
    assert running_task.finish(TaskState.SUCCEEDED, runner=runner, attempt=1, now=now, **outcome)
    text = viewer.get(f"/tasks/{running_task.pk}/").content.decode()
    assert "3,050,000,123 bytes are left out after the first 134,217,000" in text
    assert "wrote 3,200,000,000 bytes" in text and "written so far" not in text
    rows.update(log_problem=ABOVE_LIMIT)
    assert "not complete" not in viewer.get(f"/tasks/{running_task.pk}/").content.decode()
    rows.update(log_problem=MISSING)
    text = viewer.get(f"/tasks/{running_task.pk}/").content.decode()
    assert "Apart from that, this log is not complete. A part of it is missing on" in text


def test_the_runner_is_not_blamed_for_what_is_not_taken_of_a_lost_task_s_log(
    browser: Callable[[User | None], Client], cast: Cast, running_task: Task
) -> None:
    running_task.mark_unreachable(now=timezone.now())
    assert running_task.lose(reason="Runner web-1 went silent.", now=timezone.now())
    text = browser(cast.viewer).get(f"/tasks/{running_task.pk}/").text
    assert "of a task that was given up as lost, no more is taken." in text
    assert "did not hand over" not in text


def test_a_task_that_never_started_lacks_nothing_of_its_log(
    viewer: Client, cast: Cast, task: Task
) -> None:
    assert task.stop_before_start(reason="Stopped by Ana.", now=timezone.now())
    text = viewer.get(f"/tasks/{task.pk}/").content.decode()
    assert "not complete" not in text and "It wrote nothing." in text


def test_the_environment_and_the_script_are_escaped(viewer: Client, task: Task, cast: Cast) -> None:
    nasty = "</pre><script>alert(1)</script>"
    Task.objects.filter(pk=task.pk).update(script=nasty, environment={"A": nasty})
    text = viewer.get(f"/tasks/{task.pk}/").content.decode()
    assert nasty not in text
    assert text.count("&lt;script&gt;alert(1)") == 2


def test_an_operator_stops_a_task(cast: Cast, task: Task, browser: Callable[..., Client]) -> None:
    answer = browser(cast.operator).post(f"/tasks/{task.pk}/stop/", follow=True)
    task.refresh_from_db()
    assert task.state == TaskState.STOPPED
    assert "Stopped by operator." in answer.content.decode()


def test_stopping_a_finished_task_says_that_it_is_finished(
    cast: Cast, template: TaskTemplate, browser: Callable[..., Client]
) -> None:
    task = finished(cast, template)
    answer = browser(cast.operator).post(f"/tasks/{task.pk}/stop/", follow=True)
    assert f"Task #{task.pk} is already finished: Succeeded." in answer.content.decode()


def test_every_state_has_a_page(viewer: Client, running_task: Task, runner: Runner) -> None:
    now = timezone.now()
    for state in TaskState:
        is_over = state in ("succeeded", "failed", "stopped", "lost")
        Task.objects.filter(pk=running_task.pk).update(
            state=state,
            reason="It ended." if is_over else "",
            finished_at=now if is_over else None,
            unreachable_at=now,
            wait_ends_at=now,
            stop_requested_at=now,
        )
        text = viewer.get(f"/tasks/{running_task.pk}/").content.decode()
        assert state.label in text


def test_a_long_list_costs_a_fixed_number_of_queries(
    viewer: Client,
    cast: Cast,
    many: list[Task],
    django_assert_max_num_queries: Any,
) -> None:
    with django_assert_max_num_queries(20):
        viewer.get(f"/projects/{cast.project.pk}/tasks/")


def test_a_task_that_ended_at_once_has_run(viewer: Client, cast: Cast, running_task: Task) -> None:
    now = timezone.now()
    Task.objects.filter(pk=running_task.pk).update(
        state="succeeded", reason="It ended.", started_at=now, finished_at=now
    )
    text = viewer.get(f"/projects/{cast.project.pk}/tasks/").text
    assert '<td role="cell" class="a-dur num nowrap">0 ms</td>' in text


def test_the_page_shows_every_attempt_with_its_runner_end_and_log(
    viewer: Client, running_task: Task, runner: Runner
) -> None:
    now = timezone.now()
    LogChunk.objects.create(
        task=running_task, attempt=1, offset=0, data=b"the first\n", received_at=now
    )
    first = TaskAttempt.of(running_task, state=TaskState.LOST, reason="It is gone.", ended_at=now)
    first.log_bytes = 10
    first.save()
    second = {"attempt": 2, "lost_runner_policy": "retry"}
    Task.objects.filter(pk=running_task.pk).update(**second)
    text = viewer.get(f"/tasks/{running_task.pk}/").content.decode()
    assert "It is gone." in text and "2 of at most 3" in text
    assert "run it again elsewhere, at most 3 attempts" in text
    log = f"/tasks/{running_task.pk}/log?attempt="
    assert f'href="{log}1"' in text and f'href="{log}2"' in text
    assert [viewer.get(f"{log}{wrong}").status_code for wrong in ("3", "x", "")] == [404] * 3
    assert b"".join(viewer.get(f"{log}1")) == b"the first\n"


def test_force_is_offered_to_whom_a_stop_has_not_helped(
    browser: Callable[[User | None], Client], cast: Cast, running_task: Task
) -> None:
    client, address = browser(cast.operator), f"/tasks/{running_task.pk}/"
    assert "force-stop" not in client.get(address).content.decode()
    assert "force-stop" in client.post(f"{address}stop/", follow=True).content.decode()
    answer = client.post(f"{address}force-stop/", follow=True)
    running_task.refresh_from_db()
    assert running_task.force_requested_at is not None
    assert "Force-stopped by operator." in answer.content.decode()
    assert "Force stop</a>" not in answer.content.decode()


def test_before_a_stop_it_is_said_what_it_leads_to(
    browser: Callable[[User | None], Client], cast: Cast, task: Task, runner: Runner
) -> None:
    client, address = browser(cast.operator), f"/tasks/{task.pk}/"

    def asked(what: str) -> str:
        return client.get(f"{address}{what}").text

    assert "taken out of the queue at once, and never runs" in asked("stop/")
    assert "That is for a task that was told to stop" in asked("force-stop/")
    assert 'name="back" value="queue"' in asked("stop/?back=queue")
    assert 'name="back"' not in asked("stop/?back=elsewhere")
    task.claim(runner=runner, attempt=1, nonce="n" * 22, now=timezone.now())
    assert "INT, after 2 min TERM, after 30 s KILL" in asked("stop/")
    client.post(f"{address}stop/")
    assert "It was told to stop already." in asked("stop/")
    assert "killed without time to clean up" in asked("force-stop/")
    task.refresh_from_db()
    assert task.force_requested_at is None
    task.mark_unreachable(now=timezone.now())
    assert "Nobody knows whether its processes still run on web-1" in asked("force-stop/")
    client.post(f"{address}force-stop/")
    assert "It has ended already." in asked("force-stop/")


def test_an_unreachable_task_says_when_a_stop_takes_effect(
    browser: Callable[[User | None], Client], cast: Cast, running_task: Task
) -> None:
    running_task.mark_unreachable(now=timezone.now())
    client, address = browser(cast.operator), f"/tasks/{running_task.pk}/"
    text = client.post(f"{address}stop/", follow=True).content.decode()
    assert "It takes effect when web-1 is heard again." in text and "Give up</a>" in text
    text = client.post(f"{address}force-stop/", follow=True).content.decode()
    assert "Lost" in text and "may have let it run on" in text


def test_a_stop_that_a_lease_brings_about_says_so(
    browser: Callable[[User | None], Client], cast: Cast, running_task: Task
) -> None:
    """What may be run again is ended by its runner also where that is not heard."""
    Task.objects.filter(pk=running_task.pk).update(lost_runner_policy="retry")
    running_task.refresh_from_db()
    running_task.mark_unreachable(now=timezone.now())
    client, address = browser(cast.operator), f"/tasks/{running_task.pk}/"
    told = "It takes effect when web-1 is heard again or when the task&#x27;s lease has ended."
    assert told.replace("&#x27;", "'") in client.get(f"{address}stop/").content.decode()
    text = client.post(f"{address}stop/", follow=True).content.decode()
    assert told in text
    assert "web-1 is silent; stopped after" in text and "lost after" not in text
    silent = {"last_heartbeat_at": timezone.now() - timedelta(minutes=12), "session": "one"}
    Runner.objects.filter(tasks=running_task).update(**silent)
    text = client.get(f"/runners/{running_task.runner_id}/").content.decode()
    assert "then is stopped." in text and "counts as lost" not in text


def test_a_task_whose_runner_lost_its_token_is_not_said_to_go_on(
    browser: Callable[[User | None], Client], cast: Cast, running_task: Task
) -> None:
    """Ended at once by a rotation: its worker ends, and has to be given the new one."""
    runner = running_task.runner
    assert runner is not None
    now = timezone.now()
    heard = {"last_heartbeat_at": now - timedelta(minutes=12), "session": "one"}
    Runner.objects.filter(pk=runner.pk).update(**heard)
    RunnerToken.objects.filter(runner=runner).update(last_used_at=now)
    running_task.mark_unreachable(now=now)
    client = browser(cast.manager)
    task, host = f"/tasks/{running_task.pk}/", f"/runners/{runner.pk}/"
    assert "goes on if it comes back in time" in client.get(task).text
    assert "with the token that it has" in client.get(host).text
    rotate_token(runner=runner, overlap=timedelta(), by=cast.owner, now=now)
    text = client.get(task).text
    assert "its token was ended, and its worker never used the new one." in text
    assert "comes back in time" not in text
    text = client.get(host).text
    assert "Its token was ended, and its worker never used the new one." in text
    assert "with the token that it has" not in text and 'id="act-token"' in text
    # With time to take it over the old one works on.
    rotate_token(runner=runner, overlap=timedelta(hours=1), by=cast.owner, now=now)
    RunnerToken.objects.filter(runner=runner, expires_at=None).update(last_used_at=now)
    assert "goes on if it comes back in time" in client.get(task).text


@pytest.mark.parametrize(
    ("policy", "then", "brief"),
    [
        ("retry", "Another attempt begins", "another attempt"),
        ("wait", "It counts as lost", "lost"),
    ],
)
def test_a_wait_that_is_over_and_not_decided_yet_promises_nothing(
    policy: str,
    then: str,
    brief: str,
    browser: Callable[[User | None], Client],
    cast: Cast,
    running_task: Task,
) -> None:
    """As where another controller has just taken the lead, or none does."""
    Task.objects.filter(pk=running_task.pk).update(lost_runner_policy=policy)
    running_task.refresh_from_db()
    running_task.mark_unreachable(now=timezone.now())
    client, address = browser(cast.operator), f"/tasks/{running_task.pk}/"
    assert f"web-1 is silent; {brief} after" in client.get(address).text
    ended = timezone.now() - timedelta(seconds=30)
    Task.objects.filter(pk=running_task.pk).update(unreachable_at=ended, wait_ends_at=ended)
    text, once = client.get(address).text, "once a controller has led, and listened, for long"
    assert f"web-1 was not heard in time. {then} {once} enough." in text
    assert f"web-1 is silent; {brief} {once} enough" in text and "comes back in time" not in text
    silent = {"last_heartbeat_at": timezone.now() - timedelta(minutes=12), "session": "one"}
    Runner.objects.filter(tasks=running_task).update(**silent)
    text = client.get(f"/runners/{running_task.runner_id}/").text
    assert f"{once} enough." in text and "waits until" not in text

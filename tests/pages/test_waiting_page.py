"""The sentence that tells why a task waits is true."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from forge.templatetags.forge_ui import linked
from projects.models import Project
from runners.models import BrokerContact, Runner
from runners.operations import create_runner
from tasks.lifecycle import TaskState
from tasks.models import Leadership, Task, TaskTemplate
from tasks.operations import run_template
from tasks.sentences import ahead_in_words
from tasks.waiting import explain, why_waiting
from tests.cast import Cast


@pytest.fixture
def now() -> object:
    return timezone.now()


def why(task: Task) -> str:
    task.refresh_from_db()
    return why_waiting(task, timezone.now())


def hear(runner: Runner) -> None:
    now = timezone.now()
    Runner.objects.filter(pk=runner.pk).update(
        connected_at=now, last_heartbeat_at=now, session="one"
    )


def another(cast: Cast, name: str, tags: list[str], slots: int = 1) -> Runner:
    return create_runner(
        project=cast.project,
        name=name,
        tags=tags,
        concurrency=slots,
        takes_untagged=False,
        by=cast.owner,
        now=timezone.now(),
    ).runner


def test_no_runner_at_all(task: Task) -> None:
    assert why(task) == "This project has no runners yet."


def test_no_runner_with_the_tags(cast: Cast, task: Task) -> None:
    another(cast, "mac-1", ["macos"])
    assert why(task) == "No runner has the tag linux."


def test_the_only_runner_has_never_connected(task: Task, runner: Runner) -> None:
    assert why(task) == "web-1, the only runner that may take it, has not connected yet."


def test_the_only_runner_is_offline(task: Task, runner: Runner) -> None:
    hear(runner)
    long_ago = timezone.now() - timedelta(hours=1)
    Runner.objects.filter(pk=runner.pk).update(last_heartbeat_at=long_ago)
    assert why(task) == "web-1, the only runner that may take it, is offline, last heard 1 h ago."


def test_several_runners_are_all_offline(cast: Cast, task: Task, runner: Runner) -> None:
    another(cast, "web-2", ["linux"])
    assert why(task) == "None of the 2 runners that may take it has connected yet."


def test_a_free_runner_takes_it(task: Task, runner: Runner) -> None:
    hear(runner)
    now = timezone.now()
    Leadership.acquire("controller", holder="me", now=now, until=now + timedelta(minutes=1))
    assert why(task) == "web-1 is free and takes it in a moment."
    waiting = explain(task, timezone.now())
    assert waiting is not None
    assert not waiting.is_hindered


def test_an_earlier_task_of_the_template_runs(
    cast: Cast, running_task: Task, runner: Runner, template: TaskTemplate
) -> None:
    hear(runner)
    later = run_template(template=template, by=cast.owner, now=timezone.now())
    expected = f"#{running_task.pk} of this template is running, and it allows one run at a time."
    assert why(later) == expected


def test_an_earlier_task_of_the_template_waits(
    cast: Cast, task: Task, runner: Runner, template: TaskTemplate
) -> None:
    hear(runner)
    later = run_template(template=template, by=cast.owner, now=timezone.now())
    expected = f"#{task.pk} of this template comes first, and it allows one run at a time."
    assert why(later) == expected


def test_the_projects_limit_is_reached(
    cast: Cast, running_task: Task, runner: Runner, template: TaskTemplate
) -> None:
    hear(runner)
    Project.objects.filter(pk=cast.project.pk).update(max_parallel_tasks=1)
    TaskTemplate.objects.filter(pk=template.pk).update(allow_parallel=True)
    template.refresh_from_db()
    later = run_template(template=template, by=cast.owner, now=timezone.now())
    later = Task.objects.get(pk=later.pk)
    assert why(later) == "The project runs 1 of at most 1 at once."


def results(task: Task) -> dict[str, str]:
    """What the page says of each check that is not met."""
    waiting = explain(Task.objects.get(pk=task.pk), timezone.now())
    assert waiting is not None
    return {check.name: check.result for check in waiting.checks if not check.is_met}


@pytest.fixture
def later(cast: Cast, running_task: Task, runner: Runner) -> Task:
    """Behind a limit that is reached, and behind a task of its template that runs."""
    hear(runner)
    now = timezone.now()
    Leadership.acquire("controller", holder="me", now=now, until=now + timedelta(minutes=1))
    Project.objects.filter(pk=cast.project.pk).update(max_parallel_tasks=1)
    return run_template(template=running_task.template, by=cast.owner, now=now)


LIMIT = "The project runs 1 of at most 1 at once."


def test_what_passes_is_named_only_where_runners_are_ready(
    later: Task, running_task: Task, runner: Runner
) -> None:
    """Who waits for the end of the other task is to find that this one starts then."""
    alone = f"#{running_task.pk} of this template is running, and it allows one run at a time."
    assert why(later) == alone
    assert results(later) == {"Template": "Allows one run at a time", "Project limit": LIMIT}
    Runner.objects.update(
        paused_at=timezone.now(), pause_reason="Kernel update", paused_until=None, session=""
    )
    away = "web-1, the only runner that may take it, is shut down, and is paused by somebody"
    assert why(later).startswith(away)
    assert results(later) == {
        "Template": alone,
        "Project limit": LIMIT,
        "Runner": "0 of 1 can take it",
    }
    runner.tags.clear()
    assert why(later) == "No runner has the tag linux."
    assert results(later)["Project limit"] == LIMIT


def test_a_broker_that_is_away_is_named_before_what_passes(later: Task) -> None:
    BrokerContact.note_loss(OSError("refused"), now=timezone.now())
    assert why(later).startswith("Forge's broker has not answered since ")
    assert results(later)["Project limit"] == LIMIT


def test_without_a_controller_what_passes_is_named_and_both_are_shown(later: Task) -> None:
    """The end of the task that runs announces the next, whether one runs or not."""
    Leadership.objects.update(expires_at=timezone.now() - timedelta(minutes=1))
    assert why(later).startswith("#")
    assert results(later)["Controller"].startswith("No controller runs since ")


PAUSED = "is paused by somebody: Kernel update"
ILL = "cannot take tasks: The journal cannot be written"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, PAUSED),
        ({"session": ""}, f"is shut down, and {PAUSED}"),
        ({"ago": 720}, f"is offline, last heard 12 min ago, and {PAUSED}"),
        ({"last_heartbeat_at": None}, f"has not connected yet, and {PAUSED}"),
        ({"trouble": ILL[19:]}, f"{ILL}, and {PAUSED}"),
        (
            {"is_draining": True, "drain_order": "owner: Kernel update"},
            "is being drained by owner: Kernel update",
        ),
        (
            {"is_draining": True, "drain_order": "owner: Kernel", "was_told_to_end": True},
            f"is being drained by owner: Kernel, and {PAUSED}",
        ),
        ({"is_draining": True, "was_told_to_end": True}, f"is being shut down, and {PAUSED}"),
    ],
)
def test_all_is_named_that_keeps_a_paused_runner(
    fields: dict[str, object], words: str, task: Task, runner: Runner
) -> None:
    """Who resumes it is not to find then that it does not run at all."""
    hear(runner)
    now = timezone.now()
    silence = fields.pop("ago", None)
    heard = {"last_heartbeat_at": now - timedelta(seconds=720)} if silence else {}
    changes = {"paused_at": now, "pause_reason": "Kernel update", **heard, **fields}
    Runner.objects.filter(pk=runner.pk).update(**changes)
    assert why(task) == f"web-1, the only runner that may take it, {words}."


def test_what_was_announced_first_takes_the_last_of_the_projects_limit(
    cast: Cast, task: Task, runner: Runner, template: TaskTemplate
) -> None:
    """As where the runner that was told of it has gone silent a moment ago."""
    hear(runner)
    another(cast, "web-2", ["linux"])
    Project.objects.filter(pk=cast.project.pk).update(max_parallel_tasks=1)
    TaskTemplate.objects.filter(pk=template.pk).update(allow_parallel=True)
    template.refresh_from_db()
    Task.objects.filter(pk=task.pk).update(hinted_at=timezone.now(), is_exclusive=False)
    later = run_template(template=template, by=cast.owner, now=timezone.now())
    later = Task.objects.get(pk=later.pk)
    assert why(later) == (
        f"The project runs 0 of at most 1 at once, and #{task.pk} was announced to a runner first."
    )
    Task.objects.filter(pk=task.pk).update(hinted_at=None)
    assert "announced" not in why(later)


def test_all_runners_are_busy(
    cast: Cast, running_task: Task, runner: Runner, template: TaskTemplate
) -> None:
    hear(runner)
    Runner.objects.filter(pk=runner.pk).update(concurrency=1)
    TaskTemplate.objects.filter(pk=template.pk).update(allow_parallel=True)
    template.refresh_from_db()
    run_template(template=template, by=cast.owner, now=timezone.now())
    later = run_template(template=template, by=cast.owner, now=timezone.now())
    assert why(later) == "web-1, the only runner for it, is busy, and 1 task is ahead."


def test_nobody_takes_tasks_without_tags(cast: Cast, template: TaskTemplate) -> None:
    another(cast, "picky", ["linux"])
    bare = TaskTemplate(project=cast.project, name="Bare", script="true")
    from tasks.operations import save_template

    task = run_template(
        template=save_template(template=bare, tags=[]), by=cast.owner, now=timezone.now()
    )
    assert why(task) == "picky, the only runner, refuses tasks without tags."


def test_a_task_that_does_not_wait_has_no_reason(running_task: Task) -> None:
    assert why(running_task) == ""


def test_approval_is_a_reason_of_its_own(task: Task) -> None:
    Task.objects.filter(pk=task.pk).update(state=TaskState.AWAITING_APPROVAL)
    assert why(task) == "It waits until somebody approves it."


@pytest.mark.parametrize(
    ("ahead", "words"),
    [
        (0, "it is next"),
        (1, "1 task is ahead"),
        (1000, "1,000 tasks are ahead"),
        (1001, "more than 1,000 tasks are ahead"),
    ],
)
def test_places_in_line_are_spoken_well(ahead: int, words: str) -> None:
    assert ahead_in_words(ahead, 1000) == words


def test_the_task_that_holds_it_up_is_a_link(
    cast: Cast, task: Task, runner: Runner, browser: Callable[..., Client]
) -> None:
    hear(runner)
    later = run_template(template=task.template, by=cast.owner, now=timezone.now())
    TaskTemplate.objects.filter(pk=task.template_id).update(name="<i>#7 of this template is x")
    client = browser(cast.operator)
    link = f'href="/tasks/{task.pk}/">#{task.pk}</a> of this template comes first'
    for address in (f"/tasks/{later.pk}/", f"/projects/{cast.project.pk}/queue/"):
        text = client.get(address).text
        assert link in text
        assert "<i>#7" not in text


def test_of_a_sentence_only_what_forge_says_of_a_task_is_a_link() -> None:
    assert linked("Paused by anna: see #7 & <b>") == "Paused by anna: see #7 &amp; &lt;b&gt;"
    text = "The project runs 1 of at most 1 at once, and #12 and 2 more were announced to a runner."
    assert linked(text).count('<a class="link" href="/tasks/12/">#12</a>') == 1


def page_of(client: Client, task: Task) -> str:
    answer = client.get(f"/tasks/{task.pk}/")
    assert answer.status_code == 200
    return answer.text


def test_who_waits_for_the_projects_limit_is_led_to_it(
    cast: Cast, running_task: Task, runner: Runner, browser: Callable[..., Client]
) -> None:
    hear(runner)
    Project.objects.filter(pk=cast.project.pk).update(max_parallel_tasks=1)
    TaskTemplate.objects.update(allow_parallel=True)
    template = TaskTemplate.objects.get(pk=running_task.template_id)
    later = run_template(template=template, by=cast.owner, now=timezone.now())
    change = f'id="act-limit" href="/projects/{cast.project.pk}/settings/">Change the limit</a>'
    assert change in (text := page_of(browser(cast.owner), later))
    assert "Change the template" not in text
    assert "Change the limit" not in page_of(browser(cast.operator), later)


def test_who_adds_a_runner_from_a_task_that_waits_for_tags_finds_them_in_the_form(
    cast: Cast, task: Task, browser: Callable[..., Client]
) -> None:
    client = browser(cast.manager)
    address = f"/projects/{cast.project.pk}/runners/new/?tags=linux"
    assert f'id="act-add" href="{address}">' in page_of(client, task)
    assert 'name="tags" value="linux"' in client.get(address).text
    evil = client.get(f"{address}%22%3E%3Cscript%3E%00" + "x" * 3000).text
    assert "<script>x" not in evil and "x" * 401 not in evil


def test_the_page_says_why_once_and_leads_to_the_runner_that_it_names(
    cast: Cast, task: Task, runner: Runner, browser: Callable[..., Client]
) -> None:
    hear(runner)
    Runner.objects.update(last_heartbeat_at=timezone.now() - timedelta(minutes=12))
    for number in range(6):
        hear(another(cast, f"mac-{number}", ["macos"]))
    text = page_of(browser(cast.manager), task)
    why = ", the only runner that may take it, is offline, last heard 12 min ago."
    assert text.count(why) == 1
    assert f'href="/runners/{runner.pk}/">web-1</a>{why}' in text
    assert f'id="act-look" href="/runners/{runner.pk}/">Diagnose web-1</a>' in text
    assert ">for linux</span>" in text  # in the timeline
    assert "0 of 7 can take it" in text and "3 more lack linux" in text
    assert f'href="/projects/{cast.project.pk}/queue/">Show the queue</a>' in text


def test_the_only_runner_that_never_connected_is_set_up_by_who_may(
    cast: Cast, task: Task, runner: Runner, browser: Callable[..., Client]
) -> None:
    set_up = f'id="act-look" href="/runners/{runner.pk}/rotate/">Set up web-1</a>'
    assert set_up in page_of(browser(cast.manager), task)
    diagnose = f'id="act-look" href="/runners/{runner.pk}/">Diagnose web-1</a>'
    assert diagnose in page_of(browser(cast.operator), task)


def test_what_waits_for_approval_does_not_claim_to_start_by_itself(
    cast: Cast, task: Task, browser: Callable[..., Client]
) -> None:
    client = browser(cast.manager)
    assert "The task starts by itself" in page_of(client, task)
    Task.objects.filter(pk=task.pk).update(state=TaskState.AWAITING_APPROVAL)
    text = page_of(client, task)
    assert "It waits until somebody approves it." in text and ">for approval</span>" in text
    assert "starts by itself" not in text and "Add a runner" not in text

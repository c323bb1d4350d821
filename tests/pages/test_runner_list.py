"""A project's runners: what is looked for, and how long tasks wait by what they need."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client
from django.utils import timezone

from runners.models import Runner, Tag
from runners.operations import queue_for, tags_named
from tasks.models import Task, TaskTemplate
from tests.cast import Cast

pytestmark = pytest.mark.django_db


@pytest.fixture
def reader(cast: Cast) -> Client:
    client = Client()
    client.force_login(cast.viewer)
    return client


def more(cast: Cast, name: str, *tags: str, online: bool = False, **fields: Any) -> Runner:
    now = timezone.now()
    if online:
        fields |= {"session": "one", "connected_at": now, "last_heartbeat_at": now}
    runner = Runner.objects.create(project=cast.project, name=name, **fields)
    runner.tags.set(tags_named(project=cast.project, names=tags))
    return runner


def names(text: str) -> list[str]:
    return re.findall(r'class="name" id="runner-\d+"[^>]*>([^<]+)<', text)


def test_the_list_is_narrowed_and_keeps_its_address(
    cast: Cast, runner: Runner, reader: Client
) -> None:
    more(cast, "gpu-1", "gpu", online=True, version="2.0", address="10.0.0.9")
    more(cast, "gpu-2", "gpu")
    Runner.objects.update(created_at=timezone.now() - timedelta(hours=2))
    path = f"/projects/{cast.project.pk}/runners/"
    for query, expected in [
        ("?tag=gpu", ["gpu-2", "gpu-1"]),
        ("?status=ready", ["gpu-1"]),
        ("?status=trouble", ["gpu-2", "web-1"]),
        ("?status=idle", ["gpu-1"]),
        ("?version=2.0", ["gpu-1"]),
        ("?q=10.0.0", ["gpu-1"]),
        ("?q=GPU&status=never_contacted", ["gpu-2"]),
        ("?status=nonsense&q=gpu", ["gpu-2", "gpu-1"]),
        ("?project=99999", ["gpu-2", "web-1", "gpu-1"]),
    ]:
        for part in ("", "&part=live"):
            assert names(reader.get(f"{path}{query}{part}").text) == expected, query
    text = reader.get(f"{path}?tag=gpu").text
    assert "?part=live&amp;tag=gpu" in text
    assert "No runner matches" in reader.get(f"{path}?q=nothing").text
    # What stands above is the whole fleet's.
    assert "1 of 3 is ready for tasks." in text


@pytest.mark.parametrize("path", ["/projects/{pk}/runners/", "/runners/"])
def test_a_status_that_there_is_not_is_left_aside_and_said(
    path: str, cast: Cast, runner: Runner, reader: Client
) -> None:
    text = reader.get(f"{path.format(pk=cast.project.pk)}?status=foo").text
    assert "Not understood in the address, and left aside:" in text
    assert "foo is not known here. Use trouble, ready, out, unhealthy," in text
    assert names(text) == ["web-1"] and "No runner matches" not in text
    assert "Not understood" not in reader.get(f"{path.format(pk=cast.project.pk)}?status=out").text


def test_the_sentence_and_the_filter_count_who_is_ready_alike(
    cast: Cast, runner: Runner, running_task: Task, reader: Client
) -> None:
    """Ready is one that is busy to its last slot too."""
    more(cast, "gpu-1", "gpu", online=True)
    now = timezone.now()
    beat = {"session": "one", "connected_at": now, "last_heartbeat_at": now}
    Runner.objects.filter(pk=runner.pk).update(concurrency=1, **beat)
    text = reader.get(f"/projects/{cast.project.pk}/runners/").text
    assert "2 of 2 are ready for tasks. 1 of them has no free slot." in text
    assert re.search(r"status=ready[^>]*>Ready\s*<[^>]*>2<", text)


def test_the_sentence_leaves_out_nobody_who_takes_no_tasks(
    cast: Cast, runner: Runner, reader: Client
) -> None:
    now = timezone.now()
    more(cast, "gpu-1", online=True, is_draining=True, drain_order="owner: Kernel update")
    more(cast, "gpu-2", online=True, paused_at=now, paused_by=cast.owner, pause_reason="Update")
    Runner.objects.filter(pk=runner.pk).update(created_at=now - timedelta(hours=2))
    text = reader.get(f"/projects/{cast.project.pk}/runners/").text
    told = "0 of 3 are ready for tasks. 1 needs attention. 1 is paused. 1 is being drained."
    assert told in text


def test_a_filter_holds_on_the_next_page(cast: Cast, reader: Client) -> None:
    for number in range(30):
        more(cast, f"gpu-{number}", "gpu")
    text = reader.get(f"/projects/{cast.project.pk}/runners/?tag=gpu").text
    assert len(names(text)) == 25 and 'href="?tag=gpu&amp;page=2"' in text


def test_waits_are_told_by_tag_the_stuck_first(
    cast: Cast, runner: Runner, task: Task, template: TaskTemplate, reader: Client
) -> None:
    cache.clear()
    now = timezone.now()
    more(cast, "gpu-1", "gpu", online=True)
    Task.objects.filter(pk=task.pk).update(queued_at=now - timedelta(minutes=12))
    gpu = queue_for(project=cast.project, tags=[Tag.objects.get(name="gpu")])
    for wait in (2, 4, 60):
        claimed = now - timedelta(minutes=5)
        done = Task.objects.get(pk=task.pk)
        done.pk, done.queue, done.state, done.runner = None, gpu, "succeeded", runner
        done.claimed_at = done.started_at = done.finished_at = claimed
        done.is_exclusive, done.reason = False, "Exit status 0."
        done.nonce = f"{wait:022}"
        done.save()
        # Its first attempt was made long before and ran: that is no wait.
        moments = {"created_at": claimed - timedelta(minutes=50), "attempt": 2}
        moments |= {"queued_at": claimed - timedelta(seconds=wait), "max_attempts": 3}
        rows = Task.objects.filter(pk=done.pk)
        rows.update(**moments, lost_runner_policy="retry")
    text = reader.get(f"/projects/{cast.project.pk}/runners/").text
    strip = text[text.index("Queue wait by tag") : text.index("</ul>", text.index("Queue wait"))]
    said = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", strip))
    assert re.search(r"linux 12 min oldest 1 waiting, no online runner", said), said
    assert re.search(r"gpu 4 s median none waiting, 1 runner", said), said
    assert said.index("linux") < said.index("gpu")


def out_for(cast: Cast, *runners: Runner, status: str) -> None:
    """Runners with the tag of the task that waits, online but for what is said."""
    now = timezone.now()
    heard: dict[str, Any] = {"session": "one", "connected_at": now, "last_heartbeat_at": now}
    more_said: dict[str, dict[str, Any]] = {
        "paused": {"paused_at": now, "paused_by": cast.owner, "pause_reason": "Upgrade"},
        "draining": {"is_draining": True, "drain_order": "order"},
        "offline": {"last_heartbeat_at": now - timedelta(hours=1)},
    }
    rows = Runner.objects.filter(pk__in=[one.pk for one in runners])
    rows.update(**heard | more_said[status])


def waits_of(reader: Client, cast: Cast) -> tuple[str, str]:
    """What stands at the tag `linux`, and the colour that it stands in."""
    cache.clear()
    text = reader.get(f"/projects/{cast.project.pk}/runners/").text
    found = re.search(r"\?tag=linux.*?<p(?: class=\"(\w+)\")?>([^<]*)</p>", text, re.DOTALL)
    assert found, text
    return found[2], found[1] or ""


def overview_of(reader: Client, cast: Cast) -> str:
    return str(reader.get(f"/projects/{cast.project.pk}/").context["sentence"])


def test_runners_that_were_taken_out_of_service_are_not_called_offline(
    cast: Cast, runner: Runner, task: Task, reader: Client
) -> None:
    Runner.objects.filter(pk=runner.pk).update(takes_untagged=False)
    gpu = more(cast, "gpu-1", "gpu", takes_untagged=False)
    out_for(cast, runner, gpu, status="paused")
    assert waits_of(reader, cast) == ("1 waiting, its only runner is paused", "warn")
    assert overview_of(reader, cast).endswith("1 waits. Both runners are paused.")
    second, third = (more(cast, name, "linux", takes_untagged=False) for name in ("w2", "w3"))
    out_for(cast, second, third, status="paused")
    assert waits_of(reader, cast) == ("1 waiting, all 3 are paused", "warn")
    out_for(cast, third, status="draining")
    said = "2 paused and 1 draining"
    assert waits_of(reader, cast) == (f"1 waiting, no runner takes it: {said}", "warn")
    assert overview_of(reader, cast).endswith("No runner takes tasks: 3 paused and 1 draining.")


def test_one_offline_runner_beside_paused_ones_is_an_alarm(
    cast: Cast, runner: Runner, task: Task, reader: Client
) -> None:
    gpu, second = more(cast, "gpu-1", "gpu"), more(cast, "w2", "linux")
    out_for(cast, runner, gpu, status="paused")
    out_for(cast, second, status="offline")
    said = "1 waiting, no runner takes it: 1 paused and 1 offline"
    assert waits_of(reader, cast) == (said, "bad")
    assert overview_of(reader, cast).endswith("No runner takes tasks: 2 paused and 1 offline.")
    out_for(cast, runner, gpu, status="offline")
    Runner.objects.update(paused_at=None, paused_by=None, pause_reason="")
    assert waits_of(reader, cast) == ("1 waiting, no online runner", "bad")
    assert overview_of(reader, cast).endswith("No runner is online.")


def test_a_runners_page_says_how_it_did_of_late(
    cast: Cast, runner: Runner, task: Task, reader: Client
) -> None:
    cache.clear()
    now = timezone.now()
    rows = Runner.objects.filter(pk=runner.pk)
    rows.update(session="one", last_heartbeat_at=now, created_at=now - timedelta(days=2))
    page = f"/runners/{runner.pk}/"
    assert "none ended" in reader.get(page).text
    cache.clear()
    for state in ("succeeded", "failed", "failed", "lost"):
        done = Task.objects.get(pk=task.pk)
        done.pk, done.state, done.runner, done.is_exclusive = None, state, runner, False
        done.claimed_at = done.started_at = now - timedelta(hours=2)
        done.finished_at, done.reason = now - timedelta(hours=1), "It ended."
        done.save()
    said = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", reader.get(page).text))
    assert "4 ended, 3 failed" in said and 'class="bad"' in reader.get(page).text
    # Four hours, of slots that are there for 23 to 24: a period begins with a whole hour.
    slots = Runner.objects.get(pk=runner.pk).slots
    found = re.search(r"In use, 24 h (\d+) %", said)
    assert found, said
    assert 400 / (24 * slots) - 1 < int(found[1]) < 400 / (23 * slots) + 1


@pytest.mark.parametrize(
    ("told", "short"),
    [
        ("Debian GNU/Linux 12 (bookworm) x86_64, Python 3.11.7", "Debian 12 x86_64"),
        ("Ubuntu 22.04.4 LTS aarch64, Python 3.12.1", "Ubuntu 22.04.4 LTS aarch64"),
        ("Rocky Linux 9.3 (Blue Onyx) x86_64, Python 3.11.5", "Rocky Linux 9.3 x86_64"),
        ("Linux riscv64, Python 3.13.0", "Linux riscv64"),
        ("macOS-14.4 arm64, Python 3.11.7", "macOS-14.4 arm64"),
        ("something (that was cut", "something (that was cut"),
    ],
)
def test_lists_say_the_system_in_short_and_the_runners_page_in_full(
    told: str, short: str, cast: Cast, runner: Runner, reader: Client
) -> None:
    Runner.objects.filter(pk=runner.pk).update(system=told)
    for address in (f"/projects/{cast.project.pk}/runners/", "/runners/"):
        text = reader.get(address).text
        assert f'<span class="two" title="{told}">{short}</span>' in text, address
    assert f"<dd>{told}</dd>" in reader.get(f"/runners/{runner.pk}/").text

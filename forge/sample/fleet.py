"""Tags, queues, runners with their tokens, registration tokens, templates."""

from __future__ import annotations

import math
from datetime import timedelta

from forge.sample.scene import Place, Scene, by_weight, insert
from forge.sample.words import HOSTS, JOBS, PAUSE_REASONS, SYSTEMS, TAGS, VERSIONS
from runners.models import Queue, RegistrationToken, Runner, RunnerToken, Tag
from tasks.models import App, TaskTemplate
from tasks.policies import LostRunnerPolicy

# What a template may require; the runners are given at least one of these sets.
TAG_SETS: tuple[frozenset[str], ...] = (
    frozenset(),
    frozenset({"linux"}),
    frozenset({"linux", "ansible"}),
    frozenset({"linux", "database"}),
    frozenset({"linux", "dmz"}),
)

Tags = dict[tuple[int, str], Tag]


def runners(scene: Scene, places: list[Place], count: int) -> None:
    """At least one of each project, as long as there are enough; the rest by weight."""
    first = places[:count]
    rest = scene.dice.choices(places, by_weight(len(places)), k=max(count - len(places), 0))
    rows = []
    for number, place in enumerate([*first, *rest]):
        row = _runner(scene, place, number)
        place.runners.append(row)
        rows.append(row)
    insert(Runner, rows)
    ages = [scene.earlier() for _ in rows]
    insert(
        RunnerToken,
        [
            RunnerToken(runner=row, digest=scene.digest(), created_at=age, last_used_at=scene.now)
            for row, age in zip(rows, ages, strict=True)
        ],
    )


def _runner(scene: Scene, place: Place, number: int) -> Runner:
    dice = scene.dice
    name = f"{dice.choice(HOSTS)}-{len(place.runners) + 1}"
    row = Runner(project=place.project, name=name, concurrency=dice.choice((2, 4, 4, 8)))
    row.created_by = place.members[0]
    luck = dice.random()
    if luck < 0.01:
        return row  # added, and never started
    row.session, row.instance = scene.digest(), scene.digest()
    row.connected_at = scene.now - timedelta(days=dice.uniform(0, 20))
    row.last_heartbeat_at = scene.now
    row.version, row.system = dice.choice(VERSIONS), dice.choice(SYSTEMS)
    row.host_name = f"{name}.{place.project.pk}.example.net"
    row.address = f"10.{number // 65025 % 255}.{number // 255 % 255}.{number % 255 + 1}"
    if luck < 0.04:
        row.last_heartbeat_at = scene.now - timedelta(minutes=dice.uniform(5, 5000))
    elif luck < 0.07:
        row.paused_at, row.paused_by = scene.now - timedelta(hours=2), place.members[0]
        row.pause_reason = dice.choice(PAUSE_REASONS)
    return row


def tags(scene: Scene, places: list[Place]) -> Tags:
    """The tags of every project, by project and name, and which runners have them."""
    made = insert(Tag, [Tag(project=place.project, name=name) for place in places for name in TAGS])
    found = {(tag.project_id, tag.name): tag for tag in made}
    links = []
    for place in places:
        for runner in place.runners:
            names = scene.dice.choice(TAG_SETS[1:]) | {scene.dice.choice(TAGS)}
            place.tags[runner.pk] = names
            links += [(runner.pk, found[place.project.pk, name].pk) for name in sorted(names)]
    through = Runner.tags.through
    insert(through, [through(runner_id=runner, tag_id=tag) for runner, tag in links])
    return found


def templates(scene: Scene, places: list[Place], tags: Tags) -> None:
    """One for each of the usual jobs; each requires what some runner offers, where there is one."""
    queues = _queues(places, tags)
    rows, needs = [], []
    for place in places:
        for number, (name, description, script) in enumerate(JOBS):
            need = TAG_SETS[number % len(TAG_SETS)]
            able = [one for one in place.runners if need <= place.tags[one.pk]]
            need = need if able else frozenset()
            row = TaskTemplate(
                project=place.project, name=name, description=description, script=script,
                app=App.BASH, queue=queues[place.project.pk, need],
                allow_parallel=number % 4 != 1, timeout_seconds=3600,
            )  # fmt: skip
            if number % 4 == 0:
                row.safe_to_rerun, row.lost_runner_policy = True, LostRunnerPolicy.RETRY
            place.templates.append(row)
            rows.append(row)
            needs.append((place, able or place.runners, need))
    insert(TaskTemplate, rows)
    through = TaskTemplate.tags.through
    links = []
    for row, (place, able, need) in zip(rows, needs, strict=True):
        place.able[row.pk] = able
        links += [(row.pk, tags[place.project.pk, name].pk) for name in sorted(need)]
    insert(through, [through(tasktemplate_id=row, tag_id=tag) for row, tag in links])


def _queues(places: list[Place], tags: Tags) -> dict[tuple[int, frozenset[str]], Queue]:
    keys = [(place.project, need) for place in places for need in TAG_SETS]
    made = insert(Queue, [Queue(project=one, name=Queue.name_for(need)) for one, need in keys])
    through = Queue.tags.through
    links = [
        through(queue_id=queue.pk, tag_id=tags[project.pk, name].pk)
        for queue, (project, need) in zip(made, keys, strict=True)
        for name in sorted(need)
    ]
    insert(through, links)
    return {(one.pk, need): queue for queue, (one, need) in zip(made, keys, strict=True)}


def registration_tokens(scene: Scene, places: list[Place]) -> None:
    """One that works, one that has ended."""
    rows = []
    for place in places:
        for name, days in (("New rack", 5), ("Last move", -30)):
            ends = scene.now + timedelta(days=days)
            uses = min(math.ceil(len(place.runners) / 2), 100)
            row = RegistrationToken(project=place.project, name=name, digest=scene.digest())
            row.created_at, row.expires_at = ends - timedelta(days=14), ends
            row.created_by, row.max_uses, row.uses = place.members[0], 100, uses
            rows.append(row)
    insert(RegistrationToken, rows)

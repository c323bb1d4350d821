"""People, projects, members, access keys and variable groups."""

from __future__ import annotations

from datetime import timedelta

from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import User

from forge.sample.scene import Place, Scene, insert
from forge.sample.words import AREAS, FIRST_NAMES, LAST_NAMES, PLACES
from projects.errors import SecretsKeyError
from projects.models import AccessKey, Membership, Project, UserToken, VariableGroup
from projects.permissions import Role

MEMBERS = (4, 14)
_ROLES = (Role.MANAGER, Role.OPERATOR, Role.OPERATOR, Role.OPERATOR, Role.VIEWER)


def people(scene: Scene, projects: int) -> list[User]:
    """Users who cannot sign in: they have no password."""
    found = []
    for place in range(min(max(MEMBERS[1], projects * 2), len(FIRST_NAMES) * len(LAST_NAMES))):
        last, first = divmod(place, len(FIRST_NAMES))
        names = FIRST_NAMES[first], LAST_NAMES[last]
        name = f"{names[0]}.{names[1]}{scene.mark}".lower()
        user = User(username=name, first_name=names[0], last_name=names[1])
        user.email, user.password = f"{name}@example.org", make_password(None)
        found.append(user)
    return insert(User, found)


def projects(scene: Scene, count: int) -> list[Place]:
    """The first is the largest in everything."""
    rows = []
    for place in range(count):
        lap, area = divmod(place, len(AREAS))
        where = PLACES[lap % len(PLACES)] + (f" {lap}" if lap >= len(PLACES) else "")
        name = f"{AREAS[area]} {where}".strip() + scene.mark
        limit = 20 if place % 7 == 3 else 0
        row = Project(name=name, max_parallel_tasks=limit)
        row.description = f"Runs what {AREAS[area].lower()} needs"
        rows.append(row)
    return [Place(row) for row in insert(Project, rows)]


def members(scene: Scene, places: list[Place], users: list[User]) -> None:
    rows = []
    for place in places:
        place.members = scene.dice.sample(users, min(scene.dice.randint(*MEMBERS), len(users)))
        for number, user in enumerate(place.members):
            role = scene.dice.choice(_ROLES) if number else Role.OWNER
            rows.append(Membership(project=place.project, user=user, role=role))
    insert(Membership, rows)


def tokens(scene: Scene, users: list[User]) -> None:
    ends = (None, scene.now + timedelta(days=60), scene.now - timedelta(days=3))
    names = ("terminal", "pipeline")
    rows = [UserToken(user=user, name=name) for user in users for name in names]
    for row in rows:
        row.digest, row.expires_at = scene.digest(), scene.dice.choice(ends)
    insert(UserToken, rows)


def sources(scene: Scene, places: list[Place]) -> None:
    """Two access keys and two variable groups of each project."""
    keys, groups = [], []
    for place in places:
        keys += [_key(scene, place.project, name) for name in ("Registry", "Deploy host")]
        for name, region in (("Production", "eu-1"), ("Staging", "eu-2")):
            group = VariableGroup(project=place.project, name=name)
            group.variables = {"REGION": region, "RELEASE": "2026.11"}
            groups.append(group)
    insert(AccessKey, keys)
    insert(VariableGroup, groups)


def _key(scene: Scene, project: Project, name: str) -> AccessKey:
    """A secret text; without a key to encrypt it with, one that has no secret."""
    key = AccessKey(project=project, name=name, kind=AccessKey.Kind.STRING)
    try:
        key.seal({"value": scene.digest()}, now=scene.earlier())
    except SecretsKeyError:
        key.kind = AccessKey.Kind.NONE
    return key

"""Where the variables of a task come from, besides its template: variable groups, access keys.

A task notes which ones it was queued with; their values are read when a runner claims it, so
that a rotated secret takes effect at once. If one name is set in several places, the order is:
plain variables of groups, then the template's own environment, then secrets and access keys.
Entering such a thing is refused wherever a secret is involved or two groups disagree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from django.core.exceptions import ValidationError

from projects.errors import AccessKeyGoneError, VariableGroupGoneError
from projects.models import AccessKey, Project, VariableGroup
from projects.variables import is_shared_variable_name
from runners.worker.protocol import SecretFile
from tasks.errors import SourceConflictError, SourceUnknownError
from tasks.models import Task, TaskTemplate, TemplateAccessKey

MAXIMUM_VARIABLE_CHARACTERS = 80
OWN = "its own environment"
# What the process finds for a key that is given the name NAME.
SUFFIXES: dict[str, tuple[str, ...]] = {
    AccessKey.Kind.STRING: ("",),
    AccessKey.Kind.LOGIN_PASSWORD: ("_LOGIN", "_PASSWORD"),
    AccessKey.Kind.SSH: ("_FILE", "_LOGIN", "_PASSPHRASE"),
    AccessKey.Kind.NONE: (),
}


def names_of(kind: str, variable: str) -> list[str]:
    """The environment variables of an access key of this kind."""
    return [f"{variable}{suffix}" for suffix in SUFFIXES[kind]]


# --- what a template is given ---


def set_sources(
    template: TaskTemplate,
    *,
    groups: Iterable[int] | None,
    keys: Mapping[int, str] | None,
) -> None:
    """Give a stored template these groups, and these keys by variable name; None leaves them.

    Raises SourceUnknownError for what is not in its project; the caller checks for conflicts.
    """
    if groups is not None:
        found = _held(VariableGroup, template.project, groups, "variable group")
        template.variable_groups.set(found)
    if keys is not None:
        _held(AccessKey, template.project, keys, "access key")
        template.access_key_uses.all().delete()
        TemplateAccessKey.objects.bulk_create(
            TemplateAccessKey(template=template, access_key_id=pk, variable=variable)
            for pk, variable in keys.items()
        )


def _held(
    model: type[VariableGroup] | type[AccessKey], project: Project, ids: Iterable[int], what: str
) -> list[int]:
    """These ids, locked until the end of the transaction: no change passes unseen meanwhile."""
    wanted = set(ids)
    rows = model.objects.filter(project=project, pk__in=wanted).order_by("pk")
    found = list(rows.select_for_update().values_list("pk", flat=True))
    if missing := sorted(wanted - set(found)):
        raise SourceUnknownError(what, missing[0])
    return found


def hold_templates(**which: object) -> None:
    """Lock these templates until the end of the transaction; none for what is not stored yet.

    Whoever changes a template, or what templates draw on, locks the templates first and the
    sources after them; in any other order two of them could wait for each other.
    """
    if None in which.values():
        # Nothing can use it. The database would look for templates that use nothing at all, and
        # lock those of every project.
        return
    rows = TaskTemplate.objects.filter(**which).order_by("pk")
    list(rows.select_for_update(of=("self",)).values_list("pk", flat=True))


def check_key_variables(keys: Mapping[int, str]) -> None:
    """Raise ValidationError for a name that an access key cannot be given."""
    problems = []
    for name in keys.values():
        try:
            is_shared_variable_name(name)
            if len(name) > MAXIMUM_VARIABLE_CHARACTERS:
                raise ValidationError(f"{name[:40]}… has more than 80 characters.")
        except ValidationError as error:
            problems += error.messages
    if len(keys) > len(set(keys.values())):
        problems.append("Two access keys have the same variable name. Give each its own.")
    if problems:
        raise ValidationError({"access_keys": problems})


def check_conflicts(template: TaskTemplate) -> None:
    """Raise SourceConflictError if two places give one name to the template's process."""
    owners = dict.fromkeys(template.environment, OWN)
    for name, owner, is_secret in _given(template):
        before = owners.setdefault(name, owner)
        if before != owner and (is_secret or before != OWN):
            raise SourceConflictError(template.name, name, before, owner)


def _given(template: TaskTemplate) -> Iterator[tuple[str, str, bool]]:
    """(name, where it comes from, whether it is secret) of everything but its environment."""
    for group in template.variable_groups.prefetch_related("secrets"):
        owner = f"the variable group {group}"
        yield from ((name, owner, False) for name in group.variables)
        yield from ((name, owner, True) for name in group.secret_names)
    for use in template.access_key_uses.select_related("access_key"):
        owner = f"the access key {use.access_key}"
        names = names_of(use.access_key.kind, use.variable)
        yield from ((name, owner, True) for name in names)


def settle_sources(template: TaskTemplate) -> None:
    """Check for conflicts and note on the template what its tasks will note.

    To be called in the transaction that changed the template or what it draws on. Raises
    SourceConflictError.
    """
    check_conflicts(template)
    template.sources = Sources.of_template(template).as_json()
    TaskTemplate.objects.filter(pk=template.pk).update(sources=template.sources)


# --- what a task was queued with ---


@dataclass(frozen=True)
class GroupSource:
    """A variable group as it was: its id, its name, the names of its variables."""

    id: int
    name: str
    variables: list[str]
    secrets: list[str]


@dataclass(frozen=True)
class KeySource:
    """An access key as it was, and the name that its variables begin with."""

    id: int
    name: str
    kind: str
    variable: str

    @property
    def names(self) -> list[str]:
        return names_of(self.kind, self.variable)


@dataclass(frozen=True)
class Sources:
    """All of a task's; stored as JSON in `Task.sources`."""

    groups: list[GroupSource] = field(default_factory=list)
    keys: list[KeySource] = field(default_factory=list)

    @classmethod
    def of_template(cls, template: TaskTemplate) -> Sources:
        groups = template.variable_groups.prefetch_related("secrets")
        uses = template.access_key_uses.select_related("access_key")
        return cls(
            [GroupSource(g.pk, g.name, list(g.variables), g.secret_names) for g in groups],
            [
                KeySource(use.access_key_id, use.access_key.name, use.access_key.kind, use.variable)
                for use in uses
            ],
        )

    @classmethod
    def noted(cls, row: Task | TaskTemplate) -> Sources:
        """As they stand in the row of a task or template."""
        stored: dict[str, list[dict[str, Any]]] = row.sources
        return cls(
            [GroupSource(**group) for group in stored.get("groups", [])],
            [KeySource(**key) for key in stored.get("keys", [])],
        )

    def as_json(self) -> dict[str, Any]:
        return asdict(self) if self.groups or self.keys else {}


# --- what a runner receives ---


@dataclass
class Delivery:
    """Values for one claim's answer: environment by name, and secrets apart from it."""

    environment: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    files: list[SecretFile] = field(default_factory=list, repr=False)


def deliver(task: Task) -> Delivery:
    """Read the values of the task's sources as they are now.

    Raises VariableGroupGoneError, AccessKeyGoneError (removed since it was queued),
    SecretsKeyError and SecretUnreadableError.
    """
    sources = Sources.noted(task)
    delivery = Delivery()
    for group in _groups(task.project, sources.groups):
        delivery.environment.update(group.variables)
        delivery.secrets.update({row.name: row.open() for row in group.secrets.all()})
    delivery.environment.update(task.environment)
    for source, key in _keys(task.project, sources.keys):
        _deliver_key(delivery, key, source.variable)
    return delivery


def _groups(project: Project, sources: Sequence[GroupSource]) -> Iterator[VariableGroup]:
    if not sources:
        return
    rows = VariableGroup.objects.filter(project=project).prefetch_related("secrets")
    found = rows.in_bulk([source.id for source in sources])
    for source in sources:
        if source.id not in found:
            raise VariableGroupGoneError(source.name)
        yield found[source.id]


def _keys(project: Project, sources: Sequence[KeySource]) -> Iterator[tuple[KeySource, AccessKey]]:
    if not sources:
        return
    found = AccessKey.objects.filter(project=project).in_bulk([source.id for source in sources])
    for source in sources:
        if source.id not in found:
            raise AccessKeyGoneError(source.name)
        yield source, found[source.id]


def _deliver_key(delivery: Delivery, key: AccessKey, variable: str) -> None:
    parts = key.open()
    if key.needs_login:
        delivery.environment[f"{variable}_LOGIN"] = key.login
    if key.kind == AccessKey.Kind.SSH:
        delivery.files.append(SecretFile(f"{variable}_FILE", parts["private_key"]))
        if "passphrase" in parts:
            delivery.secrets[f"{variable}_PASSPHRASE"] = parts["passphrase"]
    elif key.kind == AccessKey.Kind.LOGIN_PASSWORD:
        delivery.secrets[f"{variable}_PASSWORD"] = parts["password"]
    elif key.kind == AccessKey.Kind.STRING:
        delivery.secrets[variable] = parts["value"]

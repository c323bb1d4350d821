"""What people do with projects and tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from projects.audit.entry import Verb
from projects.audit.recording import record, record_saved, secrets_just_set, snapshot
from projects.errors import (
    AccessKeyNameTakenError,
    ProjectNameTakenError,
    TooManyUserTokensError,
    VariableGroupNameTakenError,
)
from projects.models import (
    AccessKey,
    Membership,
    Project,
    SecretVariable,
    UserToken,
    VariableGroup,
)
from projects.names import name_as_stored
from projects.permissions import Role
from projects.tokens import USER_PREFIX, digest_of, new_token
from projects.variables import (
    MAXIMUM_VARIABLES,
    check_secret,
    is_shared_variable_name,
)
from projects.versions import held_to_version

if TYPE_CHECKING:
    from django.contrib.auth.models import User

MAXIMUM_USER_TOKENS = 50


@dataclass(frozen=True)
class NewUserToken:
    """A token's row and its clear text, which exists only here."""

    row: UserToken
    token: str = field(repr=False)


def create_project(
    *, name: str, description: str, owner: User, now: datetime, max_parallel_tasks: int = 0
) -> Project:
    """A new project with `owner` as its first member. Raises ProjectNameTakenError."""
    project = Project(
        name=name,
        description=description,
        max_parallel_tasks=max_parallel_tasks,
        created_at=now,
    )
    project.clean_fields()
    try:
        with transaction.atomic():
            project.save()
            Membership.objects.create(project=project, user=owner, role=Role.OWNER)
            record_saved(project, None)
    except IntegrityError as error:
        raise ProjectNameTakenError(name_as_stored(Project.objects.all(), name)) from error
    return project


def change_project(
    *, project: Project, changes: Mapping[str, object], version: str = ""
) -> Project:
    """Write the named fields and no others. Raises ProjectNameTakenError and ValidationError,
    and ChangedMeanwhileError if the project is not of this version (`projects.versions`).
    """
    for name, value in changes.items():
        setattr(project, name, value)
    project.clean_fields()
    try:
        with transaction.atomic(), held_to_version(project, version):
            before = snapshot(project)
            project.save(update_fields=list(changes))
            record_saved(project, before)
    except IntegrityError as error:
        others = Project.objects.exclude(pk=project.pk)
        raise ProjectNameTakenError(name_as_stored(others, project.name)) from error
    return project


def create_user_token(
    *,
    user: User,
    name: str,
    expires_at: datetime | None,
    now: datetime,
    by: UserToken | None = None,
) -> NewUserToken:
    """A new API token of `user`; the clear text is in the answer and nowhere else.

    `by` is the token that asks for it, if it is one: what a stolen token makes must not outlive
    it. Raises ValidationError and TooManyUserTokensError.
    """
    _check_end(expires_at, by, now=now)
    token = new_token(USER_PREFIX)
    row = UserToken(user=user, name=name, digest=digest_of(token), expires_at=expires_at)
    row.full_clean()
    with transaction.atomic():
        # Locked, so that two requests at once do not both take the last place.
        get_user_model().objects.select_for_update().get(pk=user.pk)
        if UserToken.objects.for_user(user).count() >= MAXIMUM_USER_TOKENS:
            raise TooManyUserTokensError(MAXIMUM_USER_TOKENS)
        row.save()
        record_saved(row, None)
    return NewUserToken(row, token)


def _check_end(expires_at: datetime | None, by: UserToken | None, *, now: datetime) -> None:
    """Raises ValidationError for a token that has ended already or would outlive its maker."""
    if expires_at is not None and expires_at <= now:
        raise ValidationError({"expires_at": "Choose a time in the future."})
    limit = by.expires_at if by is not None else None
    if limit is not None and (expires_at is None or expires_at > limit):
        raise ValidationError(
            {
                "expires_at": f"The token that you are using ends at {limit.isoformat()}, and one "
                "that is made with it may not outlive it. Sign in to make one that lasts longer."
            }
        )


def revoke_user_token(*, token: UserToken) -> bool:
    """It opens nothing from now on; False if it was revoked before.

    The row goes: only the audit log remembers it.
    """
    with transaction.atomic():
        revoked, _ = UserToken.objects.filter(pk=token.pk).delete()
        if revoked:
            record(Verb.REVOKED, token, detail=f"It belonged to {token.user.get_username()}.")
    return bool(revoked)


# --- access keys and variable groups ---
# Templates that use them are known only to `tasks.operations`, which calls these.


def write_access_key(*, key: AccessKey, parts: Mapping[str, str], now: datetime) -> AccessKey:
    """Store a new or changed access key. `parts` is its new secret; empty leaves the old one.

    Raises ValidationError, AccessKeyNameTakenError and SecretsKeyError.
    """
    key.clean_fields(exclude=("secret",))
    if key.login and not key.needs_login:
        raise ValidationError({"login": "Only SSH keys and logins with password have a login."})
    if parts:
        key.seal(_checked_parts(key, parts), now=now)
    elif key.secret is None and AccessKey.PARTS[key.kind]:
        raise ValidationError({AccessKey.PARTS[key.kind][0]: "Enter the secret."})
    try:
        with transaction.atomic():
            before = snapshot(key)
            key.save()
            what = "set" if before is None else "replaced"
            record_saved(key, before, secrets=dict.fromkeys(parts, what))
    except IntegrityError as error:
        others = AccessKey.objects.filter(project=key.project).exclude(pk=key.pk)
        raise AccessKeyNameTakenError(name_as_stored(others, key.name)) from error
    return key


def is_secret_of(key: AccessKey, parts: Mapping[str, str]) -> bool:
    """Whether these parts are what whoever acts has just stored.

    Nobody else is told: the answer would say whether a guess is right. Raises what
    `write_access_key` does.
    """
    checked = _checked_parts(key, parts)
    if not secrets_just_set(key):
        return False
    return AccessKey.objects.get(pk=key.pk).open() == checked


def _checked_parts(key: AccessKey, parts: Mapping[str, str]) -> dict[str, str]:
    """The parts of this kind of key, each fit to be delivered and masked."""
    wanted = AccessKey.PARTS[key.kind]
    found: dict[str, str] = {}
    for name in parts.keys() - set(wanted):
        kind = AccessKey.Kind(key.kind).label
        raise ValidationError({name: f"A key of the kind {kind} has no such secret."})
    for name in wanted:
        text = parts.get(name, "")
        if text:
            found[name] = _checked_part(name, text)
        elif name not in AccessKey.OPTIONAL_PARTS:
            raise ValidationError({name: "Enter the secret."})
    return found


def _checked_part(name: str, text: str) -> str:
    text = _private_key(text) if name == "private_key" else text
    try:
        check_secret(name.replace("_", " ").capitalize(), text)
    except ValidationError as error:
        raise ValidationError({name: error.messages}) from None
    return text


def _private_key(text: str) -> str:
    """As OpenSSH reads it: line ends of Unix, one at the end. Raises ValidationError."""
    lines = [line.rstrip() for line in text.strip().splitlines()]
    if len(lines) < 3 or "PRIVATE KEY-----" not in lines[0] or not lines[-1].startswith("-----END"):
        raise ValidationError(
            {
                "private_key": "This is not a private key: it begins with a line such as "
                "-----BEGIN OPENSSH PRIVATE KEY----- and ends with -----END. "
                "Paste the whole file, not the .pub file beside it."
            }
        )
    return "\n".join(lines) + "\n"


def write_variable_group(
    *, group: VariableGroup, secrets: Mapping[str, str | None], now: datetime
) -> VariableGroup:
    """Store a new or changed group. `secrets` names those to set (a text) and to remove (None).

    Raises ValidationError, VariableGroupNameTakenError and SecretsKeyError.
    """
    group.clean_fields()
    _check_secrets(secrets)
    try:
        with transaction.atomic():
            before = snapshot(group)
            group.save()
            became = _write_secrets(group, secrets, now=now)
            _check_names(group)
            record_saved(group, before, secrets=became)
    except IntegrityError as error:
        others = VariableGroup.objects.filter(project=group.project).exclude(pk=group.pk)
        raise VariableGroupNameTakenError(name_as_stored(others, group.name)) from error
    return group


def _check_secrets(secrets: Mapping[str, str | None]) -> None:
    problems = []
    for name, text in secrets.items():
        try:
            is_shared_variable_name(name)
            if text is not None:
                check_secret(name, text)
        except ValidationError as error:
            problems += error.messages
    if problems:
        raise ValidationError({"secrets": problems})


def _write_secrets(
    group: VariableGroup, secrets: Mapping[str, str | None], *, now: datetime
) -> dict[str, str]:
    """Returns by name what became of each: set, replaced or removed."""
    became: dict[str, str] = {}
    for name, text in secrets.items():
        rows = SecretVariable.objects.filter(group=group, name=name)
        found = rows.first()
        if text is None:
            rows.delete()
            became |= {name: "removed"} if found else {}
            continue
        row = found or SecretVariable(group=group, name=name)
        row.seal(text, now=now)
        row.save()
        became[name] = "replaced" if found else "set"
    return became


def unlike_stored(group: VariableGroup, secrets: Mapping[str, str | None]) -> dict[str, str | None]:
    """Of `secrets`, as `write_variable_group` takes them, those that would change something.

    Compared are those alone that whoever acts has just stored: the answer would tell others
    whether a guess is right.
    """
    stored = {row.name: row for row in group.secrets.all()}
    own = secrets_just_set(group)
    return {
        name: text
        for name, text in secrets.items()
        if not _is_stored(stored.get(name), text, is_own=name in own)
    }


def _is_stored(row: SecretVariable | None, text: str | None, *, is_own: bool) -> bool:
    if text is None:
        return row is None
    return is_own and row is not None and row.open() == text


def _check_names(group: VariableGroup) -> None:
    """After writing, so that nobody can add the other half meanwhile."""
    names = list(group.secrets.values_list("name", flat=True))
    if len(names) > MAXIMUM_VARIABLES:
        raise ValidationError({"secrets": f"At most {MAXIMUM_VARIABLES} secrets are possible."})
    if both := sorted(group.variables.keys() & set(names)):
        raise ValidationError(
            {"secrets": f"{both[0]} is both a plain and a secret variable. Remove one of the two."}
        )

"""docs/api.md names every field and every code that the API answers with."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from rest_framework.serializers import Serializer

from forge.api.access_keys import AccessKeySerializer
from forge.api.audit import AuditEntrySerializer
from forge.api.members import MemberSerializer
from forge.api.projects import ProjectSerializer
from forge.api.queue import WaitingSerializer
from forge.api.registration_tokens import RegistrationTokenSerializer
from forge.api.runners import RunnerSerializer
from forge.api.tasks import AttemptSerializer, OneTaskSerializer
from forge.api.templates import TemplateSerializer
from forge.api.tokens import UserTokenSerializer
from forge.api.variable_groups import VariableGroupSerializer
from projects.api_errors import _code_of
from projects.errors import ForgeError

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "api.md").read_text()
DOCS = re.sub(r"(?ms)^```.*?^```$", "", TEXT)
TOLD: dict[str, tuple[type[Serializer[Any]], ...]] = {
    "**Project**": (ProjectSerializer,),
    "**Template**": (TemplateSerializer,),
    "**Access key**": (AccessKeySerializer,),
    "**Variable group**": (VariableGroupSerializer,),
    "**Task**": (OneTaskSerializer, AttemptSerializer, WaitingSerializer),
    "**Runner**": (RunnerSerializer,),
    "**Registration token**": (RegistrationTokenSerializer,),
    "**API token**": (UserTokenSerializer,),
    "**Member**": (MemberSerializer,),
    "## Audit log": (AuditEntrySerializer,),
}
# Errors that no address of the API can meet, and bases of others.
ELSEWHERES = {
    "audit_log", "secret_unreadable", "access_key_gone", "variable_group_gone", "runner_in_use",
    "runner_quarantined", "broker_unavailable", "broker_unsuitable", "tunnel_refused",
    "tunnel_abused", "token_not_new", "registration_refused", "template_not_runnable",
    "claim_refused", "not_now", "not_its_turn", "undeliverable", "account_in_use",
    "password_meanwhile", "name_taken",
}  # fmt: skip


def words_of(beginning: str) -> set[str]:
    """All that is written as code in the paragraph, or under the heading, that begins so."""
    _, _, rest = DOCS.partition(f"\n{beginning}")
    end = r"\n\n## " if beginning.startswith("#") else r"\n\n"
    paragraph = re.split(end, rest, maxsplit=1)[0]
    return set(re.findall(r"[a-z_0-9]+", " ".join(re.findall(r"`([^`]+)`", paragraph))))


@pytest.mark.parametrize("beginning", TOLD)
def test_every_field_is_told(beginning: str) -> None:
    fields = {str(name) for kind in TOLD[beginning] for name in kind().fields}
    assert sorted(fields - words_of(beginning)) == []


def errors_of(base: type[ForgeError]) -> set[type[ForgeError]]:
    found = set(base.__subclasses__())
    return found.union(*(errors_of(one) for one in found))


def test_every_code_is_told() -> None:
    kinds = (kind for kind in errors_of(ForgeError) if not kind.__module__.startswith("tests"))
    codes = {_code_of(kind.__new__(kind)) for kind in kinds}
    assert sorted(codes - ELSEWHERES - words_of("## Errors")) == []

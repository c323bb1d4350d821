"""Variable groups: list, create, read, change, remove. Secrets go in and never come out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.utils import timezone
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers, status
from rest_framework.generics import ListAPIView
from rest_framework.response import Response

from forge.api.base import ApiView, found
from forge.api.errors import ERRORS
from forge.api.parsing import StrictMixin
from forge.api.versions import IF_MATCH, OUTDATED, version_wanted, with_version
from projects.models import VariableGroup
from projects.permissions import Action
from projects.variables import MAXIMUM_VARIABLES, is_shared_environment
from tasks.operations import remove_variable_group, save_variable_group
from tasks.sources import hold_templates

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from rest_framework.request import Request


@extend_schema_field({"type": "object", "additionalProperties": {"type": "string"}})
class VariablesField(serializers.JSONField):
    """Names and values of plain variables."""


@extend_schema_field(
    {"type": "object", "additionalProperties": {"type": "string", "nullable": True}}
)
class SecretsField(serializers.JSONField):
    """Secrets by name: a text sets or replaces one, null removes it, others stay."""

    def __init__(self, **options: Any) -> None:
        super().__init__(write_only=True, required=False, validators=[_are_secrets], **options)


def _are_secrets(value: object) -> None:
    if not isinstance(value, dict) or not all(
        text is None or isinstance(text, str) for text in value.values()
    ):
        raise serializers.ValidationError(
            'Give an object of names and texts, such as {"API_TOKEN": "…"}; null removes one.'
        )
    if len(value) > MAXIMUM_VARIABLES:
        raise serializers.ValidationError(f"At most {MAXIMUM_VARIABLES} secrets are possible.")


class VariableGroupSerializer(StrictMixin, serializers.ModelSerializer[VariableGroup]):
    variables = VariablesField(required=False, validators=[is_shared_environment])
    secrets = SecretsField()
    secret_names = serializers.ListField(child=serializers.CharField(), read_only=True)

    problem = serializers.CharField(
        read_only=True, help_text="Why a stored secret cannot be read; empty if all can."
    )

    class Meta:
        model = VariableGroup
        fields = ("id", "name", "description", "variables", "secrets", "secret_names", "problem")
        validators: tuple[()] = ()


class VariableGroupList(ApiView, ListAPIView[VariableGroup]):
    serializer_class = VariableGroupSerializer

    def get_queryset(self) -> QuerySet[VariableGroup]:
        rows = VariableGroup.objects.for_user(self.user).filter(project_id=self.kwargs["pk"])
        return rows.prefetch_related("secrets")

    @extend_schema(
        operation_id="list_variable_groups", responses={200: VariableGroupSerializer, **ERRORS}
    )
    def get(self, request: Request, pk: int) -> Response:
        """The project's variable groups: plain variables with values, secrets by name."""
        self.project(pk, Action.PROJECT_VIEW)
        return self.list(request)

    @extend_schema(
        operation_id="create_variable_group",
        request=VariableGroupSerializer,
        responses={201: VariableGroupSerializer, **ERRORS},
    )
    def post(self, request: Request, pk: int) -> Response:
        """A new variable group."""
        project = self.project(pk, Action.CREDENTIAL_CHANGE)
        given = self.checked(VariableGroupSerializer).validated_data
        secrets = given.pop("secrets", {})
        group = VariableGroup(project=project, **given)
        save_variable_group(group=group, secrets=secrets, now=timezone.now())
        return Response(VariableGroupSerializer(group).data, status=status.HTTP_201_CREATED)


class VariableGroupDetail(ApiView):
    serializer_class = VariableGroupSerializer

    def _group(self, pk: int, action: Action, *, lock: bool = False) -> VariableGroup:
        rows = VariableGroup.objects.for_user(self.user).select_related("project")
        group = found(rows.select_for_update(of=("self",)) if lock else rows, pk)
        self.demand(group.project, action)
        return group

    @extend_schema(
        operation_id="read_variable_group", responses={200: VariableGroupSerializer, **ERRORS}
    )
    def get(self, request: Request, pk: int) -> Response:
        """One variable group: plain variables with values, secrets by name."""
        group = self._group(pk, Action.PROJECT_VIEW)
        return with_version(group, VariableGroupSerializer)

    @extend_schema(
        operation_id="change_variable_group",
        parameters=[IF_MATCH],
        request=VariableGroupSerializer(partial=True),
        responses={200: VariableGroupSerializer, **ERRORS, **OUTDATED},
    )
    def patch(self, request: Request, pk: int) -> Response:
        """Changes the fields that the body names: `variables` as a whole, `secrets` one by one.
        Tasks that were queued before and are not yet claimed get the new values."""
        with transaction.atomic():
            hold_templates(variable_groups=pk)
            group = self._group(pk, Action.CREDENTIAL_CHANGE, lock=True)
            given = self.checked(VariableGroupSerializer, group).validated_data
            secrets = given.pop("secrets", {})
            for name, value in given.items():
                setattr(group, name, value)
            version = version_wanted(request)
            save_variable_group(group=group, secrets=secrets, now=timezone.now(), version=version)
            return with_version(group, VariableGroupSerializer)

    @extend_schema(operation_id="remove_variable_group", responses={204: None, **ERRORS})
    def delete(self, request: Request, pk: int) -> Response:
        """Deletes the group and its secrets; 409 while templates use it."""
        remove_variable_group(group=self._group(pk, Action.CREDENTIAL_CHANGE))
        return Response(status=status.HTTP_204_NO_CONTENT)

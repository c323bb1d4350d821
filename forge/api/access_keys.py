"""Access keys: list, create, read, change, remove. Their secrets go in and never come out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.exceptions import ValidationError
from rest_framework.generics import ListAPIView
from rest_framework.response import Response

from forge.api.base import ApiView, found
from forge.api.errors import ERRORS
from forge.api.parsing import StrictMixin
from forge.api.versions import IF_MATCH, OUTDATED, version_wanted, with_version
from projects.models import AccessKey
from projects.permissions import Action
from projects.variables import MAXIMUM_VALUE_CHARACTERS
from tasks.operations import remove_access_key, save_access_key
from tasks.sources import hold_templates

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from rest_framework.request import Request


class SecretText(serializers.CharField):
    """Taken byte for byte, and never part of an answer."""

    def __init__(self, **options: Any) -> None:
        options |= {"write_only": True, "required": False, "trim_whitespace": False}
        super().__init__(max_length=MAXIMUM_VALUE_CHARACTERS, **options)


class AccessKeySerializer(StrictMixin, serializers.ModelSerializer[AccessKey]):
    private_key = SecretText(help_text="Of an SSH key: the whole file. With it `passphrase`.")
    passphrase = SecretText()
    password = SecretText(help_text="Of a login with password.")
    value = SecretText(help_text="Of a secret text.")

    problem = serializers.CharField(
        read_only=True, help_text="Why the stored secret cannot be read; empty if it can."
    )

    class Meta:
        model = AccessKey
        fields = (
            "id",
            "name",
            "kind",
            "login",
            "secret_changed_at",
            "problem",
            *AccessKey.ALL_PARTS,
        )
        read_only_fields = ("id", "secret_changed_at")
        validators: tuple[()] = ()


class AccessKeyList(ApiView, ListAPIView[AccessKey]):
    serializer_class = AccessKeySerializer

    def get_queryset(self) -> QuerySet[AccessKey]:
        return AccessKey.objects.for_user(self.user).filter(project_id=self.kwargs["pk"])

    @extend_schema(operation_id="list_access_keys", responses={200: AccessKeySerializer, **ERRORS})
    def get(self, request: Request, pk: int) -> Response:
        """The project's access keys, without their secrets."""
        self.project(pk, Action.PROJECT_VIEW)
        return self.list(request)

    @extend_schema(
        operation_id="create_access_key",
        request=AccessKeySerializer,
        responses={201: AccessKeySerializer, **ERRORS},
    )
    def post(self, request: Request, pk: int) -> Response:
        """A new access key. Its secret can be replaced later, and never be read."""
        project = self.project(pk, Action.CREDENTIAL_CHANGE)
        given = self.checked(AccessKeySerializer).validated_data
        parts = _taken_out(given)
        key = AccessKey(project=project, **given)
        save_access_key(key=key, parts=parts, now=timezone.now())
        return Response(AccessKeySerializer(key).data, status=status.HTTP_201_CREATED)


class AccessKeyDetail(ApiView):
    serializer_class = AccessKeySerializer

    def _key(self, pk: int, action: Action, *, lock: bool = False) -> AccessKey:
        rows = AccessKey.objects.for_user(self.user).select_related("project")
        key = found(rows.select_for_update(of=("self",)) if lock else rows, pk)
        self.demand(key.project, action)
        return key

    @extend_schema(operation_id="read_access_key", responses={200: AccessKeySerializer, **ERRORS})
    def get(self, request: Request, pk: int) -> Response:
        """One access key, without its secret."""
        key = self._key(pk, Action.PROJECT_VIEW)
        return with_version(key, AccessKeySerializer)

    @extend_schema(
        operation_id="change_access_key",
        parameters=[IF_MATCH],
        request=AccessKeySerializer(partial=True),
        responses={200: AccessKeySerializer, **ERRORS, **OUTDATED},
    )
    def patch(self, request: Request, pk: int) -> Response:
        """Changes the fields that the body names. A new secret replaces the old one as a whole,
        takes effect with the next claim, and leaves running tasks alone."""
        with transaction.atomic():
            hold_templates(access_keys=pk)
            key = self._key(pk, Action.CREDENTIAL_CHANGE, lock=True)
            given = self.checked(AccessKeySerializer, key).validated_data
            parts = _taken_out(given)
            if given.pop("kind", key.kind) != key.kind:
                raise ValidationError({"kind": "The kind stays. Make another key instead."})
            for name, value in given.items():
                setattr(key, name, value)
            version = version_wanted(request)
            save_access_key(key=key, parts=parts, now=timezone.now(), version=version)
            return with_version(key, AccessKeySerializer)

    @extend_schema(operation_id="remove_access_key", responses={204: None, **ERRORS})
    def delete(self, request: Request, pk: int) -> Response:
        """Deletes the key and its secret; 409 while templates use it."""
        remove_access_key(key=self._key(pk, Action.CREDENTIAL_CHANGE))
        return Response(status=status.HTTP_204_NO_CONTENT)


def _taken_out(given: dict[str, Any]) -> dict[str, str]:
    """The parts of the secret; `given` keeps the columns."""
    return {name: given.pop(name) for name in AccessKey.ALL_PARTS if name in given}

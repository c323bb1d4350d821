"""Registration tokens: list, create, read, revoke. For managers only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.generics import ListAPIView
from rest_framework.response import Response

from forge.api.base import ApiView, found
from forge.api.errors import ERRORS
from forge.api.parsing import StrictMixin
from forge.api.tags import TagNames
from projects.permissions import Action
from runners.models import RegistrationToken
from runners.registration import create_registration_token, revoke_registration_token
from runners.status import RegistrationStatus

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from django.db.models import QuerySet
    from rest_framework.request import Request


class RegistrationTokenSerializer(StrictMixin, serializers.ModelSerializer[RegistrationToken]):
    status = serializers.SerializerMethodField()
    tags = TagNames(required=False, help_text="What the runners that it makes offer.")

    class Meta:
        model = RegistrationToken
        fields: tuple[str, ...] = (
            "id",
            "name",
            "status",
            "tags",
            "concurrency",
            "takes_untagged",
            "max_uses",
            "uses",
            "created_at",
            "expires_at",
            "revoked_at",
        )
        read_only_fields = ("id", "uses", "created_at", "revoked_at")

    def get_status(self, token: RegistrationToken) -> RegistrationStatus:
        return token.status_at(timezone.now())


class NewRegistrationTokenSerializer(RegistrationTokenSerializer):
    """The answer that creates one: the only one that ever holds the token."""

    token = serializers.CharField(read_only=True, help_text="Shown once; Forge keeps a digest.")

    class Meta(RegistrationTokenSerializer.Meta):
        fields = (*RegistrationTokenSerializer.Meta.fields, "token")


def _tokens_of(user: User) -> QuerySet[RegistrationToken]:
    rows = RegistrationToken.objects.for_user(user).select_related("project")
    return rows.prefetch_related("tags")


class RegistrationTokenList(ApiView, ListAPIView[RegistrationToken]):
    serializer_class = RegistrationTokenSerializer

    def get_queryset(self) -> QuerySet[RegistrationToken]:
        return _tokens_of(self.user).filter(project_id=self.kwargs["pk"])

    @extend_schema(
        operation_id="list_registration_tokens",
        responses={200: RegistrationTokenSerializer, **ERRORS},
    )
    def get(self, request: Request, pk: int) -> Response:
        """The project's registration tokens, those that no longer work too, newest first."""
        self.project(pk, Action.RUNNER_CHANGE)
        return self.list(request)

    @extend_schema(
        operation_id="create_registration_token",
        request=RegistrationTokenSerializer,
        responses={201: NewRegistrationTokenSerializer, **ERRORS},
    )
    def post(self, request: Request, pk: int) -> Response:
        """A token with which hosts add themselves as runners. The answer carries it, once."""
        project = self.project(pk, Action.RUNNER_CHANGE)
        given = {**_DEFAULTS, **self.checked(RegistrationTokenSerializer).validated_data}
        new = create_registration_token(project=project, by=self.user, now=timezone.now(), **given)
        body = {**RegistrationTokenSerializer(new.row).data, "token": new.token}
        return Response(body, status=status.HTTP_201_CREATED)


_DEFAULTS: dict[str, Any] = {
    "tags": (),
    "concurrency": RegistrationToken._meta.get_field("concurrency").default,
    "takes_untagged": RegistrationToken._meta.get_field("takes_untagged").default,
    "max_uses": RegistrationToken._meta.get_field("max_uses").default,
}


class RegistrationTokenDetail(ApiView):
    serializer_class = RegistrationTokenSerializer

    def _token(self, pk: int) -> RegistrationToken:
        token = found(_tokens_of(self.user), pk)
        self.demand(token.project, Action.RUNNER_CHANGE)
        return token

    @extend_schema(
        operation_id="read_registration_token",
        responses={200: RegistrationTokenSerializer, **ERRORS},
    )
    def get(self, request: Request, pk: int) -> Response:
        """One registration token, with its status at this moment."""
        return Response(RegistrationTokenSerializer(self._token(pk)).data)

    @extend_schema(operation_id="revoke_registration_token", responses={204: None, **ERRORS})
    def delete(self, request: Request, pk: int) -> Response:
        """Revokes it: no further host can use it. Runners that were made with it stay."""
        revoke_registration_token(token=self._token(pk), now=timezone.now())
        return Response(status=status.HTTP_204_NO_CONTENT)

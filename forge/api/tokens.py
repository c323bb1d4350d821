"""API tokens of the user who asks: list, create, read, revoke. Nobody sees another's."""

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
from projects.models import UserToken
from projects.operations import create_user_token, revoke_user_token

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from rest_framework.request import Request


class UserTokenSerializer(StrictMixin, serializers.ModelSerializer[UserToken]):
    class Meta:
        model = UserToken
        fields: tuple[str, ...] = ("id", "name", "created_at", "expires_at", "last_used_at")
        read_only_fields = ("id", "created_at", "last_used_at")
        # A token without an end is possible, but never by leaving something out.
        extra_kwargs = {
            "expires_at": {"required": True, "help_text": "When it ends; null for never."}
        }


class NewUserTokenSerializer(UserTokenSerializer):
    """The answer that creates one: the only one that ever holds the token."""

    token = serializers.CharField(read_only=True, help_text="Shown once; Forge keeps a digest.")

    class Meta(UserTokenSerializer.Meta):
        fields = (*UserTokenSerializer.Meta.fields, "token")


class UserTokenList(ApiView, ListAPIView[UserToken]):
    serializer_class = UserTokenSerializer

    def get_queryset(self) -> QuerySet[UserToken]:
        return UserToken.objects.for_user(self.user)

    @extend_schema(operation_id="list_tokens", responses={200: UserTokenSerializer, **ERRORS})
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Your own API tokens, expired ones too."""
        return self.list(request, *args, **kwargs)

    @extend_schema(
        operation_id="create_token",
        request=UserTokenSerializer,
        responses={201: NewUserTokenSerializer, **ERRORS},
    )
    def post(self, request: Request) -> Response:
        """A new token of yours. The answer carries it, once. A token's token ends with it."""
        given = self.checked(UserTokenSerializer).validated_data
        by = request.auth if isinstance(request.auth, UserToken) else None
        new = create_user_token(user=self.user, by=by, now=timezone.now(), **given)
        body = {**UserTokenSerializer(new.row).data, "token": new.token}
        return Response(body, status=status.HTTP_201_CREATED)


class UserTokenDetail(ApiView):
    serializer_class = UserTokenSerializer

    @extend_schema(operation_id="read_token", responses={200: UserTokenSerializer, **ERRORS})
    def get(self, request: Request, pk: int) -> Response:
        """One of your API tokens."""
        return Response(UserTokenSerializer(self._token(pk)).data)

    @extend_schema(operation_id="revoke_token", responses={204: None, **ERRORS})
    def delete(self, request: Request, pk: int) -> Response:
        """Revokes the token: it opens nothing from now on."""
        revoke_user_token(token=self._token(pk))
        return Response(status=status.HTTP_204_NO_CONTENT)

    def _token(self, pk: int) -> UserToken:
        return found(UserToken.objects.for_user(self.user), pk)

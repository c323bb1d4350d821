"""Members of a project: list, add, read, change the role, remove."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.generics import ListAPIView
from rest_framework.response import Response

from forge.api.base import ApiView, found
from forge.api.errors import ERRORS
from forge.api.parsing import StrictMixin
from projects.members import add_member, change_role, remove_member
from projects.models import Membership
from projects.permissions import Action, Role

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from rest_framework.request import Request


class MemberSerializer(StrictMixin, serializers.ModelSerializer[Membership]):
    user_name = serializers.CharField(source="user.username", read_only=True)
    full_name = serializers.CharField(source="user.get_full_name", read_only=True)

    class Meta:
        model = Membership
        fields = ("id", "user_name", "full_name", "role", "created_at")
        read_only_fields = ("id", "created_at")
        extra_kwargs = {"role": {"required": True}}


class NewMemberSerializer(StrictMixin):
    user_name = serializers.CharField(max_length=150, help_text="As the person signs in.")
    role = serializers.ChoiceField(choices=Role.choices)


class MemberList(ApiView, ListAPIView[Membership]):
    serializer_class = MemberSerializer

    def get_queryset(self) -> QuerySet[Membership]:
        rows = Membership.objects.for_user(self.user).filter(project_id=self.kwargs["pk"])
        return rows.select_related("user").order_by("user__username")

    @extend_schema(operation_id="list_members", responses={200: MemberSerializer, **ERRORS})
    def get(self, request: Request, pk: int) -> Response:
        """Who belongs to the project, and with which role."""
        self.project(pk, Action.PROJECT_VIEW)
        return self.list(request)

    @extend_schema(
        operation_id="add_member",
        request=NewMemberSerializer,
        responses={201: MemberSerializer, **ERRORS},
    )
    def post(self, request: Request, pk: int) -> Response:
        """Gives an account a role in the project; none above your own."""
        project = self.project(pk, Action.MEMBER_CHANGE)
        given = self.checked(NewMemberSerializer).validated_data
        name, role = given["user_name"], Role(given["role"])
        row = add_member(project=project, user_name=name, role=role, by=self.user)
        return Response(MemberSerializer(row).data, status=status.HTTP_201_CREATED)


class MemberDetail(ApiView):
    serializer_class = MemberSerializer

    def _member(self, pk: int, action: Action) -> Membership:
        row = found(Membership.objects.for_user(self.user).select_related("project", "user"), pk)
        self.demand(row.project, action)
        return row

    @extend_schema(operation_id="read_member", responses={200: MemberSerializer, **ERRORS})
    def get(self, request: Request, pk: int) -> Response:
        """One member."""
        return Response(MemberSerializer(self._member(pk, Action.PROJECT_VIEW)).data)

    @extend_schema(
        operation_id="change_member",
        request=MemberSerializer,
        responses={200: MemberSerializer, **ERRORS},
    )
    def patch(self, request: Request, pk: int) -> Response:
        """Gives another role. 409 `last_owner` if nobody else is an owner."""
        row = self._member(pk, Action.MEMBER_CHANGE)
        role = Role(self.checked(MemberSerializer, row).validated_data.get("role", row.role))
        return Response(MemberSerializer(change_role(membership=row, role=role, by=self.user)).data)

    @extend_schema(operation_id="remove_member", responses={204: None, **ERRORS})
    def delete(self, request: Request, pk: int) -> Response:
        """The project closes for them with their next request. 409 `last_owner`."""
        remove_member(membership=self._member(pk, Action.MEMBER_CHANGE), by=self.user)
        return Response(status=status.HTTP_204_NO_CONTENT)

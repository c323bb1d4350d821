"""Projects: list, create, read, change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.generics import ListAPIView
from rest_framework.response import Response

from forge.api.base import ApiView
from forge.api.errors import ERRORS
from forge.api.parsing import StrictMixin
from forge.api.versions import IF_MATCH, OUTDATED, version_wanted, with_version
from projects.models import Project
from projects.operations import change_project, create_project
from projects.permissions import Action

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from rest_framework.request import Request


class ProjectSerializer(StrictMixin, serializers.ModelSerializer[Project]):
    class Meta:
        model = Project
        fields = ("id", "name", "description", "max_parallel_tasks", "created_at")
        read_only_fields = ("id", "created_at")


class NewProjectSerializer(StrictMixin, serializers.ModelSerializer[Project]):
    class Meta:
        model = Project
        fields = ("name", "description", "max_parallel_tasks")


class ProjectList(ApiView, ListAPIView[Project]):
    serializer_class = ProjectSerializer

    def get_queryset(self) -> QuerySet[Project]:
        return Project.objects.for_user(self.user)

    @extend_schema(operation_id="list_projects", responses={200: ProjectSerializer, **ERRORS})
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """The projects that you are a member of."""
        return self.list(request, *args, **kwargs)

    @extend_schema(
        operation_id="create_project",
        request=NewProjectSerializer,
        responses={201: ProjectSerializer, **ERRORS},
    )
    def post(self, request: Request) -> Response:
        """A new project, with you as its owner."""
        given = {"description": "", **self.checked(NewProjectSerializer).validated_data}
        project = create_project(owner=self.user, now=timezone.now(), **given)
        return Response(ProjectSerializer(project).data, status=status.HTTP_201_CREATED)


class ProjectDetail(ApiView):
    serializer_class = ProjectSerializer

    @extend_schema(operation_id="read_project", responses={200: ProjectSerializer, **ERRORS})
    def get(self, request: Request, pk: int) -> Response:
        """One project."""
        project = self.project(pk, Action.PROJECT_VIEW)
        return with_version(project, ProjectSerializer)

    @extend_schema(
        operation_id="change_project",
        parameters=[IF_MATCH],
        request=ProjectSerializer(partial=True),
        responses={200: ProjectSerializer, **ERRORS, **OUTDATED},
    )
    def patch(self, request: Request, pk: int) -> Response:
        """Changes the fields that the body names, and no others."""
        project = self.project(pk, Action.PROJECT_CHANGE)
        serializer = self.checked(ProjectSerializer, project)
        changes, version = serializer.validated_data, version_wanted(request)
        change_project(project=project, changes=changes, version=version)
        return with_version(project, ProjectSerializer)

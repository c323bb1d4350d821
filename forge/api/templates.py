"""Templates: list, create, read, change, remove."""

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
from forge.api.tags import TagNames
from projects.permissions import Action
from tasks.models import MAXIMUM_SCRIPT_CHARACTERS, TaskTemplate
from tasks.operations import remove_template, save_template
from tasks.validation import is_environment

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from rest_framework.request import Request


@extend_schema_field({"type": "object", "additionalProperties": {"type": "string"}})
class EnvironmentField(serializers.JSONField):
    """Names and values of variables; checked by the model's own validator."""


class TemplateSerializer(StrictMixin, serializers.ModelSerializer[TaskTemplate]):
    # Not trimmed: a script is stored byte for byte.
    script = serializers.CharField(trim_whitespace=False, max_length=MAXIMUM_SCRIPT_CHARACTERS)
    tags = TagNames(required=False)
    environment = EnvironmentField(required=False, validators=[is_environment])

    class Meta:
        model = TaskTemplate
        fields = (
            "id",
            "name",
            "description",
            "app",
            "script",
            "timeout_seconds",
            "tags",
            "environment",
            "allow_parallel",
        )
        # That a name is taken is for the database to say (409), not for a look before (400).
        validators: tuple[()] = ()


class TemplateList(ApiView, ListAPIView[TaskTemplate]):
    serializer_class = TemplateSerializer

    def get_queryset(self) -> QuerySet[TaskTemplate]:
        rows = TaskTemplate.objects.for_user(self.user).filter(project_id=self.kwargs["pk"])
        return rows.prefetch_related("tags")

    @extend_schema(operation_id="list_templates", responses={200: TemplateSerializer, **ERRORS})
    def get(self, request: Request, pk: int) -> Response:
        """The project's templates, removed ones aside."""
        self.project(pk, Action.PROJECT_VIEW)
        return self.list(request)

    @extend_schema(
        operation_id="create_template",
        request=TemplateSerializer,
        responses={201: TemplateSerializer, **ERRORS},
    )
    def post(self, request: Request, pk: int) -> Response:
        """A new template."""
        project = self.project(pk, Action.TEMPLATE_CHANGE)
        given = self.checked(TemplateSerializer).validated_data
        tags = given.pop("tags", ())
        template = save_template(template=TaskTemplate(project=project, **given), tags=tags)
        return Response(TemplateSerializer(template).data, status=status.HTTP_201_CREATED)


class TemplateDetail(ApiView):
    serializer_class = TemplateSerializer

    def _template(self, pk: int, action: Action, *, lock: bool = False) -> TaskTemplate:
        rows = TaskTemplate.objects.for_user(self.user).select_related("project")
        template = found(rows.select_for_update(of=("self",)) if lock else rows, pk)
        self.demand(template.project, action)
        return template

    @extend_schema(operation_id="read_template", responses={200: TemplateSerializer, **ERRORS})
    def get(self, request: Request, pk: int) -> Response:
        """One template."""
        return Response(TemplateSerializer(self._template(pk, Action.PROJECT_VIEW)).data)

    @extend_schema(
        operation_id="change_template",
        request=TemplateSerializer(partial=True),
        responses={200: TemplateSerializer, **ERRORS},
    )
    def patch(self, request: Request, pk: int) -> Response:
        """Changes the fields that the body names. Tasks that were queued before keep theirs."""
        # Locked, so that of two changes at once the later does not undo the earlier.
        with transaction.atomic():
            template = self._template(pk, Action.TEMPLATE_CHANGE, lock=True)
            serializer = self.checked(TemplateSerializer, template)
            save_template(template=template, tags=_apply(template, serializer.validated_data))
        return Response(TemplateSerializer(template).data)

    @extend_schema(operation_id="remove_template", responses={204: None, **ERRORS})
    def delete(self, request: Request, pk: int) -> Response:
        """Hides the template. Its tasks and their logs stay."""
        template = self._template(pk, Action.TEMPLATE_CHANGE)
        remove_template(template=template, now=timezone.now())
        return Response(status=status.HTTP_204_NO_CONTENT)


def _apply(template: TaskTemplate, changes: dict[str, Any]) -> list[str]:
    """Set the changed fields; the answer is the names of the tags it shall require."""
    tags = changes.pop("tags", None)
    for name, value in changes.items():
        setattr(template, name, value)
    return [tag.name for tag in template.tags.all()] if tags is None else tags

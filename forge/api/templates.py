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
from forge.api.versions import IF_MATCH, OUTDATED, version_wanted, with_version
from projects.permissions import Action
from projects.variables import is_environment
from runners.worker.fields import MAXIMUM_ID
from runners.worker.protocol import MAXIMUM_STOP_STEPS, STOP_SIGNALS
from tasks.models import MAXIMUM_SCRIPT_CHARACTERS, TaskTemplate, TemplateAccessKey
from tasks.operations import remove_template, save_template
from tasks.policies import is_stop_steps

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from rest_framework.request import Request

MAXIMUM_SOURCES = 50


@extend_schema_field({"type": "object", "additionalProperties": {"type": "string"}})
class EnvironmentField(serializers.JSONField):
    """Names and values of variables; checked by the model's own validator."""


@extend_schema_field(
    {
        "type": "array",
        "maxItems": MAXIMUM_STOP_STEPS,
        "items": {
            "type": "object",
            "properties": {
                "signal": {"type": "string", "enum": list(STOP_SIGNALS)},
                "grace_seconds": {"type": "integer", "minimum": 0},
            },
        },
    }
)
class StopStepsField(serializers.JSONField):
    """Steps of a stop; checked by the model's own validator."""


class KeyUseSerializer(StrictMixin, serializers.ModelSerializer[TemplateAccessKey]):
    access_key = serializers.IntegerField(source="access_key_id", min_value=1, max_value=MAXIMUM_ID)

    class Meta:
        model = TemplateAccessKey
        fields = ("access_key", "variable")
        validators: tuple[()] = ()


class GroupIds(serializers.ListField):
    """Ids of variable groups of the project."""

    def __init__(self, **options: Any) -> None:
        child = serializers.IntegerField(min_value=1, max_value=MAXIMUM_ID)
        super().__init__(child=child, max_length=MAXIMUM_SOURCES, **options)

    def to_representation(self, data: Any) -> list[int]:
        return [group.pk for group in data.all()]


class TemplateSerializer(StrictMixin, serializers.ModelSerializer[TaskTemplate]):
    # Not trimmed: a script is stored byte for byte.
    script = serializers.CharField(trim_whitespace=False, max_length=MAXIMUM_SCRIPT_CHARACTERS)
    tags = TagNames(required=False)
    environment = EnvironmentField(required=False, validators=[is_environment])
    stop_steps = StopStepsField(
        required=False,
        validators=[is_stop_steps],
        help_text="In order, each with the seconds until the next. KILL follows by itself, "
        "at once after an empty list.",
    )
    variable_groups = GroupIds(required=False)
    access_keys = KeyUseSerializer(  # type: ignore[call-arg]  # the stubs miss those of lists
        source="access_key_uses", many=True, required=False, max_length=MAXIMUM_SOURCES
    )

    disabled_at = serializers.DateTimeField(
        read_only=True, help_text="Since when nobody can run it; null while everybody may."
    )
    disabled_by = serializers.SerializerMethodField(
        help_text="Who disabled it; null while it is not disabled, or if that user was deleted."
    )

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
            "variable_groups",
            "access_keys",
            "allow_parallel",
            "lost_runner_policy",
            "lost_runner_wait_seconds",
            "safe_to_rerun",
            "max_attempts",
            "stop_steps",
            "disabled_at",
            "disabled_by",
            "disabled_reason",
        )
        read_only_fields = ("id", "disabled_at", "disabled_reason")
        # That a name is taken is for the database to say (409), not for a look before (400).
        validators: tuple[()] = ()

    def get_disabled_by(self, template: TaskTemplate) -> str | None:
        return template.disabled_by.get_username() if template.disabled_by else None


class TemplateList(ApiView, ListAPIView[TaskTemplate]):
    serializer_class = TemplateSerializer

    def get_queryset(self) -> QuerySet[TaskTemplate]:
        rows = TaskTemplate.objects.for_user(self.user).filter(project_id=self.kwargs["pk"])
        rows = rows.select_related("disabled_by")
        return rows.prefetch_related("tags", "variable_groups", "access_key_uses")

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
        sources = _sources(given)
        template = TaskTemplate(project=project, **given)
        save_template(template=template, tags=tags, **sources)
        return Response(TemplateSerializer(template).data, status=status.HTTP_201_CREATED)


class TemplateView(ApiView):
    serializer_class = TemplateSerializer

    def template(self, pk: int, action: Action, *, lock: bool = False) -> TaskTemplate:
        rows = TaskTemplate.objects.for_user(self.user).select_related("project")
        template = found(rows.select_for_update(of=("self",)) if lock else rows, pk)
        self.demand(template.project, action)
        return template


class TemplateDetail(TemplateView):
    @extend_schema(operation_id="read_template", responses={200: TemplateSerializer, **ERRORS})
    def get(self, request: Request, pk: int) -> Response:
        """One template."""
        template = self.template(pk, Action.PROJECT_VIEW)
        return with_version(template, TemplateSerializer)

    @extend_schema(
        operation_id="change_template",
        parameters=[IF_MATCH],
        request=TemplateSerializer(partial=True),
        responses={200: TemplateSerializer, **ERRORS, **OUTDATED},
    )
    def patch(self, request: Request, pk: int) -> Response:
        """Changes the fields that the body names. Tasks that were queued before keep theirs."""
        # Locked, so that of two changes at once the later does not undo the earlier.
        with transaction.atomic():
            template = self.template(pk, Action.TEMPLATE_CHANGE, lock=True)
            serializer = self.checked(TemplateSerializer, template)
            changes = serializer.validated_data
            sources = _sources(changes)
            tags, version = _apply(template, changes), version_wanted(request)
            save_template(template=template, tags=tags, version=version, **sources)
            return with_version(template, TemplateSerializer)

    @extend_schema(operation_id="remove_template", responses={204: None, **ERRORS})
    def delete(self, request: Request, pk: int) -> Response:
        """Hides the template. Its tasks and their logs stay."""
        template = self.template(pk, Action.TEMPLATE_CHANGE)
        remove_template(template=template, now=timezone.now())
        return Response(status=status.HTTP_204_NO_CONTENT)


def _sources(given: dict[str, Any]) -> dict[str, Any]:
    """What `save_template` takes as `groups` and `keys`; None for what the body does not name.

    Raises ValidationError when an access key is named twice, or half.
    """
    groups = given.pop("variable_groups", None)
    uses = given.pop("access_key_uses", None)
    if uses is None:
        return {"groups": groups, "keys": None}
    if not all(len(use) == len(KeyUseSerializer.Meta.fields) for use in uses):
        # A change of the template may leave fields out; a use of a key may not.
        message = "Give each an access_key and a variable."
        raise serializers.ValidationError({"access_keys": message})
    keys = {use["access_key_id"]: use["variable"] for use in uses}
    if len(keys) < len(uses):
        raise serializers.ValidationError({"access_keys": "Name each access key once."})
    return {"groups": groups, "keys": keys}


def _apply(template: TaskTemplate, changes: dict[str, Any]) -> list[str]:
    """Set the changed fields; the answer is the names of the tags it shall require."""
    tags = changes.pop("tags", None)
    for name, value in changes.items():
        setattr(template, name, value)
    return [tag.name for tag in template.tags.all()] if tags is None else tags

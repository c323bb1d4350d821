"""Templates: duplicate, disable, enable, history."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.response import Response

from forge.api.audit import PAGING, AuditPageSerializer, AuditView
from forge.api.base import found
from forge.api.errors import ERRORS
from forge.api.parsing import NothingSerializer, StrictMixin
from forge.api.templates import TemplateSerializer, TemplateView
from projects.audit.entry import AuditEntry, AuditEntryQuerySet, Kind
from projects.permissions import Action
from tasks.disabling import DISABLED_REASON_LENGTH
from tasks.duplicating import MAXIMUM_NAME
from tasks.models import TaskTemplate
from tasks.operations import disable_template, duplicate_template, enable_template

if TYPE_CHECKING:
    from rest_framework.request import Request


class CopySerializer(StrictMixin):
    name = serializers.CharField(
        required=False,
        default="",
        max_length=MAXIMUM_NAME,
        help_text="What the copy is called. Without: the name of the template with (copy).",
    )


class DisableSerializer(StrictMixin):
    reason = serializers.CharField(
        max_length=DISABLED_REASON_LENGTH, help_text="One line, for those who want to run it."
    )


class TemplateDuplicate(TemplateView):
    @extend_schema(
        operation_id="duplicate_template",
        request=CopySerializer,
        responses={201: TemplateSerializer, **ERRORS},
    )
    def post(self, request: Request, pk: int) -> Response:
        """A new template that says the same, with the same tags, variable groups and keys."""
        template = self.template(pk, Action.TEMPLATE_CHANGE)
        name = self.checked(CopySerializer).validated_data["name"]
        copy = duplicate_template(template=template, name=name)
        return Response(TemplateSerializer(copy).data, status=status.HTTP_201_CREATED)


class TemplateDisable(TemplateView):
    @extend_schema(
        operation_id="disable_template",
        request=DisableSerializer,
        responses={200: TemplateSerializer, **ERRORS},
    )
    def post(self, request: Request, pk: int) -> Response:
        """Has it run by nobody. What waits or runs goes on. Again: for another reason."""
        template = self.template(pk, Action.TEMPLATE_CHANGE)
        reason = self.checked(DisableSerializer).validated_data["reason"]
        disable_template(template=template, reason=reason, by=self.user, now=timezone.now())
        return Response(TemplateSerializer(template).data)


class TemplateEnable(TemplateView):
    @extend_schema(
        operation_id="enable_template", request=None, responses={200: TemplateSerializer, **ERRORS}
    )
    def post(self, request: Request, pk: int) -> Response:
        """Lets it be run again. Changes nothing for one that is not disabled."""
        template = self.template(pk, Action.TEMPLATE_CHANGE)
        self.checked(NothingSerializer)
        enable_template(template=template)
        return Response(TemplateSerializer(template).data)


class TemplateHistory(AuditView):
    def rows(self) -> AuditEntryQuerySet:
        rows = TaskTemplate.objects.for_user(self.user).select_related("project")
        template = found(rows, self.kwargs["pk"])
        self.demand(template.project, Action.AUDIT_VIEW)
        entries: AuditEntryQuerySet = AuditEntry.objects.for_user(self.user)
        return entries.about(Kind.TEMPLATE, template.pk)

    @extend_schema(
        operation_id="read_template_history",
        parameters=PAGING,
        responses={200: AuditPageSerializer, **ERRORS},
    )
    def get(self, request: Request, pk: int) -> Response:
        """Who changed what of it and when, the newest first; of scripts the lines that differ."""
        return self.page()

"""The audit log: pages of it, and as a file. It can only be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import PermissionDenied, ValidationError
from rest_framework.response import Response

from forge.api.base import ApiView
from forge.api.errors import ERRORS
from forge.api.parsing import whole_number
from forge.lists.audit_file import file_of
from projects.audit.actor import Way
from projects.audit.entry import COLUMNS, AuditEntry, AuditEntryQuerySet, Kind, Verb
from projects.audit.reading import PAGE_ROWS, Filters, page_of
from projects.permissions import Action

if TYPE_CHECKING:
    from django.http import StreamingHttpResponse
    from rest_framework.request import Request

MAXIMUM_PAGE = 200


class AuditEntrySerializer(serializers.ModelSerializer[AuditEntry]):
    verb = serializers.ChoiceField(choices=Verb.choices)
    kind = serializers.ChoiceField(choices=Kind.choices)
    changes = serializers.DictField(
        help_text="By field: {old, new}, or {diff} of a long text, with how many lines were "
        "{added, removed} if it is cut, or {secret: what became of it}."
    )

    class Meta:
        model = AuditEntry
        fields = COLUMNS


class AuditPageSerializer(serializers.Serializer[Any]):
    next = serializers.CharField(allow_null=True, help_text="Older entries.")
    previous = serializers.CharField(allow_null=True, help_text="Newer entries.")
    results = AuditEntrySerializer(many=True)


FILTERS = [
    OpenApiParameter("who", str, description="The whole name of who acted."),
    OpenApiParameter("verb", enum=Verb.values, description="What was done."),
    OpenApiParameter("kind", enum=Kind.values, description="What it was done to."),
    OpenApiParameter("object", int, description="The id of what it was done to; with `kind`."),
    OpenApiParameter("name", str, description="How the name of what it was done to begins."),
    OpenApiParameter("way", enum=Way.values, description="How somebody acted."),
    OpenApiParameter("address", str, description="From where."),
    OpenApiParameter("since", str, description="A date or a time, ISO 8601."),
    OpenApiParameter("until", str, description="Likewise; a date means the whole of that day."),
]
PAGING = [
    OpenApiParameter("before", int, description="Only what is older than the entry of this id."),
    OpenApiParameter("after", int, description="The page that is just newer than this entry."),
    OpenApiParameter("page_size", int, description="At most 200. Default 50."),
]
_FORM = OpenApiParameter("form", enum=["csv", "jsonl"], location=OpenApiParameter.PATH)
_FILE = OpenApiResponse(OpenApiTypes.STR, "A line for each entry, the newest first.")


class AuditView(ApiView):
    serializer_class = AuditPageSerializer

    def rows(self) -> AuditEntryQuerySet:
        """What may be read: of the project in the address, or of everything."""
        pk = self.kwargs.get("pk")
        if pk is not None:
            return AuditEntry.objects.filter(project_id=self.project(pk, Action.AUDIT_VIEW).pk)
        if not self.user.is_superuser:
            raise PermissionDenied
        return AuditEntry.objects.for_user(self.user)

    def asked(self) -> AuditEntryQuerySet:
        """Those that the query asks for. Raises ValidationError (400)."""
        rows, filters = self.rows(), Filters(self.request.query_params)
        if not filters.is_valid():
            raise ValidationError(
                {name: list(map(str, found)) for name, found in filters.errors.items()}
            )
        return filters.apply(rows)

    def _number(self, name: str) -> int:
        text = self.request.query_params.get(name)
        return 0 if text is None else whole_number(text, name)

    def _place(self, **where: int) -> str | None:
        """The address of the page that begins there."""
        if not all(where.values()):
            return None
        query = self.request.query_params.copy()
        for name in ("before", "after"):
            query.pop(name, None)
        query.update({name: str(number) for name, number in where.items()})
        return self.request.build_absolute_uri(f"?{query.urlencode()}")

    def page(self) -> Response:
        found = page_of(
            self.asked(),
            older_than=self._number("before"),
            newer_than=self._number("after"),
            length=min(self._number("page_size") or PAGE_ROWS, MAXIMUM_PAGE),
        )
        body = {
            "next": self._place(before=found.older_than or 0),
            "previous": self._place(after=found.newer_than or 0),
            "results": AuditEntrySerializer(found.rows, many=True).data,
        }
        return Response(body)


class ProjectAudit(AuditView):
    @extend_schema(
        operation_id="list_audit_log",
        parameters=[*FILTERS, *PAGING],
        responses={200: AuditPageSerializer, **ERRORS},
    )
    def get(self, request: Request, pk: int) -> Response:
        """What was done in the project, the newest first."""
        return self.page()


class WholeAudit(AuditView):
    @extend_schema(
        operation_id="list_whole_audit_log",
        parameters=[*FILTERS, *PAGING],
        responses={200: AuditPageSerializer, **ERRORS},
    )
    def get(self, request: Request) -> Response:
        """What was done in the installation, sign-ins too. For administrators."""
        return self.page()


class ProjectAuditFile(AuditView):
    @extend_schema(
        operation_id="export_audit_log",
        parameters=[_FORM, *FILTERS],
        responses={(200, "text/csv"): _FILE, (200, "application/jsonl"): _FILE, **ERRORS},
    )
    def get(self, request: Request, pk: int, form: str) -> StreamingHttpResponse:
        """All of it as a file, as it is made: CSV, or JSON lines."""
        return file_of(request._request, self.asked(), form, f"audit-project-{pk}")


class WholeAuditFile(AuditView):
    @extend_schema(
        operation_id="export_whole_audit_log",
        parameters=[_FORM, *FILTERS],
        responses={(200, "text/csv"): _FILE, (200, "application/jsonl"): _FILE, **ERRORS},
    )
    def get(self, request: Request, form: str) -> StreamingHttpResponse:
        """Likewise, of the whole installation. For administrators."""
        return file_of(request._request, self.asked(), form, "audit")

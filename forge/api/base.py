"""What all views of the REST API share: JSON in, JSON out, objects through `for_user`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from django.db.models import Model, QuerySet
from django.http import Http404
from rest_framework.exceptions import PermissionDenied
from rest_framework.generics import GenericAPIView
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.serializers import BaseSerializer

from forge.api.parsing import BoundedJSONParser
from projects.models import Project
from projects.permissions import Action
from projects.single import single

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.contrib.auth.models import User
    from rest_framework.renderers import BaseRenderer
    from rest_framework.request import Request
    from rest_framework.response import Response

Row = TypeVar("Row", bound=Model)
Serializer = TypeVar("Serializer", bound=BaseSerializer[Any])


class FirstRenderer(DefaultContentNegotiation):
    """Answers with the view's own form, whatever the Accept header says."""

    def select_renderer(
        self,
        request: Request,
        renderers: Iterable[BaseRenderer],
        format_suffix: str | None = None,
    ) -> tuple[BaseRenderer, str]:
        renderer = next(iter(renderers))
        return renderer, str(renderer.media_type)


# No docstring: drf-spectacular would repeat it as every operation's description.
class ApiView(GenericAPIView[Any]):
    parser_classes = (BoundedJSONParser,)
    content_negotiation_class = FirstRenderer
    metadata_class = None

    def finalize_response(
        self, request: Request, response: Response, *args: Any, **kwargs: Any
    ) -> Response:
        # Answers are private, and one of them carries a token.
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return super().finalize_response(request, response, *args, **kwargs)

    @property
    def user(self) -> User:
        """Who asks. Anonymous requests were refused before a view's own code runs."""
        return cast("User", self.request.user)

    def project(self, pk: int, action: Action) -> Project:
        """The project if the user may do `action` there; 404 for others', 403 for lower roles."""
        project = found(Project.objects.for_user(self.user), pk)
        self.demand(project, action)
        return project

    def demand(self, project: Project, action: Action) -> None:
        if not project.allows(self.user, action):
            raise PermissionDenied

    def checked(self, kind: type[Serializer], row: Model | None = None) -> Serializer:
        """A serializer of the request's body; with `row`, of changes to it.

        Raises ValidationError (400).
        """
        context = self.get_serializer_context()
        is_change = row is not None
        serializer = kind(row, data=self.request.data, partial=is_change, context=context)
        serializer.is_valid(raise_exception=True)
        return serializer


def found(rows: QuerySet[Row], pk: int) -> Row:
    """The row with this id, or 404. Ids beyond 64 bits match nothing."""
    row = single(rows.filter(pk=pk))
    if row is None:
        raise Http404
    return row

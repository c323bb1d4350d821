"""The schema and the pages that show it; readable without signing in, as the source is."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer2
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response

from forge.api.base import FirstRenderer

if TYPE_CHECKING:
    from rest_framework.request import Request


class UserTokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "projects.authentication.UserTokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "bearerFormat": "fgu_…"}


@cache
def _schema() -> dict[str, Any]:
    """The same for everybody; made once in a process, as strangers may ask and it takes a while."""
    generator: Any = SchemaGenerator()  # type: ignore[no-untyped-call]
    schema: dict[str, Any] = generator.get_schema(request=None, public=True)
    return schema


class Schema(SpectacularAPIView):
    """Takes no parameters: the library puts its own, `version`, into a header as it came."""

    authentication_classes = ()
    permission_classes = ()
    renderer_classes = [OpenApiJsonRenderer2]
    content_negotiation_class = FirstRenderer
    metadata_class = None

    @extend_schema(exclude=True)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return Response(_schema())


class Documentation(SpectacularSwaggerSplitView):
    """Swagger UI from the installed package, without inline scripts and styles."""

    template_name = "api_docs.html"
    authentication_classes = ()
    permission_classes = ()
    content_negotiation_class = FirstRenderer
    metadata_class = None
    url_name = "api-schema"

    def handle_exception(self, exc: Exception) -> Response:
        self.request.accepted_renderer = JSONRenderer()
        self.request.accepted_media_type = "application/json"
        return super().handle_exception(exc)

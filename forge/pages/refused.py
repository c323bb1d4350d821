"""The pages of a refusal: what is refused, in words that are true for whoever is refused."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from django.core.exceptions import DisallowedHost
from django.http import HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string

from forge.pages.access import RoleTooLowError

if TYPE_CHECKING:
    from django.http import HttpRequest

MAXIMUM_NAME = 253  # of a host, as DNS has it
NOBODY = (
    "No account can do this here, an administrator's neither: it would break a rule of Forge, such "
    "as that what was recorded stays as it is."
)
PERHAPS_A_RIGHT = (
    "Your account may lack a right that an administrator can give. Some changes nobody can make in "
    "the admin, because they would break a rule of Forge."
)


def refused(request: HttpRequest, exception: Exception) -> HttpResponse:
    """The answer to PermissionDenied, with its sentence where it has one."""
    is_admin = request.path.startswith("/admin/")
    told = {"title": "This is not open to you", "sentence": str(exception)}
    if isinstance(exception, RoleTooLowError):
        told["title"] = "Your role does not allow this"
    elif is_admin and not told["sentence"]:
        told["title"] = "The admin does not allow this"
        told["sentence"] = NOBODY if request.user.is_superuser else PERHAPS_A_RIGHT
    leads_back = is_admin and getattr(request.user, "is_staff", False)
    return render(request, "403.html", {**told, "is_admin": leads_back}, status=403)


def not_understood(request: HttpRequest, exception: Exception) -> HttpResponse:
    """The answer to what Django calls a bad or a suspicious request.

    Nothing of the request is read for it but the name that it was sent to: the rest may be what
    cannot be understood.
    """
    is_other_host = isinstance(exception, DisallowedHost)
    told = {"is_other_host": is_other_host, "host": _asked_by(request) if is_other_host else ""}
    return HttpResponse(render_to_string("400.html", told), status=HTTPStatus.BAD_REQUEST)


def _asked_by(request: HttpRequest) -> str:
    """As it is written, if it could be a name; empty if not."""
    name = str(request.META.get("HTTP_HOST", ""))[:MAXIMUM_NAME]
    return name if name.isascii() and name.isprintable() else ""

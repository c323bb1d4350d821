"""The page of a refusal: what is refused, in words that are true for whoever is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.shortcuts import render

from forge.pages.access import RoleTooLowError

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

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

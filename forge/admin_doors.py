"""The admin's own ways in: one sign-in for all of Forge, and one place for one's password."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseRedirect
from django.shortcuts import resolve_url
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_safe

if TYPE_CHECKING:
    from django.http import HttpResponse


@require_safe
def sign_in(request: HttpRequest) -> HttpResponse:
    """To the page where everybody signs in, so that there is one place to guess passwords at."""
    if request.user.is_authenticated and not admin.site.has_permission(request):
        raise PermissionDenied("The admin is for staff. Ask an administrator for an account there.")
    wanted = request.GET.get("next", "")
    is_ours = url_has_allowed_host_and_scheme(wanted, allowed_hosts={request.get_host()})
    after = wanted if is_ours else resolve_url("admin:index")
    return HttpResponseRedirect(f"{resolve_url('sign-in')}?{urlencode({'next': after})}")


def change_password(request: HttpRequest) -> HttpResponse:
    """To the page where everybody changes their own, whatever was sent: it counts wrong ones."""
    return HttpResponseRedirect(resolve_url("password"))

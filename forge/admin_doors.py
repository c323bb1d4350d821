"""The admin's own ways in: one sign-in for all of Forge, and passwords with a record."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponseRedirect
from django.shortcuts import resolve_url
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_safe

from projects.account_admin import record_new_password

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
    """Django's page for one's own password."""
    with transaction.atomic():
        before = User.objects.filter(username=request.user.get_username()).first()
        answer: HttpResponse = admin.site.admin_view(admin.site.password_change)(request)
        record_new_password(before)
    return answer

"""Accounts in the admin keep the rules that members keep, and its addresses take anything."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from projects.models import Membership
from projects.permissions import Role
from tests.cast import Cast


def account_form(user: User, **changes: Any) -> dict[str, Any]:
    """As the browser sends it for an account that is to be inactive."""
    joined = {"date_joined_0": f"{user.date_joined:%Y-%m-%d}", "date_joined_1": "12:00:00"}
    return {"username": user.username, **joined, **changes}


def test_the_last_active_owner_of_a_project_stays_active(cast: Cast, admin: Client) -> None:
    page = reverse("admin:auth_user_change", args=[cast.owner.pk])
    refused = admin.post(page, account_form(cast.owner, first_name="Typed"))
    (sentence,) = refused.context["adminform"].errors["is_active"]
    assert "owner is the last active owner of Payments" in sentence
    assert 'value="Typed"' in refused.text
    cast.owner.refresh_from_db()
    assert cast.owner.is_active and not cast.owner.first_name

    Membership.objects.filter(user=cast.manager).update(role=Role.OWNER)
    assert admin.post(page, account_form(cast.owner)).status_code == 302
    cast.owner.refresh_from_db()
    assert not cast.owner.is_active
    # Saving an account that is inactive already takes no owner away.
    assert admin.post(page, account_form(cast.owner, first_name="Gone")).status_code == 302
    last = reverse("admin:auth_user_change", args=[cast.manager.pk])
    answer = admin.post(last, account_form(cast.manager))
    assert "is_active" in answer.context["adminform"].errors


def test_a_member_who_is_no_owner_is_made_inactive(cast: Cast, admin: Client) -> None:
    page = reverse("admin:auth_user_change", args=[cast.viewer.pk])
    assert admin.post(page, account_form(cast.viewer)).status_code == 302
    cast.viewer.refresh_from_db()
    assert not cast.viewer.is_active


@pytest.mark.parametrize("number", ["abc", "9" * 40, "_00", "1.5"])
def test_the_page_for_a_password_takes_any_number(number: str, cast: Cast, admin: Client) -> None:
    for method in (admin.get, admin.post):
        assert method(f"/admin/auth/user/{number}/password/").status_code == 404
    viewer = Client()
    viewer.force_login(cast.viewer)
    answer = viewer.get(f"/admin/auth/user/{number}/password/")
    assert answer.status_code in (302, 403)

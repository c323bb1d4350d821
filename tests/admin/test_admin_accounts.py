"""Accounts in the admin keep the rules that members keep, and its addresses take anything."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.urls import reverse

from projects.audit.entry import AuditEntry
from projects.models import Membership
from projects.permissions import Role
from tests.cast import Cast
from tests.meeting import just_before


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


@pytest.fixture
def support(cast: Cast) -> User:
    """Staff who make and change accounts and groups, and have no other right."""
    user = User.objects.create_user("support", is_staff=True)
    kinds = Permission.objects.filter(content_type__app_label="auth")
    user.user_permissions.set(kinds.filter(content_type__model__in=["user", "group"]))
    return user


def test_nobody_gives_themselves_rights_in_the_admin(cast: Cast, support: User) -> None:
    every = [one.pk for one in Permission.objects.all()]
    group = Group.objects.create(name="Helpdesk")
    support.groups.add(group)
    before = set(support.user_permissions.values_list("pk", flat=True))
    Membership.objects.create(project=cast.project, user=support, role=Role.VIEWER)
    client = Client()
    client.force_login(support)
    rights = {"is_superuser": "on", "user_permissions": every, "groups": [group.pk]}
    for account in (support, cast.viewer):
        page = reverse("admin:auth_user_change", args=[account.pk])
        sent = account_form(account, is_active="on", is_staff="on", first_name="Changed", **rights)
        assert client.post(page, sent).status_code == 302
        account.refresh_from_db()
        assert account.first_name == "Changed" and not account.is_superuser
    assert set(support.user_permissions.values_list("pk", flat=True)) == before
    assert not cast.viewer.user_permissions.exists() and not cast.viewer.groups.exists()
    assert client.get(f"/projects/{cast.outsiders_project.pk}/").status_code == 404

    page = reverse("admin:auth_group_change", args=[group.pk])
    assert client.post(page, {"name": "Helpdesk", "permissions": every}).status_code == 403
    assert client.post(reverse("admin:auth_group_add"), {"name": "Other"}).status_code == 403
    assert not group.permissions.exists()


def test_a_superusers_account_is_for_superusers(
    superuser: User, support: User, admin: Client
) -> None:
    client = Client()
    client.force_login(support)
    passwords = {"password1": "N0t-the-old-one", "password2": "N0t-the-old-one"}
    forms = {
        "change": account_form(superuser, is_active="on", first_name="Changed"),
        "password_change": {**passwords, "usable_password": "true"},
        "delete": {"post": "yes"},
    }
    for name, sent in forms.items():
        place = "auth_user_password_change" if name == "password_change" else f"auth_user_{name}"
        page = reverse(f"admin:{place}", args=[superuser.pk])
        assert client.post(page, sent).status_code == 403, name
    chosen = {"action": "delete_selected", "_selected_action": [superuser.pk], "post": "yes"}
    client.post(reverse("admin:auth_user_changelist"), chosen)
    stored = User.objects.get(pk=superuser.pk)
    assert (stored.password, stored.first_name) == (superuser.password, "")
    page = reverse("admin:auth_user_change", args=[superuser.pk])
    assert admin.post(page, forms["change"] | {"is_superuser": "on"}).status_code == 302


@pytest.mark.parametrize("is_active", [True, False])
def test_who_has_more_rights_is_not_taken_over(
    is_active: bool, cast: Cast, support: User, admin: Client
) -> None:
    more = Group.objects.create(name="Fleet")
    more.permissions.set(Permission.objects.filter(codename="change_runner"))
    colleague = User.objects.create_user("fleet", is_staff=True, is_active=is_active)
    colleague.groups.add(more)
    client = Client()
    client.force_login(support)
    passwords = {"password1": "N0t-the-old-one", "password2": "N0t-the-old-one"}
    sent = {**passwords, "usable_password": "true"}
    page = reverse("admin:auth_user_password_change", args=[colleague.pk])
    assert client.post(page, sent).status_code == 403
    assert client.post(page.replace("password", "change"), {}).status_code == 403
    assert admin.post(page, sent).status_code == 302
    colleague.groups.clear()
    assert client.post(page, sent).status_code == 302
    Membership.objects.create(project=cast.project, user=support, role=Role.VIEWER)
    for account in (cast.viewer, support):
        own = reverse("admin:auth_user_password_change", args=[account.pk])
        assert client.post(own, sent).status_code == 302
        client.force_login(User.objects.get(pk=support.pk))


def requests_for(account: User) -> dict[str, dict[str, Any]]:
    """By address in the admin: what whoever wants this account would send."""
    passwords = {"password1": "N0t-the-old-one", "password2": "N0t-the-old-one"}
    sent = {
        "change": account_form(account, is_active="on", email="mine@example.net"),
        "password_change": {**passwords, "usable_password": "true"},
        "delete": {"post": "yes"},
    }
    return {reverse(f"admin:auth_user_{name}", args=[account.pk]): sent[name] for name in sent}


@pytest.mark.parametrize("is_active", [True, False])
@pytest.mark.parametrize("own", [None, Role.VIEWER, Role.MANAGER])
def test_who_has_a_higher_role_in_a_project_is_not_taken_over(
    own: Role | None, is_active: bool, cast: Cast, support: User
) -> None:
    if own:
        Membership.objects.create(project=cast.project, user=support, role=own)
    # A higher role in another project is none in this one.
    Membership.objects.create(project=cast.outsiders_project, user=support, role=Role.OWNER)
    Membership.objects.create(project=cast.project, user=cast.outsider, role=Role.OWNER)
    owner = User.objects.get(pk=cast.owner.pk)
    User.objects.filter(pk=owner.pk).update(is_active=is_active)
    client = Client()
    client.force_login(support)
    for page, sent in requests_for(owner).items():
        assert client.post(page, sent).status_code == 403, page
    chosen = {"action": "delete_selected", "_selected_action": [owner.pk], "post": "yes"}
    client.post(reverse("admin:auth_user_changelist"), chosen)
    stored = User.objects.get(pk=owner.pk)
    assert (stored.password, stored.email) == (owner.password, "")


@pytest.mark.parametrize("role", Role)
def test_a_member_with_the_same_role_looks_after_the_account(
    role: Role, cast: Cast, support: User
) -> None:
    Membership.objects.create(project=cast.project, user=support, role=Role.OWNER)
    Membership.objects.create(project=cast.project, user=cast.outsider, role=role)
    Membership.objects.filter(user=cast.outsider).exclude(project=cast.project).delete()
    client = Client()
    client.force_login(support)
    passwords = {"password1": "N0t-the-old-one", "password2": "N0t-the-old-one"}
    page = reverse("admin:auth_user_password_change", args=[cast.outsider.pk])
    assert client.post(page, {**passwords, "usable_password": "true"}).status_code == 302
    assert User.objects.get(pk=cast.outsider.pk).check_password("N0t-the-old-one")


def test_who_is_dismissed_does_not_undo_it_with_a_new_password(
    superuser: User, admin: Client
) -> None:
    """The account was read, somebody else takes its rights away, and then it is saved."""

    def dismiss() -> None:
        User.objects.filter(pk=superuser.pk).update(is_active=False, is_superuser=False)

    page = reverse("admin:auth_user_password_change", args=[superuser.pk])
    sent = requests_for(superuser)[page]
    with just_before('SET "password"', dismiss):
        assert admin.post(page, sent).status_code == 302
    stored = User.objects.get(pk=superuser.pk)
    assert stored.check_password("N0t-the-old-one")
    assert not stored.is_active and not stored.is_superuser


def test_there_is_one_place_to_guess_at_ones_own_password(
    cast: Cast, superuser: User, admin: Client
) -> None:
    viewer = Client()
    viewer.force_login(cast.viewer)
    superuser.set_password("the old password")
    superuser.save()
    admin.force_login(superuser)
    sent = {
        "old_password": "the old password",
        "new_password1": "long enough 88",
        "new_password2": "long enough 88",
    }
    before = AuditEntry.objects.count()
    for client in (admin, viewer, Client()):
        for answer in (
            client.get("/admin/password_change/"),
            client.post("/admin/password_change/", sent),
        ):
            assert (answer.status_code, answer.headers["Location"]) == (302, "/password/")
    assert AuditEntry.objects.count() == before
    assert User.objects.get(pk=superuser.pk).check_password("the old password")
    assert 'href="/password/"' in admin.get("/admin/").text

"""The admin's lists answer whatever filter stands in their address."""

from __future__ import annotations

import pytest
from django.contrib import admin as site
from django.contrib.auth.models import User
from django.db import models
from django.test import Client
from django.urls import reverse

from runners.models import Runner
from tasks.models import Task

# Django lets each through: what fails is to carry it out.
QUESTIONS = ["id__range=0", f"id={'9' * 30}", "id__in=1e9,%00", "pk__year=99999", "id__regex=%5B"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("model", list(site.site._registry), ids=lambda model: model.__name__)
def test_no_filter_in_an_address_is_an_error_of_the_server(
    model: type[models.Model], admin_client: Client
) -> None:
    place = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    for question in QUESTIONS:
        answer = admin_client.get(f"{place}?{question}", follow=True)
        assert answer.status_code in (200, 400), question


@pytest.mark.django_db(transaction=True)
def test_a_search_that_is_too_long_is_no_error_of_the_server(admin_client: Client) -> None:
    answer = admin_client.get("/admin/auth/user/", {"q": "a " * 1500}, follow=True)
    assert answer.status_code == 200


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("model", "question"),
    [
        (Task, "created_at__year=99999"),
        (Runner, "created_at__year=9999&created_at__month=12"),
        (Task, f"number={'9' * 30}"),
        (Task, "nothing__of__the__kind=1"),
        (User, "email__range=a"),
    ],
)
def test_who_asks_for_what_cannot_be_is_told_so_and_sees_the_whole_list(
    model: type[models.Model], question: str, admin_client: Client
) -> None:
    place = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    answer = admin_client.get(f"{place}?{question}", follow=True)
    assert answer.status_code == 200
    assert answer.request["QUERY_STRING"] == "e=1"
    assert "asked for what cannot be" in answer.content.decode()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("page", ["change", "delete"])
def test_an_empty_name_of_a_field_is_no_error_of_the_server(
    page: str, admin_user: User, admin_client: Client
) -> None:
    answer = admin_client.get(f"/admin/auth/user/{admin_user.pk}/{page}/?_to_field=")
    assert answer.status_code == 200


NUMBER = str(2**63)
DEEP = '{"a":' * 2000


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("address", "field", "sent", "told"),
    [
        ("tasks/tasktemplate", "environment", DEEP, "nested too deeply"),
        ("tasks/tasktemplate", "variable_groups", NUMBER, NUMBER),
        ("projects/variablegroup", "variables", DEEP, "nested too deeply"),
        ("auth/user", "groups", NUMBER, NUMBER),
        ("auth/group", "permissions", NUMBER, NUMBER),
    ],
)
def test_what_a_field_cannot_hold_is_told_at_it_and_the_rest_kept(
    address: str, field: str, sent: str, told: str, admin_user: User, admin_client: Client
) -> None:
    page = f"/admin/{address}/{admin_user.pk}/change/" if address == "auth/user" else (
        f"/admin/{address}/add/"
    )  # fmt: skip
    answer = admin_client.post(page, {"name": "Kept", "username": "kept", field: sent})
    assert answer.status_code == 200
    [sentence] = answer.context["adminform"].errors[field]
    assert told in sentence
    assert "ept" in answer.text

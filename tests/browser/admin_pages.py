"""The addresses of the admin, for pictures and for axe: every list and form of every model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.contrib.auth.models import User
from django.test import RequestFactory
from django.urls import reverse

from tasks.models import Task

# Has every right in the admin.
STAFF = "noor"
SELECTED = range(3)


def addresses() -> dict[str, str]:
    """By the picture's name; a model without a row has no form."""
    request = RequestFactory().get("/")
    request.user = User.objects.get(username=STAFF)
    found = {"admin": "/admin/", "admin-app": "/admin/runners/"}
    for model, page in admin.site._registry.items():
        found |= _of_model(model, page, request)
    for name in ("runners_runner", "tasks_task"):
        found[f"admin-{name}-nothing"] = reverse(f"admin:{name}_changelist") + "?q=no-such-thing"
    return found


def _of_model(model: type[Any], page: Any, request: Any) -> dict[str, str]:
    name = f"{model._meta.app_label}_{model._meta.model_name}"
    found = {f"admin-{name}": reverse(f"admin:{name}_changelist")}
    row = model._default_manager.order_by("pk").last()
    if row is not None:
        found[f"admin-{name}-form"] = reverse(f"admin:{name}_change", args=[row.pk])
        if page.has_delete_permission(request, row):
            found[f"admin-{name}-delete"] = reverse(f"admin:{name}_delete", args=[row.pk])
    if page.has_add_permission(request):
        found[f"admin-{name}-add"] = reverse(f"admin:{name}_add")
    return found


def steps(page: Any, url: str) -> Iterator[str]:
    """What only a click shows: each name is that of a picture to take now."""
    for name, model, action in (
        ("runner-pause", "runners_runner", "pause"),
        ("runner-rotate", "runners_runner", "rotate"),
        ("template-disable", "tasks_tasktemplate", "disable"),
        ("runner-end-older", "runners_runner", "end_older"),
        ("runner-delete-selected", "runners_runner", "delete_selected"),
        ("token-revoke", "projects_usertoken", "revoke"),
        ("registration-revoke", "runners_registrationtoken", "revoke"),
        ("task-force-stop", "tasks_task", "force_stop"),
        ("task-stop", "tasks_task", "stop"),
    ):
        page.goto(url + reverse(f"admin:{model}_changelist"))
        for place in SELECTED[:1] if action == "rotate" else SELECTED:
            page.locator(".action-select").nth(place).check()
        page.select_option("[name=action]", action)
        page.click("[name=index]")
        page.wait_for_load_state()
        yield f"admin-{name}"
    stopped = list(Task.objects.order_by("-pk")[: max(SELECTED) + 1])
    page.click("[name=sure]")
    page.wait_for_selector(".messagelist")
    yield "admin-told"
    for task in stopped:  # the same steps are gone again, for each width and theme
        task.save()
    page.goto(url + reverse("admin:projects_project_add"))
    page.click("[name=_save]")
    yield "admin-wrong"
    page.goto(url + reverse("admin:projects_usertoken_add"))
    page.fill("[name=name]", "nightly")
    page.click(".field-user .select2-selection")
    page.click(".select2-results__option >> text=noor")
    page.click("[name=_save]")
    page.wait_for_selector("#token")
    yield "admin-token"

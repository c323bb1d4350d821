"""Every page of Forge and of the admin in a real browser: nothing is loaded from elsewhere, and
nothing breaks the content security policy."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from projects.models import AccessKey, VariableGroup
from runners.models import RegistrationToken, Runner
from tasks.models import Task
from tests.broker import required
from tests.cast import Cast
from tests.pages.test_pages_access import PATHS, TABLE
from tests.writes import token_row

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or ""

pytestmark = pytest.mark.skipif(
    not CHROMIUM and "chromium" not in required(), reason="Chromium is not installed"
)


class Watcher:
    """A browser's page that remembers what it asked for and what it was refused."""

    def __init__(self, page: Any, url: str) -> None:
        self._page = page
        self.url = url
        self.asked: list[str] = []
        self.problems: list[str] = []
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.problems.append(f"{page.url}: {error}"))

    def _note(self, message: Any) -> None:
        text = message.text
        if "Content Security Policy" in text or "Refused to" in text:
            self.problems.append(f"{self._page.url}: {text}")

    def look_at(self, path: str) -> None:
        answer = self._page.goto(f"{self.url}{path}", wait_until="load")
        assert answer.status < 400, (path, answer.status)

    def elsewhere(self) -> list[str]:
        here = urlsplit(self.url).netloc
        return [
            url
            for url in self.asked
            if urlsplit(url).scheme != "data" and urlsplit(url).netloc != here
        ]


@pytest.fixture
def watcher(live_server: Any, superuser: User) -> Iterator[Watcher]:
    from playwright.sync_api import sync_playwright

    client = Client()
    client.force_login(superuser)
    session = client.cookies["forge_session"].value
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context()
        context.add_cookies([{"name": "forge_session", "value": session, "url": live_server.url}])
        yield Watcher(context.new_page(), live_server.url)
        browser.close()


def pages_of_forge(ids: dict[str, int]) -> list[str]:
    files = {"audit-export", "audit-all-export"}
    names = [name for method, name in TABLE if method == "GET" and name not in files]
    return ["/sign-in/?again", "/api/docs/", *(PATHS[name].format(**ids) for name in names)]


def pages_of_the_admin() -> list[str]:
    found = ["/admin/"]
    models = [apps.get_model("auth", name) for name in ("User", "Group")]
    for app in ("projects", "runners", "tasks"):
        models += apps.get_app_config(app).get_models()
    for model in models:
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        found.append(reverse(f"{name}_changelist"))
        row = model._default_manager.first()
        if row is not None:
            found += [reverse(f"{name}_{page}", args=[row.pk]) for page in ("change", "history")]
    adds = ("auth_user", "projects_project", "projects_accesskey", "runners_runner")
    return found + [reverse(f"admin:{name}_add") for name in (*adds, "tasks_tasktemplate")]


@pytest.mark.django_db(transaction=True)
def test_no_page_loads_from_another_host_or_breaks_its_policy(
    cast: Cast,
    running_task: Task,
    runner: Runner,
    registration: RegistrationToken,
    access_key: AccessKey,
    variable_group: VariableGroup,
    superuser: User,
    watcher: Watcher,
) -> None:
    ids = {"template": running_task.template_id, "runner": runner.pk, "task": running_task.pk}
    ids |= {"registration": registration.pk, "token": token_row(cast).pk}
    ids |= {"access_key": access_key.pk, "variable_group": variable_group.pk}
    ids |= {"member": cast.viewers_membership.pk, "project": cast.project.pk}
    token = PATHS["token-revoke"].format(**ids)  # of the owner; an administrator sees no other's
    for path in pages_of_forge(ids) + pages_of_the_admin():
        if path != token:
            watcher.look_at(path)
    assert len(watcher.asked) > 200
    assert watcher.elsewhere() == []
    assert watcher.problems == []


@pytest.mark.django_db(transaction=True)
def test_the_watch_notices_what_it_looks_for(watcher: Watcher) -> None:
    watcher.look_at("/")
    watcher._page.evaluate(
        """() => new Promise((done) => {
            const picture = new Image();
            picture.onerror = picture.onload = done;
            picture.src = "http://198.51.100.1/picture.png";
            document.body.appendChild(picture);
        })"""
    )
    assert watcher.problems or watcher.elsewhere()

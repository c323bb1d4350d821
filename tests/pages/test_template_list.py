"""The list of templates keeps itself up to date, and its rows where they are."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from tasks.models import Task, TaskTemplate
from tasks.operations import disable_template, remove_template, run_template, save_template
from tests.cast import Cast


def made(cast: Cast, name: str) -> TaskTemplate:
    return save_template(
        template=TaskTemplate(project=cast.project, name=name, script="true\n"), tags=[]
    )


@pytest.fixture
def operator(cast: Cast, browser: Callable[..., Client]) -> Client:
    return browser(cast.operator)


@pytest.fixture
def opened(cast: Cast, template: TaskTemplate, operator: Client) -> Callable[[], str]:
    """What the opened page asks for every two seconds, and gets."""
    return following(operator, cast)


def following(client: Client, cast: Cast) -> Callable[[], str]:
    page = client.get(f"/projects/{cast.project.pk}/templates/").content.decode()
    found = re.search(r'hx-get="([^"]+part=live[^"]*)"', page)
    assert found
    address = html.unescape(found[1])
    return lambda: client.get(address).content.decode()


def names(text: str) -> list[str]:
    return re.findall(r'class="name"[^>]*>([^<]+)<', text)


def test_a_new_template_waits_in_a_pill_and_moves_no_row(
    cast: Cast, opened: Callable[[], str]
) -> None:
    assert "new template" not in opened()
    made(cast, "Another")  # would come first
    text = opened()
    assert names(text) == ["Restart"]
    assert "1 new template<" in text
    made(cast, "Before all")
    assert "2 new templates<" in opened()


def test_what_becomes_of_a_row_is_seen_in_its_place(
    cast: Cast, opened: Callable[[], str], template: TaskTemplate
) -> None:
    task = run_template(template=template, by=cast.operator, now=timezone.now())
    assert f'href="/tasks/{task.pk}/"' in opened()
    template.description = "Described"
    save_template(template=template, tags=["gpu"])
    assert "Described" in opened()
    disable_template(template=template, reason="Not today", by=cast.owner, now=timezone.now())
    text = opened()
    assert "Not today" in text
    assert "/run/" not in text


def test_a_removed_template_keeps_its_place_without_a_button(
    cast: Cast, opened: Callable[[], str], operator: Client, template: TaskTemplate
) -> None:
    remove_template(template=template, now=timezone.now())
    text = opened()
    assert names(text) == ["Restart"]
    assert "Removed meanwhile" in text
    assert "/run/" not in text
    # Who opens the list now does not see it, not even after a while.
    assert names(following(operator, cast)()) == []


def test_an_empty_list_takes_in_what_comes(cast: Cast, operator: Client) -> None:
    opened = following(operator, cast)
    assert "No templates yet" in opened()
    made(cast, "First")
    assert names(opened()) == ["First"]


def test_every_button_of_the_list_works(
    cast: Cast, operator: Client, template: TaskTemplate
) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(cast.operator)
    page = client.get(f"/projects/{cast.project.pk}/templates/").content.decode()
    form = page[page.index('id="of-template"') :]
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', form)
    action = re.search(r'form="of-template" formaction="([^"]+)"', page)
    assert token
    assert action
    answer: Any = client.post(action[1], {"csrfmiddlewaretoken": token[1]})
    assert answer["Location"] == f"/tasks/{Task.objects.get().pk}/"


@pytest.mark.parametrize(
    "query",
    ["top=x&opened=y", "top=1&opened=999999999999999999", "top=-1", "top=1&opened=", "top=²"],
)
def test_what_is_no_number_or_time_shows_the_list(
    query: str, cast: Cast, operator: Client, template: TaskTemplate
) -> None:
    answer = operator.get(f"/projects/{cast.project.pk}/templates/?part=live&{query}")
    assert answer.status_code == 200
    assert "Restart" in answer.content.decode()


def test_others_templates_never_show_up(
    cast: Cast, browser: Callable[..., Client], template: TaskTemplate
) -> None:
    client = browser(cast.outsider)
    place = f"/projects/{cast.outsiders_project.pk}/templates/?part=live&top=999&opened=1"
    text = client.get(place).content.decode()
    assert names(text) == []
    assert client.get(f"/projects/{cast.project.pk}/templates/?part=live").status_code == 404


def test_an_empty_list_offers_once_to_begin_it(cast: Cast, browser: Callable[..., Client]) -> None:
    """What stands above the list comes with the first row, also while one looks."""
    owner, project = browser(cast.owner), f"/projects/{cast.project.pk}/"
    begun = {
        "templates/": "New template", "tasks/": "Run a template", "access-keys/": "New access key",
        "variable-groups/": "New variable group",
    }  # fmt: skip

    def offers(address: str, words: str) -> list[str]:
        links = re.findall(r"<a [^>]*>(?:<svg.*?</svg>)?[^<]*</a>", owner.get(address).text)
        return [link for link in links if f"{words}</a>" in link and " hidden>" not in link]

    for address, words in begun.items():
        assert len(offers(project + address, words)) == 1, address
    template = made(cast, "First")
    run_template(template=template, by=cast.owner, now=timezone.now())
    for address in ("templates/", "tasks/"):
        for part in ("", "?part=live"):
            assert len(offers(project + address + part, begun[address])) == 1, address

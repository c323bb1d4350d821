"""The first page of somebody with many projects: a filter by name and description."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from projects.models import Membership, Project
from tests.cast import Cast

FILTER = "Find projects by name or description"


@pytest.fixture
def many(cast: Cast) -> list[Project]:
    """Sixty more projects of the viewer; every third is described."""
    found = [
        Project.objects.create(name=f"Zone {n:02d}", description="" if n % 3 else "Warehouse & co")
        for n in range(60)
    ]
    for project in found:
        Membership.objects.create(project=project, user=cast.viewer, role="viewer")
    return found


@pytest.fixture
def viewer(cast: Cast, browser: Callable[..., Client]) -> Client:
    return browser(cast.viewer)


def names(text: str) -> list[str]:
    return re.findall(r'class="name cover" href="/projects/\d+/">([^<]+)<', text)


@pytest.mark.parametrize("part", ["", "&part=projects"])
def test_projects_are_found_by_name_and_description(
    part: str, many: list[Project], viewer: Client
) -> None:
    assert names(viewer.get(f"/?q=zone+07{part}").content.decode()) == ["Zone 07"]
    found = viewer.get(f"/?q=WAREHOUSE+%26{part}").content.decode()
    assert names(found) == [f"Zone {n:02d}" for n in range(0, 60, 3)]
    assert FILTER in viewer.get("/?q=zone").content.decode()


def test_pages_of_what_is_found_keep_the_filter(many: list[Project], viewer: Client) -> None:
    text = viewer.get("/?q=zone").content.decode()
    assert 'href="?q=zone&amp;page=2"' in text
    second = viewer.get("/?q=zone&page=2").content.decode()
    assert names(text) + names(second) == [f"Zone {n:02d}" for n in range(50)]
    assert "26–50 of 60" in second


def test_typing_keeps_the_address_up_to_date(many: list[Project], viewer: Client) -> None:
    assert viewer.get("/?part=projects&q=a+b")["HX-Replace-Url"] == "/?q=a+b"
    assert viewer.get("/?part=projects&q=")["HX-Replace-Url"] == "/"


def test_nothing_found_says_so_and_what_happens_elsewhere_stays(
    many: list[Project], viewer: Client
) -> None:
    text = viewer.get("/?q=%3Cscript%3E").content.decode()
    assert "No project of yours has “&lt;script&gt;” in its name" in text
    assert "Running now" in text
    assert "61 projects." in text
    assert "No projects yet" not in text


def test_others_projects_are_not_found(many: list[Project], viewer: Client) -> None:
    assert names(viewer.get("/?q=elsewhere").content.decode()) == []


def test_few_projects_need_no_filter(cast: Cast, viewer: Client) -> None:
    assert FILTER not in viewer.get("/").content.decode()


def test_a_filter_costs_a_fixed_number_of_queries(
    many: list[Project], viewer: Client, django_assert_max_num_queries: Any
) -> None:
    with django_assert_max_num_queries(15):
        viewer.get("/?q=zone")
    with django_assert_max_num_queries(6):
        viewer.get("/?part=projects&q=zone")

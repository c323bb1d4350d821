"""The audit log in the pages: each form that is sent leaves one entry, and the log shows it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from projects.audit.entry import AuditEntry
from projects.audit.recording import differences
from projects.models import AccessKey, Membership, VariableGroup
from runners.models import RegistrationToken, Runner
from runners.operations import rotate_token
from tasks.models import Task, TaskTemplate
from tasks.operations import remove_template, save_template
from tasks.trial import run_trial
from tests.cast import CANARY, Cast
from tests.pages.test_pages_access import NOT_A_METHOD, PATHS, TABLE
from tests.writes import (
    assert_nothing_secret,
    disabled,
    in_need_of_everything,
    one_entry,
    token_row,
)

TEMPLATE = {"name": "New", "app": "bash", "script": "true", "timeout_seconds": 60}
FORMS: dict[str, dict[str, Any]] = {
    "home": {"name": "New"},
    "template-new": TEMPLATE,
    "template": TEMPLATE | {"environment": f"TOKEN={CANARY}"},
    "template-run": {},
    "template-disable": {"reason": "Replaced"},
    "template-enable": {},
    "template-remove": {},
    "stop-all": {"until": 999_999_999, "scope": "all"},
    "task-stop": {},
    "task-force-stop": {},
    "task-rerun": {},
    "runner-new": {"name": "new-1", "concurrency": 2},
    "runner-pause": {"reason": "Disks are full", "length": ""},
    "runner-resume": {},
    "runner-drain": {"reason": "Kernel update", "stays_paused": "on"},
    "runner-change": {"tags": "linux, gpu", "concurrency": 2},
    "runner-test": {},
    "runner-lift": {},
    "runner-remove": {},
    "access-key-new": {"name": "New", "kind": "string", "value": CANARY},
    "access-key": {"name": "Registry", "value": CANARY * 2},
    "access-key-remove": {},
    "variable-group-new": {
        "name": "New",
        "new-0-name": "SECRET_A",
        "new-0-value": CANARY,
    },
    "variable-group": {"name": "Production 2"},
    "variable-group-remove": {},
    "runner-rotate": {"overlap": "3600"},
    "runner-end-older": {},
    "registration-token-new": {"name": "New", "lifetime": "86400", "max_uses": 1, "concurrency": 1},
    "registration-token-revoke": {},
    "project-settings": {"name": "Renamed", "max_parallel_tasks": 0},
    "members": {"user_name": "outsider", "role": "viewer"},
    "member": {"role": "operator"},
    "member-remove": {},
    "password": {
        "old_password": CANARY,
        "new_password1": CANARY * 2,
        "new_password2": CANARY * 2,
    },
    "tokens": {"name": "New", "lifetime": "604800"},
    "token-revoke": {},
}
WRITES = sorted(
    name for method, name in TABLE if method == "POST" and TABLE[method, name] != NOT_A_METHOD
)


def test_every_form_is_walked() -> None:
    assert set(WRITES) == FORMS.keys()


@pytest.mark.parametrize("name", WRITES)
def test_every_form_that_is_sent_leaves_exactly_one_entry_and_no_secret(
    name: str,
    cast: Cast,
    template: TaskTemplate,
    runner: Runner,
    task: Task,
    access_key: AccessKey,
    variable_group: VariableGroup,
    registration: RegistrationToken,
    browser: Callable[..., Client],
) -> None:
    in_need_of_everything(runner, cast)
    ids = {"template": template.pk, "runner": runner.pk, "task": task.pk}
    ids |= {"registration": registration.pk, "token": token_row(cast).pk}
    ids |= {"access_key": access_key.pk, "variable_group": variable_group.pk}
    ids |= {"member": cast.viewers_membership.pk, "project": cast.project.pk}
    if name == "password":
        cast.owner.set_password(CANARY)
        cast.owner.save()
    client = browser(cast.owner)
    if name == "template-enable":
        disabled(template, cast)
    if name == "runner-test":
        # The first one also makes a template, which is an entry of its own.
        run_trial(runner=runner, by=cast.owner, now=timezone.now())
    with one_entry() as entries:
        answer = client.post(PATHS[name].format(**ids), FORMS[name])
        assert answer.status_code in (200, 302), answer.context["form"].errors
    entry = entries[0]
    assert (entry.actor, entry.way, entry.address) == ("owner", "page", "127.0.0.1")
    assert_nothing_secret()
    if entry.project_id == cast.project.pk:
        assert entry.name in client.get(f"/projects/{cast.project.pk}/audit/").text


def test_signing_in_and_out_and_failing_to_are_written_down(cast: Cast) -> None:
    cast.owner.set_password("correct horse battery")
    cast.owner.save()
    client = Client()
    with one_entry() as entries:
        client.post("/sign-in/", {"username": "owner", "password": "wrong"})
    assert (entries[0].verb, entries[0].name, entries[0].actor) == (
        "sign_in_failed", "owner", "nobody",
    )  # fmt: skip
    with one_entry() as entries:
        client.post("/sign-in/", {"username": "owner", "password": "correct horse battery"})
    assert (entries[0].verb, entries[0].actor) == ("signed_in", "owner")
    with one_entry() as entries:
        client.post("/sign-out/")
    assert (entries[0].verb, entries[0].actor) == ("signed_out", "owner")


def test_a_password_typed_as_a_name_is_not_written_down(cast: Cast) -> None:
    with one_entry() as entries:
        Client().post("/sign-in/", {"username": CANARY, "password": "wrong"})
    assert entries[0].name == "an unknown account"
    assert_nothing_secret()


def test_the_history_of_a_template_and_a_runner_stands_on_their_pages(
    cast: Cast, template: TaskTemplate, runner: Runner, browser: Callable[..., Client]
) -> None:
    template.timeout_seconds = 7
    save_template(template=template, tags=["linux"])
    page = browser(cast.manager).get(f"/templates/{template.pk}/").text
    assert "timeout seconds 3600 → 7" in page
    assert "History" in browser(cast.manager).get(f"/runners/{runner.pk}/").text
    rotate_token(runner=runner, overlap=timedelta(hours=1), by=cast.manager, now=timezone.now())
    page = browser(cast.manager).get(f"/runners/{runner.pk}/").text
    assert "<span>Gave a new token</span>" in page
    assert "History" not in browser(cast.viewer).get(f"/runners/{runner.pk}/").text


def test_the_log_of_what_is_gone_can_still_be_read(
    cast: Cast, template: TaskTemplate, browser: Callable[..., Client]
) -> None:
    remove_template(template=template, now=timezone.now())
    query = f"?kind=template&object={template.pk}"
    page = browser(cast.owner).get(f"/projects/{cast.project.pk}/audit/{query}").text
    assert "Removed template" in page and "Created template" in page


def test_a_filter_that_cannot_be_read_says_so_and_keeps_what_was_typed(
    cast: Cast, browser: Callable[..., Client]
) -> None:
    path = f"/projects/{cast.project.pk}/audit/"
    page = browser(cast.owner).get(f"{path}?since=yesterday").text
    assert "yesterday is no date. Write 2026-11-25" in page and 'value="yesterday"' in page
    assert browser(cast.owner).get(f"{path}csv?since=yesterday").status_code == 400
    page = browser(cast.owner).get(f"{path}?since=2026-11-30&until=2026-11-01").text
    assert "This is not after From, so nothing can be found." in page


def test_a_span_of_time_stands_in_fields_of_date_and_time_with_its_moment(
    cast: Cast, browser: Callable[..., Client]
) -> None:
    path = f"/projects/{cast.project.pk}/audit/"
    given = "?since=2026-11-25T10:30%2B02:00&until=2026-11-26"
    page = browser(cast.owner).get(f"{path}{given}").text
    assert page.count('type="datetime-local"') == 2
    assert 'value="2026-11-25T08:30" data-moment="2026-11-25T08:30:00+00:00"' in page
    # A date as the end means the whole of that day.
    assert 'value="2026-11-27T00:00" data-moment="2026-11-27T00:00:00+00:00"' in page


def test_the_pages_lead_through_the_whole_log(cast: Cast, browser: Callable[..., Client]) -> None:
    for number in range(51):
        row = TaskTemplate(project=cast.project, name=f"Nightly {number}", script="true")
        save_template(template=row, tags=[])
    client = browser(cast.owner)
    path = f"/projects/{cast.project.pk}/audit/?who=Forge"
    first = client.get(path)
    older = first.context["older_query"]
    assert "Nightly 50" in first.text and "Nightly 1<" in first.text
    second = client.get(f"/projects/{cast.project.pk}/audit/?{older}")
    assert [line.entry.name for line in second.context["lines"]] == ["Nightly 0"]
    assert second.context["newer_query"] and not second.context["older_query"]


def test_the_log_takes_a_bounded_number_of_queries(
    cast: Cast, browser: Callable[..., Client], django_assert_max_num_queries: Any
) -> None:
    for number in range(50):
        row = TaskTemplate(project=cast.project, name=f"Nightly {number}", script="a\nb")
        save_template(template=row, tags=[])
    client = browser(cast.owner)
    with django_assert_max_num_queries(12):
        client.get(f"/projects/{cast.project.pk}/audit/")


def test_of_a_change_that_the_log_has_in_part_all_lines_are_counted(
    cast: Cast, browser: Callable[..., Client]
) -> None:
    row = TaskTemplate(project=cast.project, name="Long", script="echo a")
    save_template(template=row, tags=[])
    row.script = "\n".join(f"echo {number:03} {'x' * 250}" for number in range(300))
    save_template(template=row, tags=[])
    client = browser(cast.owner)
    for address in (f"/projects/{cast.project.pk}/audit/", f"/templates/{row.pk}/history/"):
        assert "the log keeps the first part of so large a change" in client.get(address).text
    assert "script +300 −1" in client.get(f"/projects/{cast.project.pk}/audit/").text
    row.script += "\necho last"
    save_template(template=row, tags=[])
    assert "script +1 −0" in client.get(f"/projects/{cast.project.pk}/audit/").text


@pytest.mark.parametrize("count", [900, 9000])
def test_texts_that_are_made_to_be_compared_for_long_are_compared_in_part(count: int) -> None:
    """Line by line the second would take minutes, with the database locked."""
    letters = [chr(256 + number) for number in range(100)]
    old = [letters[number % 100] for number in range(count)]
    new = [letters[99 - number % 100] for number in range(count)]
    frame = (["begin"] * 3000, ["end"] * 3000)
    texts = ["\n".join([*frame[0], *middle, *frame[1]]) for middle in (old, new)]
    found = differences({"script": texts[0]}, {"script": texts[1]})["script"]
    assert found["diff"].startswith("@@ -3001,9000 +3001,9000 @@" if count > 1000 else "@@ -2999,")
    if count > 1000:
        assert (found["added"], found["removed"]) == (count, count)
        assert "begin" not in found["diff"]
    else:
        assert found["diff"].count("\n begin") == 2


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("echo one  # see \u2028touch x\n", "echo one  # see \ntouch x\n"),
        ("echo\vone\n", "echo\none\n"),
        ("a\r\nb\r\n", "a\nb\n"),
        ("a\nb", "a\nb\n"),
        ("a\nb\n", "a\nb\n\n"),
    ],
)
def test_no_texts_that_differ_look_alike_in_the_log(old: str, new: str) -> None:
    """A line is what a shell takes for one: it is to be seen when a comment becomes a command."""
    found = differences({"script": old}, {"script": new})["script"]["diff"]
    assert found.count("\n+") + found.count("\n-") > 0
    added = {line[1:] for line in found.split("\n") if line.startswith("+")}
    assert not added & set(old.split("\n")[:-1])


def test_the_place_of_a_change_far_below_is_that_of_the_whole_text() -> None:
    old = [f"line {number}" for number in range(5000)]
    new = [*old[:4000], "more", *old[4001:]]
    change = differences({"script": "\n".join(old)}, {"script": "\n".join(new)})["script"]
    assert change == {
        "diff": "@@ -3999,5 +3999,5 @@\n line 3998\n line 3999\n-line 4000\n+more\n"
        " line 4001\n line 4002"
    }


def test_markup_in_names_and_in_scripts_is_text(cast: Cast, browser: Callable[..., Client]) -> None:
    evil = '<script>alert(1)</script>"\u202e'
    AuditEntry.objects.create(
        at=timezone.now(), way="page", actor=evil, means=evil, verb="changed", kind="template",
        name=evil, project_id=cast.project.pk, detail=evil,
        changes={evil: {"old": evil, "new": evil}, "script": {"diff": f"+{evil}"}},
    )  # fmt: skip
    page = browser(cast.owner).get(f"/projects/{cast.project.pk}/audit/").text
    assert "<script>alert" not in page


# --- members ---


def test_the_members_page_shows_everybody_and_its_form_to_owners_only(
    cast: Cast, browser: Callable[..., Client]
) -> None:
    path = f"/projects/{cast.project.pk}/members/"
    page = browser(cast.viewer).get(path).text
    assert "4 people: 1 owner, 1 manager, 1 operator, 1 viewer." in page
    assert "Add a member" not in page and "Remove" not in page
    assert "Add a member" in browser(cast.owner).get(path).text


def test_an_unknown_name_is_a_sentence_at_its_field(
    cast: Cast, browser: Callable[..., Client]
) -> None:
    path = f"/projects/{cast.project.pk}/members/"
    answer = browser(cast.owner).post(path, {"user_name": "nobody-here", "role": "viewer"})
    assert answer.status_code == 400
    assert "There is no active account called nobody-here." in answer.text
    assert 'value="nobody-here"' in answer.text


def test_the_last_owner_stays(cast: Cast, browser: Callable[..., Client]) -> None:
    mine = Membership.objects.get(project=cast.project, user=cast.owner)
    client = browser(cast.owner)
    answer = client.post(f"/members/{mine.pk}/", {"role": "viewer"})
    assert answer.status_code == 400 and "last active owner" in answer.text
    answer = client.post(f"/members/{mine.pk}/remove/", follow=True)
    assert "last active owner" in answer.text
    asked = client.get(f"/members/{mine.pk}/remove/", follow=True)
    assert asked.redirect_chain == [(f"/members/{mine.pk}/", 302)]
    assert "last active owner" in asked.text
    mine.refresh_from_db()
    assert mine.role == "owner"


def test_removing_a_member_says_what_stays_open(
    cast: Cast,
    runner: Runner,
    task: Task,
    registration: RegistrationToken,
    browser: Callable[..., Client],
) -> None:
    client = browser(cast.owner)
    operator = Membership.objects.get(project=cast.project, user=cast.operator)
    page = client.get(f"/members/{operator.pk}/remove/").text
    assert "1 task they started goes on." in page
    mine = Membership.objects.get(project=cast.project, user=cast.owner)
    cast.project.memberships.create(user=cast.outsider, role="owner")
    page = client.get(f"/members/{mine.pk}/remove/").text
    assert "1 registration token they made still works." in page
    assert "They were shown the token of 1 runner." in page


def test_an_administrator_who_is_removed_is_not_said_to_be_locked_out(
    cast: Cast, superuser: User, browser: Callable[..., Client]
) -> None:
    client = browser(cast.owner)
    theirs = cast.project.memberships.create(user=superuser, role="viewer")
    address = f"/members/{theirs.pk}/remove/"
    asked = client.get(address).text
    assert "who can open every project" in asked and "close for them" not in asked
    said = client.post(address, follow=True).text
    assert "they can still open every project" in said and "Nothing of this project" not in said


def test_who_was_removed_finds_nothing_any_more(cast: Cast, browser: Callable[..., Client]) -> None:
    theirs = browser(cast.viewer)
    assert theirs.get(f"/projects/{cast.project.pk}/").status_code == 200
    browser(cast.owner).post(f"/members/{cast.viewers_membership.pk}/remove/")
    assert theirs.get(f"/projects/{cast.project.pk}/").status_code == 404


def test_the_admin_has_no_second_door(cast: Cast, browser: Callable[..., Client]) -> None:
    answer = Client().get("/admin/login/?next=/admin/runners/")
    assert answer["Location"] == "/sign-in/?next=%2Fadmin%2Frunners%2F"
    elsewhere = Client().get("/admin/login/?next=https://elsewhere.example/")
    assert elsewhere["Location"] == "/sign-in/?next=%2Fadmin%2F"
    assert Client().post("/admin/login/", {"username": "a", "password": "b"}).status_code == 405
    answer = browser(cast.owner).get("/admin/", follow=True)
    assert answer.status_code == 403 and "The admin is for staff" in answer.text

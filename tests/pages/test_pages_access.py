"""Every page, every method, everybody: who gets which answer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import URLPattern
from django.utils import timezone

from forge.pages.urls import urlpatterns
from projects.models import AccessKey, VariableGroup
from projects.operations import create_user_token
from runners.models import RegistrationToken, Runner
from tasks.models import Task, TaskTemplate
from tests.cast import CANARY, EVERYBODY, Cast

METHODS = ("GET", "POST", "PUT", "DELETE")
# owner, manager, operator, viewer, outsider, nobody; 302 sends nobody to the sign-in page
MEMBERS = (200, 200, 200, 200, 404, 302)
MANAGERS = (200, 200, 403, 403, 404, 302)
MANAGERS_DO = (302, 302, 403, 403, 404, 302)
OWNERS = (200, 403, 403, 403, 404, 302)
OWNERS_DO = (302, 403, 403, 403, 404, 302)
OWNERS_FILL_IN = (400, 403, 403, 403, 404, 302)
ADMINISTRATORS = (403, 403, 403, 403, 403, 302)
OPERATORS = (200, 200, 200, 403, 404, 302)
OPERATORS_FILL_IN = (400, 400, 400, 403, 404, 302)
OPERATORS_DO = (302, 302, 302, 403, 404, 302)
# The form is sent empty: to be told so is to be let in.
MANAGERS_FILL_IN = (400, 400, 403, 403, 404, 302)
# Whatever it is about: the page that it leads to tells, or does not.
LEADS_THERE = (302, 302, 302, 302, 302, 302)
NOT_A_METHOD = (405, 405, 405, 405, 405, 302)

TABLE = {
    ("GET", "home"): (200, 200, 200, 200, 200, 302),
    ("POST", "home"): (400, 400, 400, 400, 400, 302),
    ("GET", "find"): (200, 200, 200, 200, 200, 302),
    ("GET", "project"): MEMBERS,
    ("GET", "templates"): MEMBERS,
    ("GET", "template-new"): MANAGERS,
    ("POST", "template-new"): MANAGERS_FILL_IN,
    ("GET", "template"): MEMBERS,
    ("POST", "template"): MANAGERS_FILL_IN,
    ("GET", "template-run"): OPERATORS,
    ("POST", "template-run"): OPERATORS_DO,
    ("GET", "template-disable"): MANAGERS,
    ("POST", "template-disable"): MANAGERS_FILL_IN,
    ("GET", "template-enable"): LEADS_THERE,
    ("POST", "template-enable"): MANAGERS_DO,
    ("GET", "template-history"): MANAGERS,
    ("GET", "template-remove"): MANAGERS,
    ("POST", "template-remove"): MANAGERS_DO,
    ("GET", "tasks"): MEMBERS,
    ("GET", "queue"): MEMBERS,
    ("GET", "stop-all"): OPERATORS,
    ("POST", "stop-all"): OPERATORS_FILL_IN,
    ("GET", "task"): MEMBERS,
    ("GET", "task-log-search"): MEMBERS,
    ("GET", "task-log-lines"): MEMBERS,
    ("GET", "task-log-outline"): MEMBERS,
    ("GET", "task-stop"): OPERATORS,
    ("POST", "task-stop"): OPERATORS_DO,
    ("GET", "task-force-stop"): OPERATORS,
    ("POST", "task-force-stop"): OPERATORS_DO,
    ("GET", "task-rerun"): OPERATORS,
    ("POST", "task-rerun"): OPERATORS_DO,
    ("GET", "runners"): MEMBERS,
    ("GET", "runner-new"): MANAGERS,
    ("POST", "runner-new"): MANAGERS_FILL_IN,
    ("GET", "runner"): MEMBERS,
    ("GET", "runner-contact"): MEMBERS,
    ("GET", "runner-test"): LEADS_THERE,
    ("POST", "runner-test"): MANAGERS_DO,
    ("GET", "runner-lift"): LEADS_THERE,
    ("POST", "runner-lift"): MANAGERS_DO,
    ("GET", "runner-remove"): MANAGERS,
    ("POST", "runner-remove"): MANAGERS_DO,
    ("GET", "runner-pause"): MANAGERS,
    ("POST", "runner-pause"): MANAGERS_FILL_IN,
    ("GET", "runner-resume"): LEADS_THERE,
    ("POST", "runner-resume"): MANAGERS_DO,
    ("GET", "runner-drain"): MANAGERS,
    ("POST", "runner-drain"): MANAGERS_FILL_IN,
    ("GET", "runner-change"): MANAGERS,
    ("POST", "runner-change"): MANAGERS_FILL_IN,
    ("GET", "access-keys"): MEMBERS,
    ("GET", "access-key-new"): MANAGERS,
    ("POST", "access-key-new"): MANAGERS_FILL_IN,
    ("GET", "access-key"): MEMBERS,
    ("POST", "access-key"): MANAGERS_FILL_IN,
    ("GET", "access-key-remove"): MANAGERS,
    ("POST", "access-key-remove"): MANAGERS_DO,
    ("GET", "variable-groups"): MEMBERS,
    ("GET", "variable-group-new"): MANAGERS,
    ("POST", "variable-group-new"): MANAGERS_FILL_IN,
    ("GET", "variable-group"): MEMBERS,
    ("POST", "variable-group"): MANAGERS_FILL_IN,
    ("GET", "variable-group-remove"): MANAGERS,
    ("POST", "variable-group-remove"): MANAGERS_DO,
    ("GET", "runner-rotate"): MANAGERS,
    ("POST", "runner-rotate"): MANAGERS_FILL_IN,
    ("GET", "runner-end-older"): MANAGERS,
    ("POST", "runner-end-older"): MANAGERS_DO,
    ("GET", "registration-tokens"): MANAGERS,
    ("GET", "registration-token-new"): MANAGERS,
    ("POST", "registration-token-new"): MANAGERS_FILL_IN,
    ("GET", "registration-hosts"): MANAGERS,
    ("GET", "registration-token-revoke"): MANAGERS,
    ("POST", "registration-token-revoke"): MANAGERS_DO,
    ("GET", "project-settings"): MANAGERS,
    ("POST", "project-settings"): MANAGERS_FILL_IN,
    ("GET", "members"): MEMBERS,
    ("POST", "members"): OWNERS_FILL_IN,
    ("GET", "member"): OWNERS,
    ("POST", "member"): OWNERS_FILL_IN,
    ("GET", "member-remove"): OWNERS,
    ("POST", "member-remove"): OWNERS_DO,
    ("GET", "audit"): MANAGERS,
    ("GET", "audit-export"): MANAGERS,
    ("GET", "audit-all"): ADMINISTRATORS,
    ("GET", "audit-all-export"): ADMINISTRATORS,
    ("GET", "runners-all"): (200, 200, 200, 200, 200, 302),
    ("GET", "password"): (200, 200, 200, 200, 200, 302),
    ("POST", "password"): (400, 400, 400, 400, 400, 302),
    ("GET", "tokens"): (200, 200, 200, 200, 200, 302),
    ("POST", "tokens"): (400, 400, 400, 400, 400, 302),
    # A token of the owner's: not even a manager of the same project sees it.
    ("GET", "token-revoke"): (200, 404, 404, 404, 404, 302),
    ("POST", "token-revoke"): (302, 404, 404, 404, 404, 302),
}
PATHS = {
    "home": "/",
    "find": "/find/?q=restart",
    "project": "/projects/{project}/",
    "templates": "/projects/{project}/templates/",
    "template-new": "/projects/{project}/templates/new/",
    "template": "/templates/{template}/",
    "template-run": "/templates/{template}/run/",
    "template-disable": "/templates/{template}/disable/",
    "template-enable": "/templates/{template}/enable/",
    "template-history": "/templates/{template}/history/",
    "template-remove": "/templates/{template}/remove/",
    "tasks": "/projects/{project}/tasks/",
    "queue": "/projects/{project}/queue/",
    "stop-all": "/projects/{project}/stop-all/",
    "task": "/tasks/{task}/",
    "task-log-search": "/tasks/{task}/log/search",
    "task-log-lines": "/tasks/{task}/log/lines",
    "task-log-outline": "/tasks/{task}/log/outline",
    "task-stop": "/tasks/{task}/stop/",
    "task-force-stop": "/tasks/{task}/force-stop/",
    "task-rerun": "/tasks/{task}/rerun/",
    "runners": "/projects/{project}/runners/",
    "runner-new": "/projects/{project}/runners/new/",
    "runner": "/runners/{runner}/",
    "runner-contact": "/runners/{runner}/contact/",
    "runner-test": "/runners/{runner}/test/",
    "runner-lift": "/runners/{runner}/lift/",
    "runner-pause": "/runners/{runner}/pause/",
    "runner-resume": "/runners/{runner}/resume/",
    "runner-drain": "/runners/{runner}/drain/",
    "runner-change": "/runners/{runner}/change/",
    "runner-remove": "/runners/{runner}/remove/",
    "access-keys": "/projects/{project}/access-keys/",
    "access-key-new": "/projects/{project}/access-keys/new/",
    "access-key": "/access-keys/{access_key}/",
    "access-key-remove": "/access-keys/{access_key}/remove/",
    "variable-groups": "/projects/{project}/variable-groups/",
    "variable-group-new": "/projects/{project}/variable-groups/new/",
    "variable-group": "/variable-groups/{variable_group}/",
    "variable-group-remove": "/variable-groups/{variable_group}/remove/",
    "runner-rotate": "/runners/{runner}/rotate/",
    "runner-end-older": "/runners/{runner}/end-older/",
    "registration-tokens": "/projects/{project}/registration-tokens/",
    "registration-token-new": "/projects/{project}/registration-tokens/new/",
    "registration-hosts": "/registration-tokens/{registration}/hosts/",
    "registration-token-revoke": "/registration-tokens/{registration}/revoke/",
    "project-settings": "/projects/{project}/settings/",
    "members": "/projects/{project}/members/",
    "member": "/members/{member}/",
    "member-remove": "/members/{member}/remove/",
    "audit": "/projects/{project}/audit/",
    "audit-export": "/projects/{project}/audit/csv",
    "audit-all": "/audit/",
    "audit-all-export": "/audit/jsonl",
    "runners-all": "/runners/",
    "password": "/password/",
    "tokens": "/tokens/",
    "token-revoke": "/tokens/{token}/revoke/",
}
# Open to everybody, or streams, which have tests of their own.
ELSEWHERE = {"sign-in", "sign-out", "task-stream", "task-log"}


def token_of(user: User) -> int:
    new = create_user_token(user=user, name="mine", expires_at=None, now=timezone.now())
    return new.row.pk


@pytest.mark.parametrize("who", EVERYBODY)
@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("method", METHODS)
def test_everybody_gets_the_answer_in_the_table(
    method: str,
    name: str,
    who: str,
    cast: Cast,
    template: TaskTemplate,
    runner: Runner,
    task: Task,
    access_key: AccessKey,
    variable_group: VariableGroup,
    registration: RegistrationToken,
    browser: Callable[..., Client],
) -> None:
    ids = {"template": template.pk, "runner": runner.pk, "task": task.pk}
    ids |= {"registration": registration.pk, "token": token_of(cast.owner)}
    ids |= {"access_key": access_key.pk, "variable_group": variable_group.pk}
    ids |= {"member": cast.viewers_membership.pk}
    path = PATHS[name].format(project=cast.project.pk, **ids)
    answer = browser(cast.user(who)).generic(method, path)
    expected = dict(zip(EVERYBODY, TABLE.get((method, name), NOT_A_METHOD), strict=True))
    assert answer.status_code == expected[who]


def test_the_table_names_every_address() -> None:
    names = {pattern.name for pattern in urlpatterns if isinstance(pattern, URLPattern)}
    assert names - ELSEWHERE == PATHS.keys()
    assert {name for _, name in TABLE} == PATHS.keys()


@pytest.mark.parametrize("path", ["/templates/1/run/", "/tasks/1/stop/", "/tasks/1/rerun/", "/"])
def test_a_post_without_a_csrf_token_is_refused_in_the_look_of_the_house(
    path: str, cast: Cast
) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(cast.owner)
    answer = client.post(path)
    assert answer.status_code == 403
    assert "This form is out of date" in answer.content.decode()


def test_nobody_comes_back_after_signing_in_to_the_page_they_asked_for(cast: Cast) -> None:
    cast.owner.set_password("correct horse battery")
    cast.owner.save()
    client = Client()
    sent = client.get(f"/projects/{cast.project.pk}/tasks/")
    assert sent["Location"] == f"/sign-in/?next=/projects/{cast.project.pk}/tasks/"
    answer = client.post(
        sent["Location"],
        {
            "username": "owner",
            "password": "correct horse battery",
            "next": f"/projects/{cast.project.pk}/tasks/",
        },
    )
    assert answer["Location"] == f"/projects/{cast.project.pk}/tasks/"


def test_a_wrong_password_says_so_and_keeps_the_name(cast: Cast) -> None:
    answer = Client().post("/sign-in/", {"username": "owner", "password": "wrong"})
    text = answer.content.decode()
    assert "do not match an active account" in text
    assert 'value="owner"' in text


def test_who_has_to_wait_finds_the_name_as_it_was_typed(cast: Cast) -> None:
    """Capital letters matter in it: with another one the right password would be wrong too."""
    User.objects.create_user("Anna")
    client, fields = Client(), {"username": "Anna", "password": "wrong"}
    while (answer := client.post("/sign-in/", fields)).status_code == 200:
        assert 'value="Anna"' in answer.text
    assert answer.status_code == 429 and 'value="Anna"' in answer.text


def test_signing_in_never_leads_to_another_site(cast: Cast) -> None:
    cast.owner.set_password("correct horse battery")
    cast.owner.save()
    fields = {"username": "owner", "password": "correct horse battery"}
    answer = Client().post("/sign-in/", fields | {"next": "https://elsewhere.example/"})
    assert answer["Location"] == "/"


def test_signing_out_needs_a_post(cast: Cast, browser: Callable[..., Client]) -> None:
    client = browser(cast.owner)
    assert client.get("/sign-out/").status_code == 405
    assert client.post("/sign-out/")["Location"] == "/sign-in/"
    assert client.get("/").status_code == 302


def test_the_refusal_names_the_role_and_the_project(
    cast: Cast, template: TaskTemplate, browser: Callable[..., Client]
) -> None:
    text = browser(cast.viewer).post(f"/templates/{template.pk}/run/").content.decode()
    assert "Running tasks in Payments needs another role. Yours is viewer." in text
    assert "Your role does not allow this" in text
    text = browser(cast.viewer).get(f"/projects/{cast.project.pk}/settings/").content.decode()
    assert "Changing the settings in Payments needs another role. Yours is viewer." in text


def test_buttons_that_would_be_refused_are_not_shown(
    cast: Cast, task: Task, runner: Runner, browser: Callable[..., Client]
) -> None:
    client = browser(cast.viewer)
    pages = {
        f"/tasks/{task.pk}/": f"/tasks/{task.pk}/stop/",
        f"/runners/{runner.pk}/": f"/runners/{runner.pk}/r",
        f"/projects/{cast.project.pk}/runners/": "/runners/new/",
        f"/projects/{cast.project.pk}/templates/": "/run/",
    }
    for page, action in pages.items():
        assert action not in client.get(page).content.decode()


def test_no_page_has_a_script_or_a_style_inside_or_shows_a_secret(
    cast: Cast,
    task: Task,
    runner: Runner,
    registration: RegistrationToken,
    access_key: AccessKey,
    variable_group: VariableGroup,
    browser: Callable[..., Client],
) -> None:
    client = browser(cast.owner)
    ids = {"template": task.template_id, "runner": runner.pk, "task": task.pk}
    ids |= {"access_key": access_key.pk, "variable_group": variable_group.pk}
    ids |= {"member": cast.viewers_membership.pk}
    ids |= {"registration": registration.pk, "token": token_of(cast.owner)}
    for method, name in TABLE:
        if method == "GET":
            answer = client.get(PATHS[name].format(project=cast.project.pk, **ids))
            text = answer.getvalue().decode()
            assert CANARY not in text
            assert " style=" not in text
            assert "<style" not in text
            assert " onclick=" not in text
            assert " hx-on" not in text
            assert text.count("<script") == text.count("<script src=") + text.count(
                '<script type="module" src='
            )


@pytest.mark.parametrize("pk", [0, 10**18, 10**30])
def test_an_impossible_number_is_not_found(
    pk: int, cast: Cast, browser: Callable[..., Client]
) -> None:
    client = browser(cast.owner)
    for path in (f"/projects/{pk}/", f"/tasks/{pk}/", f"/runners/{pk}/", f"/templates/{pk}/"):
        answer = client.get(path)
        assert answer.status_code == 404
        assert "There is nothing here" in answer.content.decode()


def test_a_refusal_is_true_for_whoever_is_refused(
    cast: Cast, superuser: User, browser: Callable[..., Client]
) -> None:
    """No other role would open what is for administrators, or what nobody can do."""
    audit = browser(cast.owner).get("/audit/").text
    assert "is for administrators" in audit
    delete = f"/admin/projects/project/{cast.project.pk}/delete/"
    for_administrator = browser(superuser).get(delete)
    assert "No account can do this here" in for_administrator.text
    User.objects.filter(pk=cast.manager.pk).update(is_staff=True)
    staff = browser(User.objects.get(pk=cast.manager.pk)).get(delete)
    assert "may lack a right that an administrator can give" in staff.text
    assert for_administrator.status_code == staff.status_code == 403
    for text in (audit, for_administrator.text, staff.text):
        assert "Your role" not in text and "owner or manager" not in text

"""Access keys and variable groups: what the forms accept, keep and never show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from projects.encryption import new_key
from projects.models import AccessKey, VariableGroup
from tasks.models import Task, TaskTemplate
from tasks.operations import run_template, save_template
from tests.cast import CANARY, Cast
from tests.pages.test_pages_templates import GOOD

PEM = "-----BEGIN X PRIVATE KEY-----\r\nAbCdEfGhIjKl\r\n-----END X PRIVATE KEY-----"


@pytest.fixture
def owner(cast: Cast, browser: Callable[..., Client]) -> Client:
    return browser(cast.owner)


@pytest.fixture
def new_key_page(cast: Cast) -> str:
    return f"/projects/{cast.project.pk}/access-keys/new/"


@pytest.fixture
def new_group_page(cast: Cast) -> str:
    return f"/projects/{cast.project.pk}/variable-groups/new/"


@pytest.mark.parametrize(
    ("fields", "login", "parts"),
    [
        ({"kind": "string", "value": CANARY + "\r\n"}, "", {"value": CANARY}),
        ({"kind": "string", "value": "two\r\nlines\r\n"}, "", {"value": "two\nlines"}),
        (
            {"kind": "login_password", "login": "me", "password": CANARY},
            "me",
            {"password": CANARY},
        ),
        ({"kind": "ssh", "private_key": PEM}, "", {"private_key": PEM.replace("\r", "") + "\n"}),
        ({"kind": "none"}, "", {}),
        # What was typed before another kind was chosen is not taken.
        ({"kind": "string", "value": CANARY, "login": "x", "password": "y"}, "", {"value": CANARY}),
    ],
)
def test_a_key_of_each_kind_is_stored(
    fields: dict[str, str], login: str, parts: Any, owner: Client, new_key_page: str
) -> None:
    answer = owner.post(new_key_page, {"name": "K", **fields}, follow=True)
    key = AccessKey.objects.get()
    assert (key.login, key.open()) == (login, parts)
    text = answer.content.decode()
    assert "Saved K." in text and CANARY not in text


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"kind": "string"}, "Enter the secret."),
        ({"kind": "string", "value": "tiny"}, "at least 8 characters"),
        ({"kind": "ssh", "private_key": "ssh-rsa AAA"}, "This is not a private key"),
        ({"kind": "ssh", "private_key": PEM, "passphrase": "tiny"}, "at least 8 characters"),
        ({"kind": "carrier pigeon"}, "not one of the available choices"),
        ({"kind": "string", "value": CANARY, "name": ""}, "This field is required"),
    ],
)
def test_what_is_wrong_is_said_and_no_secret_comes_back(
    fields: dict[str, str], sentence: str, owner: Client, new_key_page: str
) -> None:
    answer = owner.post(new_key_page, {"name": "A name that stays", **fields})
    text = answer.content.decode()
    assert answer.status_code == 400 and sentence in text
    assert "type them again" in text
    assert "name" in fields or "A name that stays" in text
    assert CANARY not in text and "AbCdEfGhIjKl" not in text
    assert not AccessKey.objects.exists()


def test_a_key_is_renamed_without_its_secret_and_its_secret_replaced(
    owner: Client, access_key: AccessKey
) -> None:
    page = f"/access-keys/{access_key.pk}/"
    shown = owner.get(page).content.decode()
    assert "Replace the secret" in shown and CANARY not in shown
    assert owner.post(page, {"name": "Renamed", "value": ""}).status_code == 302
    access_key.refresh_from_db()
    assert (access_key.name, access_key.open()) == ("Renamed", {"value": CANARY})
    owner.post(page, {"name": "Renamed", "value": "second-" + CANARY, "kind": "none"})
    access_key.refresh_from_db()
    assert (access_key.kind, access_key.open()) == ("string", {"value": "second-" + CANARY})


def test_names_of_both_must_be_free(
    owner: Client,
    access_key: AccessKey,
    variable_group: VariableGroup,
    new_key_page: str,
    new_group_page: str,
) -> None:
    answer = owner.post(new_key_page, {"name": "REGISTRY", "kind": "none"})
    assert f"already has an access key called {access_key.name}." in answer.text
    assert 'id="id_name_error"' in answer.text and access_key.name != "REGISTRY"
    answer = owner.post(new_group_page, {"name": "production"})
    assert f"already has a variable group called {variable_group.name}." in answer.text
    assert 'id="id_name_error"' in answer.text and variable_group.name != "production"


def test_a_group_takes_plain_and_secret_variables(owner: Client, new_group_page: str) -> None:
    fields = {
        "name": "G",
        "variables": "REGION=eu\r\nZONE=a",
        "new_name_0": "TOKEN",
        "new_value_0": CANARY,
        "new_name_2": "FILE",
        "new_value_2": "two\r\nlines long",
    }
    answer = owner.post(new_group_page, fields, follow=True)
    group = VariableGroup.objects.get()
    assert group.variables == {"REGION": "eu", "ZONE": "a"}
    values = {row.name: row.open() for row in group.secrets.all()}
    assert values == {"TOKEN": CANARY, "FILE": "two\nlines long"}
    assert CANARY not in answer.content.decode()


def test_a_secret_that_is_to_be_replaced_and_removed_is_asked_about(
    owner: Client, variable_group: VariableGroup
) -> None:
    secret = variable_group.secrets.get()
    given = {"name": "Production", "variables": "REGION=eu"}
    given |= {f"value_{secret.pk}": CANARY, f"remove_{secret.pk}": "on"}
    answer = owner.post(f"/variable-groups/{variable_group.pk}/", given)
    assert answer.status_code == 400 and CANARY not in answer.text
    assert "API_TOKEN has a new value and is to be removed. Do one of the two." in answer.text
    assert variable_group.secrets.get().open() == secret.open()


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"new_name_0": "TOKEN"}, "Enter a value for TOKEN."),
        ({"new_value_0": CANARY}, "Enter a name for this value."),
        ({"new_name_0": "A B", "new_value_0": CANARY}, "cannot be a variable name"),
        ({"new_name_0": "BASH_ENV", "new_value_0": CANARY}, "what code runs before a script"),
        ({"new_name_0": "API_TOKEN", "new_value_0": f"{CANARY}2"}, "is there already"),
        (
            {"new_name_0": "A", "new_value_0": CANARY, "new_name_1": "A", "new_value_1": CANARY},
            "A is given twice. Keep one of the two.",
        ),
        ({"new_name_0": "A", "new_value_0": "tiny"}, "at least 8 characters"),
        ({"new_name_0": "REGION", "new_value_0": CANARY}, "both a plain and a secret variable"),
        ({"variables": "API_TOKEN=x"}, "both a plain and a secret variable"),
        ({"variables": "LD_PRELOAD=x"}, "what code runs before a script"),
        ({"variables": "no sign"}, "Line 1 has no equals sign"),
    ],
)
def test_a_group_says_what_is_wrong_and_shows_no_secret(
    fields: dict[str, str], sentence: str, owner: Client, variable_group: VariableGroup
) -> None:
    given = {"name": "Production", "variables": "REGION=eu", **fields}
    answer = owner.post(f"/variable-groups/{variable_group.pk}/", given)
    text = answer.content.decode()
    assert answer.status_code == 400 and sentence in text
    assert CANARY not in text
    assert VariableGroup.objects.get().names == ["REGION", "API_TOKEN"]


def test_a_secret_is_replaced_and_removed_in_its_row(
    owner: Client, variable_group: VariableGroup
) -> None:
    pk = variable_group.secrets.get().pk
    page = f"/variable-groups/{variable_group.pk}/"
    given = {"name": "Production", "variables": ""}
    owner.post(page, {**given, f"value_{pk}": "second-" + CANARY})
    assert variable_group.secrets.get().open() == "second-" + CANARY
    owner.post(page, {**given, f"remove_{pk}": "on"})
    assert not variable_group.secrets.exists()


def test_a_template_chooses_its_sources(
    owner: Client,
    template: TaskTemplate,
    access_key: AccessKey,
    variable_group: VariableGroup,
) -> None:
    page = f"/templates/{template.pk}/"
    chosen = {"variable_groups": [variable_group.pk], f"key_{access_key.pk}": "REGISTRY"}
    good = {**GOOD, "environment": ""}
    assert owner.post(page, {**good, **chosen}).status_code == 302
    text = owner.get(page).content.decode()
    assert 'value="REGISTRY"' in text and "checked" in text
    assert list(template.variable_groups.all()) == [variable_group]
    assert owner.post(page, good).status_code == 302
    assert not template.variable_groups.exists() and not template.access_key_uses.exists()


def test_a_conflict_in_the_template_form_is_a_sentence(
    owner: Client, template: TaskTemplate, access_key: AccessKey
) -> None:
    given = {**GOOD, "environment": "REGISTRY=x", f"key_{access_key.pk}": "REGISTRY"}
    answer = owner.post(f"/templates/{template.pk}/", given)
    assert answer.status_code == 400
    assert "REGISTRY would be set by its own environment" in answer.content.decode()
    wrong = {**GOOD, f"key_{access_key.pk}": "NOT A NAME"}
    answer = owner.post(f"/templates/{template.pk}/", wrong)
    assert "cannot be a variable name" in answer.content.decode()


@pytest.mark.parametrize("who", ["owner", "operator", "viewer"])
def test_everybody_sees_names_and_nobody_values(
    who: str,
    cast: Cast,
    template: TaskTemplate,
    access_key: AccessKey,
    variable_group: VariableGroup,
    browser: Callable[..., Client],
) -> None:
    save_template(
        template=template, tags=(), groups=[variable_group.pk], keys={access_key.pk: "REGISTRY"}
    )
    task = run_template(template=template, by=cast.owner, now=timezone.now())
    client = browser(cast.user(who))
    pages = {
        f"/tasks/{task.pk}/": ["Production", "API_TOKEN", "Registry", "REGISTRY"],
        f"/templates/{template.pk}/": ["Production", "Registry", "REGISTRY"],
        f"/variable-groups/{variable_group.pk}/": ["API_TOKEN", "Restart"],
        f"/access-keys/{access_key.pk}/": ["Registry", "Restart"],
        f"/projects/{cast.project.pk}/variable-groups/": ["API_TOKEN", "Restart"],
        f"/projects/{cast.project.pk}/access-keys/": ["Registry", "Restart"],
    }
    for page, words in pages.items():
        text = client.get(page).content.decode()
        assert [word for word in words if word not in text] == [], page
        assert CANARY not in text


def test_what_is_used_cannot_be_removed_and_the_page_says_by_whom(
    owner: Client, template: TaskTemplate, access_key: AccessKey
) -> None:
    save_template(template=template, tags=(), keys={access_key.pk: "REGISTRY"})
    page = f"/access-keys/{access_key.pk}/remove/"
    text = owner.get(page).content.decode()
    main = text.split("<main")[1].split("</main>")[0]
    assert "Restart" in main and "Take it away" in main and 'type="submit"' not in main
    answer = owner.post(page, follow=True)
    assert "is used by the template Restart" in answer.content.decode()
    save_template(template=template, tags=(), keys={})
    answer = owner.post(page, follow=True)
    assert "Removed Registry" in answer.content.decode()
    assert not AccessKey.objects.exists()


def test_a_task_of_a_removed_source_still_shows_its_name(
    owner: Client, cast: Cast, template: TaskTemplate, variable_group: VariableGroup
) -> None:
    save_template(template=template, tags=(), groups=[variable_group.pk])
    task = run_template(template=template, by=cast.owner, now=timezone.now())
    save_template(template=template, tags=(), groups=[])
    owner.post(f"/variable-groups/{variable_group.pk}/remove/")
    assert not VariableGroup.objects.exists()
    assert "API_TOKEN" in owner.get(f"/tasks/{task.pk}/").content.decode()
    assert Task.objects.count() == 1


@pytest.mark.parametrize("kind", ["access-keys", "variable-groups"])
def test_without_a_key_the_pages_say_how_to_make_one(
    kind: str, cast: Cast, owner: Client, settings: Any, browser: Callable[..., Client]
) -> None:
    settings.FORGE_SECRETS_KEY = ""
    base = f"/projects/{cast.project.pk}/{kind}/"
    fields = {"name": "x", "kind": "string", "value": CANARY}
    fields |= {"new_name_0": "A", "new_value_0": CANARY}
    for answer in (owner.get(base), owner.get(f"{base}new/"), owner.post(f"{base}new/", fields)):
        assert "manage.py new_secrets_key" in answer.content.decode()
        assert CANARY not in answer.content.decode()
    assert "new_secrets_key" not in browser(cast.viewer).get(base).content.decode()


def test_a_lost_key_is_said_on_the_pages_and_breaks_none(
    cast: Cast,
    owner: Client,
    settings: Any,
    access_key: AccessKey,
    variable_group: VariableGroup,
) -> None:
    settings.FORGE_SECRETS_KEY = new_key()
    pages = (
        f"/projects/{cast.project.pk}/access-keys/",
        f"/projects/{cast.project.pk}/variable-groups/",
        f"/access-keys/{access_key.pk}/",
        f"/variable-groups/{variable_group.pk}/",
    )
    for page in pages:
        answer = owner.get(page)
        assert answer.status_code == 200 and "cannot be read" in answer.content.decode(), page
    assert owner.get(f"/projects/{cast.project.pk}/").status_code == 200

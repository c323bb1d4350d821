"""Variables as they are typed: what is stored comes back as it is, whoever saves the form."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.core.exceptions import ValidationError
from django.test import Client
from hypothesis import given
from hypothesis import strategies as some

from forge.pages.environment_field import EnvironmentField
from projects.models import VariableGroup
from tasks.models import TaskTemplate
from tests.cast import Cast

LINES = some.text(some.sampled_from("aE ND=<1\n\r\v\f\x85\u2028\t"), max_size=20)
VALUES = LINES | some.sampled_from(["END", "END \nEND2", "a\nEND\n", "\n", "", "x<<END", "=\n="])
ENVIRONMENTS = some.dictionaries(some.sampled_from(["A", "B", "HOSTS", "END"]), VALUES)


def typed(environment: dict[str, str]) -> str:
    """What a browser sends of what the page shows."""
    shown = str(EnvironmentField().prepare_value(environment))
    return shown.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\r\n")


@given(environment=ENVIRONMENTS)
def test_what_is_stored_comes_back_as_it_is(environment: dict[str, str]) -> None:
    field = EnvironmentField()
    field.stored = environment
    assert field.clean(typed(environment)) == environment


@given(environment=ENVIRONMENTS)
def test_what_is_typed_anew_has_the_line_ends_of_unix(environment: dict[str, str]) -> None:
    expected = {
        name: content.replace("\r\n", "\n").replace("\r", "\n")
        for name, content in environment.items()
    }
    assert EnvironmentField().clean(typed(environment)) == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("HOSTS<<END\nweb-1\n", "Line 1 begins a value that nothing ends. Write END on a line"),
        ("A=1\nHOSTS<<\nweb-1", "Line 2 has no mark behind <<. Write HOSTS<<END."),
        ("HOSTS<<END\nEND\nHOSTS=1", "Line 3 sets HOSTS again."),
        ("1X<<END\na\nEND", "Line 1: '1X' cannot be a variable name"),
    ],
)
def test_what_is_wrong_is_said_by_its_line(text: str, sentence: str) -> None:
    with pytest.raises(ValidationError) as refused:
        EnvironmentField().clean(text)
    assert sentence in " ".join(refused.value.messages)


def test_who_changes_another_field_changes_no_value_of_several_lines(
    cast: Cast,
    template: TaskTemplate,
    variable_group: VariableGroup,
    browser: Callable[..., Client],
) -> None:
    client = browser(cast.owner)
    hosts = {"HOSTS": "web-1 ansible_host=10.0.0.1\nDB=db-1\r\nend", "REGION": "eu"}
    TaskTemplate.objects.filter(pk=template.pk).update(environment=hosts)
    VariableGroup.objects.filter(pk=variable_group.pk).update(variables=hosts)
    for address, field, more in (
        (f"/templates/{template.pk}/", "environment",
         {"name": "Restart", "app": "bash", "script": "x", "timeout_seconds": "60", "tags": ""}),
        (f"/variable-groups/{variable_group.pk}/", "variables", {"name": "Production"}),
    ):  # fmt: skip
        shown = client.get(address).context["form"][field].value()
        sent = {"description": "Another one", field: str(shown).replace("\n", "\r\n")}
        assert client.post(address, {**more, **sent}).status_code == 302
    template.refresh_from_db()
    variable_group.refresh_from_db()
    assert (template.environment, template.description) == (hosts, "Another one")
    assert (variable_group.variables, variable_group.description) == (hosts, "Another one")

"""Names hold nothing that nobody sees; no accepted name means more than itself to the broker."""

from __future__ import annotations

import pytest
from django.core.exceptions import ValidationError
from hypothesis import given
from hypothesis import strategies as some

from projects.models import is_one_line
from projects.variables import is_environment
from runners import accounts
from runners.models import Queue, Runner, is_runner_name, is_tag_name

HIDDEN = [
    "pay\u202ements",
    "a\u200bb",
    "\ufeffname",
    "a\u2028b",
    "a\x85b",
    "a\u2066b",
    "a\u200db",
    "a\U000e0041b",
    "a\x00b",
    "a\nb",
    "a\x1b[31mb",
    "\u200d",
    *(f"Deploy{hidden}prod" for hidden in "\u034f\u115f\u17b4\u180b\u2800\u3164\uffa0\ufe0f"),
    *(f"Deploy{hidden}prod" for hidden in "\U0001bca0\U0001d173\U000e0100"),
    *(f"Host{space}report" for space in "\xa0\u1680\u2000\u2009\u200a\u202f\u205f"),
    *(f"Host{alike}report" for alike in "\ue000\ufffc\ufdd0\ufffe\U0001d159"),
    "Café\ufe0f",
    "支\ufe0f払い",
    "\ufe0f",
]
SEEN = [
    "Payments",
    "Zahlungen Süd",
    "支払い",
    "監視　夜間",
    "مدفوعات",
    "نمی\u200cخواهم",
    "👩\u200d🔧 crew",
    "☎\ufe0f hotline",
    "❤\ufe0f\u200d🔥",
    "🏳\ufe0f\u200d🌈",
    "a – b",
]


@pytest.mark.parametrize("name", HIDDEN, ids=ascii)
def test_a_name_with_a_character_that_nobody_sees_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        is_one_line(name)


@pytest.mark.parametrize("name", SEEN, ids=ascii)
def test_names_of_all_scripts_are_taken(name: str) -> None:
    is_one_line(name)


def accepted(validate: object, text: str) -> bool:
    try:
        validate(text)  # type: ignore[operator]
    except ValidationError:
        return False
    return True


SPECIAL = some.text(some.sampled_from("a-.*?[]^\\()~&%+#>@ \t\n;$`'\"/é\0"), max_size=6)


@given(name=SPECIAL)
def test_no_accepted_tag_or_runner_name_is_a_pattern_or_an_option(name: str) -> None:
    for validate in (is_tag_name, is_runner_name):
        if accepted(validate, name):
            assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-")
            assert not name.startswith(("-", "."))


@given(names=some.lists(SPECIAL, max_size=3))
def test_an_account_never_holds_a_pattern_that_came_from_a_name(names: list[str]) -> None:
    """Also if a queue's name got into the database by another way."""
    runner = Runner(pk=7, project_id=12)
    queues = [Queue(project_id=12, name=f"tasks.{name}") for name in names]
    rules = accounts.rules_for(runner, queues, digests=["0" * 64], with_setinfo=True)
    (pops,) = [rule for rule in rules if "+brpop" in rule]
    assert not set(pops[1:-1]) & set("*?[]^\\()\n\t;")
    assert pops[1:-1].split()[:2] == ["-@all", "+brpop"]
    assert all(key.startswith("~forge:project:12:") for key in pops[1:-1].split()[2:])


@pytest.mark.parametrize(
    "name", ["-x", "a-b", "A=B", "A\nB", "LD PRELOAD", "é", "", "1A", "FORGE_X"]
)
def test_an_environment_name_is_a_name_and_none_of_forges(name: str) -> None:
    with pytest.raises(ValidationError):
        is_environment({name: "value"})

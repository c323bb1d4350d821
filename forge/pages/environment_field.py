"""Environment variables as people type them: `NAME=value`, one a line.

A value of several lines stands between two marks, as in the environment files of GitHub Actions:

    HOSTS<<END
    web-1
    web-2
    END
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from projects.variables import is_environment, is_variable
from projects.words import counted

PROBLEMS_SHOWN = 5
HELP = (
    "NAME=value, one a line. For a value of several lines: NAME<<END, the lines, END. Everybody in "
    "the project can read the values."
)
_BEGIN = re.compile(r"([^=]*?)<<(.*)")


@dataclass(frozen=True)
class _Entry:
    """What stands at a line: a name with its value, or what is wrong there."""

    line: int
    name: str = ""
    content: str = ""
    problem: str = ""


class EnvironmentField(forms.CharField):
    """Gives a dict. `stored` is what there is already.

    Browsers send every line end as CRLF. So what differs from a stored value in nothing else is
    that value: whoever changes another line changes nothing of it.
    """

    widget = forms.Textarea

    def __init__(self, **options: Any) -> None:
        super().__init__(required=False, strip=False, **options)
        self.stored: Mapping[str, str] = {}

    def prepare_value(self, value: Any) -> Any:
        if isinstance(value, dict):
            return "\n".join(_written(name, content) for name, content in value.items())
        return value

    def clean(self, value: Any) -> dict[str, str]:
        found: dict[str, str] = {}
        problems: list[str] = []
        for entry in _entries(_with_unix_ends(str(super().clean(value)))):
            if entry.problem:
                problems.append(entry.problem)
            elif entry.name in found:
                problems.append(f"Line {entry.line} sets {entry.name} again. Keep one of the two.")
            else:
                found[entry.name] = entry.content
                problems += _problems_of(entry)
        if problems:
            raise ValidationError(_first(problems))
        is_environment(found)
        for name, content in found.items():
            if _with_unix_ends(self.stored.get(name, "")) == content:
                found[name] = self.stored.get(name, "")
        return found


def _with_unix_ends(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _written(name: str, content: str) -> str:
    lines = _with_unix_ends(content).split("\n")
    if len(lines) == 1:
        return f"{name}={content}"
    taken = {line.rstrip() for line in lines}
    mark, number = "END", 1
    while mark in taken:
        number += 1
        mark = f"END{number}"
    return "\n".join([f"{name}<<{mark}", *lines, mark])


def _entries(text: str) -> Iterator[_Entry]:
    lines = iter(enumerate(text.split("\n"), start=1))
    for number, line in lines:
        name, sign, content = line.partition("=")
        if begun := _BEGIN.fullmatch(line):
            yield _between_marks(number, begun[1].strip(), begun[2].strip(), lines)
        elif sign:
            yield _Entry(number, name.strip(), content)
        elif line.strip():
            sentence = f"Line {number} has no equals sign. Write NAME=value."
            yield _Entry(number, problem=sentence)


def _between_marks(number: int, name: str, mark: str, lines: Iterator[tuple[int, str]]) -> _Entry:
    """Reads on up to the mark's second place."""
    if not mark:
        return _Entry(number, problem=f"Line {number} has no mark behind <<. Write {name}<<END.")
    content: list[str] = []
    for _, line in lines:
        if line.rstrip() == mark:
            return _Entry(number, name, "\n".join(content))
        content.append(line)
    sentence = f"Line {number} begins a value that nothing ends. Write {mark} on a line of its own."
    return _Entry(number, problem=sentence)


def _problems_of(entry: _Entry) -> list[str]:
    try:
        is_variable(entry.name, entry.content)
    except ValidationError as error:
        return [f"Line {entry.line}: {sentence}" for sentence in error.messages]
    return []


def _first(problems: list[str]) -> list[str]:
    """As many as one reads, and how many more there are."""
    more = len(problems) - PROBLEMS_SHOWN
    if more <= 0:
        return problems
    return [*problems[:PROBLEMS_SHOWN], f"{counted(more, 'more line')} to change."]

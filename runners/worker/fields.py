"""How a message of the protocol is read: readers of its fields, and what all messages share.

What comes from the network is refused, with a sentence that names the field, unless it is exactly
what was expected.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import re
from collections.abc import Callable
from dataclasses import field
from itertools import pairwise
from typing import Any, Self

MAXIMUM_PIECE_BYTES = 256 * 1024
MAXIMUM_TASKS = 1000
MAXIMUM_AGES = 256
MAXIMUM_ID = 2**63 - 1
MAXIMUM_VARIABLES = 2000
MAXIMUM_VARIABLE_NAME = 200
MAXIMUM_VARIABLE_VALUE = 1_000_000

_SHA256 = re.compile(r"\A[0-9a-f]{64}\Z")

Reader = Callable[[str, Any], Any]


class ProtocolError(Exception):
    """A message that does not follow the protocol; the text says what is wrong with it."""


def _fail(name: str, expected: str) -> ProtocolError:
    return ProtocolError(f"{name} must be {expected}.")


def integer(low: int = 0, high: int = MAXIMUM_ID) -> Reader:
    def read(name: str, value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise _fail(name, f"a whole number from {low} to {high}")
        return value

    return read


def seconds(name: str, value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value < 1e9:
        raise _fail(name, "a number of seconds")
    return float(value)


def flag(name: str, value: Any) -> bool:
    if type(value) is not bool:
        raise _fail(name, "true or false")
    return value


def text(maximum: int, *, minimum: int = 0) -> Reader:
    def read(name: str, value: Any) -> str:
        if not isinstance(value, str) or not minimum <= len(value) <= maximum or "\0" in value:
            raise _fail(name, f"text of {minimum} to {maximum} characters without NUL")
        # Half of a surrogate pair has no form in UTF-8: no database takes it.
        if not value.isascii() and any("\ud800" <= one <= "\udfff" for one in value):
            raise _fail(name, "text that is Unicode")
        return value

    return read


def one_of(*choices: str) -> Reader:
    def read(name: str, value: Any) -> str:
        if value not in choices:
            raise _fail(name, "one of " + ", ".join(choices))
        return str(value)

    return read


def octets(name: str, value: Any) -> bytes:
    """Bytes as base64; at most MAXIMUM_PIECE_BYTES."""
    if isinstance(value, str) and len(value) > MAXIMUM_PIECE_BYTES * 3 // 2:
        raise _fail(name, f"at most {MAXIMUM_PIECE_BYTES} bytes")
    try:
        # Twice as fast as base64.b64decode with validate=True, and as strict.
        data = binascii.a2b_base64(value, strict_mode=True)
    except (TypeError, ValueError) as error:
        raise _fail(name, "base64") from error
    if len(data) > MAXIMUM_PIECE_BYTES:
        raise _fail(name, f"at most {MAXIMUM_PIECE_BYTES} bytes")
    return data


def printable(text: str, maximum: int) -> str:
    """The text on one line and without a character that acts: escapes, controls, bidi overrides.

    For logs and terminals, where what somebody else wrote must only be read.
    """
    shown = text[: maximum + 1]
    if len(shown) > maximum:
        shown = shown[: maximum - 1] + "…"
    if shown.isprintable():
        return shown
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in shown)


def label(maximum: int, *, minimum: int = 0) -> Reader:
    """Text that is shown to people: what cannot be printed becomes a space."""
    read_text = text(maximum, minimum=minimum)

    def read(name: str, value: Any) -> str:
        found: str = read_text(name, value)
        return "".join(one if one.isprintable() else " " for one in found)

    return read


def sha256(name: str, value: Any) -> str:
    if not isinstance(value, str) or not _SHA256.match(value):
        raise _fail(name, "a SHA-256 in 64 hexadecimal digits, in lower case")
    return value


def optional(reader: Reader) -> Reader:
    def read(name: str, value: Any) -> Any:
        return None if value is None else reader(name, value)

    return read


def many(reader: Reader, maximum: int = MAXIMUM_TASKS) -> Reader:
    def read(name: str, value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) > maximum:
            raise _fail(name, f"a list of at most {maximum}")
        return tuple(reader(f"{name}[{index}]", item) for index, item in enumerate(value))

    return read


def ages(name: str, value: Any) -> tuple[tuple[int, float | None], ...]:
    """Pairs of where in a piece bytes begin, ascending, and how many seconds old they are."""
    if not isinstance(value, list) or len(value) > MAXIMUM_AGES:
        raise _fail(name, f"a list of at most {MAXIMUM_AGES}")
    read_offset, read_age = integer(0, MAXIMUM_PIECE_BYTES), optional(seconds)
    found = []
    for index, pair in enumerate(value):
        if not isinstance(pair, list) or len(pair) != 2:
            raise _fail(f"{name}[{index}]", "a pair of an offset and an age")
        found.append((read_offset(f"{name}[{index}]", pair[0]), read_age(name, pair[1])))
    if any(one[0] > other[0] for one, other in pairwise(found)):
        raise _fail(name, "in the order of the bytes")
    return tuple(found)


def variables(name: str, value: Any) -> dict[str, str]:
    """A mapping of text to text, of bounded size."""
    if not isinstance(value, dict) or len(value) > MAXIMUM_VARIABLES:
        raise _fail(name, f"an object of at most {MAXIMUM_VARIABLES} texts")
    read_name, read_value = text(MAXIMUM_VARIABLE_NAME, minimum=1), text(MAXIMUM_VARIABLE_VALUE)
    return {
        read_name(f"a name in {name}", key): read_value(f"a value in {name}", item)
        for key, item in value.items()
    }


def message(kind: type[Message]) -> Reader:
    def read(name: str, value: Any) -> Message:
        return kind.read(value, name)

    return read


def value(reader: Reader, **options: Any) -> Any:
    """A dataclass field with its reader; with a default it may be missing in the message."""
    return field(metadata={"reader": reader}, **options)


class Message:
    """Base of all messages; subclasses are dataclasses whose fields come from `value`."""

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read a whole message. Raises ProtocolError."""
        try:
            content = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise ProtocolError("The body is not JSON.") from error
        return cls.read(content, "The body")

    @classmethod
    def read(cls, content: Any, name: str) -> Self:
        if not isinstance(content, dict):
            raise _fail(name, "an object")
        found = {}
        for item in dataclasses.fields(cls):  # type: ignore[arg-type]  # subclasses are
            if item.name in content:
                found[item.name] = item.metadata["reader"](item.name, content[item.name])
            elif dataclasses.MISSING is item.default is item.default_factory:
                raise ProtocolError(f"{item.name} is missing.")
        return cls(**found)

    def as_json(self) -> dict[str, Any]:
        """The message as JSON values; `read` of it gives an equal message."""
        return {key: _plain(item) for key, item in vars(self).items()}

    def as_bytes(self) -> bytes:
        return json.dumps(self.as_json(), separators=(",", ":")).encode()


def _plain(item: Any) -> Any:
    if isinstance(item, Message):
        return item.as_json()
    if isinstance(item, bytes):
        return base64.b64encode(item).decode()
    if isinstance(item, tuple):
        return [_plain(part) for part in item]
    return item

"""The protocol: what is right comes back equal, what is wrong is named, nothing else happens."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from runners.worker import protocol
from runners.worker.fields import (
    MAXIMUM_PIECE_BYTES,
    Message,
    ProtocolError,
    printable,
    variables,
)
from runners.worker.protocol import (
    ClaimRequest,
    ConnectRequest,
    Heartbeat,
    HeartbeatReply,
    Piece,
    Receipt,
    Report,
    ReportReply,
    Result,
    Started,
    StopOrder,
    TaskRef,
)

REPORT = Report(
    started=(Started(7, 1, 0.25),),
    pieces=(Piece(7, 1, 0, bytes(range(256))),),
    results=(Result(7, 1, "failed", -9, "Ended.", 256, "a" * 64, 1.5),),
)
EXAMPLES: list[Message] = [
    REPORT,
    ReportReply((Receipt(7, 1, True, 256, True),), 0.05),
    ClaimRequest(7, 1, "n" * 16),
    Heartbeat("s" * 16, (TaskRef(7, 1),)),
    Heartbeat("s" * 16, (), trouble="The journal cannot be written: No space left on device"),
    HeartbeatReply((StopOrder(7, 1, "Stopped."),), (TaskRef(8, 2),), ("tasks",), 5.0),
    ConnectRequest(1, "0.1.0", "s" * 16, "i" * 16, "host", "Debian"),
]
MESSAGES = [
    kind
    for kind in vars(protocol).values()
    if isinstance(kind, type) and issubclass(kind, Message) and kind is not Message
]


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_a_message_survives_the_wire(message: Message) -> None:
    assert type(message).parse(message.as_bytes()) == message


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_every_field_is_asked_for_and_named_when_missing(message: Message) -> None:
    for field in dataclasses.fields(message):  # type: ignore[arg-type]
        if field.default is not dataclasses.MISSING:
            continue
        content = message.as_json()
        del content[field.name]
        with pytest.raises(ProtocolError, match=field.name):
            type(message).read(content, "it")


@pytest.mark.parametrize("more", [{"invented_later": [1, 2]}, {"session": "s" * 16}])
def test_a_field_of_a_newer_version_or_of_an_older_one_is_passed_over(more: dict[str, Any]) -> None:
    """Reports used to name the session of their worker."""
    content = REPORT.as_json() | more
    assert Report.read(content, "it") == REPORT


_JSON = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(),
    lambda inner: some.lists(inner, max_size=4) | some.dictionaries(some.text(), inner, max_size=4),
    max_leaves=12,
)


@given(kind=some.sampled_from(MESSAGES), content=_JSON)
def test_whatever_json_comes_is_read_or_refused(kind: type[Message], content: Any) -> None:
    try:
        kind.parse(json.dumps(content).encode())
    except ProtocolError as error:
        assert str(error)


@given(
    message=some.sampled_from(EXAMPLES),
    data=some.data(),
    wrong=_JSON,
)
def test_a_field_of_the_wrong_kind_is_read_or_refused(
    message: Message, data: some.DataObject, wrong: Any
) -> None:
    content = message.as_json()
    name = data.draw(some.sampled_from(sorted(content)))
    content[name] = wrong
    try:
        type(message).parse(json.dumps(content).encode())
    except ProtocolError as error:
        assert str(error)


@given(body=some.binary(max_size=200))
def test_whatever_bytes_come_are_read_or_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        Report.parse(body)


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(ProtocolError):
        Report.parse(b"[" * 200_000)


@pytest.mark.parametrize(
    "change",
    [
        {"task": 0},
        {"task": 2**63},
        {"task": True},
        {"task": "7"},
        {"task": 7.0},
        {"attempt": -1},
        {"nonce": "short"},
        {"nonce": "x" * 65},
        {"nonce": "with\0nul-and-more"},
    ],
)
def test_values_out_of_range_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        ClaimRequest.read(ClaimRequest(7, 1, "n" * 16).as_json() | change, "it")


def test_a_piece_above_the_limit_is_refused() -> None:
    large = Piece(7, 1, 0, b"x" * (MAXIMUM_PIECE_BYTES + 1))
    with pytest.raises(ProtocolError, match="at most"):
        Piece.parse(large.as_bytes())


@pytest.mark.parametrize("field", ["host_name", "system", "version"])
def test_what_is_shown_of_a_host_holds_nothing_that_acts(field: str) -> None:
    hostile = "a\x1b[2J\u202eb\u200b\n"
    content = EXAMPLES[6].as_json() | {field: hostile}
    assert getattr(ConnectRequest.read(content, "it"), field) == "a [2J b  "


def test_an_older_worker_says_nothing_of_its_trouble() -> None:
    content = Heartbeat("s" * 16, ()).as_json()
    del content["trouble"]
    assert Heartbeat.read(content, "it").trouble == ""


def test_what_a_worker_says_of_its_trouble_is_one_bounded_line() -> None:
    content = Heartbeat("s" * 16, ()).as_json() | {"trouble": "No\nspace\x1b[2J \u202eleft"}
    assert Heartbeat.read(content, "it").trouble == "No space [2J  left"
    with pytest.raises(ProtocolError, match="trouble"):
        Heartbeat.read(content | {"trouble": "x" * 201}, "it")


def test_half_a_surrogate_pair_is_no_text() -> None:
    content = EXAMPLES[6].as_json() | {"host_name": "\ud800"}
    with pytest.raises(ProtocolError, match="host_name"):
        ConnectRequest.read(content, "it")


@pytest.mark.parametrize(
    "given",
    [
        {"A" * 201: "x"},
        {"A": "x" * 1_000_001},
        {"A": 1},
        {"": "x"},
        {"A": "\0"},
        {f"A{number}": "" for number in range(2001)},
        [],
    ],
    ids=["name", "value", "number", "empty", "NUL", "many", "list"],
)
def test_variables_are_bounded(given: Any) -> None:
    with pytest.raises(ProtocolError):
        variables("environment", given)


@given(text=some.text(max_size=60))
def test_a_printable_text_is_printable_and_bounded(text: str) -> None:
    shown = printable(text, 20)
    assert shown.isprintable()
    assert len(shown) <= 200
    assert not text.isprintable() or len(text) > 20 or shown == text

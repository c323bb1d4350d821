"""What the quick start shows of a log cannot act on the terminal."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as some

from forge.quickstart.terminal import RESET, HarmlessText


def shown(*pieces: bytes) -> str:
    text = HarmlessText()
    return "".join(map(text.feed, pieces)) + text.end().removesuffix(RESET)


ACTING = [
    b"\x1b]0;a title\x07",
    b"\x1b]2;a title\x1b\\",
    b"\x1b]52;c;ZWNobyBvd25lZA==\x07",
    b"\x1b]8;;https://evil.example/\x1b\\",
    b"\x1bP+q544e\x1b\\",
    b"\x1b_app\x1b\\",
    b"\x1b[2J",
    b"\x1b[10;20H",
    b"\x1b[?1049h",
    b"\x1b[6n",
    b"\x1b[c",
    b"\x1b[>4;2m",
    b"\x1b[21t",
    b"\x1bc",
    b"\x1b7",
    b"\x1b(0",
    b"\xc2\x9b2J",
    b"\xc2\x9d0;t\xc2\x9c",
    b"\x00\x07\x08\x0b\x0c\x0e\x7f",
]


@pytest.mark.parametrize("sequence", ACTING, ids=repr)
def test_whatever_acts_is_dropped_wherever_it_is_cut(sequence: bytes) -> None:
    assert shown(b"a" + sequence + b"b") == "ab"
    for cut in range(1, len(sequence)):
        assert shown(b"a" + sequence[:cut], sequence[cut:] + b"b") == "ab"


def test_text_and_colours_pass() -> None:
    log = "\x1b[1;31mred\x1b[0m\tplain\n日本 ✓ 🚀\n".encode()
    assert shown(log) == log.decode()
    assert shown(*(log[at : at + 1] for at in range(len(log)))) == log.decode()


def test_colours_end_with_the_log() -> None:
    text = HarmlessText()
    assert text.feed(b"\x1b[8mhidden") + text.end() == "\x1b[8mhidden" + RESET


def test_a_log_without_colours_ends_without_a_sequence() -> None:
    text = HarmlessText()
    assert text.feed(b"plain\n") + text.end() == "plain\n"


def test_a_file_gets_no_sequence_at_all() -> None:
    text = HarmlessText(has_colours=False)
    assert text.feed(b"\x1b[1;31mred\x1b[0m\tplain\n\x1b[8mhidden") + text.end() == (
        "red\tplain\nhidden"
    )


def test_a_carriage_return_writes_nothing_over() -> None:
    assert shown(b"rm -rf /\rls      \r\nnext") == "rm -rf /\nls      \nnext"


def test_bidi_and_zero_width_characters_show_their_numbers() -> None:
    assert shown("a\u202eb\u200bc".encode()) == "a<U+202E>b<U+200B>c"


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert shown(b"a\xff\xfeb\xc3") == "a��b�"


_PIECES = some.lists(
    some.binary(max_size=12) | some.sampled_from([b"\x1b", b"[", b"]", b"m", b"\\", b"\xc2\x9b"]),
    max_size=12,
)


@given(pieces=_PIECES)
def test_nothing_but_colours_is_left_of_any_bytes(pieces: list[bytes]) -> None:
    left = re.sub(r"\x1b\[[0-9;:]*m", "", shown(*pieces))
    assert all(one in "\n\t" or one >= " " for one in left)
    assert not re.search("[\x7f-\x9f\u202a-\u202e]", left)

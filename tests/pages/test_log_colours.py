"""The colours of a log: as a terminal draws them, and always to be read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.pages.test_log_viewer import STATIC, lines, log, markup, page, push

__all__ = ["log", "page"]

# Of each piece of the log: its text's colour and what it stands on, as painted.
PAINTED = """(() => {
  const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
  const groundOf = (one) => {
    for (; one; one = one.parentElement) {
      const ground = numbers(getComputedStyle(one).backgroundColor);
      if (ground.length < 4 || ground[3] > 0) return ground.slice(0, 3);
    }
  };
  return [...document.querySelectorAll(".ln > span > span")].map((one) => [
    numbers(getComputedStyle(one).webkitTextFillColor).slice(0, 3), groundOf(one),
  ]);
})()"""
ENOUGH = 4.5


def painted(log: Any, *codes: str) -> list[tuple[list[float], list[float]]]:
    """What every sequence makes of a letter, in rows of 16."""
    rows = [codes[at : at + 16] for at in range(0, len(codes), 16)]
    text = "".join("".join(f"\x1b[{code}mx\x1b[m " for code in row) + "\n" for row in rows)
    push(log, text.encode())
    return [(fore, ground) for fore, ground in log.evaluate(PAINTED)]


def contrast(one: list[float], other: list[float]) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def luminance(rgb: list[float]) -> float:
    shares = [part / 255 for part in rgb]
    linear = [
        share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares
    ]
    return sum(part * weight for part, weight in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))


@pytest.fixture(params=["light", "dark"])
def theme(request: pytest.FixtureRequest, page: Any) -> str:
    page.emulate_media(color_scheme=request.param)
    return str(request.param)


@pytest.mark.parametrize(
    "codes",
    [
        [f"38;5;{n}" for n in range(256)],
        [f"48;5;{n}" for n in range(256)],
        [f"2;38;5;{n}" for n in range(256)],
        [f"7;38;5;{n}" for n in range(256)],
        [f"7;48;5;{n}" for n in range(256)],
        [f"38;5;{n};48;5;{(n * 7) % 256}" for n in range(256)],
        [f"2;38;5;{n};48;5;{n}" for n in range(256)],
        [f"7;38;5;{n};48;5;{255 - n}" for n in range(256)],
        [f"38;2;{n};{n};{n}" for n in range(256)],
        [*map(str, range(30, 38)), *map(str, range(90, 98)), "2", "7", "2;7", "7;31", "2;31"],
    ],
    ids=[
        "text", "ground", "faint", "inverse", "inverse-ground", "both", "same", "swapped", "grey",
        "named",
    ],
)  # fmt: skip
def test_every_colour_can_be_read(codes: list[str], theme: str, log: Any) -> None:
    found = painted(log, *codes)
    assert len(found) == len(codes)
    poor = [
        (code, round(contrast(fore, ground), 2))
        for code, (fore, ground) in zip(codes, found, strict=True)
        if contrast(fore, ground) < ENOUGH - 0.02
    ]
    assert not poor


def test_a_colour_that_can_be_read_is_drawn_as_it_was_asked_for(log: Any) -> None:
    log.emulate_media(color_scheme="light")
    codes = ("38;2;10;20;30", "38:2:10:20:30", "38:2::10:20:30", "48;2;250;240;230", "48;5;16")
    (one, _), (other, _), (third, _), (_, ground), (text, black) = painted(log, *codes)
    assert one == other == third == [10, 20, 30]
    assert ground == [250, 240, 230]
    assert (text, black) == ([255, 255, 255], [0, 0, 0])
    log.emulate_media(color_scheme="dark")
    assert log.evaluate(PAINTED)[0][0] != [10, 20, 30]


@pytest.mark.parametrize(
    "code",
    [
        "38", "38;5", "38;5;256", "38;5;-1", "38;2", "38;2;1", "38;2;1;2", "38;2;1;2;256", "48",
        "38;9;1;2;3", "38:5", "38:5:256", "38:2:1:2", "38:", ":38", "48:2::300:1:1",
        "58;5;4", "58:2::1:2:3", "999999999999999999999", "8", "5", "10", "108", "4:0", "1;22",
        "7;27", "9;29", "31;39", "41;49", "38;5;3;0", "1;;", "::::", ";;;;",
    ],
)  # fmt: skip
def test_what_is_no_colour_changes_nothing(code: str, log: Any) -> None:
    push(log, f"\x1b[{code}mx\n".encode())
    assert markup(log) == "x"


def test_half_a_colour_leaves_the_rest_as_it_was(log: Any) -> None:
    push(log, b"\x1b[31;4ma\x1b[38;5mb\x1b[38;2;1;2mc\x1b[48;5;999md\x1b[38;5;1", b";1me\n")
    assert lines(log) == ["abcde"]
    pieces = "[...document.querySelectorAll('.ln > span > span')].map((one) => one.className)"
    assert log.evaluate(pieces) == ["c-r un", "c-r bo un"]


def test_a_line_of_nothing_but_colours_is_bounded_and_keeps_its_text(log: Any) -> None:
    text = "".join(f"\x1b[38;2;{n % 256};{n // 256};9mx" for n in range(3000))
    push(log, f"{text}\x1b[0m\n".encode() + b"after\n")
    assert lines(log) == ["x" * 3000, "after"]
    assert log.evaluate("document.querySelectorAll('.ln > span > span').length") <= 1001


def test_no_page_uses_a_class_of_the_logs_for_something_else() -> None:
    source = (STATIC / "logcolours.js").read_text()
    marks = set(re.findall(r'\[[A-Z]+, "([a-z]+)"\]', source)) | {"inv", "gr"}
    assert {"bo", "un", "it", "struck"} < marks
    templates = Path(STATIC).parent.parent / "templates"
    used = {
        name
        for page in templates.rglob("*.html")
        for classes in re.findall(r'class="([^"]*)"', page.read_text())
        for name in classes.split()
    }
    assert not marks & used

"""static/forge/log.js in a real browser: what a log shows, and that it can do nothing else."""

from __future__ import annotations

import base64
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.log_search import as_seen
from tests.broker import required

STATIC = Path(__file__).resolve().parent.parent.parent / "static" / "forge"
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or ""
ORIGIN = "http://forge.test"
PAGE = """<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="/tokens.css">
<link rel="stylesheet" href="/forge.css">
<section class="log"><div class="lines" id="lines"><div class="canvas" id="canvas"></div></div>
</section><script type="module" src="/harness.js"></script>"""
HARNESS = """import { LogView } from "/log.js";
const find = (id) => document.getElementById(id);
// A view on elements of its own, for another one still listens to the old ones.
window.renew = (options) => {
  const lines = find("lines").cloneNode(true);
  lines.firstChild.replaceChildren();
  find("lines").replaceWith(lines);
  window.view = new LogView(lines, lines.firstChild, options);
};
window.renew({ kept: 1e6 });
window.push = (text) => window.view.push(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)));
window.drawn = () => new Promise((done) =>
  requestAnimationFrame(() => requestAnimationFrame(done)));
window.ready = true;"""
TYPES = {".css": "text/css", ".js": "text/javascript"}


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    if not CHROMIUM:
        missing = pytest.fail if "chromium" in required() else pytest.skip
        missing("chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1000, "height": 800})
        page.route("**/*", serve)
        yield page
        browser.close()


def serve(route: Any) -> None:
    name = route.request.url.removeprefix(ORIGIN).split("?")[0].lstrip("/")
    # No style may stand in markup: what colours a log is allowed because a script sets it.
    policy = "default-src 'none'; script-src 'self'; style-src 'self'"
    bodies = {"": (PAGE, "text/html"), "harness.js": (HARNESS, "text/javascript")}
    if name in bodies:
        body, kind = bodies[name]
    else:
        body, kind = (STATIC / name).read_text(), TYPES[Path(name).suffix]
    headers = {"content-security-policy": policy, "content-type": kind}
    route.fulfill(body=body, headers=headers)


@pytest.fixture
def log(page: Any) -> Any:
    """A fresh viewer without a line."""
    page.goto(f"{ORIGIN}/?{os.urandom(4).hex()}")
    page.wait_for_function("window.ready")
    return page


def push(page: Any, *pieces: bytes) -> None:
    for piece in pieces:
        page.evaluate("(text) => push(text)", base64.b64encode(piece).decode())
    page.evaluate("drawn()")


def lines(page: Any) -> list[str]:
    """The texts of the rows in the document."""
    script = "[...document.querySelectorAll('.ln > span')].map((row) => row.textContent)"
    return list(page.evaluate(script))


def texts(page: Any) -> list[str]:
    """The same without remarks, such as that a line was rewritten."""
    remarks_aside = "[...row.childNodes].filter((one) => one.className !== 're')"
    drawn = f"[...document.querySelectorAll('.ln > span')].map((row) => {remarks_aside}"
    return list(page.evaluate(f"{drawn}.map((one) => one.textContent).join(''))"))


def markup(page: Any) -> str:
    return str(page.evaluate("document.querySelector('.ln > span').innerHTML"))


@pytest.fixture
def show(log: Any) -> Callable[..., list[str]]:
    def shown(*pieces: bytes) -> list[str]:
        push(log, *pieces)
        return lines(log)

    return shown


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ((b"one\ntwo\n",), ["one", "two"]),
        ((b"one\ntw", b"o"), ["one", "two"]),
        ((b"one\r\ntwo\r\n",), ["one", "two"]),
        ((b"one\r", b"\ntwo"), ["one", "two"]),
        ((b"\n\nthird",), ["", "", "third"]),
        ((b"caf\xc3", b"\xa9\n"), ["café"]),
        ((b"bad \xff byte\n",), ["bad \ufffd byte"]),
        ((b"tab\there\n",), ["tab\there"]),
        ((b"nul\0bell\a\x7f.\n",), ["nulbell."]),
        (("日本 ✓ 🚀\n".encode(),), ["日本 ✓ 🚀"]),
    ],
)
def test_bytes_become_lines(
    pieces: tuple[bytes, ...], expected: list[str], show: Callable[..., list[str]]
) -> None:
    assert show(*pieces) == expected


@pytest.mark.parametrize(
    "sequence",
    [
        b"\x1b[2J", b"\x1b[10;20H", b"\x1b[?25l", b"\x1b[K", b"\x1b[2A", b"\x1b[3K",
        b"\x1b[?K", b"\x1b[1J", b"\x1b[?2D",
        b"\x1b[>4;2m", b"\x1b(B", b"\x1b7", b"\x1bc", b"\x1b]0;a title\x07", b"\x1b]8;;https://evil.example/\x1b\\",
        b"\x1bPq#0;2;0;0;0\x1b\\", b"\x1b_app\x1b\\", b"\xc2\x9b31m", b"\x1b[38;2;1;2;3m",
        b"\x1b[48;5;200m", b"\x1b]0;" + b"x" * 5000 + b"\x07",
    ],
)  # fmt: skip
def test_every_other_escape_sequence_is_dropped_wherever_it_is_cut(
    sequence: bytes, log: Any
) -> None:
    for cut in {1, 2, len(sequence) // 2, len(sequence) - 1}:
        push(log, b"a" + sequence[:cut], sequence[cut:] + b"b\n")
    assert set(lines(log)) == {"ab"}


def test_a_sequence_that_nobody_closes_swallows_one_line_at_most(
    show: Callable[..., list[str]],
) -> None:
    assert show(b"a\x1b]0;open\nsecond\n") == ["a", "second"]
    assert show(b"\x1b[" + b"1" * 5000 + b"m\nlast\n")[-1] == "last"


def test_colours_hold_across_lines_and_pieces_until_reset(log: Any) -> None:
    push(log, b"\x1b[1;3", b"1mred and bold\nstill \x1b[0mplain\n")
    assert markup(log) == '<span class="c-r bo">red and bold</span>'
    second = log.evaluate("document.querySelectorAll('.ln > span')[1]?.innerHTML")
    assert "plain" in second
    html = log.evaluate("document.getElementById('canvas').innerHTML")
    assert '<span class="c-r bo">still </span>plain' in html


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("31", "c-r"), ("92", "c-g"), ("38;5;3", "c-y"), ("94", "c-b"), ("2", "c-d"), ("4", "un"),
        ("38:5:2", "c-g"), ("4:3", "un"), ("9", "struck"), ("4;9", "un struck"), ("3", "it"),
        ("7", "inv"), ("31;7", "c-r inv"), ("1;7", "bo inv"), ("58;5;1;31", "c-r"),
        ("58;2;1;3;4;31", "c-r"),
    ],
)  # fmt: skip
def test_colours_of_the_theme_and_marks_are_classes(code: str, name: str, log: Any) -> None:
    push(log, f"\x1b[{code}mx\x1b[m\n".encode())
    assert markup(log) == f'<span class="{name}">x</span>'


def test_a_log_can_only_be_text(log: Any) -> None:
    attack = "<img src=x onerror=alert(1)><script>alert(2)</script>&lt;b&gt;"
    push(log, attack.encode() + b"\n\x1b[31m" + attack.encode() + b"\n")
    assert lines(log) == [attack, attack]
    assert log.evaluate("document.querySelectorAll('#canvas img, #canvas script').length") == 0


CLIPBOARD = b"\x1b]52;c;ZWNobyBvd25lZA==\x07"
LINK = b"\x1b]8;;javascript:alert(1)\x1b\\click\x1b]8;;\x1b\\"


def test_titles_links_and_the_clipboard_are_out_of_reach(log: Any) -> None:
    log.evaluate("document.title = 'as it was'")
    note = "(text) => window.copied.push(text)"
    log.evaluate(f"{{ window.copied = []; navigator.clipboard ??= {{ writeText: {note} }}; }}")
    push(log, b"a\x1b]0;owned\x07b\n" + CLIPBOARD + b"c\n" + LINK + b"\n")
    assert lines(log) == ["ab", "c", "click"]
    assert log.evaluate("document.title") == "as it was"
    assert log.evaluate("window.copied") == []
    links = "[...document.querySelectorAll('#canvas a')].map((one) => one.getAttribute('href'))"
    assert all(str(link).startswith("#L") for link in log.evaluate(links))


def test_what_nobody_sees_shows_its_number(log: Any) -> None:
    push(log, "ls \u202e# gpj.exe\u202c\nadm\u200bin\n\ufeffbom\n\u2028\u2066x\n".encode())
    assert lines(log) == [
        "ls <U+202E># gpj.exe<U+202C>",
        "adm<U+200B>in",
        "<U+FEFF>bom",
        "<U+2028><U+2066>x",
    ]


def test_scripts_from_right_to_left_stay_in_their_own_line(log: Any) -> None:
    push(log, "שלום עולם 123\nnext\n".encode())
    assert lines(log) == ["שלום עולם 123", "next"]
    style = "getComputedStyle(document.querySelector('.ln > span')).unicodeBidi"
    assert log.evaluate(style) in ("isolate", "plaintext")


def test_a_tower_of_marks_is_not_painted_over_other_lines(log: Any) -> None:
    push(log, ("Z" + "\u0335" * 300 + "algo\n").encode())
    assert lines(log) == ["Z" + "\u0335" * 4 + "algo"]


def test_a_carriage_return_rewrites_the_line(log: Any) -> None:
    push(log, b"".join(b"\r%d %%" % n for n in range(101)))
    assert lines(log) == ["100 %rewritten 100 times"]


def frames(before: bytes, after: bytes = b"") -> bytes:
    return b"".join(b"%s%c installing %d/40%s" % (before, b"-\\|/"[n % 4], n, after)
                    for n in range(1, 41))  # fmt: skip


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (frames(b"\x1b[2K\x1b[1G"), "- installing 40/40rewritten 39 times"),
        (frames(b"\x1b[0G\x1b[K"), "- installing 40/40rewritten 39 times"),
        (frames(b"\x1b[G"), "- installing 40/40rewritten 39 times"),
        (frames(b"\r", b"\x1b[K"), "- installing 40/40rewritten 39 times"),
        (frames(b"\x1b[2K\x1b[1G") + b"\x1b[2K\x1b[1Gdone", "donerewritten 40 times"),
        (frames(b"\x1b[2K\x1b[1G") + b"\x1b[2K\x1b[1G", "rewritten 40 times"),
        (b"Working |" + b"\b/\b-\b\\\b|" * 10 + b"\b \bdone", "Working done"),
        (b" 1 %" + b"".join(b"\b\b\b\b%2d %%" % n for n in range(2, 100)), "99 %"),
        ("Fetching ⠋\b⠙\b⠹\b\x1b[32m✔\x1b[0m".encode(), "Fetching ✔"),
        ("🌍\b🌎\b🌏\bx".encode(), "x"),
        ("🌍🌍🌍\b\bxy".encode(), "🌍xy"),
        (b"N\bNA\bAM\bME\bE", "NAME"),
        (b"abc\b\b\b\b\bxy", "xyc"),
        (b"abcdef\b\b\x1b[K.", "abcd."),
        (b"abcdef\b\b\x1b[1K.", "    .f"),
        (b"abc\x1b[2Kdef", "   def"),
        (b"building |" + b"\x1b[D/\x1b[D-\x1b[1D|" * 10 + b"\x1b[D done", "building  done"),
        (b"a 10 %\x1b[1000D\x1b[Ka 100 %", "a 100 %"),
        (b"a 10 %\x1b[G\x1b[Ja 9 %", "a 9 %"),
        (b"Starting httpd\x1b[20G[ OK ]", "Starting httpd     [ OK ]"),
        (b"Starting httpd\r\x1b[10GHTTPD\x1b[2C!", "Starting HTTPD  !"),
        (b"abc\x1b[99999999Gx", "abc" + " " * 197 + "x"),
        ("🌍🌍🌍\x1b[2Dxy\x1b[2Gz".encode(), "🌍zy"),
    ],
)
def test_progress_that_is_drawn_in_one_line_looks_as_in_a_terminal(
    data: bytes, expected: str, log: Any
) -> None:
    """However it is cut when it comes."""
    push(log, data[:7], data[7:30], data[30:] + b"\n")
    log.evaluate("(bytes) => bytes.forEach((one) => view.push(Uint8Array.of(one)))", [*data, 10])
    log.evaluate("drawn()")
    assert lines(log) == [expected] * 2


def test_colours_stay_on_their_characters_when_some_are_written_over(log: Any) -> None:
    push(log, b"\x1b[31mred\x1b[32mgreen\x1b[0m" + b"\b" * 6 + b"\x1b[34mXX\x1b[0m\n")
    assert markup(log) == (
        '<span class="c-r">re</span><span class="c-b">XX</span><span class="c-g">reen</span>'
    )
    push(log, b"\x1b[31mred\x1b[32mgreen\x1b[0m" + b"\b" * 6 + b"\x1b[1K\n")
    second = "document.querySelectorAll('.ln > span')[1].innerHTML"
    assert log.evaluate(second) == '   <span class="c-g">green</span>'


@pytest.mark.parametrize(
    ("turn", "expected"),
    [
        (b"|\b/\b-\b\\\b", "x" * 3990 + "done"),
        (b"\x1b[1K", " " * 3990 + "done"),
        (b"\x1b[2Ka\b", " " * 3990 + "done"),
        (b"|\x1b[D/\x1b[D", "x" * 3990 + "done"),
        (b"\x1b[3G\x1b[4000C", "x" * 3990 + "done"),
    ],
)
def test_a_million_turns_of_a_spinner_are_drawn_in_no_time(
    turn: bytes, expected: str, log: Any
) -> None:
    turns = turn * 250_000
    push(log, b"x" * 3990 + turns[:1_000_000], turns[1_000_000:] + b"done\n")
    assert texts(log) == [expected]
    assert as_seen(b"x" * 3990 + turns + b"done\n") == f"{expected}\n"


COUNT_STEPS = """() => {
  const step = String.prototype.codePointAt;
  window.steps = 0;
  String.prototype.codePointAt = function (at) {
    window.steps += 1;
    return step.call(this, at);
  };
}"""


@pytest.mark.parametrize(
    ("turn", "expected", "omitted"),
    [
        (b"\x1b[1G\x1b[999999999C", "😀" + "x" * 3998, 496_006),
        (b"\x1b[999999999G", "😀" + "x" * 3998, 496_006),
        (b"\x1b[999999999C\x1b[495000D", "😀" + "x" * 3998, 496_002),
    ],
)
def test_a_jump_over_what_is_left_out_of_a_line_costs_no_step_for_each_character(
    turn: bytes, expected: str, omitted: int, log: Any
) -> None:
    """Else a program that draws in a very long line stops the tab of whoever watches it."""
    turns = 500
    log.evaluate(COUNT_STEPS)
    push(log, "😀".encode() + b"x" * 500_000 + turn * turns + b"done\n")
    assert lines(log) == [f"{expected}{omitted:,} more characters in the file"]
    assert log.evaluate("steps") < 10_000 * turns


def test_200000_lines_leave_only_those_in_view_in_the_document(log: Any) -> None:
    block = b"".join(b"line %d\n" % n for n in range(10_000))
    for _ in range(20):
        push(log, block)
    assert log.evaluate("view.lineCount") == 200_000
    assert len(lines(log)) < 120
    assert lines(log)[-1] == "line 9999"
    log.evaluate("document.getElementById('lines').scrollTop = 0")
    log.evaluate("drawn()")
    assert lines(log)[0] == "line 0"
    assert len(lines(log)) < 120


def test_a_line_of_10_mb_is_cut_and_says_so(log: Any) -> None:
    for _ in range(160):
        push(log, b"x" * 65536)
    push(log, b"\nnext\n")
    first, second = lines(log)
    assert second == "next"
    assert first.endswith("10,481,760 more characters in the file")
    assert len(first) < 4100


def test_following_lets_go_on_scrolling_up_and_counts_what_came(log: Any) -> None:
    push(log, b"line\n" * 1000)
    assert log.evaluate("view.isFollowing")
    log.evaluate("document.getElementById('lines').scrollTop -= 300")
    log.evaluate("drawn()")
    assert not log.evaluate("view.isFollowing")
    top = log.evaluate("document.getElementById('lines').scrollTop")
    push(log, b"line\n" * 25)
    assert log.evaluate("view.newLines") == 25
    assert log.evaluate("document.getElementById('lines').scrollTop") == top
    log.evaluate("view.follow(true)")
    log.evaluate("drawn()")
    assert log.evaluate("view.newLines") == 0


SEEN = [
    b"plain\n\nlast without an end",
    b"\x1b[1;31mred\x1b[0m and \x1b[38;5;200mmore\x1b[m\n",
    b"\x1b]0;title\x07a\x1b]8;;https://x.example/\x1b\\b\x1bPq#0\x1b\\c\x1b_d\x1b\\e\n",
    b"open \x1b]0;until the end\nnext \x1b[31\nthen\x1b\n\x1b(Bend\n",
    b"\r10 %\r20 %\r\nwindows\r\n\r\r\nover\r\x1b[Kwritten\r\n",
    b"tab\there nul\0bell\a\x08 del\x7f c1\xc2\x85 csi\xc2\x9b31m.\n",
    "ls \u202egpj\u202c café 日本 🚀\n".encode() + b"bad \xff\xc3\n\xa9\n",
    b"nul\0bell\a\x08 del\n\x1b[2K\x1b[1G- one\x1b[2K\x1b[1G\\ two\n",
    b"Working |\b/\b-\b done\n",
    b"abc\b\b\x1b[1Kx\nabc\x1b[2Kd\nabcd\b\b\x1b[Ke\n100 %\r\x1b[K\nnext\r\b\b\x1b[1K\n",
    b"a\x1b]0;b\bc\x07d\b\x1bcd\b\n\x1b[3\b1m\x1b]0;\x1b[1Ge\bf\x1b [Gg\xc2\x9b1Gh\n",
    "🌍🌍\b\x1b[2K\x1b[31mé\b\b日本\x1b[1K\u202e\bx\b\n".encode(),
    b"a \x1b7b\x1bcc\x1b[?25ld\x1b[>4;2me\x1b  Ff\n",
]


@pytest.mark.parametrize("data", SEEN)
def test_the_search_reads_lines_as_they_are_drawn(data: bytes, log: Any) -> None:
    push(log, data)
    assert as_seen(data).removesuffix("\n").split("\n") == texts(log)


STEPS = [
    "a", "bc", "é", "日", "🌍", "\u202e", "\b", "\b\b", "\r", "\t", "  ", "\x1b[K", "\x1b[1K",
    "\x1b[2K", "\x1b[G", "\x1b[31m", "\x1b[0m", "\x1b]0;x\bx\x07", "\x1b[2G", "\x9b1G", "\x9b1K",
    "\x1bc", "\x1b[D", "\x1b[3D", "\x1b[9D", "\x1b[5G", "\x1b[0G",
    "\x1b[2C", "\x9bC", "\x1b[J", "\x1b[2J",
]  # fmt: skip


def test_the_search_reads_whatever_is_drawn(log: Any) -> None:
    dice = random.Random(11)
    for _ in range(10):
        log.evaluate("renew({ kept: 1e6 })")
        data = "".join(
            "".join(dice.choices(STEPS, k=dice.randint(1, 14))) + "\n" for _ in range(30)
        )
        push(log, data.encode())
        assert as_seen(data.encode()).split("\n")[:-1] == texts(log), repr(data)


def test_a_hit_is_marked_across_colours_and_the_current_one_stands_out(log: Any) -> None:
    push(log, b"No Er\x1b[31mror, no er\x1b[0mror\nerror\n")
    assert log.evaluate("view.mark('ERROR', 2)") is True
    log.evaluate("drawn()")
    marks = (
        "[...document.querySelectorAll('.ln mark')].map((one) => [one.textContent, one.className])"
    )
    assert log.evaluate(marks) == [
        ["Er", ""], ["ror", ""], ["er", ""], ["ror", ""], ["error", "now"],
    ]  # fmt: skip
    assert lines(log) == ["No Error, no error", "error"]
    log.evaluate("view.mark('', 0)")
    log.evaluate("drawn()")
    assert log.evaluate(marks) == []


@pytest.mark.parametrize(
    ("text", "needle", "marked"),
    [
        ("to İstanbul, İstanbul", "İstanbul", ["İstanbul", "İstanbul"]),
        ("to İstanbul and on", "and", ["and"]),
        ("İİİ 🚀 \x1b[31mdb-3\x1b[0m refused", "🚀 db-3 ref", ["🚀 ", "db-3", " ref"]),
        ("İİi", "i", ["İ", "İ", "i"]),
        ("ΟΔΟΣ İ ΟΔΟΣ", "οδος", ["ΟΔΟΣ", "ΟΔΟΣ"]),
    ],
)
def test_a_hit_is_marked_among_letters_that_are_longer_in_small(
    text: str, needle: str, marked: list[str], log: Any
) -> None:
    push(log, text.encode())
    log.evaluate("(needle) => view.mark(needle, 1)", needle)
    log.evaluate("drawn()")
    found = "[...document.querySelectorAll('.ln mark')].map((one) => one.textContent)"
    assert log.evaluate(found) == marked
    assert lines(log) == [text.replace("\x1b[31m", "").replace("\x1b[0m", "")]


def test_a_log_higher_than_a_browser_draws_is_reached_to_its_end(log: Any) -> None:
    """Firefox stops at 890,000 lines; here the limit is put lower."""
    log.evaluate("renew({ tallest: 20000, kept: 1e6 })")
    push(log, b"".join(b"line %d\n" % n for n in range(1, 2001)))
    assert lines(log)[-1] == "line 2000"
    for number in (1, 700, 1500, 2000):
        assert log.evaluate(f"view.select('#L{number}')") is True
        log.evaluate("drawn()")
        place = """() => {
          const box = document.getElementById("lines").getBoundingClientRect();
          const row = document.querySelector(".ln.sel").getBoundingClientRect();
          return row.top >= box.top && row.bottom <= box.bottom;
        }"""
        assert log.evaluate(place), number
        assert log.evaluate("document.querySelector('.ln.sel span').textContent") == (
            f"line {number}"
        )


def test_a_link_to_a_line_shows_and_marks_it_at_once(log: Any) -> None:
    log.evaluate("view.follow(false)")
    push(log, b"line\n" * 10)
    assert log.evaluate("view.select('#L900')") is False
    block = base64.b64encode(b"line\n" * 1000).decode()
    # In one go, as the page does it: the line is not drawn yet when it is asked for.
    assert log.evaluate("(text) => { push(text); return view.select('#L900') }", block) is True
    log.evaluate("drawn()")
    assert log.evaluate("document.querySelector('.ln.sel a').textContent") == "900"


def test_rows_stand_in_the_order_of_their_lines_after_jumping(log: Any) -> None:
    push(log, b"line\n" * 5000)
    for top in (0, 400, 90_000, 89_700, 90_100, 10, 300):
        log.evaluate("(top) => (document.getElementById('lines').scrollTop = top)", top)
        log.evaluate("drawn()")
        script = "[...document.querySelectorAll('.ln')].map((row) => Number(row.dataset.number))"
        numbers = log.evaluate(script)
        assert numbers == sorted(numbers)
        assert len(numbers) == len(set(numbers)) == numbers[-1] - numbers[0] + 1


# ---- a log of which the page has a part ----
SOURCE = """() => {
  window.asked = [];
  window.failures = 0;
  window.most = 1000; // lines in one answer
  const fetch = async (first, count) => {
    window.asked.push([first, count]);
    if (window.failures-- > 0) throw new Error("no answer");
    const size = Math.min(count, window.most, 5000 - first);
    const text = [...Array(size).keys()].map((at) => `line ${first + at}\\n`).join("");
    return { lead: btoa(first ? "\\x1b[31mbefore\\n" : ""), data: btoa(text), count: size,
             long: [[1, 7, 3]], times: [[0, 1000 * (first + 1), 0]] };
  };
  renew({ fetch, kept: 100 });
  view.restart(5000);
  view.follow(false);
}"""
THERE = "() => document.querySelector('.ln') && !document.querySelector('.wait')"


@pytest.fixture
def window(log: Any) -> Any:
    """A viewer of a log of 5,010 lines, which has the last ten."""
    log.evaluate(SOURCE)
    push(log, b"".join(b"line %d\n" % n for n in range(5000, 5010)))
    return log


def go(log: Any, top: int) -> None:
    log.evaluate("(top) => (document.getElementById('lines').scrollTop = top)", top)
    log.evaluate("drawn()")
    log.wait_for_function(THERE)


def test_lines_that_are_not_there_are_asked_for_when_they_are_looked_at(window: Any) -> None:
    assert window.evaluate("view.lineCount") == 5010
    go(window, 0)
    assert lines(window)[:1] == ["line 0"]
    go(window, 2000 * 20)
    numbers = [int(text.split()[1]) for text in lines(window) if "more" not in text]
    assert 2000 in numbers and numbers == sorted(numbers)
    go(window, 10**9)
    assert lines(window)[-1] == "line 5009"
    asked = window.evaluate("asked.map(([first]) => first)")
    assert set(asked) == {0, 1500, 2000, 4500}, "in blocks, and each once"
    assert len(asked) == len(set(asked))


def test_what_came_before_a_line_colours_it_and_its_cuts_and_times_are_told(window: Any) -> None:
    window.evaluate("view.showTimes(true)")
    go(window, 2000 * 20)
    first = "document.querySelector('.ln[data-number=\"2000\"]')"
    assert window.evaluate(f"{first}.querySelector('span .c-r').textContent") == "line 2000"
    assert window.evaluate(f"{first}.querySelector('time').dateTime") == "1970-01-01T00:33:21.000Z"
    second = "document.querySelector('.ln[data-number=\"2001\"] > span').textContent"
    assert window.evaluate(second) == "line 20017 more characters in the filerewritten 3 times"


def test_an_answer_that_fails_or_is_short_is_asked_for_again(window: Any) -> None:
    window.evaluate("window.failures = 1; window.most = 200; 0")
    go(window, 1000 * 20)
    assert "line 1000" in lines(window)
    go(window, 1300 * 20)
    assert "line 1300" in lines(window)
    asked = [tuple(one) for one in window.evaluate("asked")]
    assert len(set(asked)) < len(asked) and (1200, 300) in asked


def test_what_was_looked_at_long_ago_is_let_go(window: Any) -> None:
    for top in range(0, 5000, 500):
        go(window, top * 20)
    many = window.evaluate("asked.length")
    assert many == 10
    go(window, 0)
    assert window.evaluate("asked.length") == many, "ten blocks are kept"


def test_the_last_lines_go_as_new_ones_come_and_are_asked_for_again(window: Any) -> None:
    push(window, b"".join(b"line %d\n" % n for n in range(5010, 5400)))
    assert window.evaluate("view.lineCount") == 5400
    window.evaluate("view.follow(true)")
    window.evaluate("drawn()")
    assert lines(window)[-1] == "line 5399"


# ---- folds ----
MARKS = [[2, "head", "TASK [one]", None], [40, "error", 3, None], [60, "head", "TASK [two]", None],
         [70, "closed", "group", None], [80, "end", "", None], [900, "error", 1, None]]  # fmt: skip


def test_folds_hide_what_they_say_and_nothing_else(log: Any) -> None:
    push(log, b"".join(b"line %d\n" % n for n in range(2000)))
    log.evaluate("view.follow(false)")
    log.evaluate("(marks) => view.outline(marks, 2000, false, true)", MARKS)
    bands = "[...document.querySelectorAll('.fold')].map((one) => one.textContent)"
    height = "document.getElementById('canvas').offsetHeight"
    assert log.evaluate(f"drawn().then(() => {height})") == 1989 * 20 + 28
    log.evaluate("view.foldAll(true)")
    go(log, 0)
    assert log.evaluate(bands) == [
        "TASK [one]58 lines3 errors",
        "group11 lines",
        "Lines 92 to 890799 lines",
    ]
    assert {"line 1", "line 65", "line 85"} <= set(lines(log))
    hidden = 58 + 11 + 799 + 1079
    assert log.evaluate(height) == (2000 - hidden) * 20 + 4 * 28
    go(log, 10**6)
    assert log.evaluate(bands)[-1] == "Lines 912 to 1,9901,079 lines"
    assert {"line 900", "line 910", "line 1995"} <= set(lines(log))
    log.evaluate("view.foldAll(false)")
    assert log.evaluate(f"drawn().then(() => {height})") == 1989 * 20 + 28


def test_what_somebody_reads_stays_when_something_above_it_folds(log: Any) -> None:
    push(log, b"".join(b"line %d\n" % n for n in range(3000)))
    open_ones = [[line, "error", 1, None] for line in range(1000, 3000, 100)]
    log.evaluate("(marks) => view.outline(marks, 3000, false, true)", MARKS + open_ones)
    log.evaluate("view.follow(false)")
    go(log, 910 * 20)
    place = "document.querySelector('.ln[data-number=\"930\"]').getBoundingClientRect().top"
    before = log.evaluate(place)
    log.evaluate("view.foldAll(true)")
    assert abs(log.evaluate(f"drawn().then(() => {place})") - before) <= 1


FOLDED = "drawn().then(() => [...document.querySelectorAll('.fold')].map((one) => one.textContent))"


@pytest.mark.parametrize("kind", ["closed", "paired"])
def test_a_section_that_is_never_ended_stays_open(kind: str, log: Any) -> None:
    push(log, b"".join(b"line %d\n" % n for n in range(1000)))
    marks = [[2, "closed", "build", None], [9, "end", "", None], [20, kind, "deploy", None]]
    log.evaluate("(marks) => view.outline(marks, 1000, false, true)", marks)
    go(log, 0)
    assert log.evaluate(FOLDED) == ["build8 lines"]
    # As what stands in no section: the end, which tells why it ended, is in sight.
    log.evaluate("view.foldAll(true)")
    go(log, 0)
    assert log.evaluate(FOLDED) == ["build8 lines", "Lines 31 to 990960 lines"]
    log.evaluate("view.foldAll(false)")
    assert log.evaluate(FOLDED) == ["build8 lines"]


def test_a_section_that_the_next_one_ends_is_ended_by_the_log_too(log: Any) -> None:
    push(log, b"".join(b"line %d\n" % n for n in range(100)))
    marks = [[2, "closed", "build", None], [9, "closed", "push", None], [20, "head", "TASK", None]]
    log.evaluate("(marks) => view.outline(marks, 100, false, true)", marks)
    log.evaluate("view.foldAll(true)")
    go(log, 0)
    assert log.evaluate(FOLDED) == ["build7 lines", "push11 lines", "TASK80 lines"]


def test_a_group_that_was_seen_open_stays_open_when_it_ends(log: Any) -> None:
    push(log, b"".join(b"line %d\n" % n for n in range(100)))
    outline = "([marks, isLive, isAll]) => view.outline(marks, 100, isLive, isAll)"
    first, second = [2, "closed", "build", None], [12, "closed", "push", None]
    go(log, 0)
    # More of the log is already there: nobody has seen it open.
    log.evaluate(outline, [[first], True, False])
    log.evaluate(outline, [[first, [9, "end", "", None], second], True, True])
    assert log.evaluate(FOLDED) == ["build8 lines"]
    ended = [first, [9, "end", "", None], second, [22, "end", "", None]]
    for is_live in (True, False):
        log.evaluate(outline, [ended, is_live, True])
        assert log.evaluate(FOLDED) == ["build8 lines"]
    # Its reader may fold it, and the switch does what the program wants.
    log.evaluate("document.querySelector('.ln[data-number=\"12\"] button').click()")
    assert log.evaluate(FOLDED) == ["build8 lines", "push11 lines"]
    log.evaluate("document.querySelectorAll('.fold')[1].click()")
    assert log.evaluate(FOLDED) == ["build8 lines"]
    log.evaluate("view.foldAll(true)")
    log.evaluate("view.foldAll(false)")
    assert log.evaluate(FOLDED) == ["build8 lines", "push11 lines"]

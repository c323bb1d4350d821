"""Masking: however a secret is split and encoded, nothing of it is left, and all else is."""

from __future__ import annotations

import base64
import html
import json
import shlex
import subprocess
from collections.abc import Callable
from itertools import pairwise
from urllib.parse import quote, quote_plus
from xml.etree import ElementTree
from xml.sax import saxutils

import pytest
from hypothesis import given
from hypothesis import strategies as some

from runners.worker import masking
from runners.worker.masking import MASK, Masker, UnmaskableError, mask_text, patterns_of

AWKWARD = "pä ss/w+rd'\"\\=&$x;y"
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\n{}\n-----END OPENSSH PRIVATE KEY-----\n".format(
    "\n".join(["b3BlbnNzaC1rZXktdjEAAA" * 3, "QyNTUxOQAAACBkZXBsb3kt" * 3, "kQ=="])
)


def naive(data: bytes, secrets: list[str]) -> bytes:
    """What is meant: every byte of every occurrence is covered, each run is one mask."""
    covered = [False] * len(data)
    for pattern in {pattern for secret in secrets for pattern in patterns_of(secret)}:
        for at in range(len(data) - len(pattern) + 1):
            if data.startswith(pattern, at):
                covered[at : at + len(pattern)] = [True] * len(pattern)
    out = bytearray()
    for at, byte in enumerate(data):
        if not covered[at]:
            out.append(byte)
        elif at == 0 or not covered[at - 1]:
            out += MASK
    return bytes(out)


def streamed(pieces: list[bytes], secrets: list[str]) -> bytes:
    masker = Masker(secrets)
    return b"".join([*(masker.feed(piece) for piece in pieces), masker.flush()])


def cut(data: bytes, places: list[int]) -> list[bytes]:
    borders = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(borders)]


# Few letters, so that secrets overlap themselves and each other, and prefixes abound.
_secrets = some.lists(some.text("ab\n", min_size=8, max_size=40), min_size=1, max_size=4).filter(
    lambda secrets: all(len(secret.strip()) >= 8 for secret in secrets)
)


@given(
    secrets=_secrets,
    data=some.data(),
    places=some.lists(some.integers(0, 10_000), max_size=12),
    is_many=some.booleans(),
)
def test_any_split_gives_what_is_meant(
    secrets: list[str], data: some.DataObject, places: list[int], is_many: bool
) -> None:
    """With both ways to search: one pattern after the other, and by words."""
    whole = "".join(data.draw(some.lists(some.sampled_from([*secrets, "a", "b", "\n", "ab"]))))
    before = masking.FEW
    masking.FEW = 0 if is_many else 10_000
    try:
        found = streamed(cut(whole.encode(), places), secrets)
    finally:
        masking.FEW = before
    assert found == naive(whole.encode(), secrets)


@given(
    secret=some.text(min_size=8, max_size=30).filter(lambda text: len(text.strip()) >= 8),
    before=some.binary(max_size=20),
    after=some.binary(max_size=20),
)
def test_no_part_of_a_secret_is_left_byte_by_byte(secret: str, before: bytes, after: bytes) -> None:
    try:
        data = before + secret.strip().encode() + after
    except UnicodeEncodeError:
        return
    pieces = [data[at : at + 1] for at in range(len(data))]
    assert streamed(pieces, [secret]) == naive(data, [secret])


def test_many_secrets_at_once_are_all_found() -> None:
    secrets = [f"secret-number-{number}-{number * 7919}" for number in range(300)]
    text = " ".join(secrets).encode()
    pieces = [text[at : at + 700] for at in range(0, len(text), 700)]
    assert streamed(pieces, secrets) == b" ".join([MASK] * 300)


ENCODINGS: dict[str, Callable[[str], str]] = {
    "as it is": lambda text: text,
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 of login and password": lambda text: base64.b64encode(f"me:{text}".encode()).decode(),
    "base64 within JSON": lambda text: base64.b64encode(f"x{text}yz".encode()).decode(),
    "URL-safe base64": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "URL": lambda text: quote(text),
    "URL, slashes too": lambda text: quote(text, safe=""),
    "URL, small letters": lambda text: quote(text, safe="").replace("%2F", "%2f").lower(),
    "form": quote_plus,
    "JSON": lambda text: json.dumps({"a": text}),
    "JSON in JSON": lambda text: json.dumps(json.dumps(text)),
    "JSON as Go writes it": lambda text: (
        json.dumps({"a": text}, ensure_ascii=False)
        .replace("&", "\\u0026")
        .replace("<", "\\u003c")
        .replace(">", "\\u003e")
    ),
    "HTML": html.escape,
    "HTML as Go and Jinja write it": lambda text: (
        html.escape(text).replace("&quot;", "&#34;").replace("&#x27;", "&#39;")
    ),
    "HTML as PHP writes it": lambda text: html.escape(text).replace("&#x27;", "&#039;"),
    "XML": lambda text: html.escape(text).replace("&#x27;", "&apos;"),
    "bytes in Python": lambda text: repr(text.encode()),
    "JSON, not ASCII": lambda text: json.dumps({"a": text}, ensure_ascii=False),
    "repr": repr,
    "shlex": shlex.quote,
}


@pytest.mark.parametrize("secret", [AWKWARD, "plain-and-long-enough", "tail/slash+plus=="])
@pytest.mark.parametrize("name", ENCODINGS)
def test_the_usual_encodings_are_masked(name: str, secret: str) -> None:
    if name == "URL, small letters":
        secret = secret.lower()
    shown = ENCODINGS[name](secret)
    masked = mask_text(f"<{shown}>", [secret])
    assert "[masked]" in masked
    # At an end of base64 there may be a character that depends on the neighbour.
    assert len(masked) - len("<[masked]>") <= (16 if "JSON" in name or "base64" in name else 4)
    assert not any(masked.find(shown[at : at + 6]) >= 0 for at in range(8, len(shown) - 14))


XML: dict[str, Callable[[str], str]] = {
    "an attribute": lambda text: ElementTree.tostring(ElementTree.Element("a", x=text)).decode(),
    "an attribute, not ASCII": lambda text: ElementTree.tostring(
        ElementTree.Element("a", x=text), encoding="unicode"
    ),
    "quoteattr": saxutils.quoteattr,
    "numbers": lambda text: "".join(
        one if one.isascii() else f"&#x{ord(one):X};" for one in html.escape(text)
    ),
}


@pytest.mark.parametrize("secret", ["7y€?*iFc_K", "Q{\t9]6WqJ+", "naïve <a> & \"b' ✓"])
@pytest.mark.parametrize("name", XML)
def test_what_writers_of_xml_make_of_a_secret_is_masked(name: str, secret: str) -> None:
    shown = XML[name](secret)
    masked = mask_text(shown, [secret])
    assert "[masked]" in masked and len(masked) <= len('<a x="[masked]" />'), masked


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
@pytest.mark.parametrize(
    "secret",
    [
        "it's $5 & a \\ or ten",
        "a$b`c!d;e|f(g)h ten",
        "Xk#9(vQ)2mLp,ten",
        "#~k=~9:~naïve & ten",
        "two\x01\x1b\r\tparts' and \"é ten",
    ],
)
@pytest.mark.parametrize(
    "script",
    [
        'set -x; : "$S"', 'printf "%q" "$S"', 'echo "${S@Q}"', "declare -p S", "export -p", "set",
        'echo "${S@A}"',
    ],
)  # fmt: skip
def test_what_bash_prints_of_a_secret_is_masked(script: str, secret: str, locale: str) -> None:
    answer = subprocess.run(
        ["bash", "-c", script],
        env={"S": secret, "LC_ALL": locale},
        stderr=subprocess.STDOUT,
        stdout=subprocess.PIPE,
    )
    masked = mask_text(answer.stdout.decode(errors="surrogateescape"), [secret])
    assert "[masked]" in masked and "ten" not in masked


@pytest.mark.parametrize("command", ["base64", "base64 -w 64", "cat", "sed 's/^/| /'", "tail -n 2"])
def test_a_key_is_masked_line_by_line(command: str) -> None:
    shown = subprocess.run(
        ["bash", "-c", command], input=KEY.encode(), capture_output=True, check=True
    ).stdout
    masked = (masker := Masker([KEY])).feed(shown) + masker.flush()
    lines = [line for line in KEY.splitlines() if not line.startswith("--") and len(line) > 8]
    for line in lines:
        assert line.encode() not in masked
    if command.startswith("base64"):
        assert not [at for at in range(len(shown) - 24) if shown[at : at + 24] in masked]


def test_a_frame_is_no_secret_but_the_line_in_it_is() -> None:
    line = KEY.splitlines()[1]
    assert mask_text(f"{KEY.splitlines()[0]}\n{line}\n", [KEY]) == (
        "-----BEGIN OPENSSH PRIVATE KEY-----\n[masked]\n"
    )


def test_the_short_last_line_of_a_key_goes_with_the_one_before() -> None:
    assert mask_text("\n".join(KEY.splitlines()[2:4]), [KEY]) == "[masked]"
    assert mask_text("kQ==", [KEY]) == "kQ=="


def test_output_is_held_back_only_while_it_may_become_a_secret() -> None:
    masker = Masker(["hunter2-hunter2"])
    assert masker.feed(b"password: ") == b"password: "
    assert masker.feed(b"hun") == b""
    assert masker.feed(b"dred\n") == b"hundred\n"
    assert masker.feed(b"x hunter2-hunter") == b"x "
    assert masker.feed(b"2") == MASK
    assert masker.feed(b"\n") == b"\n"
    assert masker.feed(b"hunter2") == b""
    assert masker.flush() == b"hunter2"


def test_a_mask_that_is_out_already_covers_what_is_held_behind_it() -> None:
    masker = Masker(["a" * 30])
    assert masker.feed(b"a" * 31) == MASK
    assert masker.feed(b"") == b""
    assert masker.feed(b"\n") == b"\n"


def test_without_secrets_nothing_is_touched() -> None:
    masker = Masker([])
    data = bytes(range(256))
    assert masker.feed(data) is data
    assert masker.flush() == b""


@pytest.mark.parametrize("secret", ["", "short", " short \n", "\n\n        \n"])
def test_a_secret_that_is_too_short_is_refused_without_showing_it(secret: str) -> None:
    with pytest.raises(UnmaskableError) as caught:
        Masker([secret])
    assert secret.strip() == "" or secret.strip() not in str(caught.value)


def test_half_a_surrogate_is_refused_without_showing_it() -> None:
    with pytest.raises(UnmaskableError) as caught:
        Masker(["long-enough-\ud800-secret"])
    assert "secret-" not in str(caught.value) and caught.value.__cause__ is None

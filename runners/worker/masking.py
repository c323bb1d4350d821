"""Masks secrets in what a task writes, before it reaches the journal.

Masked are each secret as a whole, each of its lines, and both in the encodings that programs
print them in (`patterns_of`). Where matches overlap or touch, all of what they cover becomes one
`[masked]`, so that no part of a secret is left beside it. It makes no difference over how many
writes a secret is split: the end of what came is held back while it may be the beginning of one.
"""

from __future__ import annotations

import base64
import html
import json
import re
import shlex
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Literal, Protocol
from urllib.parse import quote, quote_plus

MASK = b"[masked]"
# What is shorter than this would be found in ordinary words. Forge refuses it when it is entered.
MINIMUM_BYTES = 8
# Up to this many patterns it is quickest to search for one after the other.
FEW = 24
_FORMATS: dict[int, Literal["Q", "I"]] = {8: "Q", 4: "I"}
# A pattern of this length holds a whole aligned word of 8 bytes, wherever it begins.
_LONG = 15
_ARMOUR = re.compile(r"-+[A-Z0-9 ]+-+")
# How the `base64` command and PEM files break lines.
_WRAPS = (64, 76)
_LEADING = {0: 0, 1: 2, 2: 3}
# What Bash writes a backslash before: in "…", and where nothing is around it (`printf %q`).
_IN_DOUBLE_QUOTES = re.compile(r'([$`"\\])')
_BARE = re.compile(r"""([ !"$&'()*,;<>?\[\\\]^`{|}]|^[#~]|(?<=[:=])~)""")
_ANSI_C = {
    "\\": "\\\\", "'": "\\'", "\a": "\\a", "\b": "\\b", "\x1b": "\\E",
    "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v",
}  # fmt: skip
# As the libraries of Python, Go, PHP, JavaScript and XML write the two marks, and as text has them.
_HTML_DOUBLE = ('"', "&quot;", "&#34;")
_HTML_TAB = ("&#9;", "&#09;", "&#x9;")
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]")
_HTML_SINGLE = ("'", "&#x27;", "&#39;", "&#039;", "&apos;")


class UnmaskableError(Exception):
    """A secret that cannot be masked safely; the text does not hold it."""


class Masker:
    """A stream in which secrets become `[masked]`; for one thread.

    Raises UnmaskableError for a secret that is too short.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        found = sorted({pattern for secret in secrets for pattern in patterns_of(secret)})
        self._prefixes = {
            pattern[:length] for pattern in found for length in range(1, min(len(pattern), _LONG))
        }
        short = [pattern for pattern in found if len(pattern) < _LONG]
        long = [pattern for pattern in found if len(pattern) >= _LONG]
        self._sieves = [_sieve(part, width) for part, width in ((short, 4), (long, 8)) if part]
        self._held = b""
        # How much of the beginning of `_held` belongs to a match whose mask is already out.
        self._covered = 0
        # Whether the last byte that was decided on is behind a mask.
        self._is_masking = False

    def feed(self, data: bytes) -> bytes:
        """What may be written now that `data` has come as well."""
        if not self._sieves:
            return data
        data = self._held + data
        candidates = [pattern for sieve in self._sieves for pattern in sieve.candidates(data)]
        return self._decide(data, candidates, upto=self._undecided(data, candidates))

    def flush(self) -> bytes:
        """What is left at the end of the stream."""
        data = self._held
        candidates = [pattern for sieve in self._sieves for pattern in sieve.candidates(data)]
        return self._decide(data, candidates, upto=len(data))

    def _undecided(self, data: bytes, candidates: Iterable[bytes]) -> int:
        """Where the longest end of `data` begins that a pattern could go on from."""
        size = len(data)
        first = size
        for length in range(min(_LONG - 1, size), 0, -1):
            if data[size - length :] in self._prefixes:
                first = size - length
                break
        for pattern in candidates:
            head = pattern[:MINIMUM_BYTES]
            at = data.find(head, max(0, size - len(pattern) + 1))
            while -1 < at < first and not pattern.startswith(data[at:]):
                at = data.find(head, at + 1)
            if -1 < at < first:
                first = at
        return first

    def _decide(self, data: bytes, candidates: Iterable[bytes], *, upto: int) -> bytes:
        """Let `data` up to `upto` go, masked, and keep the rest."""
        parts = []
        done = 0
        covered = max(0, self._covered - upto)
        for begin, end in _joined([(0, self._covered), *_matches(data, candidates)]):
            if begin >= upto:
                break
            if begin > done:
                parts.append(data[done:begin])
            if begin > done or not self._is_masking:
                parts.append(MASK)
            self._is_masking = True
            done = min(end, upto)
            covered = end - done
        if done < upto:
            parts.append(data[done:upto])
            self._is_masking = False
        self._held, self._covered = data[upto:], covered
        return b"".join(parts)


def mask_text(text: str, secrets: Iterable[str]) -> str:
    """One text that is there as a whole, such as the reason of a failure."""
    masker = Masker(secrets)
    data = text.encode(errors="surrogateescape")
    return (masker.feed(data) + masker.flush()).decode(errors="replace")


def _matches(data: bytes, patterns: Iterable[bytes]) -> Iterator[tuple[int, int]]:
    for pattern in patterns:
        at = data.find(pattern)
        while at >= 0:
            yield at, at + len(pattern)
            at = data.find(pattern, at + 1)


def _joined(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans in order, those that overlap or touch made one, empty ones left out."""
    joined: list[tuple[int, int]] = []
    for begin, end in sorted(span for span in spans if span[0] < span[1]):
        if joined and begin <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((begin, end))
    return joined


# --- which patterns are worth a search ---


class Sieve(Protocol):
    def candidates(self, data: bytes) -> Iterable[bytes]:
        """At least the patterns that occur in `data`, or of which it ends with 15 bytes."""


class EachInTurn:
    """Few patterns: all of them, which the caller searches for at the speed of memchr."""

    def __init__(self, patterns: Sequence[bytes]) -> None:
        self._patterns = patterns

    def candidates(self, data: bytes) -> Iterable[bytes]:
        return self._patterns


class AlignedWords:
    """Many patterns, found by one pass that costs the same however many they are.

    Wherever a pattern of at least `2 * width - 1` bytes lies, it holds a whole word of `width`
    bytes that begins at a multiple of `width`. All words of the data are looked up in the set of
    words that the patterns can show, and only patterns with a word in common are candidates.
    """

    def __init__(self, patterns: Sequence[bytes], width: int) -> None:
        self._width = width
        self._format = _FORMATS[width]
        owners: dict[int, set[bytes]] = defaultdict(set)
        for pattern in patterns:
            for shift in range(width):
                word = int.from_bytes(pattern[shift : shift + width], sys.byteorder)
                owners[word].add(pattern)
        self._owners = dict(owners)
        self._words = frozenset(owners)

    def candidates(self, data: bytes) -> Iterable[bytes]:
        whole = len(data) // self._width * self._width
        words = memoryview(data)[:whole].cast(self._format).tolist()
        found: set[bytes] = set()
        return found.union(*(self._owners[word] for word in self._words.intersection(words)))


def _sieve(patterns: Sequence[bytes], width: int) -> Sieve:
    return EachInTurn(patterns) if len(patterns) <= FEW else AlignedWords(patterns, width)


# --- what is searched for ---


def patterns_of(secret: str) -> set[bytes]:
    """The byte strings by which a secret is recognised. Raises UnmaskableError."""
    whole = secret.strip()
    if len(_bytes(whole)) < MINIMUM_BYTES:
        raise UnmaskableError(
            f"a secret of fewer than {MINIMUM_BYTES} characters cannot be masked in a log"
        )
    found = {pattern for text in (whole, *_own_lines(whole)) for pattern in _encoded(text)}
    found.update(_wrapped(whole))
    found.update(_bytes(pair) for pair in _with_line_before(whole.splitlines()))
    return {pattern for pattern in found if len(pattern) >= MINIMUM_BYTES}


def _bytes(text: str) -> bytes:
    try:
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        # Not `from error`: it holds the text.
        raise UnmaskableError("a secret holds characters that no program can receive") from None


def _own_lines(whole: str) -> Iterator[str]:
    """Lines that are masked by themselves: long enough, and no frame such as BEGIN and END."""
    for line in whole.splitlines():
        text = line.strip()
        if len(_bytes(text)) >= MINIMUM_BYTES and not _ARMOUR.fullmatch(text):
            yield text


def _with_line_before(lines: Sequence[str]) -> Iterator[str]:
    """A line that is too short for itself, such as the last one of a key, after its neighbour."""
    for before, line in pairwise(lines):
        if line.strip() and len(_bytes(line.strip())) < MINIMUM_BYTES:
            yield f"{before}\n{line}"


def _encoded(text: str) -> set[bytes]:
    data = _bytes(text)
    found = {data, *(form for shift in _LEADING for form in _base64(data, shift))}
    return found | {_bytes(form) for form in (*_url_forms(text), *_quoted_forms(text))}


def _base64(data: bytes, shift: int) -> tuple[bytes, bytes]:
    """The characters that stand for `data` alone when `shift` mod 3 bytes come before it.

    The first and the last may depend on neighbours and on padding; they are left out.
    """
    bits = 8 * (shift + len(data))
    kept = slice(_LEADING[shift], bits // 6)
    padded = b"\0" * shift + data
    return base64.b64encode(padded)[kept], base64.urlsafe_b64encode(padded)[kept]


def _wrapped(text: str) -> Iterator[bytes]:
    """The lines of its base64 as the `base64` command prints them."""
    encoded = _base64(_bytes(text), 0)[0].decode()
    for width in _WRAPS:
        lines = [encoded[at : at + width] for at in range(0, len(encoded), width)]
        yield from map(_bytes, lines)
        yield from map(_bytes, _with_line_before(lines))


def _url_forms(text: str) -> Iterator[str]:
    data = _bytes(text)
    for form in (quote(data), quote(data, safe=""), quote_plus(data), quote(data, safe="!'()*")):
        yield form
        yield re.sub("%[0-9A-F]{2}", lambda match: match[0].lower(), form)


def _for_pages(form: str) -> str:
    """JSON as Go and others write it, so that it may stand in a page."""
    return form.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _quoted_forms(text: str) -> Iterator[str]:
    """Inside quotation marks: JSON, Python, and what shells print."""
    for is_ascii in (True, False):
        form = json.dumps(text, ensure_ascii=is_ascii)[1:-1]
        # As a line of a structured log, which is JSON itself, has it.
        for written in (form, _for_pages(form), form.replace("/", "\\/")):
            yield written
            yield json.dumps(written)[1:-1]
    yield from _html_forms(text)
    yield repr(text)[1:-1]
    yield repr(_bytes(text))[2:-1]
    yield shlex.quote(text).strip("'") if "'" not in text else shlex.quote(text)[1:-1]
    yield text.replace("'", "'\\''")
    yield re.sub(r"([^\w@%+=:,./-])", r"\\\1", text, flags=re.ASCII)
    yield _BARE.sub(r"\\\1", text)
    yield _IN_DOUBLE_QUOTES.sub(r"\\\1", text)
    yield from (_ansi_c(text, is_ascii=False), _ansi_c(text, is_ascii=True))


def _html_forms(text: str) -> Iterator[str]:
    for form in _escaped(text):
        for tab in ("\t", *_HTML_TAB):
            written = form.replace("\t", tab)
            yield written
            # As of what may hold ASCII only, such as Python's ElementTree by itself.
            yield written.encode("ascii", "xmlcharrefreplace").decode()
            yield _BEYOND_ASCII.sub(lambda found: f"&#x{ord(found[0]):x};", written)
            yield _BEYOND_ASCII.sub(lambda found: f"&#x{ord(found[0]):X};", written)


def _escaped(text: str) -> Iterator[str]:
    form = html.escape(text, quote=False)
    for double in _HTML_DOUBLE:
        for single in _HTML_SINGLE:
            yield form.replace('"', double).replace("'", single)
    # Go's html/template.
    yield form.replace('"', "&#34;").replace("'", "&#39;").replace("+", "&#43;")


def _ansi_c(text: str, *, is_ascii: bool) -> str:
    """Inside Bash's `$'…'`; other bytes than ASCII as it writes them where LC_ALL is C."""
    return "".join(_in_ansi_c(character, is_ascii) for character in text)


def _in_ansi_c(character: str, is_ascii: bool) -> str:
    if character in _ANSI_C:
        return _ANSI_C[character]
    if character.isprintable() and (character.isascii() or not is_ascii):
        return character
    return "".join(f"\\{byte:03o}" for byte in _bytes(character))

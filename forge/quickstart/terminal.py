"""A task's log on the terminal of whoever started the quick start: text and colours, no more.

What a task writes is somebody else's: an escape sequence could retitle the window, fill the
clipboard (OSC 52), hide text or answer a question in the shell's name. Colours (SGR) pass, with
line ends and tabs; every other control character and sequence is dropped, a carriage return
becomes a line end, and characters that nobody sees but that reorder a line show their number.
"""

from __future__ import annotations

import codecs
import re

from projects.characters import UNSEEN

RESET = "\x1b[0m"
LONGEST_SEQUENCE = 256
_COLOUR = re.compile(r"[0-9;:]*\Z")
_TEXT_STARTERS = "]PX^_"  # after ESC: a text that ends with BEL or ESC \
_C1_TEXT_STARTERS = "\x90\x98\x9d\x9e\x9f"


class HarmlessText:
    """Makes pieces of a log safe to print, one after another; sequences may be cut anywhere."""

    def __init__(self, *, has_colours: bool = True) -> None:
        """Without colours nothing of a sequence is left: a file or a pipe is no terminal."""
        self._has_colours = has_colours
        self._is_coloured = False
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._step = self._in_text
        self._sequence = ""
        self._has_returned = False

    def feed(self, piece: bytes) -> str:
        """What of the log can be printed now."""
        return "".join(map(self._next, self._decoder.decode(piece)))

    def end(self) -> str:
        """The rest, and plain text again for whoever prints next, if anything was coloured."""
        rest = "".join(map(self._next, self._decoder.decode(b"", final=True)))
        return rest + RESET if self._is_coloured else rest

    def _next(self, character: str) -> str:
        return self._step(character)

    def _in_text(self, character: str) -> str:
        begin = "\n" if self._has_returned and character != "\n" else ""
        self._has_returned = character == "\r"
        return begin + self._shown(character)

    def _shown(self, character: str) -> str:
        if character in "\n\t":
            return character
        if character == "\x1b":
            self._step = self._in_escape
        elif character == "\x9b":
            self._begin_control()
        elif character in _C1_TEXT_STARTERS:
            self._step = self._in_string
        elif UNSEEN.match(character):
            return f"<U+{ord(character):04X}>"
        elif character >= " " and not "\x7f" <= character <= "\x9f":
            return character
        return ""

    def _begin_control(self) -> None:
        self._sequence = ""
        self._step = self._in_control

    def _leave(self, character: str = "") -> str:
        """Text again; `character` was no part of the sequence."""
        self._step = self._in_text
        return self._in_text(character) if character else ""

    def _in_escape(self, character: str) -> str:
        if character == "[":
            self._begin_control()
        elif character in _TEXT_STARTERS:
            self._step = self._in_string
        elif not " " <= character <= "/":
            return self._leave(character if character < " " else "")
        return ""

    def _in_control(self, character: str) -> str:
        if "@" <= character <= "~":
            is_colour = character == "m" and _COLOUR.match(self._sequence)
            return self._leave() + (self._colour() if is_colour and self._has_colours else "")
        if not " " <= character <= "?" or len(self._sequence) > LONGEST_SEQUENCE:
            return self._leave(character)
        self._sequence += character
        return ""

    def _colour(self) -> str:
        self._is_coloured = True
        return f"\x1b[{self._sequence}m"

    def _in_string(self, character: str) -> str:
        if character in "\x07\x9c":
            return self._leave()
        if character == "\x1b":
            self._step = self._in_escape
        return self._leave(character) if character == "\n" else ""

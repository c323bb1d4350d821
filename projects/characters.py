"""Characters that nobody sees and that change how the rest of a text is read."""

from __future__ import annotations

import re

# Soft hyphen, bidi marks, embeddings, overrides and isolates, zero-width characters, line and
# paragraph separators, byte order mark, annotations, tags. As the inside of a character class.
_UNSEEN = (
    "\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f"
)
_CONTROLS = "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"
# Of Unicode's Default_Ignorable_Code_Point what is not above, and two that are drawn as a gap.
_BLANK = (
    "\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\uffa0\ufff0-\ufff8"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0080-\U000e0fff"
)
# Spaces that look like the one of the keyboard, what no font draws alike (private use), and what is
# no character. The wide one of ideographs is not among them: it is typed, and seen.
_LOOKALIKE = (
    "\xa0\u1680\u2000-\u200a\u202f\u205f\ue000-\uf8ff\ufdd0-\ufdef\ufffc\ufffe\uffff"
    "\U00013430-\U0001343f\U0001d159"
)
# What chooses between a sign's forms stands behind emoji and other signs, and nothing else.
_STRAY_SELECTOR = (
    "(?<![\xa9\xae\u203c-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff])[\ufe00-\ufe0f]"
)
# Joiners stand between letters of scripts that need them, and in emoji, but never beside ASCII.
_STRAY_JOINER = "(?:\\A|(?<=[\x00-\x7f]))[\u200c\u200d]|[\u200c\u200d](?=[\x00-\x7f]|\\Z)"

UNSEEN = re.compile(f"[{_UNSEEN}]")
UNSEEN_OR_CONTROL = re.compile(f"[{_UNSEEN}{_CONTROLS}]")
UNSEEN_IN_NAMES = re.compile(
    f"[{_UNSEEN}{_BLANK}{_LOOKALIKE}{_CONTROLS}]|{_STRAY_JOINER}|{_STRAY_SELECTOR}"
)

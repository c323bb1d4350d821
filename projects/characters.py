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
# Joiners stand between letters of scripts that need them, and in emoji, but never beside ASCII.
_STRAY_JOINER = "(?:\\A|(?<=[\x00-\x7f]))[\u200c\u200d]|[\u200c\u200d](?=[\x00-\x7f]|\\Z)"

UNSEEN = re.compile(f"[{_UNSEEN}]")
UNSEEN_OR_CONTROL = re.compile(f"[{_UNSEEN}{_CONTROLS}]")
UNSEEN_IN_NAMES = re.compile(f"[{_UNSEEN}{_CONTROLS}]|{_STRAY_JOINER}")

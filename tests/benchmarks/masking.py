"""Measures masking: MB/s of a log with 0, 1, 10 and 50 secrets, read in pieces as from a pipe.

python tests/benchmarks/masking.py [seconds per figure]
"""

from __future__ import annotations

import base64
import os
import secrets
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from runners.worker.masking import Masker, patterns_of  # noqa: E402

PIECE = 64 * 1024
LINE = b"2026-11-25 15:19:22,123 INFO some.module: processed item %d in 0.12 s, path=/srv/app\n"
LOG = b"".join(LINE % number for number in range(20_000))
LOGS = {"text": LOG, "base64": base64.b64encode(os.urandom(len(LOG) * 3 // 4))}


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 2.0
    print(f"MB/s, in pieces of {PIECE // 1024} KB; journal: with append and SHA-256, no secrets")
    for name, log in LOGS.items():
        pieces = [log[at : at + PIECE] for at in range(0, len(log), PIECE)]
        print(f"  {name:8} journal alone {rate(journal(), pieces, seconds):7.0f}")
        for count in (0, 1, 10, 50):
            given = [secrets.token_urlsafe(18) for _ in range(count)]
            patterns = sum(len(patterns_of(secret)) for secret in given)
            figure = rate(Masker(given).feed, pieces, seconds)
            print(f"  {name:8} {count:2} secrets, {patterns:3} patterns {figure:7.0f}")


def journal() -> Callable[[bytes], object]:
    """The path that every log takes, masked or not."""
    import tempfile

    from runners.worker.entry import Entry

    entry = Entry(Path(tempfile.mkdtemp()), 1, 1)
    entry.open("n" * 16)
    os.truncate(entry.folder / "log", 0)
    return entry.append


def rate(step: Callable[[bytes], object], pieces: list[bytes], seconds: float) -> float:
    done, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds:
        for piece in pieces:
            step(piece)
            done += len(piece)
    return done / passed / 1e6


if __name__ == "__main__":
    main()

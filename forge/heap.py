"""Keeps a web process as small as what it holds."""

from __future__ import annotations

import ctypes

# glibc's names and numbers (malloc.h).
M_MMAP_THRESHOLD = -3
LARGE_BYTES = 256 * 1024


def give_back_large_blocks() -> None:
    """Have memory of LARGE_BYTES and more returned to the system as soon as it is free.

    glibc raises that threshold by itself, up to 32 MiB, with the first large block that is freed.
    A report of 1 MiB is then cut out of heaps that many threads share with what lives long, and
    they never shrink: 1 GB of log left 80 MiB behind (docs/performance.md). Once it is set,
    whatever to, glibc leaves it alone (mallopt(3)). Where the C library has no such option, as
    musl has none, nothing is done.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(M_MMAP_THRESHOLD, LARGE_BYTES)

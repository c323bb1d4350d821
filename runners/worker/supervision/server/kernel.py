"""What Python's standard library does not wrap: prctl, and child exits as a descriptor."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)
_IS_LINUX = sys.platform == "linux"


def boot_seconds() -> float:
    """Seconds on a clock that nobody sets, the same one in every process of this host.

    On Linux it goes on while the host is suspended.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME) if _IS_LINUX else time.monotonic()


def become_subreaper() -> None:
    """Adopt every descendant whose parent exits. Elsewhere than on Linux: nothing."""
    _prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1))


def die_with_parent() -> None:
    """Let the kernel KILL this process when its parent exits; it survives an exec."""
    _prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))


def hide_memory() -> None:
    """Keep other processes of the same user from reading memory and environment of this one.

    Inherited by fork, gone with exec. root, and whoever holds CAP_SYS_PTRACE, reads on.
    """
    _prctl(_PR_SET_DUMPABLE, ctypes.c_ulong(0))


def set_name(name: bytes) -> None:
    """Set the name that `ps` and `top` show; the kernel keeps 15 bytes."""
    _prctl(_PR_SET_NAME, ctypes.c_char_p(name))


def _prctl(option: int, argument: object) -> None:
    if _IS_LINUX and _libc.prctl(option, argument, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def ignore_signals() -> None:
    """Leave only SIGKILL and SIGSTOP to a task that wants to harm its supervisor."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in _changeable_signals():
        signal.signal(number, signal.SIG_IGN)


def restore_signals() -> None:
    """Give a program the dispositions and the empty mask of a fresh login."""
    for number in _changeable_signals():
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _changeable_signals() -> set[int]:
    return set(map(int, signal.valid_signals())) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}


class ChildExits:
    """A descriptor that becomes readable when a child exits or stops."""

    def __init__(self) -> None:
        self.descriptor, self._writer = os.pipe()
        os.set_blocking(self.descriptor, False)
        os.set_blocking(self._writer, False)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        # Without a handler of Python's own nothing is written to the wakeup descriptor.
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def clear(self) -> None:
        """Forget the exits so far; call it before reaping, or one could be missed."""
        try:
            while os.read(self.descriptor, 4096):
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        signal.set_wakeup_fd(-1)
        os.close(self.descriptor)
        os.close(self._writer)

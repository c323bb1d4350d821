"""The fork server: forks a supervisor for each request and cleans up after one that was killed."""

from __future__ import annotations

import array
import contextlib
import gc
import os
import select
import signal
import socket
import sys
from typing import NoReturn

from . import kernel
from .descendants import children_of, signal_below
from .removal import remove_folder
from .supervisor import supervise, tell

_STRAY_SECONDS = 0.01
# A request is a frame of this size: the path of a folder to remove afterwards, NUL-padded.
PRIVATE_BYTES = 1024


def main(requests: str, name: str = "", file: str = "", folder: str = "") -> None:
    """Serve the worker at the other end of the socket `requests`, until both are done.

    `file` is locked for as long as this process or a supervisor has it open; it is called `name`
    in `folder`. That it is called `<name>.ended` says that this process has come to its end, and so
    that nothing of its tasks is left: that it is gone, somebody else may have done. All but the
    name are descriptors.
    """
    for text in filter(None, (requests, file, folder)):
        os.set_inheritable(int(text), False)
    kernel.ignore_signals()
    kernel.become_subreaper()
    # Requests hold environments with secrets: no task of the same user may read them here.
    kernel.hide_memory()
    kernel.set_name(b"forge-forkserver")
    gc.disable()
    gc.freeze()  # Keeps the collector from touching, and so copying, pages shared by fork.
    Server(socket.socket(fileno=int(requests))).run()
    if name:
        with contextlib.suppress(OSError):  # Somebody may have deleted it, or the folder.
            os.rename(name, f"{name}.ended", src_dir_fd=int(folder), dst_dir_fd=int(folder))


class Server:
    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests
        self._is_open = True
        self._exits = kernel.ChildExits()
        # pid: status descriptor, folder to remove
        self._supervisors: dict[int, tuple[int, bytes]] = {}
        # The same of killed supervisors. Status pipes stay open until the tree is gone, because
        # their end of file is what tells the worker so.
        self._bereaved: list[tuple[int, bytes]] = []

    def run(self) -> None:
        poll = select.poll()
        poll.register(self._requests, select.POLLIN)
        poll.register(self._exits.descriptor, select.POLLIN)
        while self._is_open or self._supervisors or self._bereaved:
            timeout = _STRAY_SECONDS * 1000 if self._bereaved else None
            if self._requests.fileno() in dict(poll.poll(timeout)):
                self._serve()
                if not self._is_open:
                    poll.unregister(self._requests)
            self._reap()
            self._end_strays()

    def _serve(self) -> None:
        descriptors, private = self._receive()
        if len(descriptors) == 3 and self._is_open:
            log, control, status = descriptors
            self._fork_supervisor(log, control, status, private)
        else:
            # Nothing came with it: the worker is gone, or this process has no descriptor left.
            # Closing what did come makes the worker ask again or give up.
            for descriptor in descriptors:
                os.close(descriptor)

    def _receive(self) -> tuple[list[int], bytes]:
        descriptors = array.array("i")
        space = socket.CMSG_LEN(3 * descriptors.itemsize)
        try:
            data, ancillary, _, _ = self._requests.recvmsg(PRIVATE_BYTES, space, _CLOSE_ON_EXEC)
            while data and len(data) < PRIVATE_BYTES:
                rest = self._requests.recv(PRIVATE_BYTES - len(data))
                data = data + rest if rest else b""
        except ConnectionResetError:
            data, ancillary = b"", []
        self._is_open = bool(data)
        for level, kind, payload in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                whole = len(payload) - len(payload) % descriptors.itemsize
                descriptors.frombytes(payload[:whole])
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        return list(descriptors), data.rstrip(b"\0")

    def _fork_supervisor(self, log: int, control: int, status: int, private: bytes) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            tell(status, {"supervisor": 0})
            what = f"no process for a supervisor: {error.strerror}"
            tell(status, {"error": what, "is_of_host": True})
            os.close(status)
            pid = -1
        if pid == 0:
            self._run_supervisor(log, control, status, private)
        os.close(log)
        os.close(control)
        if pid > 0:
            self._supervisors[pid] = status, private

    def _run_supervisor(self, log: int, control: int, status: int, private: bytes) -> NoReturn:
        code = 1
        try:
            self._exits.close()
            self._requests.close()
            for descriptor, _ in (*self._supervisors.values(), *self._bereaved):
                os.close(descriptor)
            supervise(log, control, status, private)
            code = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(code)

    def _reap(self) -> None:
        self._exits.clear()
        try:
            while True:
                pid, wait_status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
                if pid == 0:
                    return
                self._child_changed(pid, wait_status)
        except ChildProcessError:
            return

    def _child_changed(self, pid: int, wait_status: int) -> None:
        if pid not in self._supervisors:
            return
        if os.WIFSTOPPED(wait_status):
            os.kill(pid, signal.SIGCONT)  # A task tried to hold its own supervisor up.
            return
        status, private = self._supervisors.pop(pid)
        if wait_status == 0:
            os.close(status)
        else:
            self._bereaved.append((status, private))

    def _end_strays(self) -> None:
        """End what killed supervisors left behind: every child here that is no supervisor."""
        if not self._bereaved:
            return
        signal_below(os.getpid(), signal.SIGKILL, spare=self._supervisors)
        if set(children_of(os.getpid())) <= self._supervisors.keys():
            for status, private in self._bereaved:
                remove_folder(private)
                tell(status, {"tree_ended": True})
                os.close(status)
            self._bereaved.clear()


_CLOSE_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)

"""One attempt's log on the runner's disk: all of it or, above a limit, its head and its tail.

In the attempt's folder:

    log                          the head and, once the attempt has ended, the tail behind it;
                                 between them a line that says how much is left out there
    tail-<head>-<most>-<offset>  what came behind a head of <head> bytes, from byte <offset> of
                                 all that was written; at most <most> bytes of it are kept. Old
                                 files are deleted as new ones grow, so that together they never
                                 take more than half as much again
    cut-<bytes>                  a power cut took all but so much of the head:
                                 `runners.worker.cut_head`
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from runners.worker.cut_head import note_cut, noted_cut, stand_in

_SEGMENT = re.compile(r"\Atail-([0-9]{1,19})-([0-9]{1,19})-([0-9]{1,19})\Z")
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
READ_BYTES = 1024 * 1024
SMALLEST_SEGMENT = 64 * 1024
# How far the cut may move for the tail to begin with a whole line.
LONGEST_LINE = 64 * 1024


@dataclass(frozen=True)
class Gap:
    """What is left out: `size` bytes, which stood at byte `offset` of all that was written."""

    offset: int
    size: int


@dataclass
class _Segment:
    """A file with what was written from byte `offset` on."""

    path: Path
    file: int
    head: int
    most: int
    offset: int
    size: int = 0

    @classmethod
    def make(cls, folder: Path, head: int, most: int, offset: int) -> _Segment:
        path = folder / f"tail-{head}-{most}-{offset}"
        return cls(path, os.open(path, _FLAGS, 0o600), head, most, offset)

    @classmethod
    def find(cls, path: Path) -> _Segment | None:
        name = _SEGMENT.match(path.name)
        if name is None:
            return None
        file = os.open(path, _FLAGS, 0o600)
        head, most, offset = map(int, name.groups())
        return cls(path, file, head, most, offset, os.fstat(file).st_size)

    @property
    def end(self) -> int:
        return self.offset + self.size

    def delete(self) -> None:
        os.close(self.file)
        self.path.unlink(missing_ok=True)


class BoundedLog:
    """One thread appends and seals, another reads. Without `limit` everything is kept.

    length: how many bytes a reader may have, from `log`.
    written: how many bytes came, left-out ones too.
    head: how many of them came before the tail; known once the log is above its limit.
    gap: what is left out; known once the log is sealed.
    is_cut: of what an earlier worker left, the end of the head is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: int | None = None
        self._digest = hashlib.sha256()
        self._segments: list[_Segment] = []
        self._head_bytes: int | None = None
        self._tail_bytes = 0
        self.length = 0
        self.written = 0
        self.head = 0
        self.gap: Gap | None = None
        self.is_cut = False

    def open(self) -> int:
        self._file = os.open(self._folder / "log", _FLAGS, 0o600)
        return self._file

    def limit(self, head_bytes: int, tail_bytes: int) -> None:
        """Keep no more than that of what comes from now on."""
        self._head_bytes, self._tail_bytes = head_bytes, tail_bytes

    def recover(self, *, is_sealed: bool) -> OSError | None:
        """Read back what an earlier worker left; an unsealed tail is kept as it was found.

        Returns why a part of it could not be read: its length is known then, its SHA-256 is not.
        Raises OSError if it cannot even be opened.
        """
        file = self.open()
        found, cut = _segments_in(self._folder), noted_cut(self._folder)
        self.is_cut = cut is not None
        if is_sealed:
            self._segments = found
            self.discard_tail()
        elif found:
            self._segments = _last_run(found)
            self.head, size = found[0].head, os.fstat(file).st_size
            left = min(self.head, size if cut is None else min(size, cut))
            self.is_cut = left < self.head
            # Never longer than it is, which would be zeros that nobody wrote. A seal that was not
            # finished is done again, behind what the program wrote.
            os.ftruncate(file, left)
            self._tail_bytes = found[0].most
        trouble = None
        try:
            while piece := os.pread(file, READ_BYTES, self.length):
                self._digest.update(piece)
                self.length += len(piece)
        except OSError as error:
            self.length, trouble = os.fstat(file).st_size, error
        self.written = self.length
        if self._segments:
            self.written = self._segments[-1].end
        return trouble

    @property
    def is_above_limit(self) -> bool:
        """The head is full: what comes now waits for the end."""
        return bool(self._segments)

    @property
    def ends_line(self) -> bool:
        """Whether a line is complete where the next byte comes."""
        if self._segments and self._segments[-1].size:
            last = self._segments[-1]
            return os.pread(last.file, 1, last.size - 1) == b"\n"
        if not self.length or self._file is None:
            return not self.length
        return os.pread(self._file, 1, self.length - 1) == b"\n"

    @property
    def sha256(self) -> str:
        """Of the `length` bytes of `log`, in hexadecimal."""
        return self._digest.hexdigest()

    def append(self, data: bytes) -> None:
        """Raises OSError when the disk is full."""
        if self._file is None:
            return
        room = len(data) if self._head_bytes is None else self._head_bytes - self.length
        if not self._segments and len(data) <= room:
            self._append_head(self._file, data)
            return
        if not self._segments:
            # At the end of a line if there is one. The tail gets what that leaves free.
            cut = data.rfind(b"\n", 0, room) + 1 or room
            self._tail_bytes += room - cut
            self._append_head(self._file, data[:cut])
            data = data[cut:]
            self.head = self.length
        self._append_tail(memoryview(data))

    def _append_head(self, file: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            count = os.write(file, view)
            self._digest.update(view[:count])
            # After the bytes are there: the reader goes by this length.
            self.length += count
            self.written += count
            view = view[count:]

    def _append_tail(self, view: memoryview) -> None:
        size = max(self._tail_bytes // 4, SMALLEST_SEGMENT)
        while view:
            if not self._segments or self._segments[-1].size >= size:
                self._next_segment()
            last = self._segments[-1]
            count = os.write(last.file, view[: size - last.size])
            last.size += count
            self.written += count
            view = view[count:]

    def _next_segment(self) -> None:
        while self._segments and self._size_without_first() >= self._tail_bytes:
            self._segments.pop(0).delete()
        new = _Segment.make(self._folder, self.head, self._tail_bytes, self.written)
        self._segments.append(new)

    def _size_without_first(self) -> int:
        return sum(segment.size for segment in self._segments[1:])

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of `log` from `offset`, at most `size`; fewer at the end.

        Raises OSError if the disk does not give them back.
        """
        if self._file is None:
            return b""
        data = os.pread(self._file, min(size, self.length - offset), offset)
        if not data and size and offset < self.length:
            # Somebody has cut it.
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
        return data

    def seal(self) -> None:
        """Nothing more comes: put the tail behind the head. Call `discard_tail` afterwards.

        The end of a head that is cut is stood in for: Forge may have it, and takes what follows
        from where it stood. On a full disk, which raises OSError, only the head is left, and the
        gap is the rest.
        """
        if self._file is None or not self._segments or self.gap is not None:
            return
        head, begin = self.head, self._tail_begin()
        digest, length = self._digest.copy(), self.length
        gap = Gap(head, begin - head) if begin > head else None
        try:
            if length < head:
                note_cut(self._folder, length)
            for piece in chain(self._lost(gap), self._behind_head(gap, begin)):
                _write_whole(self._file, piece)
                digest.update(piece)
                length += len(piece)
            os.fsync(self._file)
        except OSError:
            self.gap = Gap(head, self.written - head)
            os.ftruncate(self._file, self.length)
            raise
        self.gap, self._digest, self.length = gap, digest, length

    def _tail_begin(self) -> int:
        """Where the kept tail begins in all that was written, at a line if one begins near."""
        head, first = self.head, self._segments[0].offset
        begin = max(self.written - self._tail_bytes, first)
        if begin == head:
            return begin
        reach = min(LONGEST_LINE, self._tail_bytes // 4)
        beginning = b"".join(self._written_from(begin, begin + reach))
        return begin + beginning.find(b"\n") + 1

    def _lost(self, gap: Gap | None) -> Iterator[bytes]:
        """What stands in the place of the end of the head, if that is cut."""
        if self.length < self.head:
            yield from stand_in(
                self.head - self.length,
                begins_line=self._ends_line_at(self.length),
                # Before a gap's marker, a line ends that may be the program's at Forge.
                ends_line=gap is None,
            )

    def _ends_line_at(self, length: int) -> bool:
        return not length or self.read(length - 1, 1) == b"\n"

    def _behind_head(self, gap: Gap | None, begin: int) -> Iterator[bytes]:
        if gap is not None:
            is_cut = self.length < gap.offset
            ends_line = not is_cut and self._ends_line_at(gap.offset)
            yield (b"" if ends_line else b"\n") + marker(gap.size)
        yield from self._written_from(begin, self.written)

    def _written_from(self, begin: int, end: int) -> Iterator[bytes]:
        """What the segments hold of bytes `begin` to `end` of all that was written."""
        for segment in self._segments:
            at = max(begin, segment.offset)
            stop = min(end, segment.end)
            while at < stop and (
                piece := os.pread(segment.file, min(READ_BYTES, stop - at), at - segment.offset)
            ):
                yield piece
                at += len(piece)

    def discard_tail(self) -> None:
        """Delete what `seal` has copied."""
        while self._segments:
            self._segments.pop().delete()

    def sync(self) -> None:
        """Raises OSError."""
        if self._file is not None:
            os.fsync(self._file)

    def close(self) -> None:
        """Give the files back; they stay on the disk."""
        for segment in self._segments:
            os.close(segment.file)
        self._segments = []
        if self._file is not None:
            os.close(self._file)
            self._file = None


def marker(size: int) -> bytes:
    """The line that stands in a log for bytes that are left out."""
    return f"[Forge left out {size:,} bytes here: the log went above its limit.]\n".encode()


def _write_whole(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _segments_in(folder: Path) -> list[_Segment]:
    """The tail's files, the oldest first."""
    found = [segment for path in folder.glob("tail-*") if (segment := _Segment.find(path))]
    return sorted(found, key=lambda segment: segment.offset)


def _last_run(segments: list[_Segment]) -> list[_Segment]:
    """The newest ones that follow each other without a hole; the others are deleted."""
    first = len(segments) - 1
    while first and segments[first - 1].end == segments[first].offset:
        first -= 1
    for segment in segments[:first]:
        segment.delete()
    return segments[first:]

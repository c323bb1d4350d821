"""Reads Redis commands out of a byte stream, one by one, and bounds each.

RESP, as a client sends it: `*<count>\r\n`, then `$<length>\r\n<bytes>\r\n` for each argument
(Redis protocol specification, "Sending commands to a Redis server"). Only whole commands come
out, so that the broker never holds half of one.
"""

from __future__ import annotations

from dataclasses import dataclass

from runners.errors import TunnelAbusedError

# What a Celery worker sends over its broker connection, and HELLO and QUIT of its client. The
# broker's account allows no more either; here it also keeps AUTH and RESET out, with which a
# connection could become somebody else's.
ALLOWED = frozenset(
    b"PING MULTI EXEC BRPOP LLEN LPUSH SADD SREM SMEMBERS DEL PUBLISH PSUBSCRIBE PUNSUBSCRIBE "
    b"CLIENT HELLO QUIT".split()
)
# The longest that an honest worker sends is the answer to Flower's inspection of its settings
# and its tasks, some 20 KiB with 100 tasks at once.
MAXIMUM_COMMAND_BYTES = 256 * 1024
MAXIMUM_ARGUMENTS = 12_000  # a BRPOP names every queue of a runner
MAXIMUM_SETINFO_BYTES = 1024
_MAXIMUM_HEADER_BYTES = 16
_END = b"\r\n"


@dataclass(frozen=True)
class Command:
    """One whole command: its name in capitals, and the bytes to pass on."""

    name: bytes
    raw: bytes


class CommandReader:
    """Feed it what came; it gives the commands that are complete.

    What is known of a command that is not complete is kept: reading it costs the same, however
    small the pieces are in which it comes. Raises TunnelAbusedError, with a sentence that names
    the reason, for anything that is not a sequence of allowed, bounded commands.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._begin_command()

    def _begin_command(self) -> None:
        """The next one begins where the buffer does."""
        self._count: int | None = None
        self._place = 0
        self._arguments: list[tuple[int, int]] = []

    def feed(self, data: bytes) -> list[Command]:
        self._buffer += data
        found = []
        while (command := self._command()) is not None:
            found.append(command)
            del self._buffer[: len(command.raw)]
            self._begin_command()
        if len(self._buffer) > MAXIMUM_COMMAND_BYTES:
            raise _too_large()
        return found

    def _command(self) -> Command | None:
        """The command at the beginning of the buffer, or None while it is not complete."""
        if self._count is None:
            header = self._number(0, b"*", MAXIMUM_ARGUMENTS)
            if header is None:
                return None
            self._count, self._place = header
        while len(self._arguments) < self._count:
            argument = self._argument(self._place)
            if argument is None:
                return None
            first, self._place = argument
            self._arguments.append((first, self._place - len(_END)))
            if self._place > MAXIMUM_COMMAND_BYTES:
                raise _too_large()
        return self._checked()

    def _argument(self, start: int) -> tuple[int, int] | None:
        """Where the argument at `start` begins, and where the next one would."""
        header = self._number(start, b"$", MAXIMUM_COMMAND_BYTES)
        if header is None:
            return None
        length, first = header
        end = first + length
        if len(self._buffer) < end + len(_END):
            return None
        if self._buffer[end : end + len(_END)] != _END:
            raise TunnelAbusedError("an argument does not end where it says")
        return first, end + len(_END)

    def _number(self, start: int, mark: bytes, highest: int) -> tuple[int, int] | None:
        """The number of a header line such as `*3`, and where the next line begins."""
        line = self._buffer[start : start + _MAXIMUM_HEADER_BYTES]
        if line and line[:1] != mark:
            raise TunnelAbusedError("what comes is no Redis command")
        digits, end, _ = bytes(line[1:]).partition(_END)
        if not end:
            if len(line) == _MAXIMUM_HEADER_BYTES:
                raise TunnelAbusedError("a header line is too long")
            return None
        if not digits.isdigit() or int(digits) > highest or (mark == b"*" and int(digits) == 0):
            raise TunnelAbusedError("a command or an argument is too large")
        return int(digits), start + len(mark) + len(digits) + len(_END)

    def _checked(self) -> Command:
        words = [bytes(self._buffer[slice(*place)]).upper() for place in self._arguments[:3]]
        name = words[0]
        if name not in ALLOWED:
            shown = name[:20].decode("ascii", "replace")
            raise TunnelAbusedError(f"the command {shown!r} is not a runner's")
        # HELLO may carry AUTH, in any place after the version.
        if name == b"HELLO" and len(self._arguments) > 2:
            raise TunnelAbusedError("signing in is the tunnel's business")
        if name == b"CLIENT" and words[1:2] != [b"SETINFO"]:
            raise TunnelAbusedError("of CLIENT only SETINFO is a runner's")
        # The broker remembers it with every refusal, and counts it nowhere.
        if name == b"CLIENT" and self._place > MAXIMUM_SETINFO_BYTES:
            raise TunnelAbusedError("a client's name for itself is too long")
        return Command(name, bytes(self._buffer[: self._place]))


def _too_large() -> TunnelAbusedError:
    return TunnelAbusedError(f"a command may have at most {MAXIMUM_COMMAND_BYTES} bytes")

"""What comes through a tunnel is read as whole, bounded, allowed commands, however it is cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as some

from runners.commands import ALLOWED, MAXIMUM_COMMAND_BYTES, CommandReader
from runners.errors import TunnelAbusedError


def command(*arguments: bytes) -> bytes:
    parts = [b"$%d\r\n%s\r\n" % (len(argument), argument) for argument in arguments]
    return b"*%d\r\n%s" % (len(parts), b"".join(parts))


_NAMES = some.sampled_from(sorted(ALLOWED - {b"HELLO", b"CLIENT"}))
_COMMANDS = some.lists(
    some.builds(
        lambda name, arguments: command(name, *arguments),
        _NAMES,
        some.lists(some.binary(max_size=60), max_size=4),
    ),
    max_size=6,
)


@given(commands=_COMMANDS, cuts=some.lists(some.integers(0, 2000), max_size=12))
def test_commands_come_out_whole_however_the_stream_is_cut(
    commands: list[bytes], cuts: list[int]
) -> None:
    stream = b"".join(commands)
    reader = CommandReader()
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    found = []
    for start, end in pairwise(edges):
        found += [one.raw for one in reader.feed(stream[start:end])]
    assert found == commands


def test_a_long_command_that_comes_byte_by_byte_is_read_once() -> None:
    """Reading it from its beginning with each byte would take the event loop minutes."""
    arguments = [b"LLEN", *[b"x"] * 11_000]
    stream, reader = command(*arguments), CommandReader()
    edges = [*range(len(stream) - 2), len(stream)]
    looked_at: list[int] = []
    read = CommandReader._argument

    def count(self: CommandReader, start: int) -> tuple[int, int] | None:
        looked_at.append(start)
        return read(self, start)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CommandReader, "_argument", count)
        found = [one.raw for a, b in pairwise(edges) for one in reader.feed(stream[a:b])]
    assert found == [stream]
    assert len(looked_at) <= len(stream) + len(arguments)


@given(data=some.binary(max_size=400))
def test_rubbish_is_refused_or_waited_for_and_never_passed_on(data: bytes) -> None:
    try:
        found = CommandReader().feed(data)
    except TunnelAbusedError:
        return
    assert all(one.name in ALLOWED for one in found)


@pytest.mark.parametrize(
    "sent",
    [
        b"PING\r\n",
        b"*0\r\n",
        b"*-1\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$4\r\nPINGxx",
        b"*1\r\n:4\r\n",
        b"*99999999999999999999\r\n",
        b"*13000\r\n",
        b"*2\r\n$4\r\nPING\r\n$999999999\r\n",
        b"*1" + b"1" * 40,
        command(b"AUTH", b"default", b"x"),
        command(b"auth", b"x"),
        command(b"RESET"),
        command(b"HELLO", b"3", b"AUTH", b"default", b"x"),
        command(b"CLIENT", b"TRACKING", b"on"),
        command(b"CLIENT"),
        command(b"EVAL", b"return 1", b"0"),
        command(b"FLUSHALL"),
        command(b"SUBSCRIBE", b"x"),
        command(b""),
    ],
)
def test_what_is_no_workers_command_closes_the_tunnel(sent: bytes) -> None:
    with pytest.raises(TunnelAbusedError):
        CommandReader().feed(sent)


def test_a_large_command_is_refused_before_it_is_whole() -> None:
    reader = CommandReader()
    assert reader.feed(b"*9\r\n$5\r\nLPUSH\r\n$3\r\nkey\r\n") == []
    for _ in range(3):
        assert reader.feed(b"$65536\r\n" + b"x" * 65536 + b"\r\n") == []
    with pytest.raises(TunnelAbusedError, match="bytes"):
        reader.feed(b"$65536\r\n" + b"x" * 65536 + b"\r\n")


def test_many_small_arguments_are_bounded_together() -> None:
    with pytest.raises(TunnelAbusedError):
        CommandReader().feed(command(b"SADD", *([b"x" * 1000] * (MAXIMUM_COMMAND_BYTES // 1000))))


def test_a_client_that_calls_itself_by_a_long_name_is_refused() -> None:
    """The broker keeps the name with every refusal, and counts it as nobody's memory."""
    assert CommandReader().feed(command(b"CLIENT", b"SETINFO", b"lib-name", b"redis-py"))
    with pytest.raises(TunnelAbusedError, match="name for itself"):
        CommandReader().feed(command(b"CLIENT", b"SETINFO", b"lib-name", b"x" * 2000))

"""What stands in a worker's log when kombu drops a connection to a silent broker."""

from __future__ import annotations

import ast
import inspect
import logging

from kombu.transport import redis

from runners.worker.channel import SILENCE, in_plain_words


def said(words: str, *arguments: object) -> str:
    record = logging.LogRecord("kombu", logging.WARNING, "", 0, words, arguments, None)
    assert in_plain_words(record)
    return record.getMessage()


def test_it_is_said_in_words_for_whoever_runs_the_host() -> None:
    found = [said(words, 99) for words in SILENCE]
    assert found == [
        "The broker has not answered for 99 seconds. It is connected to anew.",
        "The broker has not answered 99 times when it was asked. It is connected to anew.",
    ]
    assert said("Connected to %s", "there") == "Connected to there"


def test_kombu_says_it_as_it_is_known_to() -> None:
    nodes = ast.walk(ast.parse(inspect.getsource(redis)))
    assert SILENCE.keys() <= {node.value for node in nodes if isinstance(node, ast.Constant)}

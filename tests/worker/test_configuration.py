"""What an operator sets, and the sentence that a wrong value gets."""

from __future__ import annotations

import pytest

from runners.worker.configuration import Configuration
from runners.worker.errors import ConfigurationError

TOKEN = "fgr_" + "x" * 43
GOOD = {"FORGE_URL": "https://forge.example.net/", "FORGE_RUNNER_TOKEN": TOKEN}


def test_two_variables_are_enough() -> None:
    configuration = Configuration.from_environment(GOOD)
    assert configuration.url == "https://forge.example.net"
    assert TOKEN not in repr(configuration)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"FORGE_URL": ""}, "FORGE_URL is not set"),
        ({"FORGE_URL": "forge.example.net"}, "not an http"),
        ({"FORGE_URL": "ftp://forge.example.net"}, "not an http"),
        ({"FORGE_URL": "http://forge.example.net"}, "FORGE_ALLOW_PLAINTEXT"),
        ({"FORGE_URL": "https://ana:secret@forge.example.net"}, "must not hold a user"),
        ({"FORGE_RUNNER_TOKEN": ""}, "FORGE_RUNNER_TOKEN is not set"),
        ({"FORGE_RUNNER_TOKEN": "fgu_" + "x" * 43}, "begin with fgr_"),
        ({"FORGE_RUNNER_TOKEN": TOKEN + "\nX: y"}, "begin with fgr_"),
    ],
)
def test_a_wrong_value_gets_a_sentence_that_says_what_to_do(
    change: dict[str, str], sentence: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Configuration.from_environment(GOOD | change)
    assert sentence in caught.value.message
    assert TOKEN not in caught.value.message


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "[::1]:8000"])
def test_plain_http_is_fine_on_this_host(host: str) -> None:
    Configuration.from_environment(GOOD | {"FORGE_URL": f"http://{host}"})

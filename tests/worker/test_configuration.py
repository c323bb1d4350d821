"""What an operator sets, and the sentence that a wrong value gets."""

from __future__ import annotations

import os
from pathlib import Path

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
        ({"FORGE_URL": "https://:secret@forge.example.net"}, "must not hold a user"),
        ({"FORGE_URL": "https://@forge.example.net"}, "must not hold a user"),
        ({"FORGE_URL": "https://forge.example.net/?"}, "must not hold a user"),
        ({"FORGE_URL": "https://forge.example.net/#"}, "must not hold a user"),
        ({"FORGE_URL": "https://[::1"}, "not an http(s) address"),
        ({"FORGE_URL": "https://[forge]"}, "not an http(s) address"),
        ({"FORGE_URL": "https://"}, "not an http(s) address"),
        ({"FORGE_URL": "https:///runner"}, "not an http(s) address"),
        ({"FORGE_URL": "https://forge example.net"}, "not an http(s) address"),
        ({"FORGE_URL": "https://forge.example.net/a\tb"}, "not an http(s) address"),
        ({"FORGE_URL": "https://forge.example.net\\@elsewhere"}, "not an http(s) address"),
        ({"FORGE_URL": "https://forge..net"}, "not an http(s) address"),
        ({"FORGE_URL": f"https://{'f' * 300}.net"}, "not an http(s) address"),
        ({"FORGE_URL": "https://forge.example.net:99999"}, "not an http(s) address"),
        ({"FORGE_URL": "https://forge.example.net:-1"}, "not an http(s) address"),
        ({"FORGE_URL": "https://forge.example.net:0"}, "not an http(s) address"),
        ({"FORGE_URL": "https://forge.example.net:https"}, "not an http(s) address"),
        ({"FORGE_RUNNER_DATA": "~no-such-user-here/runner"}, "has no home folder here"),
        ({"FORGE_RUNNER_TOKEN_FILE": "~no-such-user-here/token"}, "has no home folder here"),
        ({"FORGE_RUNNER_DATA": "/" + "x" * 300, "FORGE_RUNNER_TOKEN": ""}, "is not there"),
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


def test_a_password_in_the_address_is_not_shown() -> None:
    for url in ("ftp://ana:secret@forge", "https://ana:secret@[::1", "https://ana:secret@forge:x"):
        with pytest.raises(ConfigurationError) as caught:
            Configuration.from_environment(GOOD | {"FORGE_URL": url})
        assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("text", "url"),
    [
        (" https://forge.example.net/\n", "https://forge.example.net"),
        ("HTTPS://http.example.net", "https://http.example.net"),
        ("https://forge.example.net:8443/forge/", "https://forge.example.net:8443/forge"),
        ("https://förge.example.net", "https://förge.example.net"),
        ("https://[2001:db8::1]:443", "https://[2001:db8::1]:443"),
    ],
)
def test_an_address_is_kept_in_one_form(text: str, url: str) -> None:
    assert Configuration.from_environment(GOOD | {"FORGE_URL": text}).url == url


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "[::1]:8000"])
def test_plain_http_is_fine_on_this_host(host: str) -> None:
    Configuration.from_environment(GOOD | {"FORGE_URL": f"http://{host}"})


def test_the_token_may_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    environment = {"FORGE_URL": GOOD["FORGE_URL"], "FORGE_RUNNER_TOKEN_FILE": str(file)}
    assert Configuration.from_environment(environment).token == TOKEN


@pytest.mark.parametrize(
    ("content", "sentence"), [(None, "cannot be read"), ("\n", "is empty"), ("x", "fgr_")]
)
def test_an_unusable_token_file_is_named(
    content: str | None, sentence: str, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    environment = {"FORGE_URL": GOOD["FORGE_URL"], "FORGE_RUNNER_TOKEN_FILE": str(file)}
    with pytest.raises(ConfigurationError, match=f"FORGE_RUNNER_TOKEN_FILE.*{sentence}"):
        Configuration.from_environment(environment)


def test_a_token_in_a_folder_that_may_not_be_searched_is_not_called_missing(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    (data / "token").write_text(TOKEN)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    else:
        data.chmod(0)
    try:
        with pytest.raises(ConfigurationError, match=r"token cannot be read: Permission denied\."):
            Configuration.from_environment(
                {"FORGE_URL": GOOD["FORGE_URL"], "FORGE_RUNNER_DATA": str(data)}
            )
    finally:
        if is_root:
            os.seteuid(0)
        data.chmod(0o700)


def test_what_is_no_small_file_is_no_token_file(tmp_path: Path) -> None:
    environment = {"FORGE_URL": GOOD["FORGE_URL"]}
    huge = tmp_path / "huge"
    huge.write_text(TOKEN + "x" * 5000)
    # /dev/zero has no end: read as a whole, it would fill the host's memory.
    places = {huge: "too large", Path("/dev/zero"): "too large", tmp_path: "Is a directory"}
    for file, why in places.items():
        with pytest.raises(ConfigurationError, match=why):
            Configuration.from_environment(environment | {"FORGE_RUNNER_TOKEN_FILE": str(file)})

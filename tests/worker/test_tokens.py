"""The token file: what a running worker makes of it when it changes."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from runners.worker.errors import ConfigurationError
from runners.worker.tokens import BrokerCredentials, TokenSource

ONE, TWO, THREE = ("fgr_" + letter * 43 for letter in "abc")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(ONE + "\n")
    return path


@pytest.fixture
def source(file: Path) -> TokenSource:
    return TokenSource.from_file(file, "FORGE_RUNNER_TOKEN_FILE")


def move_into(file: Path, text: str) -> None:
    """As `mv token.new token` does."""
    new = file.with_name("token.new")
    new.write_text(text)
    new.replace(file)


def test_a_moved_file_is_noticed_at_the_next_use(source: TokenSource, file: Path) -> None:
    assert source.current() == ONE
    move_into(file, TWO)
    assert source.current() == TWO


def test_a_file_written_in_place_is_noticed_too(source: TokenSource, file: Path) -> None:
    file.write_text(TWO)
    os.utime(file, ns=(1, 1))
    assert source.current() == TWO


def test_a_link_that_points_elsewhere_now_is_noticed(tmp_path: Path) -> None:
    """As mounted secrets of an orchestrator are replaced."""
    for name, token in (("first", ONE), ("second", TWO)):
        (tmp_path / name).write_text(token)
    link = tmp_path / "link"
    link.symlink_to("first")
    source = TokenSource.from_file(link, "x")
    (tmp_path / "new").symlink_to("second")
    (tmp_path / "new").replace(link)
    assert source.current() == TWO


@pytest.mark.parametrize("content", ["", "\n", "half a tok", TWO * 3, None])
def test_what_is_no_token_does_not_displace_one(
    content: str | None, source: TokenSource, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if content is None:
        file.unlink()
    else:
        move_into(file, content)
    assert [source.current() for _ in range(3)] == [ONE] * 3
    (warning,) = caplog.messages
    assert "earlier token stays in use" in warning
    assert TWO not in warning
    move_into(file, TWO)
    assert source.current() == TWO


def test_after_a_refusal_the_file_is_read_again_whatever_its_time(
    source: TokenSource, file: Path
) -> None:
    before = file.stat()
    file.write_text(TWO + "\n")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert source.current() == ONE  # the same size and time: nothing to see
    assert source.another({ONE}) == TWO


def test_a_refused_token_without_another_is_the_end(source: TokenSource) -> None:
    assert source.another({ONE}) is None


def test_a_new_token_that_is_refused_gives_way_to_the_earlier_one(
    source: TokenSource, file: Path
) -> None:
    source.accept(ONE)
    move_into(file, TWO)
    assert source.current() == TWO
    assert source.another({TWO}) == ONE
    source.accept(ONE)
    # Not tried again with every request, only when the file changes.
    assert source.current() == ONE
    assert source.another({ONE}) == TWO
    assert source.another({ONE, TWO}) is None
    move_into(file, THREE)
    assert source.current() == THREE


def test_an_answer_to_the_earlier_token_that_comes_late_changes_nothing(
    source: TokenSource, file: Path
) -> None:
    source.accept(ONE)
    move_into(file, TWO)
    assert source.current() == TWO
    source.accept(TWO)
    source.accept(ONE)
    assert source.another({TWO}) is None


def test_a_token_from_the_environment_stays() -> None:
    source = TokenSource(ONE)
    assert source.current() == ONE
    assert source.another({ONE}) is None


def test_no_token_shows_in_a_repr(source: TokenSource) -> None:
    assert ONE not in repr(source) + repr(vars(BrokerCredentials("runner-7", source)))
    assert ONE not in repr(TokenSource(ONE))


def test_the_broker_is_asked_with_the_token_of_the_moment(source: TokenSource, file: Path) -> None:
    credentials = BrokerCredentials("runner-7", source)
    assert credentials.get_credentials() == ("runner-7", ONE)
    move_into(file, TWO)
    assert credentials.get_credentials() == ("runner-7", TWO)


def test_an_unusable_file_at_the_start_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"X: .*cannot be read"):
        TokenSource.from_file(tmp_path / "none", "X")


def test_many_threads_see_one_token_after_the_other(source: TokenSource, file: Path) -> None:
    seen: list[list[str]] = []
    is_over = threading.Event()

    def use() -> None:
        mine: list[str] = []
        is_last = False
        while not is_last:
            is_last = is_over.is_set()
            token = source.current()
            if not mine or mine[-1] != token:
                mine.append(token)
        seen.append(mine)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for token in (TWO, THREE):
        move_into(file, token)
        while source.current() != token:
            pass
    is_over.set()
    for thread in threads:
        thread.join()
    order = [ONE, TWO, THREE]
    assert all(mine == sorted(mine, key=order.index) and mine[-1] == THREE for mine in seen)

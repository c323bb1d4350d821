"""When a worker that starts gives up, and when it waits."""

from __future__ import annotations

import os
import signal
import ssl
import threading
from pathlib import Path

import pytest

from runners.worker.errors import (
    AccountMissingError,
    BrokerError,
    RevokedError,
    UnreachableError,
    WorkerError,
)
from runners.worker.patience import KEPT, Known, await_forge, ending_at_signals
from runners.worker.tls import may_tls_pass

URL = "https://forge.example.net"
ONE, TWO = ("fgr_" + letter * 43 for letter in "ab")
AWAY = UnreachableError("Forge cannot be reached.")
REFUSED = RevokedError("Forge does not accept this runner's token.")


class Attempts:
    """Raises these errors, one after the other, and then answers."""

    def __init__(self, *errors: WorkerError) -> None:
        self._errors = list(errors)

    def __call__(self) -> str:
        if self._errors:
            raise self._errors.pop(0)
        return "connected"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "runner-7-abc"
    made.mkdir()
    return made


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long it would have waited, each time."""
    slept: list[float] = []
    monkeypatch.setattr("runners.worker.patience.time.sleep", slept.append)
    return slept


def test_only_an_address_with_its_token_is_known(folder: Path) -> None:
    known = Known(folder.parent, URL)
    assert not known.has(ONE)
    known.note(folder, ONE)
    assert Known(folder.parent, URL).has(ONE)
    assert not known.has(TWO)
    assert not Known(folder.parent, "https://other.example.net").has(ONE)
    assert not Known(folder.parent / "not there", URL).has(ONE)


def test_rotations_do_not_fill_the_folder(folder: Path) -> None:
    known = Known(folder.parent, URL)
    for number in range(3 * KEPT):
        known.note(folder, f"fgr_{number}")
        for name in folder.iterdir():
            os.utime(name, ns=(1, name.stat().st_mtime_ns - 10**9))
    assert len(list(folder.iterdir())) == KEPT
    assert known.has(f"fgr_{3 * KEPT - 1}") and not known.has("fgr_0")


def test_a_folder_that_cannot_be_written_is_no_reason_to_end(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Known(folder.parent, URL).note(folder / "not there", ONE)
    assert "will not wait" in caplog.text


def test_a_first_start_does_not_wait(pauses: list[float]) -> None:
    with pytest.raises(UnreachableError):
        await_forge(Attempts(AWAY), is_known=False)
    assert not pauses


def test_a_first_start_waits_where_only_its_account_is_missing(
    pauses: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    missing = AccountMissingError("The broker does not know this runner's account yet.")
    assert await_forge(Attempts(missing, missing), is_known=False) == "connected"
    assert len(pauses) == 2
    first, _ = capsys.readouterr().err.splitlines()
    assert first.endswith("yet. Forge accepts the token, so this worker waits for it.")
    with pytest.raises(UnreachableError):
        await_forge(Attempts(missing, AWAY), is_known=False)


def test_what_is_known_is_waited_for_with_growing_pauses_and_two_lines(
    pauses: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    assert await_forge(Attempts(*[AWAY] * 12), is_known=True) == "connected"
    assert pauses[0] <= 0.5 and max(pauses) <= 15 and pauses[-1] >= 7.5
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("forge: Forge cannot be reached.") and "waits" in first
    assert "answer" in last


def test_another_trouble_is_said_too(
    pauses: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    broker = BrokerError("The broker does not answer.")
    await_forge(Attempts(AWAY, broker, AWAY, broker), is_known=True)
    assert len(capsys.readouterr().err.splitlines()) == 3


def test_forge_is_left_alone_as_long_as_it_asks_for(pauses: list[float]) -> None:
    await_forge(Attempts(UnreachableError("Patience.", 60.0)), is_known=True)
    assert pauses[0] >= 60


@pytest.mark.parametrize(
    "error",
    [
        REFUSED,
        UnreachableError("The certificate is not trusted.", may_pass=False),
        BrokerError("The socket cannot be opened.", may_pass=False),
    ],
)
def test_what_does_not_pass_by_itself_ends_the_wait(
    error: WorkerError, pauses: list[float]
) -> None:
    with pytest.raises(type(error)):
        await_forge(Attempts(AWAY, error), is_known=True)
    assert len(pauses) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_signal_ends_an_attempt_that_hangs(number: signal.Signals) -> None:
    release = threading.Event()
    before = {each: signal.getsignal(each) for each in signal.Signals if each in _ENDING}

    def hang() -> None:
        os.kill(os.getpid(), number)
        release.wait()

    try:
        with pytest.raises(SystemExit) as ended, ending_at_signals():
            await_forge(hang, is_known=True)
        assert ended.value.code == 0
    finally:
        release.set()
        for each, handler in before.items():
            signal.signal(each, handler)


_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


def verification(code: int) -> Exception:
    error = ssl.SSLCertVerificationError("certificate verify failed")
    error.verify_code = code
    return OSError("wrapped", error)


def test_certificates_do_not_pass_but_clocks_and_connections_do() -> None:
    assert not may_tls_pass(verification(20))
    assert may_tls_pass(verification(9))
    assert may_tls_pass(ssl.SSLEOFError(8, "EOF occurred in violation of protocol"))
    assert may_tls_pass(ConnectionRefusedError())

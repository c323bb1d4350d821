"""What can go wrong with runners. Each error's text is the sentence to show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from projects.errors import ForgeError

if TYPE_CHECKING:
    from runners.models import Runner


class RunnerNameTakenError(ForgeError):
    def __init__(self, name: str) -> None:
        super().__init__(f"This project already has a runner called {name}. Choose another name.")
        self.name = name


class RunnerInUseError(ForgeError):
    """Another host holds a live session with this runner's token."""

    def __init__(self, runner: Runner) -> None:
        super().__init__(
            f"Runner {runner.name} is already connected from {runner.host_name or 'another host'}. "
            "A token serves one worker: add another runner for this host, or stop the other one."
        )
        self.runner = runner


class BrokerUnavailableError(ForgeError):
    def __init__(self, detail: str) -> None:
        super().__init__(f"The broker cannot be reached: {detail}")


class TunnelRefusedError(ForgeError):
    """A runner may not open a tunnel now; `status` and `code` go into the HTTP answer."""

    def __init__(self, status: int, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code


class TunnelAbusedError(ForgeError):
    """What came through a runner's tunnel is not what a worker sends; the tunnel is closed."""

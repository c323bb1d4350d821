"""What can go wrong with runners. Each error's text is the sentence to show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from projects.errors import ForgeError
from runners.status import RegistrationStatus

if TYPE_CHECKING:
    from runners.models import RegistrationToken, Runner


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


class RunnerRemovedError(ForgeError):
    def __init__(self, runner: Runner) -> None:
        super().__init__(f"Runner {runner.name} was removed meanwhile. Its tokens open nothing.")
        self.runner = runner


class TooManyTokensError(ForgeError):
    """So many older tokens of one runner still work that another rotation is refused."""

    def __init__(self, runner: Runner, limit: int) -> None:
        super().__init__(
            f"{limit} tokens of runner {runner.name} work at once. End the older ones first."
        )
        self.runner = runner


class TokenNotNewError(ForgeError):
    """A host wants to register a token that Forge knows already, and not from this host."""

    def __init__(self) -> None:
        super().__init__(
            "This runner token cannot be registered: it was used before. Register again; "
            "the host makes a new one."
        )


_WHY_REFUSED = {
    RegistrationStatus.REVOKED: "was revoked",
    RegistrationStatus.USED_UP: "is used up",
    RegistrationStatus.EXPIRED: "has expired",
}


class RegistrationRefusedError(ForgeError):
    """The registration token is known, and not usable any more."""

    def __init__(self, token: RegistrationToken, status: RegistrationStatus) -> None:
        super().__init__(
            f"The registration token “{token.name}” {_WHY_REFUSED[status]}. Ask a manager of "
            f"project {token.project} for a new one."
        )
        self.token = token
        self.status = status

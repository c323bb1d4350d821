"""What can go wrong with runners. Each error's text is the sentence to show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from projects.errors import ForgeError, NameTakenError
from runners.status import RegistrationStatus

if TYPE_CHECKING:
    from runners.models import RegistrationToken, Runner


class RunnerNameTakenError(NameTakenError):
    def __init__(self, name: str) -> None:
        super().__init__("This project already has a runner", name)


class RunnerInUseError(ForgeError):
    """Another host holds a live session with this runner's token."""

    def __init__(self, runner: Runner) -> None:
        super().__init__(
            f"Runner {runner.name} is already connected from {runner.host_name or 'another host'}. "
            "A token serves one worker: add another runner for this host, or stop the other one."
        )
        self.runner = runner


class RunnerQuarantinedError(ForgeError):
    """The runner did harm to the broker and is kept from it for a while."""

    def __init__(self, runner: Runner) -> None:
        super().__init__(
            f"Runner {runner.name} is cut off from the broker until "
            f"{runner.quarantined_until:%H:%M:%S} UTC: {runner.quarantine_reason} A manager of its "
            "project can let it back in."
        )
        self.runner = runner


class RunnerRemovedError(ForgeError):
    def __init__(self, runner: Runner) -> None:
        super().__init__(f"Runner {runner.name} was removed meanwhile. Its tokens open nothing.")
        self.runner = runner


class RunnerNotConnectedError(ForgeError):
    """There is no worker to be told something."""

    def __init__(self, runner: Runner) -> None:
        super().__init__(
            f"No worker of runner {runner.name} is connected, so there is none to drain. Pause the "
            "runner, if it is to take nothing when one comes back."
        )
        self.runner = runner


class TooManyTokensError(ForgeError):
    """So many older tokens of one runner still work that another rotation is refused."""

    def __init__(self, runner: Runner, limit: int) -> None:
        super().__init__(
            f"{limit} tokens of runner {runner.name} work at once. End the older ones first."
        )
        self.runner = runner


class BrokerUnsuitableError(ForgeError):
    """Forge can never work with this broker, whatever time passes."""

    def __init__(self, what: str) -> None:
        super().__init__(f"The broker {what}")


class TunnelRefusedError(ForgeError):
    """A runner may not open a tunnel now; `status` and `code` go into the HTTP answer.

    So does `retry_after`, the seconds after which it may; 0 if nobody knows.
    """

    def __init__(self, status: int, code: str, sentence: str, *, retry_after: float = 0.0) -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code
        self.retry_after = retry_after


class TunnelAbusedError(ForgeError):
    """What came through a runner's tunnel is not what a worker sends; the tunnel is closed."""


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

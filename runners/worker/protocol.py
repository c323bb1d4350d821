"""The messages between a runner and Forge, which both sides import.

Each message is a frozen dataclass whose fields name their own reader. `parse` accepts bytes from
the network and raises ProtocolError, with a sentence that names the field, for anything that is
not exactly such a message; unknown fields are passed over, so that either side may be newer.
Sizes are bytes, times are seconds, and no time is absolute: a runner's clock may be wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

from runners.worker.fields import (
    MAXIMUM_TASKS,
    Message,
    ages,
    flag,
    integer,
    label,
    many,
    message,
    octets,
    one_of,
    optional,
    seconds,
    sha256,
    text,
    value,
    variables,
)

VERSION = "0.1.0"
PROTOCOL_VERSION = 1
OLDEST_PROTOCOL_VERSION = 1

# The code of a refused tunnel whose runner the broker does not know.
BROKER_ACCOUNT_MISSING = "broker_account_missing"

# A message of text over a tunnel that carries bytes: end the BRPOP that is under way, for there are
# other queues to listen to. A Forge that does not know it takes no notice.
LISTEN_ANEW = "listen anew"

MAXIMUM_REPORT_BYTES = 1024 * 1024
# A job with all that it is given, which is the longest of all answers.
MAXIMUM_ANSWER_BYTES = 64 * 1024 * 1024
MAXIMUM_REASON = 500
MAXIMUM_TROUBLE = 200
MAXIMUM_ORDER = 400
# More tasks at once than any Forge gives to one runner.
MAXIMUM_SLOTS = 1000
# What a stop may send, by the names that `kill -l` knows.
STOP_SIGNALS = ("INT", "TERM", "QUIT", "HUP", "USR1", "USR2", "KILL")
MAXIMUM_STOP_STEPS = 8
# Kept of a log where Forge does not say another number.
HEAD_BYTES = 128 * 1024 * 1024
TAIL_BYTES = 16 * 1024 * 1024

_id = integer(1)
_session = text(64, minimum=8)
_count = integer(0)


@dataclass(frozen=True)
class ConnectRequest(Message):
    """A worker begins. `session` is new with each start, `instance` belongs to its journal.

    `slots`: how many tasks its host lets run at once; 0: as many as Forge says.
    """

    protocol: int = value(integer(0, 10_000))
    version: str = value(label(40))
    session: str = value(_session)
    instance: str = value(_session)
    host_name: str = value(label(255))
    system: str = value(label(120))
    slots: int = value(integer(0, MAXIMUM_SLOTS), default=0)


@dataclass(frozen=True)
class ConnectReply(Message):
    """All that a worker needs; it takes nothing of this from its command line.

    `broker_url` is empty when the broker is reached through Forge's tunnel.
    """

    runner: int = value(_id)
    name: str = value(text(60, minimum=1))
    node_name: str = value(text(120, minimum=1))
    project: int = value(_id)
    project_name: str = value(text(80))
    broker_url: str = value(text(2000))
    key_prefix: str = value(text(200, minimum=1))
    queues: tuple[str, ...] = value(many(text(450, minimum=1), 10_000))
    concurrency: int = value(integer(1, MAXIMUM_SLOTS))
    heartbeat_seconds: float = value(seconds)


@dataclass(frozen=True)
class RegisterRequest(Message):
    """A host adds itself as a runner, with a registration token in the header.

    It has made its runner token itself and sends its digest; the same digest again gets the same
    answer again. Without a `name` Forge makes one from the host's.
    """

    protocol: int = value(integer(0, 10_000))
    version: str = value(label(40))
    digest: str = value(sha256)
    host_name: str = value(label(255))
    system: str = value(label(120))
    name: str | None = value(optional(text(60, minimum=1)), default=None)


@dataclass(frozen=True)
class RegisterReply(Message):
    runner: int = value(_id)
    name: str = value(text(60, minimum=1))
    project_name: str = value(text(80))


@dataclass(frozen=True)
class VerifyRequest(Message):
    """Asks what `connect` would answer, and begins nothing."""

    protocol: int = value(integer(0, 10_000))
    version: str = value(label(40))


@dataclass(frozen=True)
class VerifyReply(Message):
    """`identity` stays the same through all rotations and moves, and belongs to no other runner.

    `token_seconds` is how long this token still works when a newer one has replaced it.
    """

    welcome: ConnectReply = value(message(ConnectReply))
    identity: str = value(text(64, minimum=8))
    protocol: int = value(integer(0, 10_000))
    oldest_protocol: int = value(integer(0, 10_000))
    token_seconds: float | None = value(optional(seconds))


@dataclass(frozen=True)
class UnregisterRequest(Message):
    """A host takes its runner away."""

    host_name: str = value(label(255))


@dataclass(frozen=True)
class UnregisterReply(Message):
    """`ended` is how many tasks ended with it."""

    name: str = value(text(60, minimum=1))
    ended: int = value(_count)


@dataclass(frozen=True)
class TaskRef(Message):
    """One attempt of one task: the fence of everything that is said about it."""

    task: int = value(_id)
    attempt: int = value(integer(1, 1_000_000))


@dataclass(frozen=True)
class ClaimRequest(Message):
    """A runner asks for a task. The same nonce again gets the same answer again.

    `keeps_leases`: it ends what is fenced when its lease does. Without that it gets nothing of the
    kind. `is_draining`: it takes nothing new, and asks whether an earlier request was granted.
    `session`: the worker's; one that has ended meanwhile gets nothing any more.
    """

    task: int = value(_id)
    attempt: int = value(integer(1, 1_000_000))
    nonce: str = value(_session)
    keeps_leases: bool = value(flag, default=False)
    is_draining: bool = value(flag, default=False)
    session: str | None = value(optional(_session), default=None)


@dataclass(frozen=True)
class SecretFile(Message):
    """A secret that the process finds in a file; the variable holds the file's path."""

    variable: str = value(text(200, minimum=1))
    content: str = value(text(200_000), repr=False)


@dataclass(frozen=True)
class SignalStep(Message):
    """One step of a stop: a signal to every process, then this long until the next step."""

    signal: str = value(one_of(*STOP_SIGNALS))
    grace_seconds: float = value(seconds)


@dataclass(frozen=True)
class Job(Message):
    """What the winner of a claim runs.

    `secrets` are environment variables as well; they and `files` are masked in the log, and
    travel in this answer alone. `stop_steps` are followed by KILL. The claim is good for
    `lease_seconds` from when it was sent; with `is_fenced` the processes must be gone when the
    lease ends, because another runner may then begin the next attempt. Of the log the first
    `log_head_bytes` and the last `log_tail_bytes` are kept.
    """

    task: int = value(_id)
    attempt: int = value(integer(1, 1_000_000))
    app: str = value(text(20, minimum=1))
    script: str = value(text(10_000_000))
    environment: dict[str, str] = value(variables)
    timeout_seconds: float = value(seconds)
    project: str = value(text(80))
    template: str = value(text(80))
    secrets: dict[str, str] = value(variables, repr=False, default_factory=dict)
    files: tuple[SecretFile, ...] = value(many(message(SecretFile)), repr=False, default=())
    stop_steps: tuple[SignalStep, ...] = value(
        many(message(SignalStep), MAXIMUM_STOP_STEPS), default=()
    )
    lease_seconds: float = value(seconds, default=0.0)
    is_fenced: bool = value(flag, default=False)
    log_head_bytes: int = value(integer(0), default=HEAD_BYTES)
    log_tail_bytes: int = value(integer(0), default=TAIL_BYTES)


@dataclass(frozen=True)
class Started(Message):
    """The process exists since `age_seconds` ago."""

    task: int = value(_id)
    attempt: int = value(integer(1, 1_000_000))
    age_seconds: float = value(seconds)


@dataclass(frozen=True)
class Piece(Message):
    """A stretch of a log, from byte `offset`.

    `ages` says since how long its bytes are written, as `(3, 0.5)`: those from the fourth on, for
    half a second; None: nobody knows, and likewise of bytes before the first pair.
    """

    task: int = value(_id)
    attempt: int = value(integer(1, 1_000_000))
    offset: int = value(_count)
    data: bytes = value(octets)
    ages: tuple[tuple[int, float | None], ...] = value(ages, default=())


@dataclass(frozen=True)
class Overflow(Message):
    """A log is above its limit: `written_bytes` came so far, and those from `gap_offset` on wait.

    The last of them follow when the attempt has ended.
    """

    task: int = value(_id)
    attempt: int = value(integer(1, 1_000_000))
    gap_offset: int = value(_count)
    written_bytes: int = value(_count)


@dataclass(frozen=True)
class Result(Message):
    """How an attempt ended, sent after its whole log.

    `is_cut_short`: neither by itself nor by an order; its worker died, or its lease ended. All of
    its processes are gone. `log_bytes` and `log_sha256` are of the log as it was sent, but the
    SHA-256 is of all of it if `log_problem` says that the rest of it cannot be read. The process
    wrote `log_written_bytes`; `log_gap_bytes` of them are left out at `log_gap_offset`.
    `log_problem` says why the log lacks something else. `nonce` is that of the claim: one that was
    never granted can have been followed by another of the same runner and attempt. `run_seconds`
    is how long it ran, by one clock of the runner's; None: nobody knows, or it did not run.
    """

    task: int = value(_id)
    attempt: int = value(integer(1, 1_000_000))
    outcome: str = value(one_of("succeeded", "failed", "stopped"))
    exit_code: int | None = value(optional(integer(-(2**31), 2**31 - 1)))
    reason: str = value(label(MAXIMUM_REASON, minimum=1))
    log_bytes: int = value(_count)
    log_sha256: str = value(text(64, minimum=64))
    age_seconds: float = value(seconds)
    is_cut_short: bool = value(flag, default=False)
    log_written_bytes: int | None = value(optional(_count), default=None)
    log_gap_offset: int | None = value(optional(_count), default=None)
    log_gap_bytes: int = value(_count, default=0)
    log_problem: str = value(label(200), default="")
    nonce: str | None = value(optional(_session), default=None)
    run_seconds: float | None = value(optional(seconds), default=None)


@dataclass(frozen=True)
class Report(Message):
    """What happened since the last report, for several tasks at once."""

    started: tuple[Started, ...] = value(many(message(Started)))
    pieces: tuple[Piece, ...] = value(many(message(Piece)))
    results: tuple[Result, ...] = value(many(message(Result)))
    overflows: tuple[Overflow, ...] = value(many(message(Overflow)), default=())


@dataclass(frozen=True)
class Receipt(Message):
    """What Forge has committed of one attempt.

    `is_held` is False when the fence refused: the attempt is no longer this runner's, and
    nothing more of it will be taken. `is_finished` means the result is committed. `remark` says
    to a person why what came was not taken.
    """

    task: int = value(_id)
    attempt: int = value(integer(1, 1_000_000))
    is_held: bool = value(flag)
    log_bytes: int = value(_count)
    is_finished: bool = value(flag)
    remark: str = value(label(MAXIMUM_REASON), default="")


@dataclass(frozen=True)
class ReportReply(Message):
    receipts: tuple[Receipt, ...] = value(many(message(Receipt), 10 * MAXIMUM_TASKS))
    cadence_seconds: float = value(seconds)


@dataclass(frozen=True)
class Heartbeat(Message):
    """The runner lives, and holds these attempts (running, or not yet delivered).

    With `is_draining` the worker takes nothing new and ends after its tasks. With `is_leaving`
    this is the last of its session: the worker was shut down in good order. `trouble` says what
    keeps the worker from taking tasks, without a full stop; it is empty when nothing does.
    """

    session: str = value(_session)
    held: tuple[TaskRef, ...] = value(many(message(TaskRef)))
    is_leaving: bool = value(flag, default=False)
    is_draining: bool = value(flag, default=False)
    trouble: str = value(label(MAXIMUM_TROUBLE), default="")


@dataclass(frozen=True)
class StopOrder(Message):
    """Stop by the job's steps, or with `is_forced` by KILL at once."""

    task: int = value(_id)
    attempt: int = value(integer(1, 1_000_000))
    reason: str = value(text(MAXIMUM_REASON))
    is_forced: bool = value(flag, default=False)


@dataclass(frozen=True)
class HeartbeatReply(Message):
    """Orders, and the settings that may have changed.

    `drop` names attempts that are no longer this runner's: their processes are ended and their
    journals deleted. The leases of those in `renewed` last `lease_seconds` from the moment in
    which the heartbeat was sent. `concurrency`: how many the runner may run at once; 0: as before.
    `drain`: why the worker is to let its tasks finish, and end; empty: it is not. It holds for the
    session, so the worker that is started next is not told it.
    """

    stop: tuple[StopOrder, ...] = value(many(message(StopOrder)))
    drop: tuple[TaskRef, ...] = value(many(message(TaskRef)))
    queues: tuple[str, ...] = value(many(text(450, minimum=1), 10_000))
    heartbeat_seconds: float = value(seconds)
    renewed: tuple[TaskRef, ...] = value(many(message(TaskRef)), default=())
    lease_seconds: float = value(seconds, default=0.0)
    concurrency: int = value(integer(0, MAXIMUM_SLOTS), default=0)
    drain: str = value(text(MAXIMUM_ORDER), default="")

"""The supervised process tree: what a task and its user notice, and that nothing survives."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from runners.worker.supervision import (
    Ending,
    ForkServer,
    StepDone,
    StopStep,
    SupervisedProcess,
    SupervisionError,
    SupervisorLostError,
    Terms,
    TooLateError,
    boot_seconds,
)
from tests.deployment.client import wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs a subreaper")

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {"PATH": os.environ["PATH"]}
# For bash: say that traps are set, then read what never comes, without a child process.
READY_FOR_EVER = "exec 9<> <(:); wait $!; echo ready; while :; do read <&9; done"
LIMIT = 60.0  # Seconds: no test waits that long unless something is broken.
INT, TERM, KILL = signal.SIGINT, signal.SIGTERM, signal.SIGKILL
FORCE = [StopStep(KILL, 0)]
GENTLE = [StopStep(INT, LIMIT), StopStep(TERM, LIMIT)]

# A daemon by the book: two forks, a session of its own, an empty environment, stdout closed later.
DAEMON = """
import os, sys
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        code = "import os, time; print(os.getpid(), flush=True); time.sleep(1000)"
        os.execve(sys.executable, [sys.executable, "-c", code], {})
    os._exit(0)
os.wait()
"""


@pytest.fixture(scope="module", autouse=True)
def adopt_escapees() -> Iterator[None]:
    """Make this process the next subreaper above: whatever escapes becomes its child."""
    libc = ctypes.CDLL(None)
    libc.prctl(36, 1, 0, 0, 0)
    yield
    libc.prctl(36, 0, 0, 0, 0)


@pytest.fixture(autouse=True)
def no_process_left(adopt_escapees: None) -> Iterator[None]:
    others = set(children_of(os.getpid()))  # such as a broker of another suite
    yield
    reaper = threading.Thread(target=wait_for_no_child, args=(others,), daemon=True)
    reaper.start()
    reaper.join(LIMIT)
    left = set(children_of(os.getpid())) - others
    # Nobody else would end what a test that failed has stopped.
    while reaper.is_alive():
        for pid in set(children_of(os.getpid())) - others:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, KILL)
        reaper.join(0.1)
    assert not left, f"left: {left}"


@pytest.fixture
def server() -> Iterator[ForkServer]:
    server = ForkServer()
    server.start()
    yield server
    # A test that failed may have stopped one that nobody else continues.
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.name() in ("forge-supervise", "forge-forkserve"):
                process.resume()
    server.close()


def wait_for_no_child(others: set[int]) -> None:
    while left := set(children_of(os.getpid())) - others:
        for pid in left:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.01)


def start(server: ForkServer, *argv: str, directory: Path = ROOT) -> SupervisedProcess:
    return server.spawn(argv, environment=ENVIRONMENT, directory=directory)


def shell(server: ForkServer, script: str) -> SupervisedProcess:
    return start(server, "bash", "-c", script)


def words_of(ending: Ending) -> list[str]:
    """What was done, without how long after the first step it was."""
    return [step.split(" after ")[0] for step in ending.steps]


def python(server: ForkServer, code: str) -> SupervisedProcess:
    return start(server, sys.executable, "-c", code)


def read_line(process: SupervisedProcess) -> str:
    line = b""
    while not line.endswith(b"\n"):
        assert select.select([process.output], [], [], LIMIT)[0], "no output in time"
        byte = os.read(process.output, 1)
        assert byte, f"output ended after {line!r}"
        line += byte
    return line.decode().strip()


def read_rest(process: SupervisedProcess) -> str:
    with open(process.output, "rb") as output:
        return output.read().decode()


def end_of(process: SupervisedProcess) -> Ending:
    ending = process.wait(LIMIT)
    assert ending is not None, "did not end in time"
    return ending


def finish(process: SupervisedProcess) -> tuple[str, Ending]:
    return read_rest(process), end_of(process)


def handle_of(pid: str | int) -> int:
    return os.pidfd_open(int(pid))


def is_gone(handle: int) -> bool:
    """Wait until the process of a pidfd has exited."""
    try:
        return bool(select.select([handle], [], [], LIMIT)[0])
    finally:
        os.close(handle)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def children_of(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that ended
            found += [int(child) for child in (task / "children").read_text().split()]
    return found


def open_descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


# What a task gets


def test_exit_code_and_output_arrive(server: ForkServer) -> None:
    assert finish(shell(server, "echo hello; exit 7")) == ("hello\n", Ending(7, None, 0, ()))


def test_when_the_program_was_started_is_told(server: ForkServer) -> None:
    before = boot_seconds()
    process = shell(server, "exit 0")
    assert before < process.begun_at < boot_seconds()
    finish(process)


def test_stdout_and_stderr_keep_the_order_of_writing(server: ForkServer) -> None:
    script = "for i in 1 2 3; do echo out $i; echo err $i >&2; done"
    output, _ = finish(shell(server, script))
    assert output.split("\n")[:-1] == [f"{s} {i}" for i in (1, 2, 3) for s in ("out", "err")]


def test_a_signal_that_ends_the_program_is_told(server: ForkServer) -> None:
    _, ending = finish(shell(server, "kill -SEGV $$"))
    assert (ending.exit_code, ending.signal) == (None, signal.SIGSEGV)


def test_the_environment_is_exactly_the_one_given(server: ForkServer, tmp_path: Path) -> None:
    given = {"PATH": ENVIRONMENT["PATH"], "NAME": "zwölf \udcff 12\nlines"}
    process = server.spawn(["env", "-0"], environment=given, directory=tmp_path)
    with open(process.output, "rb") as output:
        pairs = output.read().split(b"\0")[:-1]
    end_of(process)
    assert sorted(pairs) == sorted(os.fsencode(f"{k}={v}") for k, v in given.items())


def test_the_program_has_three_descriptors_and_default_signals(server: ForkServer) -> None:
    code = (
        "import os, signal\n"
        "print(sorted(os.listdir('/proc/self/fd'))[:3], len(os.listdir('/proc/self/fd')))\n"
        "print(os.read(0, 1))\n"
        "lines = [l.split() for l in open('/proc/self/status') if l[:6] in ('SigBlk', 'SigIgn')]\n"
        "print(['%x' % (int(l[1], 16) & ~(3 << 31)) for l in lines])\n"
        "print(os.getsid(0) == os.getpid())"
    )
    # Python itself ignores SIGPIPE (13) and SIGXFSZ (25): mask 0x1001000. Signals 32 and 33 are
    # the C library's own; nobody can change how they were inherited. One descriptor more is the
    # listing's own.
    output, _ = finish(python(server, code))
    assert output == ("['0', '1', '2'] 4\nb''\n['0', '1001000']\nTrue\n")


def test_it_runs_in_the_directory_with_the_umask_of_the_worker(tmp_path: Path) -> None:
    before = os.umask(0o027)
    server = ForkServer()
    try:
        output, _ = finish(start(server, "bash", "-c", "pwd; umask", directory=tmp_path))
    finally:
        os.umask(before)
        server.close()
    assert output == f"{tmp_path}\n0027\n"


def test_much_output_arrives_whole(server: ForkServer) -> None:
    output, ending = finish(shell(server, "head -c 5000000 /dev/zero | tr '\\0' x"))
    assert (len(output), ending.exit_code) == (5_000_000, 0)


def test_closing_stdout_early_is_not_the_end(server: ForkServer, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    process = shell(server, f"exec >&- 2>&-; read x < {tmp_path}/gate; exit 5")
    assert read_rest(process) == ""
    assert process.wait(0) is None
    (tmp_path / "gate").write_text("go\n")
    assert end_of(process).exit_code == 5


# Programs that cannot start


def test_a_missing_program_is_named(server: ForkServer) -> None:
    with pytest.raises(SupervisionError, match="program no-such-thing was not found in PATH"):
        start(server, "no-such-thing")
    with pytest.raises(SupervisionError, match=r"program \./nothing was not found$"):
        start(server, "./nothing")
    assert finish(shell(server, "echo on"))[0] == "on\n"


def test_a_missing_directory_is_named(server: ForkServer, tmp_path: Path) -> None:
    with pytest.raises(SupervisionError, match=f"directory {tmp_path}/gone does not exist"):
        start(server, "true", directory=tmp_path / "gone")
    (tmp_path / "file").touch()
    with pytest.raises(SupervisionError, match="file is not a directory"):
        start(server, "true", directory=tmp_path / "file")


@pytest.mark.parametrize(
    ("text", "mode", "sentence"),
    [
        ("#!/no/such/interpreter\n", 0o755, "interpreter that ./script names"),
        ("#!/bin/sh\n", 0o644, "./script is not executable"),
        ("echo\n", 0o755, "neither a program for this machine nor a script"),
    ],
)
def test_a_broken_script_is_explained(
    server: ForkServer, tmp_path: Path, text: str, mode: int, sentence: str
) -> None:
    (tmp_path / "script").write_text(text)
    (tmp_path / "script").chmod(mode)
    with pytest.raises(SupervisionError, match=sentence):
        start(server, "./script", directory=tmp_path)


@pytest.mark.parametrize("size", [127 * 1024, 128 * 1024, 1 << 20])
def test_a_large_environment_value_works_or_is_refused(server: ForkServer, size: int) -> None:
    argv = ["bash", "-c", "echo ${#BIG}"]
    environment = {**ENVIRONMENT, "BIG": "x" * size}
    if size < 128 * 1024:
        process = server.spawn(argv, environment=environment, directory=ROOT)
        assert finish(process)[0] == f"{size}\n"
        return
    with pytest.raises(SupervisionError, match="are too large"):
        server.spawn(argv, environment=environment, directory=ROOT)


def test_a_megabyte_of_environment_in_many_values_arrives(server: ForkServer) -> None:
    environment = {**ENVIRONMENT, **{f"V{i}": "ü" * 5000 for i in range(100)}}
    process = server.spawn(["env"], environment=environment, directory=ROOT)
    assert read_rest(process).count("ü") == 500_000
    assert end_of(process).exit_code == 0


@pytest.mark.parametrize(
    ("argv", "environment"),
    [([], {}), (["a\0b"], {}), (["true"], {"A": "\0"}), (["true"], {"A=B": "1"})],
)
def test_what_no_process_can_have_is_refused(
    server: ForkServer, argv: list[str], environment: dict[str, str]
) -> None:
    with pytest.raises(SupervisionError):
        server.spawn(argv, environment=environment, directory=ROOT)


# Stop


def test_a_trap_may_answer_int(server: ForkServer) -> None:
    process = shell(server, f"trap 'echo cleaning; exit 3' INT; {READY_FOR_EVER}")
    assert read_line(process) == "ready"
    process.stop(GENTLE)
    output, ending = finish(process)
    assert (output, ending.exit_code, ending.signal) == ("cleaning\n", 3, None)
    assert words_of(ending) == ["SIGINT sent to 1 process"]


def test_ignoring_int_and_term_ends_by_kill(server: ForkServer) -> None:
    process = shell(server, "trap '' INT TERM; echo ready; exec sleep 1000")
    assert read_line(process) == "ready"
    process.stop([StopStep(INT, 0.2), StopStep(TERM, 0.2)])
    _, ending = finish(process)
    assert (ending.exit_code, ending.signal, ending.leftovers) == (None, KILL, 0)
    assert words_of(ending) == [
        "SIGINT sent to 1 process",
        "SIGTERM sent to 1 process",
        "SIGKILL sent to 1 process",
    ]
    delay = re.search(r" after ([\d.]+) s", ending.steps[2])
    assert delay is not None and float(delay[1]) >= 0.4


def test_force_replaces_a_gentle_stop(server: ForkServer) -> None:
    process = shell(server, f"trap 'echo no' INT; trap '' TERM; {READY_FOR_EVER}")
    assert read_line(process) == "ready"
    process.stop(GENTLE)
    process.stop(GENTLE)
    assert read_line(process) == "no"
    process.stop(FORCE)
    _, ending = finish(process)
    assert ending.signal == KILL
    assert [step.split()[0] for step in ending.steps] == ["SIGINT", "SIGKILL"]


def test_a_step_of_a_stop_is_told_before_what_is_written_because_of_it(
    server: ForkServer,
) -> None:
    told: list[StepDone] = []
    traps = "".join(f"trap 'echo {name}' {name}; " for name in ("INT", "TERM", "HUP", "USR1"))
    process = server.spawn(
        ["bash", "-c", traps + READY_FOR_EVER],
        environment=ENVIRONMENT,
        directory=ROOT,
        on_step=told.append,
    )
    assert read_line(process) == "ready"
    numbers = (INT, TERM, signal.SIGHUP, signal.SIGUSR1)
    for number in numbers:
        process.stop([StopStep(number, LIMIT)])  # in place of the one before
        assert read_line(process) == number.name.removeprefix("SIG")
        assert process.wait(0) is None
        assert told[-1].signal == number.name
    process.stop(FORCE)
    finish(process)
    assert [step.signal for step in told] == [*(number.name for number in numbers), "SIGKILL"]


def test_each_step_of_a_stop_is_told_when_it_is_due(server: ForkServer) -> None:
    told: list[StepDone] = []
    script = f"trap '' INT; sleep 1000 & trap 'exit 0' INT; {READY_FOR_EVER}"
    process = server.spawn(
        ["bash", "-c", script], environment=ENVIRONMENT, directory=ROOT, on_step=told.append
    )
    assert read_line(process) == "ready"
    # The shell ends on INT; what it left in the background ignores that, and has 5 s at most.
    process.stop([StopStep(INT, LIMIT), StopStep(TERM, LIMIT)])
    _, ending = finish(process)
    steps = [(step.signal, step.count, step.ended, step.cause) for step in told]
    assert steps == [("SIGINT", 2, 0, "order"), ("SIGTERM", 1, 1, "order")]
    assert (told[0].grace, told[1].grace) == (LIMIT, 5.0)
    assert ending.seconds is not None and ending.seconds < LIMIT


# Leases


def warm_up(server: ForkServer) -> None:
    """What a short lease has to last for is then the start of a program alone."""
    finish(start(server, "true"))


def leased(server: ForkServer, script: str, seconds: float, *, start_in: float = LIMIT):
    now = boot_seconds()
    terms = Terms(now + start_in, now + seconds, (StopStep(INT, 0.2),))
    argv = ["bash", "-c", script]
    return server.spawn(argv, environment=ENVIRONMENT, directory=ROOT, terms=terms)


def test_the_end_of_a_lease_ends_the_tree_without_a_word_from_the_worker(
    server: ForkServer,
) -> None:
    warm_up(server)
    process = leased(server, "trap '' INT; (setsid sleep 1000 &); echo $$; exec sleep 1000", 5.0)
    handle = handle_of(read_line(process))
    assert is_gone(handle)
    _, ending = finish(process)
    assert ending.lease_ended and ending.signal == KILL


def test_a_lease_that_is_extended_in_time_goes_on(server: ForkServer) -> None:
    warm_up(server)
    process = leased(server, "echo up; read -t 1000 x; sleep 5.5; echo whole", 5.0)
    assert read_line(process) == "up"
    process.extend(boot_seconds() + LIMIT)
    output, ending = finish(process)
    assert (output, ending.lease_ended, ending.exit_code) == ("whole\n", False, 0)


def test_a_lease_that_has_ended_is_neither_extended_nor_softened(server: ForkServer) -> None:
    warm_up(server)
    now = boot_seconds()
    # Long enough for Bash to have its trap in place on a machine under load.
    terms = Terms(now + LIMIT, now + 5.0, (StopStep(INT, 5.0),))
    script = "trap 'echo int' INT; while :; do sleep 0.05; done"
    process = server.spawn(["bash", "-c", script], environment=ENVIRONMENT, directory=ROOT,
                           terms=terms)  # fmt: skip
    assert read_line(process) == "int"
    process.extend(boot_seconds() + LIMIT)
    process.stop([StopStep(TERM, LIMIT)])
    _, ending = finish(process)
    assert ending.lease_ended and ending.signal == KILL


def test_a_program_that_had_ended_by_itself_when_its_lease_did_counts_as_what_it_was(
    server: ForkServer, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "gate")
    process = leased(server, f"sleep 1000 & echo up; read x < {tmp_path}/gate; exit 3", 5.0)
    until = boot_seconds() + 5.0
    assert read_line(process) == "up"
    supervisor = parent_of(process.pid)
    fork_server = handle_of(parent_of(supervisor))
    signal.pidfd_send_signal(fork_server, KILL)  # it would continue the supervisor
    assert is_gone(fork_server)
    os.kill(supervisor, signal.SIGSTOP)
    program = handle_of(process.pid)
    (tmp_path / "gate").write_text("go\n")
    assert is_gone(program)
    while boot_seconds() <= until:
        time.sleep(0.05)
    os.kill(supervisor, signal.SIGCONT)
    _, ending = finish(process)
    assert (ending.exit_code, ending.leftovers, ending.lease_ended) == (3, 1, False)


def test_a_stop_that_takes_too_long_for_the_lease_is_cut_short_by_kill(server: ForkServer) -> None:
    warm_up(server)
    process = leased(server, "trap '' INT; echo up; while :; do sleep 0.05; done", 5.0)
    assert read_line(process) == "up"
    process.stop([StopStep(INT, LIMIT)])
    _, ending = finish(process)
    assert ending.lease_ended and ending.signal == KILL


def test_what_came_too_late_is_not_started(server: ForkServer, tmp_path: Path) -> None:
    with pytest.raises(TooLateError, match="permission to start it had run out"):
        leased(server, f"touch {tmp_path}/started", LIMIT, start_in=-0.1)
    assert not (tmp_path / "started").exists()
    assert finish(shell(server, "echo on"))[0] == "on\n"


def test_stop_after_the_end_does_nothing(server: ForkServer) -> None:
    process = start(server, "true")
    _, ending = finish(process)
    process.stop(FORCE)
    assert process.wait() == ending


def test_a_daemon_dies_with_stop(server: ForkServer) -> None:
    process = python(server, DAEMON + "import time; time.sleep(1000)")
    daemon = handle_of(read_line(process))
    process.stop([StopStep(TERM, LIMIT)])
    _, ending = finish(process)
    assert is_gone(daemon)
    assert (ending.signal, words_of(ending)) == (TERM, ["SIGTERM sent to 2 processes"])


def test_children_keep_the_grace_when_the_program_leaves_first(
    server: ForkServer, tmp_path: Path
) -> None:
    child = f"trap 'read < {tmp_path}/gate; echo saved; exit' INT; {READY_FOR_EVER}"
    os.mkfifo(tmp_path / "gate")
    (tmp_path / "child").write_text(child)
    process = python(
        server,
        f"""
import os, signal, subprocess
subprocess.Popen(["bash", "{tmp_path}/child"])
signal.signal(signal.SIGINT, signal.SIG_DFL)
signal.pause()
""",
    )
    assert read_line(process) == "ready"
    program = handle_of(process.pid)
    process.stop(GENTLE)
    assert is_gone(program)
    (tmp_path / "gate").write_text("go\n")
    output, ending = finish(process)
    assert (output, ending.signal, ending.leftovers) == ("saved\n", INT, 0)


@pytest.mark.parametrize("steps", [[StopStep(TERM, LIMIT)], FORCE])
def test_a_stopped_tree_still_ends(server: ForkServer, steps: list[StopStep]) -> None:
    process = shell(server, "sleep 1000 & kill -STOP $!; echo $!; kill -STOP $$")
    child = handle_of(read_line(process))
    process.stop(steps)
    _, ending = finish(process)
    assert ending.signal == steps[0].signal
    assert is_gone(child)


# Leftovers


def test_what_a_program_leaves_behind_is_ended_and_counted(server: ForkServer) -> None:
    process = shell(server, "sleep 1000 & setsid sleep 1000 & exit 4")
    _, ending = finish(process)
    assert (ending.exit_code, ending.leftovers) == (4, 2)
    # A machine under load may need longer than leftovers get, and follow with KILL.
    assert words_of(ending)[0] == "SIGTERM sent to 2 processes"


def test_leftovers_that_ignore_term_are_killed(server: ForkServer) -> None:
    script = "coproc C (trap '' TERM; echo ready; exec sleep 1000); read <&${C[0]}; exit 0"
    _, ending = finish(shell(server, script))
    assert (ending.exit_code, ending.leftovers) == (0, 1)
    assert [step.split()[0] for step in ending.steps] == ["SIGTERM", "SIGKILL"]


# Hostile tasks


def test_a_task_that_forks_without_end_ends(server: ForkServer) -> None:
    code = """
import os, time
print("ready", flush=True)
os.setpriority(os.PRIO_PROCESS, 0, 5)
while True:
    if len(os.listdir("/proc")) < 2000 and os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        time.sleep(0.01)
"""
    process = python(server, code)
    assert read_line(process) == "ready"
    process.stop(FORCE)
    assert finish(process)[1].signal == KILL


def test_a_process_that_hops_from_pid_to_pid_is_caught(server: ForkServer) -> None:
    code = """
import os, sys
if os.fork() == 0:
    print("ready", flush=True)
    for hop in range(200_000):
        if os.fork():
            os._exit(0)
        os.setsid()
else:
    import time; time.sleep(1000)
"""
    process = python(server, code)
    assert read_line(process) == "ready"
    process.stop(FORCE)
    assert finish(process)[1].signal == KILL


def test_signals_to_the_supervisor_do_no_harm(server: ForkServer) -> None:
    names = "HUP INT QUIT TERM USR1 USR2 ALRM PIPE SEGV ABRT TSTP STOP RTMIN"
    process = shell(server, f"for s in {names}; do kill -$s $PPID; done; echo ready; sleep 1000")
    assert read_line(process) == "ready"
    process.stop(GENTLE)
    assert finish(process)[1].signal == INT


def test_a_task_that_kills_its_supervisor_dies_and_the_worker_is_told(server: ForkServer) -> None:
    other = shell(server, "echo $$; read < /dev/zero; sleep 1000")
    bystander = handle_of(read_line(other))
    process = python(
        server, DAEMON + "import time; print(os.getpid(), flush=True); time.sleep(1000)"
    )
    handles = [handle_of(read_line(process)) for _ in range(2)]
    os.kill(parent_of(process.pid), KILL)
    with pytest.raises(SupervisionError, match="died without a report"):
        process.wait(LIMIT)
    assert [bool(select.select([handle], [], [], 0)[0]) for handle in handles] == [True, True]
    assert not select.select([bystander], [], [], 0)[0]
    assert [is_gone(handle) for handle in handles] == [True, True]
    assert read_rest(process) == ""
    other.stop(FORCE)
    finish(other)
    assert is_gone(bystander)


def test_a_program_that_kills_its_supervisor_at_once_keeps_what_it_wrote(
    server: ForkServer,
) -> None:
    """Sometimes the supervisor is gone before it has said that the program runs."""
    for _ in range(40):
        try:
            process = shell(server, "echo out; kill -9 $PPID; sleep 1000")
        except SupervisorLostError as error:
            assert (error.output, error.is_whole) == (b"out\n", True)
            continue
        with pytest.raises(SupervisionError, match="died without a report"):
            process.wait(LIMIT)
        assert read_rest(process) == "out\n"


# Deaths of the machinery


def test_running_tasks_outlive_the_fork_server(server: ForkServer) -> None:
    process = shell(server, f"trap 'echo bye; exit 9' INT; {READY_FOR_EVER}")
    assert read_line(process) == "ready"
    os.kill(parent_of(parent_of(process.pid)), KILL)
    assert finish(shell(server, "echo again"))[0] == "again\n"
    process.stop(GENTLE)
    output, ending = finish(process)
    assert (output, ending.exit_code) == ("bye\n", 9)


def test_a_stopped_fork_server_is_continued(server: ForkServer) -> None:
    process = shell(server, "kill -STOP $(ps -o ppid= -p $PPID); echo $?")
    assert finish(process)[0] == "0\n"
    assert finish(shell(server, "echo on"))[0] == "on\n"


WORKER = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from runners.worker.supervision import ForkServer
server = ForkServer()
processes = []
for code in sys.argv[1:]:
    p = server.spawn([sys.executable, "-c", code], environment={{}}, directory=Path("/"))
    print(p.pid, open(p.output).readline().strip(), flush=True)
    processes.append(p)
print("ready", flush=True)
sys.stdin.read()
"""


def start_worker(*codes: str) -> tuple[subprocess.Popen[str], list[int]]:
    """Start a worker with tasks that print one pid; return it and all pids of its tree."""
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, *codes],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert worker.stdout is not None
    pids = [int(pid) for line in iter(worker.stdout.readline, "ready\n") for pid in line.split()]
    supervisors = {parent_of(pid) for pid in pids[::2]}
    return worker, [*pids, *supervisors, *map(parent_of, supervisors)]


def test_everything_dies_with_a_killed_worker() -> None:
    worker, pids = start_worker(*[DAEMON + "import time; time.sleep(1000)"] * 3)
    handles = [handle_of(pid) for pid in set(pids)]
    assert len(handles) == 10  # Three programs, daemons and supervisors, one fork server.
    worker.kill()
    assert all(is_gone(handle) for handle in handles)
    worker.communicate()


def test_everything_dies_with_a_killed_worker_after_the_fork_server() -> None:
    worker, pids = start_worker(DAEMON + "import time; time.sleep(1000)")
    handles = [handle_of(pid) for pid in set(pids)]
    os.kill(pids[-1], KILL)
    worker.kill()
    assert all(is_gone(handle) for handle in handles)
    worker.communicate()


# Many at once, and for a long time


def test_fifty_threads_may_spawn_at_once(server: ForkServer) -> None:
    def run(number: int) -> tuple[str, Ending]:
        return finish(shell(server, f"echo {number}; exit {number}"))

    with ThreadPoolExecutor(50) as pool:
        results = list(pool.map(run, range(50)))
    assert results == [(f"{n}\n", Ending(n, None, 0, ())) for n in range(50)]


def test_threads_may_wait_for_the_same_process(server: ForkServer) -> None:
    process = shell(server, "echo ready; exec sleep 1000")
    assert read_line(process) == "ready"
    with ThreadPoolExecutor(5) as pool:
        endings = [pool.submit(process.wait, LIMIT) for _ in range(5)]
        process.stop(FORCE)
        assert {ending.result() for ending in endings} == {end_of(process)}
    os.close(process.output)


def test_a_hundred_tasks_leak_no_descriptor(server: ForkServer) -> None:
    keeper = shell(server, "echo ready; exec sleep 1000")
    read_line(keeper)
    fork_server = parent_of(parent_of(keeper.pid))
    before = open_descriptors(os.getpid()), children_of(fork_server)
    held = open_descriptors(fork_server)
    for _ in range(100):
        finish(start(server, "true"))
        with pytest.raises(SupervisionError):
            start(server, "no-such-thing")
    keeper.stop(FORCE)
    finish(keeper)
    # One task more than none has been running all the time, and each spawn lets the server
    # notice what has ended before.
    after = start(server, "sleep", "1000")
    # A supervisor that has told its ending is collected, and what it was given closed, soon after.
    wait_for(lambda: open_descriptors(fork_server) <= held, "the server closed what it had opened")
    assert open_descriptors(os.getpid()) == before[0]
    after.stop(FORCE)
    finish(after)


def test_running_out_of_descriptors_is_an_error(server: ForkServer) -> None:
    held: list[int] = []
    try:
        with contextlib.suppress(OSError):
            while True:
                held.append(os.dup(0))
        with pytest.raises(SupervisionError, match="no pipe"):
            start(server, "true")
    finally:
        for descriptor in held:
            os.close(descriptor)
    assert finish(start(server, "true"))[1].exit_code == 0


def test_close_ends_every_tree_and_refuses_new_ones() -> None:
    server = ForkServer()
    processes = [python(server, DAEMON + "import time; time.sleep(1000)") for _ in range(3)]
    daemons = [handle_of(read_line(process)) for process in processes]
    server.close()
    assert [end_of(process).signal for process in processes] == [KILL] * 3
    assert all(is_gone(daemon) for daemon in daemons)
    assert [read_rest(process) for process in processes] == [""] * 3
    with pytest.raises(SupervisionError, match="closed"):
        start(server, "true")
    server.close()


def test_a_grace_must_be_a_number_of_seconds() -> None:
    for grace in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="grace"):
            StopStep(INT, grace)

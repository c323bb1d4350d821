"""Measures the supervised process tree.

    python tests/benchmarks/supervision.py [runs]

Prints what starting and ending `/bin/true` costs under supervision beside a plain subprocess,
what the processes weigh, and how long after the worker's `kill -9` everything below it is gone.
"""

from __future__ import annotations

import os
import select
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from runners.worker.supervision import ForkServer  # noqa: E402

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}
TREES = 20
WORKER = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from runners.worker.supervision import ForkServer
server = ForkServer()
script = "for i in 1 2 3; do setsid sh -c 'echo $$; exec sleep 1000' & done; wait"
for _ in range({TREES}):
    process = server.spawn(["sh", "-c", script], environment={ENVIRONMENT!r}, directory=Path("/"))
    print(process.pid)
    reader = open(process.output)
    for _ in range(3):
        print(reader.readline().strip(), flush=True)
    globals().setdefault("open_files", []).append(reader)
print("ready", flush=True)
sys.stdin.read()
"""


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    server = ForkServer()
    server.start()
    run_supervised(server)
    started, ended = zip(*(run_supervised(server) for _ in range(runs)), strict=True)
    plain = [run_plain() for _ in range(runs)]
    print(f"{runs} runs of /bin/true, median (p95) in ms")
    print(f"  supervised, program started    {summary(started)}")
    print(f"  supervised, output read, ended {summary(ended)}")
    print(f"  subprocess.run                 {summary(plain)}")
    print_memory(server)
    server.close()
    gone = [seconds_until_gone() for _ in range(10)]
    print(f"after kill -9 of a worker with {TREES} trees of 4 processes, all gone (10 runs)")
    print(f"  median {statistics.median(gone) * 1000:.0f} ms, longest {max(gone) * 1000:.0f} ms")


def run_supervised(server: ForkServer) -> tuple[float, float]:
    began = time.perf_counter()
    process = server.spawn(["/bin/true"], environment=ENVIRONMENT, directory=Path("/"))
    started = time.perf_counter()
    with open(process.output, "rb") as output:
        output.read()
    process.wait()
    return started - began, time.perf_counter() - began


def run_plain() -> float:
    began = time.perf_counter()
    subprocess.run(["/bin/true"], env=ENVIRONMENT, cwd="/", capture_output=True, check=True)
    return time.perf_counter() - began


def summary(seconds: list[float] | tuple[float, ...]) -> str:
    p95 = statistics.quantiles(seconds, n=20)[-1]
    return f"{statistics.median(seconds) * 1000:6.2f} ({p95 * 1000:.2f})"


def print_memory(server: ForkServer) -> None:
    process = server.spawn(["sleep", "100"], environment=ENVIRONMENT, directory=Path("/"))
    os.close(process.output)
    supervisor = parent_of(process.pid)
    for name, pid in (("fork server", parent_of(supervisor)), ("a supervisor", supervisor)):
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        sizes = {line.split()[0]: int(line.split()[1]) for line in rollup[1:]}
        private = sizes["Private_Clean:"] + sizes["Private_Dirty:"]
        print(f"memory of {name}: {sizes['Rss:'] / 1024:.1f} MB, {private / 1024:.1f} of its own")


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def seconds_until_gone() -> float:
    """Kill a worker; return the seconds until the last fork server, supervisor, task is gone."""
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert worker.stdout is not None
    programs = [int(line) for line in iter(worker.stdout.readline, "ready\n")]
    supervisors = {parent_of(pid) for pid in programs[::4]}
    servers = {parent_of(pid) for pid in supervisors}
    handles = [os.pidfd_open(pid) for pid in {*programs, *supervisors, *servers}]
    began = time.perf_counter()
    worker.send_signal(signal.SIGKILL)
    for handle in handles:
        select.select([handle], [], [])
        os.close(handle)
    elapsed = time.perf_counter() - began
    worker.communicate()
    return elapsed


if __name__ == "__main__":
    main()

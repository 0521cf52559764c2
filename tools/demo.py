"""`make run`: one container on the image that is always there, and what it cost."""

from __future__ import annotations

import os
import socket
import statistics
import sys
import time

ROUNDS = 25
SHOW = """
echo "  hello from process $$, as $(id -un) on $(hostname)"
echo "  processes that it sees: $(ls -d /proc/[0-9]* | wc -l)   network devices: $(ls /sys/class/net | tr '\\n' ' ')"
"""


def milliseconds(action: object) -> float:
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        action()  # type: ignore[operator]
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


def fork_and_execute() -> None:
    pid = os.posix_spawn("/bin/true", ["true"], os.environ)
    os.waitpid(pid, 0)


def main() -> int:
    import fastdock

    devices = len(os.listdir("/sys/class/net"))
    print(f"This machine: {socket.gethostname()}, this process: {os.getpid()}, network devices: {devices}")
    print("A container of the image 'host':")
    sys.stdout.flush()
    try:
        done = fastdock.run("host", ["sh", "-c", SHOW])
    except fastdock.FastdockError as error:  # without root: what the machine lacks for that
        print(f"make run: {error}; 'fastdock info' says what is missing", file=sys.stderr)
        return 1
    if done.returncode:
        return done.returncode
    bare = milliseconds(fork_and_execute)
    contained = milliseconds(lambda: fastdock.run("host", ["true"]))
    print(f"Start to exit, median of {ROUNDS}: fork+exec {bare:.2f} ms, container {contained:.2f} ms")
    if done.usage.memory_peak is not None:  # without root nothing counts it, unless a cgroup is delegated
        memory = done.usage.memory_peak / 2**20
        print(
            f"The first one used {done.usage.cpu * 1000:.1f} ms of processor time and at most {memory:.1f} MiB"
        )
    return 0


sys.exit(main())

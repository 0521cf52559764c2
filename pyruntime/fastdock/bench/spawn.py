"""Runs a command with as little of Python around it as can be: what is measured is the command."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Mapping, Sequence

__all__ = ["CommandFailed", "spawn"]


class CommandFailed(Exception):
    """The command ended with another status than 0, took too long, or did not print what it should."""


def spawn(
    argv: Sequence[str], *, expect: bytes = b"", timeout: float = 60.0, env: Mapping[str, str] | None = None
) -> float:
    """Runs argv (an absolute path first) and returns its wall time in seconds.

    stdout and stderr go to one memory file: a daemon that keeps them open cannot hold us up.  stdin is an empty one:
    crun gives its standard streams to the container's root, the machine's /dev/null among them.  Raises
    CommandFailed on a status other than 0, a missing ``expect`` in the output, or after ``timeout`` seconds (the
    command is killed).
    """
    output, nothing = (os.memfd_create(name, os.MFD_CLOEXEC) for name in ("output", "nothing"))
    try:
        actions = [
            (os.POSIX_SPAWN_DUP2, nothing, 0),
            (os.POSIX_SPAWN_DUP2, output, 1),
            (os.POSIX_SPAWN_DUP2, output, 2),
        ]
        begin = time.perf_counter()
        pid = os.posix_spawn(
            argv[0], list(argv), dict(os.environ if env is None else env), file_actions=actions
        )
        status = _wait(pid, timeout)
        seconds = time.perf_counter() - begin
        text = os.pread(output, 1 << 20, 0)
    finally:
        os.close(output)
        os.close(nothing)
    if status is None:
        raise CommandFailed(f"no end after {timeout:g} s: {_tail(text)}")
    if status != 0:
        raise CommandFailed(f"status {status}: {_tail(text)}")
    if expect not in text:
        raise CommandFailed(f"the output lacks {expect!r}: {_tail(text)}")
    return seconds


def _wait(pid: int, timeout: float) -> int | None:
    """Its exit status; None if it has not ended by itself.  An interrupt ends it, too."""
    pidfd = os.pidfd_open(pid)
    try:
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        ended = False
        try:
            ended = bool(poller.poll(timeout * 1000))
        finally:
            if not ended:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return status if ended else None
    finally:
        os.close(pidfd)


def _tail(text: bytes) -> str:
    return text[-300:].decode(errors="replace").strip()

"""What a container is doing: the files that its monitor writes (csrc/monitor/state.h)."""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple

ZERO_TIME = "0001-01-01T00:00:00Z"
LOST = 255
"""The exit code of a container that the machine took down with it, as Docker has it."""


class State(NamedTuple):
    """One look at it; it may have changed already."""

    status: str = "created"
    """created, running, paused, restarting or exited."""
    pid: int = 0
    """The host's number of its first process; 0 when there is none."""
    monitor: int = 0
    exit_code: int = 0
    oom_killed: bool = False
    stopped_by_user: bool = False
    error: str = ""
    started_at: str = ZERO_TIME
    """RFC 3339."""
    finished_at: str = ZERO_TIME
    restart_count: int = 0
    health: dict[str, Any] | None = None
    """``status``, ``failing_streak`` and ``log``, or None without a health check."""

    @property
    def running(self) -> bool:
        """It has a process, or will have one again: Docker's ``State.Running``."""
        return self.status in ("running", "paused", "restarting")


def read_state(state_directory: str, run_directory: str) -> State:
    """From the two directories of a container."""
    live = _read(run_directory)
    if live is not None:
        return live
    durable = _read(state_directory)
    if durable is None:
        return State()
    if durable.running and not os.path.exists(run_directory):
        # The record of a start, and no monitor: the machine went down.  (Written before the live one: so
        # a look at the right moment of a start finds the run directory.)
        return durable._replace(status="exited", exit_code=LOST, pid=0, monitor=0, health=None)
    return durable


def _read(directory: str) -> State | None:
    try:
        with open(f"{directory}/state.json", "rb") as file:
            document = json.loads(file.read())
    except (FileNotFoundError, NotADirectoryError):
        return None
    # A monitor of another version may know members that this one does not.
    return State(**{name: value for name, value in document.items() if name in State._fields})

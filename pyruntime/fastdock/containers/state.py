"""What a container is doing: the files that its monitor writes (csrc/monitor/state.h)."""

from __future__ import annotations

import os

from fastdock import _core
from fastdock._light import NamedTuple

TYPE_CHECKING = False  # see _light
if TYPE_CHECKING:
    from typing import Any

ZERO_TIME = "0001-01-01T00:00:00Z"
_BLOCK = 8192
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


def live_states(run_directory: str) -> dict[str, State]:
    """Of all that are monitored, by id."""
    texts = _core.live_states(run_directory)
    # One parse of all is half as long as one of each.
    documents = _core.parse_json((b"[" + b",".join(texts.values()) + b"]").decode())
    return {container_id: _state(document) for container_id, document in zip(texts, documents, strict=True)}


def read_state(state_directory: str, run_directory: str) -> State:
    """From the two directories of a container."""
    return _read(run_directory) or ended_state(state_directory, run_directory)


def ended_state(state_directory: str, run_directory: str) -> State:
    """Of one that had no monitor just now."""
    durable = _read(state_directory)
    if durable is None:
        return State()
    if durable.running and not os.path.exists(run_directory):
        # The record of a start, and no monitor: the machine went down.  (It is written after the live one, and
        # that of the end before the live one goes: so a look at any moment finds one of them.)
        return durable._replace(status="exited", exit_code=LOST, pid=0, monitor=0, health=None)
    return durable


def _read(directory: str) -> State | None:
    try:
        file = os.open(f"{directory}/state.json", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        data = os.read(file, _BLOCK)
        if len(data) == _BLOCK:
            while more := os.read(file, _BLOCK):
                data += more
    finally:
        os.close(file)
    try:
        document = _core.parse_json(data.decode())
    except ValueError:
        # A power cut left the name without its content (csrc/monitor/state.cpp): so it was started.
        return State(status="running")
    return _state(document)


def _state(document: dict[str, Any]) -> State:
    try:
        return State(**document)
    except TypeError:  # a monitor of another version knows members that this one does not
        return State(**{name: value for name, value in document.items() if name in State._fields})

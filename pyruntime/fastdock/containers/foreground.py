"""Containers in the foreground of a ``fastdock run --rm``, as every other process sees and reaches them.

They have no monitor and no row: that command is their parent.  While one runs, its command holds the lock of the
same run directory that a monitor would hold (presence.py), with ``state.json`` as a monitor writes it, and
``record.json`` in place of the row.  So lists, exec, and the repair after a crash find what they know.  What a
monitor does when it is asked (signals, freezing, limits) whoever asks does here, through process and cgroup.
"""

from __future__ import annotations

import json
import os
import select
import signal as signals
from contextlib import contextmanager

from fastdock import _core
from fastdock._errors import Conflict, ContainerNotFound, ContainerNotRunning
from fastdock.containers import control
from fastdock.containers.container import Container
from fastdock.containers.records import Record
from fastdock.containers.state import State
from fastdock.containers.statistics import cgroup_of
from fastdock.store.locks import is_locked

TYPE_CHECKING = False  # see _light
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from fastdock.containers.control import Control
    from fastdock.containers.manager import Containers

_KILLED = 137


class ForegroundContainer(Container):
    """One of them.  Its streams are those of its command, and nothing of it is left when it ends."""

    @property
    def state(self) -> State:
        state = self._containers.state(self.id)
        if not state.running:
            raise ContainerNotFound(f"no such container: {self.name}")
        return state

    @property
    def first_id(self) -> int:
        process = f"/proc/{self.state.pid}"
        if os.path.samestat(os.stat(f"{process}/ns/user"), os.stat("/proc/self/ns/user")):
            return 0  # and the map leads out of the namespace that we are in ourselves: rootless
        # user_namespaces(7): ID-inside-ns ID-outside-ns length
        with open(f"{process}/uid_map", encoding="ascii") as file:
            return int(file.readline().split()[1])

    def _read_record(self) -> Record | None:
        return record_of(self._containers, self.id)

    # -- its life ------------------------------------------------------------------------------------------

    def start(self, *, attach: int = 0, terminal: tuple[int, int] | None = None) -> Control | None:
        """It runs, as long as it is there."""
        self._need_running()
        return None

    def stop(self, timeout: float | None = None, *, signal: str | int | None = None) -> int:
        from fastdock.containers.creation import stop_signal_of
        from fastdock.containers.settings import load_options, load_settings, parse_signal

        document = self.record.document
        if timeout is None:
            timeout = load_settings(document["settings"]).stop_timeout
        if signal is None:
            number = stop_signal_of(self._containers, self.record, load_options(document["options"]))
        else:
            number = parse_signal(signal)
        with self._until_end() as wait, self._process() as pidfd:
            _send(pidfd, number)
            self._thaw()
            if not _is_readable(pidfd, None if timeout < 0 else timeout):
                _send(pidfd, signals.SIGKILL)
            return wait(None)

    def kill(self, signal: str | int = "KILL") -> None:
        from fastdock.containers.settings import parse_signal

        number = parse_signal(signal)
        with self._process() as pidfd:
            _send(pidfd, number)
        if number == signals.SIGKILL:  # cgroup v1 holds even the killed
            self._thaw()

    def wait(self, timeout: float | None = None) -> int:
        with self._until_end() as wait:
            return wait(timeout)

    def remove(self, *, force: bool = False, volumes: bool = False) -> None:
        if not force:
            return super().remove(force=False)  # says that it runs
        with self._until_end() as wait:
            self.kill()
            wait(None)
        return None

    def _freeze(self, kind: int, complaint: str) -> None:
        frozen = kind == control.PAUSE
        state = self._need_running()
        if (state.status == "paused") == frozen:
            raise Conflict(f"container {self.name} is {complaint}")
        cgroup = cgroup_of(self)
        # cgroup v1: a container that is thrown away starts without a freezer, which costs time.
        cgroup.make_freezable()
        cgroup.freeze(frozen)
        state = state._replace(status="paused" if frozen else "running")
        _core.write_state(self.run_directory, json.dumps(state._asdict(), separators=(",", ":")), False)
        self._containers.event("pause" if frozen else "unpause", self.record)

    def _thaw(self) -> None:
        try:
            cgroup_of(self).freeze(False)
        except (ContainerNotRunning, OSError):  # it has ended
            pass

    def _change_limits(self, limits: _core.Limits, restart: tuple[str, int] | None) -> None:
        cgroup_of(self).update(limits)

    def _change_document(self, changes: dict[str, Any]) -> None:
        self._rewrite({"options": changes["options"]})

    def _rename(self, name: str) -> None:
        try:
            taken = self._containers.record(name)
        except ContainerNotFound:
            self._rewrite({"name": name})
        else:
            raise Conflict(f'the container name "/{name}" is already in use by container "{taken.id}"')

    def _tell_name(self, name: str) -> None:
        """There is no monitor that has to know."""

    def _tell_networks(self) -> None:
        """Nor one that starts it again."""

    def _rewrite(self, changes: dict[str, Any]) -> None:
        path = os.path.join(self.run_directory, "record.json")
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            json.dump({**document, **changes}, file)
        os.rename(f"{path}.new", path)

    # -- what it has written, and its networks -------------------------------------------------------------

    @contextmanager
    def _upper(self) -> Iterator[str]:
        """In memory it is on a tmpfs that no mount namespace shows: its command holds a descriptor of it."""
        number = self.record.document["memory"]
        if number < 0:  # -m, --storage disk
            with super()._upper() as upper:
                yield upper
            return
        try:
            memory = os.open(f"/proc/{self.record.document['owner']}/fd/{number}", os.O_PATH | os.O_CLOEXEC)
        except (FileNotFoundError, ProcessLookupError):
            raise ContainerNotFound(f"no such container: {self.name}") from None
        try:
            # Its command takes the state away before it closes that, and before its number is another's.
            self._need_running()
            yield f"/proc/self/fd/{memory}/upper"
        finally:
            os.close(memory)

    def size(self) -> int:
        try:
            return super().size()
        except ContainerNotFound:  # it has just ended
            return 0

    def _open_lock(self) -> int:
        # Not the directory: its command has that locked.
        path = os.path.join(self.run_directory, "changes.lock")
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    # -- what takes a monitor ------------------------------------------------------------------------------

    def _connect(self) -> Control:
        owner = self.record.document["owner"]
        raise Conflict(
            f"container {self.name} is in the foreground of process {owner}: its streams are that one's",
            hint="give it a name, or run it with -d",
        )

    def restart(self, timeout: float | None = None, *, signal: str | int | None = None) -> None:
        owner = self.record.document["owner"]
        raise Conflict(
            f"container {self.name} cannot be restarted: it is in the foreground of process {owner}, which ends with"
            " it and throws it away (--rm)",
            hint="give it a name, or run it with -d",
        )

    # -- below ---------------------------------------------------------------------------------------------

    @contextmanager
    def _process(self) -> Iterator[int]:
        """A pidfd of its first process."""
        pid = self._need_running().pid
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            raise ContainerNotRunning(f"container {self.name} is not running") from None
        try:
            # Its command takes the state away before it lets go of the number: presence.py.
            if self._need_running().pid != pid:
                raise ContainerNotRunning(f"container {self.name} is not running")
            yield pidfd
        finally:
            os.close(pidfd)

    @contextmanager
    def _until_end(self) -> Iterator[Callable[[float | None], int]]:
        """A function that waits for the end of the container's command, and gives the container's exit code."""
        path = os.path.join(self.run_directory, "exit")
        try:
            exit_file = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            raise ContainerNotFound(f"no such container: {self.name}") from None
        try:
            # Made while the state was there: so before the owner looks for it (presence.py).
            self._need_running()
            owner = os.pidfd_open(self.record.document["owner"])
        except (ProcessLookupError, ContainerNotFound):
            os.close(exit_file)
            raise ContainerNotFound(f"no such container: {self.name}") from None

        def wait(timeout: float | None) -> int:
            # Without the lock the owner is dead, and the number may be another's by now.
            if is_locked(self.run_directory) and not _is_readable(owner, timeout):
                from fastdock._process_errors import TimeoutExpired

                raise TimeoutExpired(self.record.command, timeout or 0.0)
            text = os.pread(exit_file, 16, 0)
            return int(text) if text else _KILLED

        try:
            yield wait
        finally:
            os.close(exit_file)
            os.close(owner)


def _send(pidfd: int, number: int) -> None:
    try:
        signals.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        pass


def _is_readable(descriptor: int, timeout: float | None) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(None if timeout is None else round(timeout * 1000)))


def record_of(containers: Containers, container_id: str) -> Record | None:
    """None: there is none with this id in the foreground."""
    from fastdock.containers.names import name_of

    try:
        with open(f"{containers.run_directory}/{container_id}/record.json", encoding="utf-8") as file:
            given = json.load(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    builtin = given["source"].startswith("builtin:")
    image_id = f"builtin:{given['image']}" if builtin else given["source"]
    store = containers.engine.store
    labels = {} if builtin or store.find_id(image_id) is None else store.get(image_id).config.get("Labels")
    document = {
        **{name: given[name] for name in ("image", "command", "arguments", "options", "owner")},
        "memory": given.get("memory", -1),
        "settings": {"log_driver": "none", "auto_remove": True, "tty": bool(given["options"].get("tty"))},
        "labels": {**(labels or {}), **dict(given["options"].get("labels", ()))},
        "volumes": [],
    }
    name = given.get("name") or name_of(container_id)
    return Record(container_id, name, image_id, given["created"], -1, True, document)


def find(containers: Containers, reference: str) -> Record:
    """By id, name, or beginning of an id.  ContainerNotFound; Conflict where several ids begin so."""
    wanted, matching = reference.removeprefix("/"), []
    for container_id in os.listdir(containers.run_directory):
        record = record_of(containers, container_id)
        if record is None:
            continue
        if wanted in (record.id, record.name):
            return record
        if wanted and record.id.startswith(wanted):
            matching.append(record)
    if len(matching) > 1:
        raise Conflict(f"several containers' ids begin with {wanted}", hint="give more digits")
    if not matching:
        raise ContainerNotFound(f"no such container: {reference}")
    return matching[0]

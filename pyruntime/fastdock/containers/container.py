"""One container that is kept: its whole life."""

from __future__ import annotations

import errno
import os
import select
import struct
from contextlib import contextmanager

from fastdock import _core
from fastdock._errors import Conflict, ContainerNotFound, ContainerNotRunning, KernelError
from fastdock.containers import control
from fastdock.containers.control import Control
from fastdock.containers.records import Record
from fastdock.containers.state import State

TYPE_CHECKING = False  # see _light
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any, Unpack

    from fastdock.containers.copying import Files
    from fastdock.containers.creation import Asked
    from fastdock.containers.execution import Execution
    from fastdock.containers.logs import LogEntry
    from fastdock.containers.manager import Containers
    from fastdock.engine import Engine
    from fastdock.network import Addresses
    from fastdock.process import CompletedProcess

_INTEGER = struct.Struct("=i")


class Container:
    """A container with a life of its own.

    ``Container(image, args, **options)`` creates and starts one, and as a context manager removes it at the
    end; ``engine.containers.get(name)`` finds one that is there.  Every process may hold objects of the same
    container; each call and attribute (also name, networks, limits) looks at what it is now: an object is never
    out of date, so there is no ``reload()``.  Times are seconds, sizes bytes.
    """

    def __init__(
        self,
        image: str,
        args: Sequence[str] | str | None = None,
        *,
        engine: Engine | None = None,
        **options: Any,
    ) -> None:
        if engine is None:
            from fastdock.engine import default_engine

            engine = default_engine()
        made = engine.containers.create(image, args, **options)
        self._containers: Containers = made._containers
        self._known: Record = made._known
        self._asked: Asked | None = made._asked
        self.warnings: list[str] = []
        try:
            self.start()
        except BaseException:
            self.remove(force=True)
            raise

    @classmethod
    def of(cls, containers: Containers, record: Record, asked: Asked | None = None) -> Container:
        if record.is_foreground:
            from fastdock.containers.foreground import ForegroundContainer as cls  # noqa: N813
        self = cls.__new__(cls)
        self._containers, self._known, self._asked, self.warnings = containers, record, asked, []
        return self

    # -- what it is ----------------------------------------------------------------------------------------

    @property
    def record(self) -> Record:
        """As it is now, whoever changed it; of one that has been removed, as it was last."""
        self._known = self._read_record() or self._known
        return self._known

    def _read_record(self) -> Record | None:
        return self._containers.records.now(self._known)

    @property
    def is_foreground(self) -> bool:
        """Whether it is in the foreground of a ``fastdock run --rm``: foreground.py."""
        return self._known.is_foreground

    @property
    def id(self) -> str:
        return self._known.id

    @property
    def short_id(self) -> str:
        return self.id[:12]

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def state(self) -> State:
        """What it is doing now.  ContainerNotFound when it has been removed."""
        if not self._containers.records.is_there(self.id):
            raise ContainerNotFound(f"no such container: {self.name}")
        return self._containers.state(self.id)

    @property
    def status(self) -> str:
        """created, running, paused, restarting or exited."""
        return self.state.status

    @property
    def pid(self) -> int:
        """The host's number of its first process.  ContainerNotRunning."""
        return self._need_running().pid

    @property
    def directory(self) -> str:
        return os.path.join(self._containers.directory, self.id)

    @property
    def run_directory(self) -> str:
        return os.path.join(self._containers.run_directory, self.id)

    @property
    def first_id(self) -> int:
        """The host's number of its user 0."""
        return _core.first_id(self._known.ids) if self._known.ids >= 0 else 0

    def size(self) -> int:
        """Bytes of the files that it has written."""
        from fastdock.volumes import disk_use

        with self._upper() as upper:
            return disk_use(upper)

    @contextmanager
    def _upper(self) -> Iterator[str]:
        """The directory of what it has written, over its image."""
        yield os.path.join(self.directory, "upper")

    def _open_lock(self) -> int:
        """What is locked by whoever starts it or changes its networks.  FileNotFoundError: it is gone."""
        return os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def inspect(self) -> dict[str, Any]:
        """What ``docker inspect`` says."""
        from fastdock.containers.inspection import inspect

        return inspect(self._containers, self.record, self.state)

    # -- its life ------------------------------------------------------------------------------------------

    def start(self, *, attach: int = 0, terminal: tuple[int, int] | None = None) -> Control | None:
        """Starts it; does nothing if it runs.  ``attach`` (control.ATTACH_*): returns the connection.

        KernelError with what could not be done; then it is as before.
        """
        from fastdock.containers.starting import start

        return start(self, attach, terminal)

    def stop(self, timeout: float | None = None, *, signal: str | int | None = None) -> int:
        """Sends the stop signal and, after ``timeout`` seconds (default: its own), SIGKILL; its exit code.

        A negative timeout waits for ever.  Does nothing if it does not run.
        """
        try:
            with self._connect() as connection:
                connection.ask(*self._stop_packet(timeout, signal))
                connection.wait_for_end()
        except ContainerNotRunning:
            pass
        return self._settled().exit_code

    def _stop_packet(self, timeout: float | None, signal: str | int | None) -> tuple[int, int, bytes]:
        from fastdock.containers.settings import parse_signal

        milliseconds = -1 if timeout is None else -2 if timeout < 0 else round(timeout * 1000)
        return control.STOP, milliseconds, b"" if signal is None else _INTEGER.pack(parse_signal(signal))

    def kill(self, signal: str | int = "KILL") -> None:
        """Sends a signal to its first process.  ContainerNotRunning."""
        from fastdock.containers.settings import parse_signal

        self._ask(control.SIGNAL, parse_signal(signal))

    def restart(self, timeout: float | None = None, *, signal: str | int | None = None) -> None:
        """Stops it, and starts it again."""
        from fastdock.containers.networking import hold

        hold(self._containers, self.record)
        self.stop(timeout, signal=signal)
        self.start()
        self._containers.event("restart", self.record)

    def pause(self) -> None:
        """Freezes all its processes.  ContainerNotRunning, Conflict (it is paused already)."""
        self._freeze(control.PAUSE, "paused already")

    def unpause(self) -> None:
        """Lets its processes go on.  ContainerNotRunning, Conflict (it is not paused)."""
        self._freeze(control.RESUME, "not paused")

    def _freeze(self, kind: int, complaint: str) -> None:
        try:
            self._ask(kind)
        except KernelError as error:
            if error.errno != errno.EALREADY:
                raise
            raise Conflict(f"container {self.name} is {complaint}") from None

    def wait(self, timeout: float | None = None) -> int:
        """Waits until it does not run; its exit code.  TimeoutExpired."""
        try:
            with self._connect() as connection:
                connection.send(control.WAIT)
                if timeout is not None:
                    connection._socket.settimeout(timeout)
                packet = connection.receive()
                if packet is not None and packet.kind == control.EXITED:
                    return packet.value
        except TimeoutError:
            from fastdock._process_errors import TimeoutExpired

            assert timeout is not None
            raise TimeoutExpired(self.record.command, timeout) from None
        except (ContainerNotRunning, ConnectionError):
            pass
        return self._settled().exit_code

    def remove(self, *, force: bool = False, volumes: bool = False) -> None:
        """Removes it and its files; with ``volumes`` its anonymous volumes too.

        Conflict: it runs, and ``force`` (which kills it) was not given.  ContainerNotFound.
        """
        from fastdock.containers.removing import remove

        remove(self, force=force, volumes=volumes)

    def rename(self, name: str) -> None:
        """Conflict: the name is taken."""
        from fastdock.containers.updating import rename

        rename(self, name)

    def _rename(self, name: str) -> None:
        self._containers.records.rename(self.id, name)

    def _tell_name(self, name: str) -> None:
        self._ask(control.RENAME, payload=name.encode())

    def _tell_networks(self) -> None:
        """Its monitor, which may start it again (``restart``), what it is attached to by now."""
        plan = self._containers.engine.networks.attached(self.id)
        if plan is None:
            return
        try:
            self._ask(control.UPDATE, content=_core.network_update_bytes(plan))
        except ContainerNotRunning:
            pass
        except KernelError as error:
            if not control.is_foreign(error):  # that one goes on with those it was started with
                raise

    def connect(self, network: str, **addresses: Unpack[Addresses]) -> None:
        """Joins a network, at once if it runs, and at each later start.  NotFound, Conflict, SpecError."""
        from fastdock.containers.networking import connect
        from fastdock.network import attachment_of

        connect(self, attachment_of(network, addresses))

    def disconnect(self, network: str) -> None:
        """Leaves a network, at once if it runs, and for good.  NotFound."""
        from fastdock.containers.networking import disconnect

        disconnect(self, network)

    def update(self, *, restart: str | None = None, **limits: Any) -> list[str]:
        """Changes limits (of RunOptions) and the restart policy, at once if it runs.  Warnings.

        LimitError, or KernelError with what the kernel refused; then everything is as before.
        """
        from fastdock.containers.updating import update

        return update(self, restart, limits)

    def _change_limits(self, limits: _core.Limits, restart: tuple[str, int] | None) -> None:
        name, maximum = restart or (None, 0)
        try:
            self._ask(control.UPDATE, content=_core.update_bytes(limits, name, maximum))
        except ContainerNotRunning:
            pass
        except KernelError as error:
            if not control.is_foreign(error):
                raise
            raise Conflict(
                f"container {self.name} was started by another version of fastdock, which cannot be told this",
                hint="restart the container",
            ) from None

    def _change_document(self, changes: dict[str, Any]) -> None:
        self._containers.records.change(self.id, changes)

    # -- in and out ----------------------------------------------------------------------------------------

    def exec(self, args: Sequence[str] | str, **options: Any) -> CompletedProcess:
        """Runs a command in it; the arguments of :func:`fastdock.run`, and ``privileged``.

        ContainerNotRunning, TimeoutExpired (everything that it started is killed), CalledProcessError.
        """
        from fastdock.containers.execution import run

        return run(self, args, **options)

    def popen(self, args: Sequence[str] | str, **options: Any) -> Execution:
        """A command in it, with the methods of :class:`subprocess.Popen`."""
        from fastdock.containers.execution import Execution
        from fastdock.containers.reaping import watch

        execution = Execution(self, args, **options)
        watch(execution)
        return execution

    def logs(
        self,
        *,
        follow: bool = False,
        tail: int | None = None,
        since: float | None = None,
        until: float | None = None,
        stdout: bool = True,
        stderr: bool = True,
    ) -> Iterator[LogEntry]:
        """Its output: entries of (stream, time, bytes).  ``follow`` goes on until it ends.

        ``since`` and ``until`` are seconds since the epoch.
        """
        from fastdock.containers.logs import read_logs
        from fastdock.containers.steps import blocking

        steps = read_logs(
            self, follow=follow, tail=tail, since=since, until=until, stdout=stdout, stderr=stderr
        )
        return blocking(steps)

    @property
    def files(self) -> Files:
        """Its file system: get, put, open, listdir …; it need not run."""
        from fastdock.containers.copying import Files

        return Files(self)

    def put(self, source: str | os.PathLike[str], destination: str) -> None:
        """Copies a file or a tree of ours into it, as ``docker cp`` does."""
        self.files.put(source, destination)

    def get(self, source: str, destination: str | os.PathLike[str]) -> None:
        """Copies a file or a tree out of it, as ``docker cp`` does."""
        self.files.get(source, destination)

    def read_bytes(self, path: str) -> bytes:
        return self.files.read_bytes(path)

    def write_bytes(self, path: str, data: bytes) -> None:
        self.files.write_bytes(path, data)

    def open(self, path: str, mode: str = "r", **options: Any) -> Any:
        """A file in it, as :func:`open` does; what it creates belongs to its root."""
        return self.files.open(path, mode, **options)

    def listdir(self, path: str = "/") -> list[str]:
        return self.files.listdir(path)

    def stats(self) -> Mapping[str, Any]:
        """What it uses now: see csrc/cgroup/statistics.h.  ContainerNotRunning."""
        from fastdock.containers.statistics import statistics

        return statistics(self)

    def top(self, options: Sequence[str] = ()) -> tuple[list[str], list[list[str]]]:
        """Its processes as ps(1) of the host prints them: (headings, rows).  ContainerNotRunning."""
        from fastdock.containers.statistics import top

        return top(self, options)

    def diff(self) -> list[tuple[str, str]]:
        """What it changed in its image: ("A" | "C" | "D", path)."""
        from fastdock.containers.written import changes

        return changes(self)

    def commit(self, reference: str | None = None, **options: Any) -> Any:
        """Makes an image of what it is now: ``author``, ``message``, ``changes``, ``pause`` (True)."""
        from fastdock.containers.committing import commit

        return commit(self, reference, **options)

    def wait_until_healthy(self, timeout: float | None = None) -> None:
        """TimeoutExpired; ContainerNotRunning when it ends before; SpecError without a health check."""
        from fastdock.containers.steps import blocking
        from fastdock.containers.waiting import healthy_steps

        for _ in blocking(healthy_steps(self, timeout)):
            pass

    def wait_for(
        self,
        *,
        log: str | None = None,
        port: int | None = None,
        http: str | None = None,
        timeout: float | None = None,
    ) -> None:
        """Until a line of its log matches (a regular expression), a TCP port of it listens, or a path answers.

        ``http`` is "PORT/path".  TimeoutExpired, ContainerNotRunning when it ends before.
        """
        from fastdock.containers.steps import blocking
        from fastdock.containers.waiting import waiting_steps

        for _ in blocking(waiting_steps(self, log=log, port=port, http=http, timeout=timeout)):
            pass

    def events(
        self, *, since: float | None = None, until: float | None = None
    ) -> Iterator[Mapping[str, Any]]:
        """What happens to it, from now on (or ``since``); without ``until`` for ever."""
        from fastdock.containers.events import read_events

        return read_events(self._containers.engine, since=since, until=until, container=self.id)

    # -- below ---------------------------------------------------------------------------------------------

    def _need_running(self) -> State:
        state = self.state
        if state.pid == 0:
            raise ContainerNotRunning(f"container {self.name} is not running")
        return state

    def _settled(self) -> State:
        """Its state, when it may have been removed (--rm) or its monitor killed."""
        state = self._containers.state(self.id)
        if state.running and not self._is_monitored():
            _wait_for_death(state.monitor)
            self._containers.repair()
            state = self._containers.state(self.id)
        if not state.running:
            self._containers.collect_networks(self.record)
        return state

    def _is_monitored(self) -> bool:
        """Whether a monitor answers: one that is being killed may still take connections."""
        try:
            with self._connect() as connection:
                return connection.ask(control.ATTACH, 0) is not None
        except ContainerNotRunning:
            return False

    def _connect(self) -> Control:
        return Control.connect(self.run_directory, self.name)

    def _ask(self, kind: int, value: int = 0, payload: bytes = b"", content: bytes | None = None) -> int:
        with self._connect() as connection:
            try:
                answer = connection.ask(kind, value, payload, content)
            except ProcessLookupError:  # it waits to be started again
                answer = None
        if answer is None:
            raise ContainerNotRunning(f"container {self.name} is not running")
        return answer

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.remove(force=True, volumes=True)
        except ContainerNotFound:
            pass

    def __repr__(self) -> str:
        return f"<fastdock.Container {self.short_id} {self.name}>"


def _wait_for_death(pid: int) -> None:
    """A monitor that answers no more was killed; its locks are free when it is gone."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return
    try:
        # Should the number be another process's by now, a moment is lost.
        select.select([pidfd], [], [], 2)
    finally:
        os.close(pidfd)

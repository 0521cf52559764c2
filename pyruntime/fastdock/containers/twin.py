"""The asyncio twin of :class:`fastdock.Container`: ``fastdock.aio.Container``.

What only waits (for an end, an exec, a log line) is done by watching descriptors in the event loop: no thread
waits for a container.  What works for some milliseconds (a start, a copy) runs in the loop's executor.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar

from fastdock._errors import ContainerNotFound, ContainerNotRunning
from fastdock._process_errors import TimeoutExpired
from fastdock.async_process import AsyncProcess
from fastdock.containers import control
from fastdock.containers.container import Container as _Container
from fastdock.containers.events import event_steps
from fastdock.containers.logs import read_logs
from fastdock.containers.steps import any_readable, awaiting
from fastdock.containers.waiting import healthy_steps, waiting_steps
from fastdock.process import PIPE, CompletedProcess, Usage

if TYPE_CHECKING:
    from fastdock.containers.control import Control
    from fastdock.containers.logs import LogEntry
    from fastdock.containers.state import State
    from fastdock.engine import Engine

_T = TypeVar("_T")


class Execution(AsyncProcess):
    """A running command in a container; as :class:`asyncio.subprocess.Process`.  Made by ``Container.popen``."""

    async def end(self) -> None:
        """Kills it (and, with ``own_group``, everything that it has started), and waits."""
        self.kill()
        await self.wait()


class File:
    """A file in a container, with the methods of a Python file, awaited.  Made by ``Container.open``."""

    def __init__(self, file: Any) -> None:
        self.sync = file

    async def read(self, size: int = -1) -> Any:
        return await in_executor(self.sync.read, size)

    async def readline(self) -> Any:
        return await in_executor(self.sync.readline)

    async def write(self, data: Any) -> int:
        return int(await in_executor(self.sync.write, data))

    async def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return int(await in_executor(self.sync.seek, offset, whence))

    async def tell(self) -> int:
        return int(await in_executor(self.sync.tell))

    async def truncate(self, size: int | None = None) -> int:
        return int(await in_executor(self.sync.truncate, size))

    async def flush(self) -> None:
        await in_executor(self.sync.flush)

    async def close(self) -> None:
        await in_executor(self.sync.close)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        if line := await self.readline():
            return line
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def in_executor(call: Callable[..., _T], *args: Any, **keywords: Any) -> _T:
    return await asyncio.get_running_loop().run_in_executor(None, functools.partial(call, *args, **keywords))


class Container:
    """A container with a life of its own, awaited.  Made by :meth:`create`, or ``Container.of(container)``.

    The methods and their errors are those of :class:`fastdock.Container`.
    """

    def __init__(self, container: _Container) -> None:
        self.sync = container

    @classmethod
    async def create(
        cls,
        image: str,
        args: Sequence[str] | str | None = None,
        *,
        engine: Engine | None = None,
        **options: Any,
    ) -> Container:
        """Creates and starts one."""
        return cls(await in_executor(_Container, image, args, engine=engine, **options))

    @property
    def id(self) -> str:
        return self.sync.id

    @property
    def short_id(self) -> str:
        return self.sync.short_id

    @property
    def pid(self) -> int:
        return self.sync.pid

    @property
    def name(self) -> str:
        return self.sync.name

    @property
    def state(self) -> State:
        return self.sync.state

    @property
    def status(self) -> str:
        return self.sync.status

    async def size(self) -> int:
        return await in_executor(self.sync.size)

    async def start(self) -> None:
        await in_executor(self.sync.start)

    async def stop(self, timeout: float | None = None, *, signal: str | int | None = None) -> int:
        """As :meth:`fastdock.Container.stop`."""
        if self.sync.is_foreground:
            return await in_executor(self.sync.stop, timeout, signal=signal)
        kind, value, payload = self.sync._stop_packet(timeout, signal)
        try:
            with self.sync._connect() as connection:
                connection.send(kind, value, payload)
                while await _receive(connection) is not None:
                    pass
        except (ContainerNotRunning, ConnectionError):
            pass
        return self.sync._settled().exit_code

    async def wait(self, timeout: float | None = None) -> int:
        """As :meth:`fastdock.Container.wait`."""
        if self.sync.is_foreground:
            return await in_executor(self.sync.wait, timeout)
        try:
            with self.sync._connect() as connection:
                connection.send(control.WAIT)
                packet = await asyncio.wait_for(_receive(connection), timeout)
                if packet is not None and packet.kind == control.EXITED:
                    return packet.value
        except TimeoutError:
            raise TimeoutExpired(self.sync.record.command, timeout or 0.0) from None
        except (ContainerNotRunning, ConnectionError):
            pass
        return self.sync._settled().exit_code

    async def kill(self, signal: str | int = "KILL") -> None:
        await in_executor(self.sync.kill, signal)

    async def pause(self) -> None:
        await in_executor(self.sync.pause)

    async def unpause(self) -> None:
        await in_executor(self.sync.unpause)

    async def restart(self, timeout: float | None = None, *, signal: str | int | None = None) -> None:
        await self.stop(timeout, signal=signal)
        await in_executor(self.sync.restart)  # it does not run: what is left is the start, and the event

    async def rename(self, name: str) -> None:
        await in_executor(self.sync.rename, name)

    async def inspect(self) -> dict[str, Any]:
        return await in_executor(self.sync.inspect)

    async def top(self, options: Sequence[str] = ()) -> tuple[list[str], list[list[str]]]:
        return await in_executor(self.sync.top, options)

    async def diff(self) -> list[tuple[str, str]]:
        return await in_executor(self.sync.diff)

    async def update(self, **changes: Any) -> list[str]:
        return await in_executor(self.sync.update, **changes)

    async def connect(self, network: str, **options: Any) -> None:
        await in_executor(self.sync.connect, network, **options)

    async def disconnect(self, network: str) -> None:
        await in_executor(self.sync.disconnect, network)

    async def remove(self, *, force: bool = False, volumes: bool = False) -> None:
        await in_executor(self.sync.remove, force=force, volumes=volumes)

    async def commit(self, reference: str | None = None, **options: Any) -> Any:
        return await in_executor(self.sync.commit, reference, **options)

    async def stats(self) -> Mapping[str, Any]:
        return await in_executor(self.sync.stats)

    async def put(self, source: str | os.PathLike[str], destination: str) -> None:
        await in_executor(self.sync.put, source, destination)

    async def get(self, source: str, destination: str | os.PathLike[str]) -> None:
        await in_executor(self.sync.get, source, destination)

    async def read_bytes(self, path: str) -> bytes:
        return await in_executor(self.sync.read_bytes, path)

    async def write_bytes(self, path: str, data: bytes) -> None:
        await in_executor(self.sync.write_bytes, path, data)

    async def listdir(self, path: str = "/") -> list[str]:
        return await in_executor(self.sync.listdir, path)

    async def exec(
        self,
        args: Sequence[str] | str,
        *,
        input: bytes | None = None,
        capture_output: bool = False,
        timeout: float | None = None,
        check: bool = False,
        **options: Any,
    ) -> CompletedProcess:
        """As :meth:`fastdock.Container.exec`; streams are bytes.  Cancelling it kills all that it started."""
        if capture_output:
            options["stdout"] = options["stderr"] = PIPE
        if input is not None:
            options["stdin"] = PIPE
        process = await self.popen(args, own_group=True, **options)
        try:
            outputs = await asyncio.wait_for(process.communicate(input), timeout)
        except TimeoutError:
            await process.end()
            raise TimeoutExpired(process.args, timeout or 0.0, *process.output()) from None
        except BaseException:
            await process.end()
            raise
        assert process.returncode is not None
        done = CompletedProcess(process.args, process.returncode, *outputs, Usage(0.0, 0.0, None, False))
        if check:
            done.check_returncode()
        return done

    async def popen(self, args: Sequence[str] | str, **options: Any) -> Execution:
        """As :meth:`fastdock.Container.popen`; streams are asyncio's, of bytes."""
        return await Execution._begin(functools.partial(self.sync.popen, args, bufsize=0, **options))

    async def open(self, path: str, mode: str = "r", **options: Any) -> File:
        """As :meth:`fastdock.Container.open`; the file's methods are awaited."""
        return File(await in_executor(self.sync.open, path, mode, **options))

    async def logs(self, *, follow: bool = False, **options: Any) -> AsyncIterator[LogEntry]:
        """As :meth:`fastdock.Container.logs`."""
        async for entry in awaiting(read_logs(self.sync, follow=follow, **options)):
            yield entry

    async def events(self, **options: Any) -> AsyncIterator[Mapping[str, Any]]:
        """As :meth:`fastdock.Container.events`."""
        async for event in awaiting(event_steps(self.sync._containers.engine, container=self.id, **options)):
            yield event

    async def wait_until_healthy(self, timeout: float | None = None) -> None:
        async for _ in awaiting(healthy_steps(self.sync, timeout)):
            pass

    async def wait_for(
        self,
        *,
        log: str | None = None,
        port: int | None = None,
        http: str | None = None,
        timeout: float | None = None,
    ) -> None:
        async for _ in awaiting(waiting_steps(self.sync, log=log, port=port, http=http, timeout=timeout)):
            pass

    async def __aenter__(self) -> Container:
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self.remove(force=True, volumes=True)
        except ContainerNotFound:
            pass


async def _receive(connection: Control) -> control.Packet | None:
    await any_readable((connection.fileno(),))
    return connection.receive()

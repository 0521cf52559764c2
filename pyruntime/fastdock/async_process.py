"""A process whose end and streams an event loop watches: what ``fastdock.aio.Popen`` and ``Execution`` share."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from fastdock.containers.execution import Execution
    from fastdock.process import Popen, Usage


class AsyncProcess:
    """A running process, as :class:`asyncio.subprocess.Process`."""

    def __init__(self, process: Popen | Execution) -> None:
        self._process = process
        self._ended: asyncio.Future[int] | None = None
        self.stdin: asyncio.StreamWriter | None = None
        self.stdout: asyncio.StreamReader | None = None
        self.stderr: asyncio.StreamReader | None = None
        self._outputs = (bytearray(), bytearray())

    @classmethod
    async def _begin(cls, start: Callable[[], Popen | Execution]) -> Self:
        """Of what ``start`` returns, which runs in the loop's executor."""
        loop = asyncio.get_running_loop()
        self = cls(await loop.run_in_executor(None, start))
        self._watch(loop)
        try:
            await self._connect(loop)
        except BaseException:
            self.kill()
            raise
        return self

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        # A duplicate: the loop must not watch a number that is closed and used again.
        descriptor = os.dup(self._process.fileno())
        ended: asyncio.Future[int] = loop.create_future()
        self._ended = ended

        def on_end() -> None:
            loop.remove_reader(descriptor)
            os.close(descriptor)
            try:
                code = self._process.wait()
            except Exception as error:
                if not ended.cancelled():
                    ended.set_exception(error)
            else:
                if not ended.cancelled():
                    ended.set_result(code)

        loop.add_reader(descriptor, on_end)

    async def _connect(self, loop: asyncio.AbstractEventLoop) -> None:
        process = self._process
        if process.stdin is not None:
            transport, protocol = await loop.connect_write_pipe(
                asyncio.streams.FlowControlMixin, process.stdin
            )
            self.stdin = asyncio.StreamWriter(transport, protocol, None, loop)
        for name in ("stdout", "stderr"):
            file = getattr(process, name)
            if file is not None:
                reader = asyncio.StreamReader()
                await loop.connect_read_pipe(functools.partial(asyncio.StreamReaderProtocol, reader), file)
                setattr(self, name, reader)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def args(self) -> list[str]:
        return self._process.args

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    @property
    def usage(self) -> Usage:
        return self._process.usage

    async def wait(self) -> int:
        """Waits for the end; may be awaited by several tasks, and cancelled."""
        assert self._ended is not None
        return await asyncio.shield(self._ended)

    def send_signal(self, sig: int) -> None:
        self._process.send_signal(sig)

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        """Kills it, and everything that was started with it."""
        self._process.kill()

    async def communicate(self, input: bytes | None = None) -> tuple[bytes | None, bytes | None]:
        """Sends ``input``, reads stdout and stderr to their ends, and waits."""
        streams = zip((self.stdout, self.stderr), self._outputs, strict=True)
        await asyncio.gather(self._feed(input), *(_collect(stream, output) for stream, output in streams))
        await self.wait()
        return self.output()

    def output(self) -> tuple[bytes | None, bytes | None]:
        """What communicate() has read until now."""
        stdout, stderr = self._outputs
        return (None if self.stdout is None else bytes(stdout)), (
            None if self.stderr is None else bytes(stderr)
        )

    async def _feed(self, input: bytes | None) -> None:
        if self.stdin is None:
            return
        try:
            if input:
                self.stdin.write(input)
                await self.stdin.drain()
            self.stdin.close()
        except (BrokenPipeError, ConnectionResetError):  # it reads no more
            pass

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.stdin is not None:
            self.stdin.close()
        if kind is not None and self.returncode is None:
            self.kill()
        await self.wait()


async def _collect(stream: asyncio.StreamReader | None, output: bytearray) -> None:
    while stream is not None and (data := await stream.read(65536)):
        output += data

"""The asyncio twins of ``run``, ``Popen`` and what people hold: ``await fastdock.aio.run(...)``.

No thread waits for a container: its end is the readability of its pidfd (pidfd_open(2)), which the event
loop watches like any other descriptor.  Only the start itself, a few milliseconds, runs in the loop's
executor.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastdock.async_objects import Image, Images, Networks, Volumes
from fastdock.async_process import AsyncProcess
from fastdock.containers.twin import Container, Execution, File
from fastdock.process import PIPE, CompletedProcess
from fastdock.process import Popen as _Popen

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self, Unpack

    from fastdock.base_process import Stream
    from fastdock.engine import Engine
    from fastdock.options import RunOptions
    from fastdock.pool import Pool as _Pool

__all__ = ["Container", "Execution", "File", "Image", "Images", "Networks", "Pool", "Popen", "Volumes", "run"]


class Popen(AsyncProcess):
    """A running container; as :class:`asyncio.subprocess.Process`.  Made by :meth:`start`."""

    _process: _Popen

    @classmethod
    async def start(
        cls,
        image: str | Sequence[str] | None = None,
        args: Sequence[str] | str | None = None,
        *,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        engine: Engine | _Pool | None = None,
        **options: Unpack[RunOptions],
    ) -> Popen:
        """Starts the container.  Raises what :class:`fastdock.Popen` raises."""
        streams: dict[str, Any] = {"stdin": stdin, "stdout": stdout, "stderr": stderr, "bufsize": 0}
        return await cls._begin(functools.partial(_Popen, image, args, engine=engine, **streams, **options))

    @property
    def id(self) -> str:
        return self._process.id


async def run(
    image: str | Sequence[str] | None = None,
    args: Sequence[str] | str | None = None,
    *,
    stdin: Stream = None,
    input: Any = None,
    stdout: Stream = None,
    stderr: Stream = None,
    capture_output: bool = False,
    text: bool | None = None,
    encoding: str | None = None,
    errors: str | None = None,
    timeout: float | None = None,
    check: bool = False,
    engine: Engine | _Pool | None = None,
    **options: Unpack[RunOptions],
) -> CompletedProcess:
    """:func:`fastdock.run`, awaited.  Cancelling it kills the container."""
    if input is not None:
        stdin = PIPE
    if capture_output:
        stdout = stderr = PIPE
    text = bool(text or encoding or errors)
    if text and isinstance(input, str):
        input = input.encode(encoding or "utf-8", errors or "strict")
    process = await Popen.start(
        image, args, stdin=stdin, stdout=stdout, stderr=stderr, engine=engine, **options
    )
    try:
        outputs: tuple[Any, Any] = await asyncio.wait_for(process.communicate(input), timeout)
    except TimeoutError:
        from fastdock._process_errors import TimeoutExpired

        await _kill(process)
        raise TimeoutExpired(process.args, timeout or 0, *process.output()) from None
    except BaseException:
        await _kill(process)
        raise
    if text:
        outputs = tuple(
            None if o is None else o.decode(encoding or "utf-8", errors or "strict") for o in outputs
        )  # type: ignore[assignment]
    assert process.returncode is not None
    done = CompletedProcess(process.args, process.returncode, *outputs, process.usage)
    if check:
        done.check_returncode()
    return done


class Pool:
    """The twin of :class:`fastdock.Pool`: ``async with await Pool.start("python:3.12", size=8) as pool``."""

    def __init__(self, pool: _Pool) -> None:
        self._pool = pool

    @classmethod
    async def start(
        cls,
        image: str | None = None,
        *,
        size: int = 4,
        engine: Engine | None = None,
        **options: Unpack[RunOptions],
    ) -> Pool:
        """Prepares the containers.  Raises what :class:`fastdock.Pool` raises."""
        from fastdock.pool import Pool as _Pool

        return cls(await asyncio.to_thread(_Pool, image, size=size, engine=engine, **options))

    @property
    def ready(self) -> int:
        """How many wait for a program now."""
        return self._pool.ready

    async def wait_until_ready(self) -> None:
        """Returns when all wait, or none can be prepared."""
        await asyncio.to_thread(self._pool.wait_until_ready)

    async def run(self, args: Sequence[str] | str | None = None, **keywords: Any) -> CompletedProcess:
        """:func:`run` in one of the containers; of the options ``env`` and ``cwd``."""
        return await run(None, args, engine=self._pool, **keywords)

    async def Popen(  # noqa: N802
        self, args: Sequence[str] | str | None = None, **keywords: Any
    ) -> Popen:
        """A :class:`Popen` in one of the containers; of the options ``env`` and ``cwd``."""
        return await Popen.start(None, args, engine=self._pool, **keywords)

    async def close(self) -> None:
        """Ends the containers that wait; those in use go on."""
        await asyncio.to_thread(self._pool.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


async def _kill(process: Popen) -> None:
    process.kill()
    await process.wait()

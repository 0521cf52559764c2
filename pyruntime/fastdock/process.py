"""``run`` and ``Popen``: a container as one would use a process, after :mod:`subprocess`."""

from __future__ import annotations

import _thread  # threading itself takes 4 ms to import
import time

from fastdock._errors import ContainerNotRunning
from fastdock._light import NamedTuple
from fastdock.base_process import DEVNULL, PIPE, STDOUT, BaseProcess

TYPE_CHECKING = False  # see _light
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Unpack

    from fastdock.base_process import Stream
    from fastdock.engine import Engine
    from fastdock.options import RunOptions
    from fastdock.pool import Pool

__all__ = ["DEVNULL", "PIPE", "STDOUT", "CompletedProcess", "Popen", "Usage"]


class Usage(NamedTuple):
    """What a container used, from its start to its end."""

    wall: float
    """Seconds."""
    cpu: float
    """Seconds of processor time."""
    memory_peak: int | None
    """Bytes; None where the kernel does not tell (cgroup v2 before Linux 5.19)."""
    oom_killed: bool
    """Whether the kernel killed a process because the memory limit was reached."""


class CompletedProcess(NamedTuple):
    """What :func:`fastdock.run` returns."""

    args: list[str]
    returncode: int
    """The exit code, or -N if signal N ended it."""
    stdout: Any
    stderr: Any
    usage: Usage

    def check_returncode(self) -> None:
        """Raises CalledProcessError unless the code is 0."""
        if self.returncode:
            from fastdock._process_errors import CalledProcessError

            raise CalledProcessError(self.returncode, self.args, self.stdout, self.stderr)


class Popen(BaseProcess):
    """A running container with the attributes and methods of :class:`subprocess.Popen`.

    It lives as long as this process: when that ends, however it ends, the container is killed.

    Beside ``stdin``, ``stdout``, ``stderr`` (descriptors, files, PIPE, DEVNULL, STDOUT), ``text``,
    ``encoding``, ``errors`` and ``bufsize`` it takes the options of :class:`fastdock.options.RunOptions`.

    Raises ImageNotFound, SpecError, LimitError, or KernelError with what could not be done.
    """

    def __init__(
        self,
        image: str | Sequence[str] | None = None,
        args: Sequence[str] | str | None = None,
        *,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        text: bool | None = None,
        encoding: str | None = None,
        errors: str | None = None,
        bufsize: int = -1,
        engine: Engine | Pool | None = None,
        _outlive_thread: bool = True,
        **options: Unpack[RunOptions],
    ) -> None:
        if engine is None:
            from fastdock.engine import default_engine

            engine = default_engine()
        self.returncode = None
        self._usage: Usage | None = None
        self._finish_lock = _thread.allocate_lock()

        def start(stdio: list[int]) -> None:
            self.args, self._container = engine._start(
                image, args, stdio, options, outlive_thread=_outlive_thread
            )
            self._began = time.monotonic()

        self._open(start, (stdin, stdout, stderr), text, encoding, errors, bufsize)

    @property
    def pid(self) -> int:
        """The host's id of the container's first process."""
        return self._container.pid

    @property
    def id(self) -> str:
        """The container's id: 64 hexadecimal digits."""
        return self._container.id

    @property
    def usage(self) -> Usage:
        """What it used; known when it has ended."""
        if self._usage is None:
            raise ContainerNotRunning("the container has not ended yet: wait() for it first")
        return self._usage

    @property
    def warnings(self) -> list[str]:
        """What could not be done as asked, and was not worth failing for."""
        return self._container.warnings

    def fileno(self) -> int:
        """A pidfd: readable when the container has ended, for select, poll and event loops."""
        return self._container.pidfd

    def _wait(self, milliseconds: int) -> int | None:
        if self.returncode is not None:
            return self.returncode
        status = self._container.wait(milliseconds)
        if status is None:
            return None
        with self._finish_lock:  # several threads may wait
            if self.returncode is None:
                code, number = status
                cpu_ns, memory_peak, oom_kills = self._container.finish()
                wall = time.monotonic() - self._began
                self._usage = Usage(wall, cpu_ns / 1e9, memory_peak, oom_kills > 0)
                self.returncode = -number if number else code
        return self.returncode

    def _signal(self, sig: int) -> None:
        self._container.kill(sig)

    def __repr__(self) -> str:
        state = "running" if self.returncode is None else f"returncode {self.returncode}"
        return f"<fastdock.Popen {self.id[:12]} {state}: {' '.join(self.args)}>"


def with_pipes(keywords: dict[str, Any], input: Any, capture_output: bool) -> None:
    """Turns the keywords of a ``run`` into those of a Popen.  ValueError for what excludes each other."""
    if input is not None:
        if keywords.get("stdin") is not None:
            raise ValueError("stdin and input arguments may not both be used.")
        keywords["stdin"] = PIPE
    if capture_output:
        if keywords.get("stdout") is not None or keywords.get("stderr") is not None:
            raise ValueError("stdout and stderr arguments may not be used with capture_output.")
        keywords["stdout"] = keywords["stderr"] = PIPE


def run_container(
    engine: Engine | Pool,
    image: str | Sequence[str] | None,
    args: Sequence[str] | str | None,
    *,
    input: Any = None,
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
    **keywords: Any,
) -> CompletedProcess:
    """:func:`fastdock.run` on a given engine, or in a container of a pool."""
    with_pipes(keywords, input, capture_output)
    process = Popen(image, args, engine=engine, _outlive_thread=False, **keywords)
    stdout, stderr = process._run_to_end(input, timeout)
    assert process.returncode is not None
    done = CompletedProcess(process.args, process.returncode, stdout, stderr, process.usage)
    if check:
        done.check_returncode()
    return done

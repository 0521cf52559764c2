"""``run`` and ``Popen``: a container as one would use a process, after :mod:`subprocess`."""

from __future__ import annotations

import _thread  # threading itself takes 4 ms to import
import io
import os
import time

from fastdock._errors import ContainerNotRunning
from fastdock._light import NamedTuple

TYPE_CHECKING = False  # see _light
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import IO, Any, Unpack

    from fastdock.containers.execution import Execution
    from fastdock.engine import Engine
    from fastdock.options import RunOptions
    from fastdock.pool import Pool

    Stream = int | IO[Any] | None

PIPE, STDOUT, DEVNULL = -1, -2, -3
"""The values of :mod:`subprocess`, which may be used as well."""
SIGKILL, SIGTERM = 9, 15  # signal(7); the module signal takes 3 ms to import


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


class Popen:
    """A running container with the attributes and methods of :class:`subprocess.Popen`.

    It lives as long as this process: when that ends, however it ends, the container is killed.

    Beside ``stdin``, ``stdout``, ``stderr`` (descriptors, files, PIPE, DEVNULL, STDOUT), ``text``,
    ``encoding``, ``errors`` and ``bufsize`` it takes the options of :class:`fastdock.options.RunOptions`.

    Raises ImageNotFound, SpecError, LimitError, or KernelError with what could not be done.
    """

    stdin: IO[Any] | None = None
    stdout: IO[Any] | None = None
    stderr: IO[Any] | None = None

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
        self.returncode: int | None = None
        self._usage: Usage | None = None
        self._finish_lock = _thread.allocate_lock()
        stdio, ours, theirs = _open_streams(stdin, stdout, stderr)
        try:
            self.args, self._container = engine._start(
                image, args, stdio, options, outlive_thread=_outlive_thread
            )
        except BaseException:
            for descriptor in ours:
                if descriptor >= 0:
                    os.close(descriptor)
            raise
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        self._began = time.monotonic()
        text = bool(text or encoding or errors)
        modes = ("wb", "rb", "rb")
        files = [
            _open_file(d, mode, bufsize, text, encoding, errors) for d, mode in zip(ours, modes, strict=True)
        ]
        self.stdin, self.stdout, self.stderr = files

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

    def poll(self) -> int | None:
        """The return code, or None while it runs."""
        return self._wait(0)

    def wait(self, timeout: float | None = None) -> int:
        """Waits for the end; returns the exit code, or -N for signal N.  Raises TimeoutExpired."""
        code = self._wait(-1 if timeout is None else max(0, round(timeout * 1000)))
        if code is None:
            from fastdock._process_errors import TimeoutExpired

            assert timeout is not None
            raise TimeoutExpired(self.args, timeout)
        return code

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

    def send_signal(self, sig: int) -> None:
        """Sends a signal to the container's first process; nothing happens when it has ended."""
        try:
            self._container.kill(int(sig))
        except ProcessLookupError:
            self.poll()

    def terminate(self) -> None:
        self.send_signal(SIGTERM)

    def kill(self) -> None:
        """Kills everything in the container."""
        self.send_signal(SIGKILL)

    def communicate(self, input: Any = None, timeout: float | None = None) -> tuple[Any, Any]:
        """Sends ``input``, reads stdout and stderr to their ends, and waits.

        Raises TimeoutExpired with what came until then; the container runs on, and communicate may be
        called again (run() kills it).
        """
        from fastdock.communication import communicate

        return communicate(self, input, timeout)

    def __enter__(self) -> Popen:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in (self.stdout, self.stderr, self.stdin):
            if file is not None:
                try:
                    file.close()
                except BrokenPipeError:
                    pass
        if kind is not None and self.returncode is None:
            self.kill()
        self.wait()

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


def run_to_end(process: Popen | Execution, input: Any, timeout: float | None) -> tuple[Any, Any]:
    """Waits for its end; feeds and reads its pipes if it has any."""
    if process.stdin is process.stdout is process.stderr is None:
        process.wait(timeout)
        return None, None
    return process.communicate(input, timeout)


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
    try:
        stdout, stderr = run_to_end(process, input, timeout)
    except BaseException:
        _kill_and_collect(process)
        raise
    assert process.returncode is not None
    done = CompletedProcess(process.args, process.returncode, stdout, stderr, process.usage)
    if check:
        done.check_returncode()
    return done


def _kill_and_collect(process: Popen) -> None:
    process.kill()
    for file in (process.stdin, process.stdout, process.stderr):
        if file is not None:
            try:
                file.close()
            except OSError:
                pass
    process.wait()


def _open_streams(stdin: Stream, stdout: Stream, stderr: Stream) -> tuple[list[int], list[int], list[int]]:
    """The container's three descriptors; our ends of pipes (-1: none); what to close after the start."""
    stdio: list[int] = []
    ours = [-1, -1, -1]
    theirs: list[int] = []
    try:
        for target, wanted in enumerate((stdin, stdout, stderr)):
            if wanted is None:
                stdio.append(target)
            elif isinstance(wanted, int) and wanted == PIPE:
                read, write = os.pipe()
                ours[target], end = (write, read) if target == 0 else (read, write)
                theirs.append(end)
                stdio.append(end)
            elif isinstance(wanted, int) and wanted == DEVNULL:
                theirs.append(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))
                stdio.append(theirs[-1])
            elif isinstance(wanted, int) and wanted == STDOUT:
                if target != 2:
                    raise ValueError("STDOUT can only be used for stderr")
                stdio.append(stdio[1])
            else:
                stdio.append(wanted if isinstance(wanted, int) else wanted.fileno())
    except BaseException:
        for descriptor in (*theirs, *ours):
            if descriptor >= 0:
                os.close(descriptor)
        raise
    return stdio, ours, theirs


def _open_file(
    descriptor: int, mode: str, bufsize: int, text: bool, encoding: str | None, errors: str | None
) -> IO[Any] | None:
    if descriptor < 0:
        return None
    # As in subprocess: line buffering is the text layer's.
    file: IO[Any] = open(descriptor, mode, -1 if bufsize == 1 and text else bufsize)  # noqa: SIM115
    if not text:
        return file
    return io.TextIOWrapper(
        file,
        encoding=encoding or "utf-8",
        errors=errors,
        write_through=mode == "wb",
        line_buffering=bufsize == 1 and mode == "wb",
    )

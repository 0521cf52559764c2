"""What the processes of containers have in common: the interface of :class:`subprocess.Popen`."""

from __future__ import annotations

import io
import os

TYPE_CHECKING = False  # see _light
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import IO, Any, Self

    Stream = int | IO[Any] | None

PIPE, STDOUT, DEVNULL = -1, -2, -3
"""The values of :mod:`subprocess`, which may be used as well."""
SIGKILL, SIGTERM = 9, 15  # signal(7); the module signal takes 3 ms to import


class BaseProcess:
    """The part that is the same for the first process of a container and for further ones."""

    args: list[str]
    returncode: int | None = None
    stdin: IO[Any] | None = None
    stdout: IO[Any] | None = None
    stderr: IO[Any] | None = None

    def _open(
        self,
        start: Callable[[list[int]], None],
        streams: Sequence[Stream],
        text: bool | None,
        encoding: str | None,
        errors: str | None,
        bufsize: int,
    ) -> None:
        """Calls ``start`` with the program's three descriptors; our ends of its pipes become our files."""
        stdio, ours, theirs = _open_streams(streams)
        try:
            start(stdio)
        except BaseException:
            for descriptor in ours:
                if descriptor >= 0:
                    os.close(descriptor)
            raise
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        text = bool(text or encoding or errors)
        modes = ("wb", "rb", "rb")
        self.stdin, self.stdout, self.stderr = (
            _open_file(d, mode, bufsize, text, encoding, errors) for d, mode in zip(ours, modes, strict=True)
        )

    def _wait(self, milliseconds: int) -> int | None:
        """The return code, or None when the time is up; -1: for ever."""
        raise NotImplementedError

    def _signal(self, sig: int) -> None:
        """ProcessLookupError: it has ended."""
        raise NotImplementedError

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

    def send_signal(self, sig: int) -> None:
        """Sends a signal to it alone; nothing happens when it has ended."""
        try:
            self._signal(int(sig))
        except ProcessLookupError:
            self.poll()

    def terminate(self) -> None:
        self.send_signal(SIGTERM)

    def kill(self) -> None:
        """Kills it, and everything that ends with it."""
        self.send_signal(SIGKILL)

    def communicate(self, input: Any = None, timeout: float | None = None) -> tuple[Any, Any]:
        """Sends ``input``, reads stdout and stderr to their ends, and waits.

        Raises TimeoutExpired with what came until then; the process runs on, and communicate may be
        called again (run() kills it).
        """
        from fastdock.communication import communicate

        return communicate(self, input, timeout)

    def _run_to_end(self, input: Any, timeout: float | None) -> tuple[Any, Any]:
        """Waits for its end, feeds and reads its pipes if it has any; killed if that fails or takes too long."""
        try:
            if self.stdin is self.stdout is self.stderr is None:
                self.wait(timeout)
                return None, None
            return self.communicate(input, timeout)
        except BaseException:
            self.kill()
            raise
        finally:
            self._close(but=OSError)  # the first error is the one to tell
            self.wait()

    def _close(self, but: type[OSError] = BrokenPipeError) -> None:
        """``but``: what is no error of closing; nobody reads a broken pipe any more."""
        for file in (self.stdout, self.stderr, self.stdin):
            if file is not None:
                try:
                    file.close()
                except but:
                    pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        if kind is not None and self.returncode is None:
            self.kill()
        self.wait()


def _open_streams(streams: Sequence[Stream]) -> tuple[list[int], list[int], list[int]]:
    """The program's three descriptors; our ends of pipes (-1: none); what to close after the start."""
    stdio: list[int] = []
    ours = [-1, -1, -1]
    theirs: list[int] = []
    try:
        for target, wanted in enumerate(streams):
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

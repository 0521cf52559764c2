"""Feeding and reading a container's pipes at once, so that neither side waits for ever."""

from __future__ import annotations

import io
import os
import selectors
import time

TYPE_CHECKING = False  # see _light
if TYPE_CHECKING:
    from typing import IO, Any

    from fastdock.base_process import BaseProcess

_CHUNK = 65536


def communicate(process: BaseProcess, input: Any, timeout: float | None) -> tuple[Any, Any]:
    """See :meth:`fastdock.Popen.communicate`."""
    deadline = None if timeout is None else time.monotonic() + timeout
    outputs: dict[IO[Any], list[bytes]] = process.__dict__.setdefault("_outputs", {})
    with selectors.DefaultSelector() as selector:
        rest = _begin_input(process, input, selector)
        for file in (process.stdout, process.stderr):
            if file is not None and not file.closed:
                outputs.setdefault(file, [])
                selector.register(file, selectors.EVENT_READ)
        _exchange(process, selector, outputs, rest, deadline, timeout)
    try:
        process.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
    except Exception:
        _expire(process, outputs, timeout)
    return _collected(process.stdout, outputs), _collected(process.stderr, outputs)


def _begin_input(process: BaseProcess, input: Any, selector: selectors.BaseSelector) -> memoryview:
    if process.stdin is None or process.stdin.closed:
        return memoryview(b"")
    if isinstance(process.stdin, io.TextIOWrapper) and isinstance(input, str):
        input = input.encode(process.stdin.encoding, process.stdin.errors or "strict")
    try:
        process.stdin.flush()
    except BrokenPipeError:
        pass
    if not input:
        _close(process.stdin)
        return memoryview(b"")
    os.set_blocking(process.stdin.fileno(), False)
    selector.register(process.stdin, selectors.EVENT_WRITE)
    return memoryview(input).cast("B")


def _exchange(
    process: BaseProcess,
    selector: selectors.BaseSelector,
    outputs: dict[IO[Any], list[bytes]],
    rest: memoryview,
    deadline: float | None,
    timeout: float | None,
) -> None:
    while selector.get_map():
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            _expire(process, outputs, timeout)
        for key, _ in selector.select(left):
            file: IO[Any] = key.fileobj  # type: ignore[assignment]
            if file is process.stdin:
                rest = _feed(file, rest)
                finished = not rest
            else:
                data = os.read(key.fd, _CHUNK)
                outputs[file].append(data)
                finished = not data
            if finished:
                selector.unregister(file)
                _close(file)


def _feed(file: IO[Any], rest: memoryview) -> memoryview:
    try:
        return rest[os.write(file.fileno(), rest[:_CHUNK]) :]
    except BrokenPipeError:  # it reads no more
        return rest[:0]
    except BlockingIOError:
        return rest


def _close(file: IO[Any]) -> None:
    try:
        file.close()
    except BrokenPipeError:
        pass


def _collected(file: IO[Any] | None, outputs: dict[IO[Any], list[bytes]]) -> Any:
    if file is None:
        return None
    data = b"".join(outputs.get(file, ()))
    if isinstance(file, io.TextIOWrapper):
        text = data.decode(file.encoding, file.errors or "strict")
        return text.replace("\r\n", "\n").replace("\r", "\n")
    return data


def _expire(process: BaseProcess, outputs: dict[IO[Any], list[bytes]], timeout: float | None) -> None:
    from fastdock._process_errors import TimeoutExpired

    # As subprocess has it: bytes, because what came may end within a character.
    stdout, stderr = (
        None if file is None else b"".join(outputs.get(file, ())) for file in (process.stdout, process.stderr)
    )
    raise TimeoutExpired(process.args, timeout or 0, stdout, stderr)

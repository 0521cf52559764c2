"""A connection to a container's monitor: the packets of csrc/monitor/protocol.h."""

from __future__ import annotations

import errno
import os
import struct

from fastdock import _core
from fastdock._errors import ContainerNotRunning, KernelError
from fastdock._light import NamedTuple

TYPE_CHECKING = False  # see _light
if TYPE_CHECKING:
    import socket
    from typing import Self

ATTACH, INPUT, INPUT_END, RESIZE, SIGNAL, STOP, WAIT, PAUSE, RESUME, UPDATE, RENAME, EXECUTE = range(1, 13)
STARTED, DONE, FAILED, OUTPUT, LOST, EXITED = range(64, 70)

ATTACH_INPUT, ATTACH_OUTPUT, ATTACH_ERRORS, ATTACH_END = 1, 2, 4, 8
STOP_AND_FORGET = -3
MAXIMUM_PAYLOAD = 32768

_HEADER = struct.Struct("=Ii")
_FAILURE = struct.Struct("=iHH")


class Packet(NamedTuple):
    kind: int
    value: int
    payload: bytes


class Control:
    """One conversation.  Closed by ``close()`` or ``with``."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    @classmethod
    def connect(cls, run_directory: str, name: str) -> Self:
        """ContainerNotRunning when there is no monitor."""
        import socket

        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            # By way of a descriptor: a path of any length fits the 108 bytes of sun_path (unix(7)).
            directory = os.open(run_directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                connection.connect(f"/proc/self/fd/{directory}/control")
            finally:
                os.close(directory)
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            raise ContainerNotRunning(f"container {name} is not running") from None
        except BaseException:
            connection.close()
            raise
        return cls(connection)

    @classmethod
    def adopt(cls, descriptor: int) -> Self:
        import socket

        return cls(socket.socket(fileno=descriptor))

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, kind: int, value: int = 0, payload: bytes = b"", content: bytes | None = None) -> None:
        """``content`` goes along as sealed memory.  BrokenPipeError when the monitor has ended."""
        packet = _HEADER.pack(kind, value) + payload
        if content is None:
            self._socket.send(packet)
            return
        memory = os.memfd_create("fastdock-request", os.MFD_CLOEXEC)
        try:
            with open(memory, "wb", closefd=False) as file:
                file.write(content)
            import socket

            socket.send_fds(self._socket, [packet], [memory])
        finally:
            os.close(memory)

    def receive(self) -> Packet | None:
        """The next packet; None at the end of the monitor."""
        try:
            data = self._socket.recv(MAXIMUM_PAYLOAD + _HEADER.size)
        except ConnectionResetError:
            return None
        if not data:
            return None
        kind, value = _HEADER.unpack_from(data)
        return Packet(kind, value, data[_HEADER.size :])

    def ask(
        self, kind: int, value: int = 0, payload: bytes = b"", content: bytes | None = None
    ) -> int | None:
        """Sends, and waits for the answer: its value, or None if the monitor ended first.  KernelError."""
        try:
            self.send(kind, value, payload, content)
        except (BrokenPipeError, ConnectionResetError):  # what it said before is still to be read
            pass
        while (packet := self.receive()) is not None:
            if packet.kind == FAILED:
                raise_failure(packet.payload)
            if packet.kind in (DONE, EXITED):
                return packet.value
        return None

    def wait_for_end(self) -> None:
        """Until the monitor has ended."""
        while self.receive() is not None:
            pass


def is_foreign(error: KernelError) -> bool:
    """Whether a monitor of another version did not understand what is laid out as this version has it."""
    return error.errno in (errno.EPROTO, errno.EINVAL) and error.path in ("update", "launch plan")


def raise_failure(payload: bytes) -> None:
    number, operation, hint = _FAILURE.unpack_from(payload)
    _core.error_of(number, operation, hint, os.fsdecode(payload[_FAILURE.size :]))

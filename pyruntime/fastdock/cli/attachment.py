"""Being attached to a kept container through its monitor: streams, detach keys, signals, the terminal's size."""

from __future__ import annotations

import os
import select
import sys

from fastdock.cli.foreground import _write_all
from fastdock.cli.keys import Detacher, parse_keys
from fastdock.cli.plain import DETACH_KEYS
from fastdock.cli.terminal import Attended, size_of
from fastdock.containers import control

TYPE_CHECKING = False  # see _light
if TYPE_CHECKING:
    from fastdock.cli.signals import SignalProxy
    from fastdock.containers import Container
    from fastdock.containers.control import Control

DETACHED = -1


class Attachment:
    """The streams of this process and those of a container, until its end or the detach keys."""

    def __init__(
        self,
        container: Container,
        connection: Control,
        *,
        terminal: bool,
        interactive: bool,
        keys: str = DETACH_KEYS,
        proxy: SignalProxy,
    ) -> None:
        self._container, self._connection = container, connection
        self._terminal, self._interactive, self._proxy = terminal, interactive, proxy
        self._detacher = Detacher(parse_keys(keys) if terminal and interactive and os.isatty(0) else b"")

    def run(self) -> int:
        """The exit code, or DETACHED."""
        self._proxy.release_to(self._container.kill)
        if not self._terminal:
            return self._copy()
        with Attended(self._resize, 1, typed=self._interactive):
            return self._copy()

    def redraw(self) -> None:
        """Has the program draw its screen again: two changes of the size, as docker attach does."""
        rows, columns = size_of(1)
        if self._terminal and os.isatty(1) and rows and columns:
            self._connection.send(control.RESIZE, (rows + 1) << 16 | (columns + 1))

    def _resize(self, rows: int, columns: int) -> None:
        try:
            self._connection.send(control.RESIZE, rows << 16 | columns)
        except OSError:
            pass

    def _copy(self) -> int:
        packets = self._connection.fileno()
        inputs = [packets, 0] if self._interactive else [packets]
        while True:
            ready = select.select(inputs, [], [])[0]
            if 0 in ready and not self._send_input():
                inputs.remove(0)
                if self._detached:
                    return DETACHED
            if packets in ready:
                packet = self._connection.receive()
                if packet is None:
                    return self._container._settled().exit_code
                if packet.kind == control.OUTPUT:
                    _write_all(packet.value, packet.payload)
                elif packet.kind == control.LOST:
                    text = f"{packet.value} bytes of output were skipped: this reader was too slow"
                    print(f"\nfastdock: {text}", file=sys.stderr)
                elif packet.kind == control.EXITED:
                    return packet.value

    _detached = False

    def _send_input(self) -> bool:
        """False: there is no more."""
        data = os.read(0, control.MAXIMUM_PAYLOAD)
        rest, self._detached = self._detacher.feed(data)
        try:
            if rest:
                self._connection.send(control.INPUT, payload=rest)
            if not data:
                self._connection.send(control.INPUT_END)
        except OSError:  # it has ended; the exit code comes next
            return False
        return bool(data) and not self._detached

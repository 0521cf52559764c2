"""fastdock-oci: terminals, and the socket that they are sent over."""

from __future__ import annotations

import array
import os
import socket
from pathlib import Path

import pytest
from oci_bundle import Bundle

pytestmark = pytest.mark.kernel


def receive_terminal(server: socket.socket) -> int:
    """The descriptor that comes over a console socket."""
    connection, _ = server.accept()
    with connection:
        data, control, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(4))
        assert data
        descriptors = array.array("i")
        descriptors.frombytes(control[0][2][:4])
        return descriptors[0]


def read_terminal(terminal: int) -> str:
    """All of it, to the end (EIO when the other side is closed)."""
    text = b""
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:
            return text.decode()
        if not part:
            return text.decode()
        text += part


def test_console_socket(bundle: Bundle, tmp_path: Path) -> None:
    """A terminal goes to who listens, for the first process and for exec; a long path of the socket is no obstacle."""
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    link = tmp_path / "s"
    link.symlink_to(deep)
    bundle.config["process"].update(terminal=True, consoleSize={"height": 33, "width": 99})
    bundle.shell("stty size; tty; test -c /dev/console && echo console; sleep 1000")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(link / "s"))
        server.listen()
        assert bundle.create("c", "--console-socket", str(deep / "s")).returncode == 0
        terminal = receive_terminal(server)
        assert bundle.command("start", "c").returncode == 0
        text = b""
        while b"console\r\n" not in text:
            text += os.read(terminal, 4096)
        assert text.decode().split() == ["33", "99", "/dev/pts/0", "console"]
        done = bundle.command("exec", "--detach", "--tty", "--console-socket", str(deep / "s"), "c", "tty")
        assert done.returncode == 0, done.stderr
        second = receive_terminal(server)
        assert read_terminal(second).strip() == "/dev/pts/1"
    os.close(terminal)
    os.close(second)


def test_a_terminal_needs_a_socket(bundle: Bundle) -> None:
    bundle.config["process"]["terminal"] = True
    assert "--console-socket" in bundle.create().stderr
    bundle.config["process"]["terminal"] = False
    assert "--console-socket" in bundle.create("c", "--console-socket", "/nowhere").stderr
    assert not (bundle.root / "c").exists()


def test_a_terminals_newlines_in_the_foreground(bundle: Bundle) -> None:
    """As runc: what reads it gets no carriage returns; the caller's own terminal puts them in."""
    bundle.config["process"]["terminal"] = True
    bundle.shell("test -t 1 && echo one; echo two")
    assert bundle.run().stdout == "one\ntwo\n"
    bundle.config["process"]["terminal"] = False
    bundle.shell("sleep 1000")
    assert bundle.run_detached("d").returncode == 0
    assert bundle.command("exec", "--tty", "d", "echo", "three").stdout == "three\n"

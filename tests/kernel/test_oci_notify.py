"""fastdock-oci: NOTIFY_SOCKET (sd_notify(3)), with a socket of the test's in place of systemd's."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from oci_bundle import Bundle, with_user_namespace

pytestmark = pytest.mark.kernel

PYTHON = os.path.realpath("/usr/bin/python3")
# Says where NOTIFY_SOCKET is, sends its arguments there, one message each, and waits for a word.
PROGRAM = """
import os, socket, sys
print(os.environ["NOTIFY_SOCKET"], flush=True)
sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
sender.connect(os.environ["NOTIFY_SOCKET"])
for message in sys.argv[1:]:
    sender.send(message.encode())
sys.stdin.read(1)
sys.exit(3)
"""


@pytest.fixture
def bundle(tmp_path: Path) -> Iterator[Bundle]:
    made = Bundle(tmp_path)
    (made.rootfs / "usr").mkdir()
    for name in ("lib", "lib64"):
        (made.rootfs / name).symlink_to(f"usr/{name}")
    made.config["mounts"].append(
        {"destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro"]}
    )
    yield made
    made.close()


class Manager:
    """What systemd is for its services: a socket that is listened at."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(60)
        self.socket.bind(address)
        name = address.replace("\0", "@", 1)
        self.environment = os.environ | {"NOTIFY_SOCKET": name}

    def next(self) -> str:
        """A message; what comes with it is closed, which says that it was read."""
        return self.socket.recv(4096).decode()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(str(tmp_path / "manager"))
    yield made
    made.socket.close()


def send(bundle: Bundle, *messages: str) -> None:
    """The container's program sends these."""
    bundle.config["process"]["args"] = [PYTHON, "-I", "-c", PROGRAM, *messages]
    bundle.write()


def run(bundle: Bundle, manager: Manager, *words: str) -> subprocess.Popen[str]:
    command = [bundle.runtime, "--root", str(bundle.root), *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=manager.environment)


def test_start_waits_until_the_container_is_ready(bundle: Bundle, manager: Manager) -> None:
    """And until the service manager has read it.  Other messages stay here."""
    send(bundle, "STATUS=waking up", "STATUS=awake\nREADY=1\nSTOPPING=0")
    assert bundle.create(env=manager.environment).returncode == 0
    pid = bundle.state()["pid"]
    with run(bundle, manager, "start", "c") as start:
        assert [manager.next(), manager.next()] == ["READY=1\n", f"MAINPID={pid}\n"]
        message, files, _, _ = socket.recv_fds(manager.socket, 100, 1)
        assert message == b"BARRIER=1"
        assert start.poll() is None
        os.close(files[0])
    assert start.returncode == 0


def test_a_user_in_a_user_namespace(bundle: Bundle, manager: Manager) -> None:
    """The socket is for everybody in the container; run --detach waits, too."""
    with_user_namespace(bundle)
    bundle.config["process"]["user"] = {"uid": 7, "gid": 7}
    send(bundle, "READY=1")
    with run(bundle, manager, "run", "--detach", "--bundle", str(bundle.path), "c") as detached:
        messages = [manager.next() for _ in range(3)]
        assert detached.wait(60) == 0
        assert messages == ["READY=1\n", f"MAINPID={bundle.state()['pid']}\n", "BARRIER=1"]
        assert detached.stdout is not None
        assert detached.stdout.readline() == "/run/notify/notify.sock\n"


def test_in_the_foreground(bundle: Bundle, manager: Manager) -> None:
    """The runtime is the service's main process: its end and its status are the container's."""
    bundle.config["process"]["env"].append("NOTIFY_SOCKET=/the/images/own")
    send(bundle, "READY=1")
    with run(bundle, manager, "run", "--bundle", str(bundle.path), "c") as running:
        assert [manager.next(), manager.next()] == ["READY=1\n", f"MAINPID={running.pid}\n"]
    assert running.returncode == 3


def test_an_end_without_a_word(bundle: Bundle, manager: Manager) -> None:
    """Nobody waits for a container that has ended."""
    bundle.shell("exit 1")
    assert bundle.create(env=manager.environment).returncode == 0
    assert bundle.command("start", "c", env=manager.environment).returncode == 0
    manager.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.next()


def test_an_abstract_address(bundle: Bundle) -> None:
    manager = Manager(f"\0fastdock-oci-test-{os.getpid()}")
    send(bundle, "READY=1")
    with manager.socket, run(bundle, manager, "run", "--bundle", str(bundle.path), "c") as running:
        assert manager.next() == "READY=1\n"
    assert running.returncode == 3


def test_the_container_sees_no_socket_of_the_hosts(bundle: Bundle, manager: Manager) -> None:
    """Only its own, in a directory that it cannot write to; none where nobody asked for one."""
    show = "echo $NOTIFY_SOCKET; ls /run/notify; touch /run/notify/x 2>/dev/null || echo read-only"
    bundle.shell(show)
    done = bundle.run(env=manager.environment)
    assert done.stdout.splitlines() == ["/run/notify/notify.sock", "notify.sock", "read-only"]
    bundle.rootfs.joinpath("run/notify").rmdir()
    bundle.shell("echo [$NOTIFY_SOCKET]; ls /run")
    without = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
    assert bundle.run(env=without).stdout == "[]\n"


def test_nobody_is_there(bundle: Bundle, tmp_path: Path) -> None:
    """An error that names the address, before anything runs."""
    bundle.shell("touch /tmp/ran")
    environment = os.environ | {"NOTIFY_SOCKET": str(tmp_path / "nobody")}
    done = bundle.run(env=environment)
    assert done.returncode == 1
    assert "NOTIFY_SOCKET" in done.stderr
    assert str(tmp_path / "nobody") in done.stderr
    assert not (bundle.root / "c").exists()
    assert bundle.create(env=environment).returncode == 0
    assert "NOTIFY_SOCKET" in bundle.command("start", "c", env=environment).stderr
    assert bundle.state()["status"] == "created"
    assert not (bundle.rootfs / "tmp/ran").exists()

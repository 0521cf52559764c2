"""fastdock-oci: namespaces of the container's own and joined ones; what its network namespace holds."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from oci_bundle import Bundle, with_user_namespace

pytestmark = pytest.mark.kernel


def test_user_namespace(bundle: Bundle) -> None:
    with_user_namespace(bundle)
    bundle.config["linux"]["resources"] = {"pids": {"limit": 100}}
    text = bundle.output(
        "id -u; cat /proc/self/uid_map; touch /tmp/made; echo > /dev/null && stat -c '%t:%T %u' /dev/null"
    )
    assert text.split() == ["0", "0", "1879048192", "65536", "1:3", "0"]
    assert (bundle.rootfs / "tmp/made").stat().st_uid == 1879048192
    bundle.shell("sleep 1000")
    assert bundle.run_detached().returncode == 0
    assert bundle.command("exec", "--user", "7:8", "c", "id", "-u").stdout == "7\n"
    assert bundle.command("exec", "c", "sh", "-c", "touch /tmp/by-exec && id -u").stdout == "0\n"
    assert (bundle.rootfs / "tmp/by-exec").stat().st_uid == 1879048192


def test_time_offsets(bundle: Bundle) -> None:
    bundle.config["linux"]["namespaces"].append({"type": "time"})
    bundle.config["linux"]["timeOffsets"] = {"boottime": {"secs": 1_000_000_000}}
    assert float(bundle.output("cat /proc/uptime").split()[0]) > 1_000_000_000


def test_joined_namespaces(bundle: Bundle, tmp_path: Path) -> None:
    """A second container in the first one's network, IPC and PID namespaces, as in a pod."""
    bundle.shell("sleep 1000")
    assert bundle.run_detached().returncode == 0
    pid = bundle.state()["pid"]
    (tmp_path / "other").mkdir()
    other = Bundle(tmp_path / "other")
    names = {"network": "net", "ipc": "ipc", "pid": "pid"}
    for entry in other.config["linux"]["namespaces"]:
        if entry["type"] in names:
            entry["path"] = f"/proc/{pid}/ns/{names[entry['type']]}"
    script = "for n in net ipc pid; do readlink /proc/self/ns/$n; done; cat /proc/1/cmdline"
    lines = other.output(script).split("\n")
    assert lines[:3] == [os.readlink(f"/proc/{pid}/ns/{name}") for name in ("net", "ipc", "pid")]
    assert "sleep" in lines[3]
    other.close()


def test_a_joined_user_namespace(bundle: Bundle, tmp_path: Path) -> None:
    """New namespaces beside a joined user namespace belong to it."""
    with_user_namespace(bundle)
    bundle.shell("sleep 1000")
    assert bundle.run_detached().returncode == 0
    pid = bundle.state()["pid"]
    (tmp_path / "other").mkdir()
    other = Bundle(tmp_path / "other")
    with_user_namespace(other)
    linux = other.config["linux"]
    linux["namespaces"][-1]["path"] = f"/proc/{pid}/ns/user"
    other.config["hostname"] = "inside"
    other.config["process"]["terminal"] = True  # its /dev/console is made by the namespace's root
    text = other.output("id -u; readlink /proc/self/ns/user; hostname; stat -c %u /dev /dev/console")
    assert text.split() == ["0", os.readlink(f"/proc/{pid}/ns/user"), "inside", "0", "0"]
    other.close()


def test_all_namespaces_of_another_container(bundle: Bundle, tmp_path: Path) -> None:
    """Beside a joined user namespace and PID namespace: the pid that is kept is the container's as the host
    counts, and no other process of the host is taken for it."""
    with_user_namespace(bundle)
    bundle.shell("sleep 1000; :")
    assert bundle.run_detached().returncode == 0
    pid = bundle.state()["pid"]
    (tmp_path / "other").mkdir()
    other = Bundle(tmp_path / "other")
    with_user_namespace(other)
    files = {"mount": None, "network": "net"}
    for namespace in other.config["linux"]["namespaces"]:
        if file := files.get(namespace["type"], namespace["type"]):
            namespace["path"] = f"/proc/{pid}/ns/{file}"
    del other.config["linux"]["uidMappings"], other.config["linux"]["gidMappings"]
    other.shell("sleep 999; :")
    assert other.run_detached().returncode == 0
    joined = other.state()["pid"]
    assert Path(f"/proc/{joined}/cmdline").read_text() == "/bin/sh\0-c\0sleep 999; :\0"
    for file in ("pid", "user", "net"):
        assert os.readlink(f"/proc/{joined}/ns/{file}") == os.readlink(f"/proc/{pid}/ns/{file}")
    in_exec = other.command("exec", "c", "sh", "-c", "cat /proc/self/uid_map; ls -d /proc/[0-9]* | wc -l")
    assert in_exec.stdout.split()[1] == "1879048192", in_exec
    assert int(in_exec.stdout.split()[3]) < 10
    assert other.command("delete", "--force", "c").returncode == 0
    other.shell("exit 5")
    assert other.run("d").returncode == 5
    other.close()


def test_loopback_is_up(bundle: Bundle) -> None:
    assert "UP" in bundle.output("ip link show lo")


@pytest.fixture
def device() -> Iterator[str]:
    """A network device of the host's, with an address."""
    name = f"fdoci{os.getpid() % 100000}"
    subprocess.run(["ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}p"], check=True)
    try:
        subprocess.run(["ip", "address", "add", "192.0.2.7/24", "dev", name], check=True)
        yield name
    finally:
        # The peer, too, goes with the namespace of the one that moved, but not at once.
        subprocess.run(["ip", "link", "delete", f"{name}p"], stderr=subprocess.DEVNULL)


def check_device_moves_in(bundle: Bundle, device: str) -> None:
    bundle.config["linux"]["netDevices"] = {device: {"name": "inside0"}}
    bundle.config["linux"]["sysctl"] = {"net.ipv4.conf.inside0.forwarding": "1"}
    text = bundle.output("ip address show inside0; cat /proc/sys/net/ipv4/conf/inside0/forwarding")
    assert "192.0.2.7/24" in text
    assert ",UP" in text
    assert text.endswith("\n1\n")


@pytest.mark.here
def test_network_devices(bundle: Bundle, device: str) -> None:
    """A device of the host's moves in, with its addresses and a new name, before its sysctls are set."""
    check_device_moves_in(bundle, device)


@pytest.mark.here
def test_network_devices_of_a_joined_namespace(bundle: Bundle, device: str) -> None:
    """Not into the host's own, which the container is in until it has joined (runc's netdev.bats)."""
    # It ends with its standard input, however this ends.
    command = ["unshare", "--net", "sh", "-c", "echo; read line"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as network:
        assert network.stdout is not None
        network.stdout.readline()
        (entry,) = (each for each in bundle.config["linux"]["namespaces"] if each["type"] == "network")
        entry["path"] = f"/proc/{network.pid}/ns/net"
        check_device_moves_in(bundle, device)

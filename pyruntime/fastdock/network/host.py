"""What the host itself must allow: forwarding, also beside other firewalls."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

_SYSCTL = Path("/proc/sys/net")


def enable_forwarding(ipv6: bool) -> None:
    """Lets the host forward packets.

    A host that forwards IPv6 stops listening to router advertisements, and may lose its own default route;
    accept_ra = 2 keeps it listening (kernel, Documentation/networking/ip-sysctl).
    """
    _raise_to(_SYSCTL / "ipv4/ip_forward", "1")
    everywhere = _SYSCTL / "ipv6/conf/all/forwarding"
    if not ipv6 or not everywhere.exists() or everywhere.read_text().strip() == "1":
        return
    for device in (_SYSCTL / "ipv6/conf").iterdir():
        listening = device / "accept_ra"
        if device.name not in ("all", "lo") and listening.read_text().strip() == "1":
            listening.write_text("2")
    everywhere.write_text("1")


def _raise_to(path: Path, value: str) -> None:
    if path.read_text().strip() == "0":
        path.write_text(value)


def pass_other_firewalls(bridge: str) -> None:
    """Lets other firewalls of this host forward what our own table has accepted.

    iptables' FORWARD chain may drop by default (Docker, ufw), and an accept in our table does not overrule a drop
    in another.  So where its policy is DROP, and only there, each of our bridges is accepted in it, in the
    chain that Docker keeps for others if it is there.
    """
    for program in ("iptables", "ip6tables"):
        chain = _chain_to_open(program)
        if not chain:
            continue
        for direction in ("-i", "-o"):
            rule = [direction, bridge, "-j", "ACCEPT", "-m", "comment", "--comment", "fastdock"]
            if not _run(program, "-C", chain, *rule):
                _run(program, "-I", chain, *rule)


def forget_in_other_firewalls(bridge: str) -> None:
    """Takes back what pass_other_firewalls() added for a bridge."""
    for program in ("iptables", "ip6tables"):
        chain = _chain_to_open(program)
        for direction in ("-i", "-o"):
            if chain:
                _run(
                    program,
                    "-D",
                    chain,
                    direction,
                    bridge,
                    "-j",
                    "ACCEPT",
                    "-m",
                    "comment",
                    "--comment",
                    "fastdock",
                )


def _chain_to_open(program: str) -> str:
    """The chain for our rules, or "" where nothing is dropped by default."""
    path = shutil.which(program, path="/usr/sbin:/sbin:/usr/bin:/bin")
    if path is None:
        return ""
    listed = subprocess.run(
        [path, "-w", "-S"], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    lines = listed.stdout.splitlines()
    if listed.returncode != 0 or "-P FORWARD DROP" not in lines:
        return ""
    return "DOCKER-USER" if "-A FORWARD -j DOCKER-USER" in lines else "FORWARD"


def _run(program: str, *arguments: str) -> bool:
    path = shutil.which(program, path="/usr/sbin:/sbin:/usr/bin:/bin") or program
    done = subprocess.run(
        [path, "-w", *arguments],
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return done.returncode == 0

"""The resolver process of an engine root: started when needed, told who is called what."""

from __future__ import annotations

import _socket  # socket itself takes 5 ms to import
import os

from fastdock._errors import FastdockError

from .model import Document

PROGRAM = os.path.join(os.path.dirname(os.path.dirname(__file__)), "libexec", "fastdock-dns")


def record(container_id: str, document: Document) -> str:
    """What the resolver is told about a container (csrc/net/dns/registry.h)."""
    lines = [f"container {container_id}"]
    forward = "all"
    if document.egress is not None:
        forward = "names" if document.egress.domains else "none"
        lines += [f"allow {domain}" for domain in document.egress.domains]
    # An internal network reaches nothing outside, also not through questions (CVE-2024-29018).
    if not any(endpoint.gateways for endpoint in document.endpoints):
        forward = "none"
    lines.append(f"forward {forward}")
    lines += [f"upstream {server.partition('%')[0]}" for server in document.upstreams]
    for endpoint in document.endpoints:
        if endpoint.names:
            lines += [f"network {endpoint.network_id}", f"domain {endpoint.network}"]
            lines += [f"address {address}" for address in endpoint.plain_addresses]
            lines += [f"name {name}" for name in endpoint.names]
            for name, alias in endpoint.links:
                lines += [f"link {alias} {name}", f"link {alias}.{endpoint.network} {name}"]
        elif document.egress is not None:  # the firewall opens allowed names for these addresses
            lines.append(f"network {endpoint.network_id}")
            lines += [f"address {address}" for address in endpoint.plain_addresses]
    return "\n".join(lines) + "\n"


def is_running(path: str) -> bool:
    """Whether a resolver listens."""
    probe = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    try:
        probe.connect(path)
    except OSError:
        return False
    finally:
        probe.close()
    return True


def start(path: str, table: str) -> None:
    """Starts the resolver; it returns when it listens, and goes on in the background.  Raises FastdockError."""
    import subprocess

    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    done = subprocess.run(
        [PROGRAM, path, table], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise FastdockError(
            f"the resolver did not start: {done.stderr.strip()}", operation="start the resolver"
        )

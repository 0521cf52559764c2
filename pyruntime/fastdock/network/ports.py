"""Published ports: the forms of ``-p``, picking free ports, and saying who holds a taken one."""

from __future__ import annotations

import _socket
import errno
import os
from collections.abc import Mapping

from fastdock._errors import SpecError
from fastdock._light import NamedTuple

# socket takes 5 ms to import: of it, this module needs what is below.
AF_INET, AF_INET6 = _socket.AF_INET, _socket.AF_INET6
PROTOCOLS = {"tcp": _socket.IPPROTO_TCP, "udp": _socket.IPPROTO_UDP, "sctp": _socket.IPPROTO_SCTP}
RELAYED = ("tcp", "udp")
_HOST_INET6 = "/proc/net/if_inet6"  # not there where the kernel was started with ipv6.disable=1


class PortSpec(NamedTuple):
    """One port of a container that is to be published: ``-p HOST:HOST_PORTS:PORT/PROTOCOL``."""

    container_port: int
    protocol: str = "tcp"
    host: str = ""  # an address of the host; "": all of them
    host_ports: range | None = None  # the first free one of these; None: any free port


class PublishedPort(NamedTuple):
    """A port that is published: one address family, one port of the host."""

    protocol: str
    host: str  # "" is every address of the family
    host_port: int
    container: str  # the container's address
    container_port: int
    relayed: bool = False  # a port on IPv6, of a container that has only an IPv4 address

    @property
    def family(self) -> int:
        """AF_INET or AF_INET6: of the host's address."""
        return AF_INET6 if self.relayed or ":" in self.container else AF_INET


def parse_port(text: str) -> list[PortSpec]:
    """Reads ``[HOST:][HOST_PORT[-HOST_PORT]:]PORT[-PORT][/PROTOCOL]``, or ``target=PORT,published=…``.

    IPv6 hosts are in brackets.  Raises SpecError.
    """
    if "=" in text:
        text = _short_form(text)
    ports, _, protocol = text.partition("/")
    protocol = protocol.lower() or "tcp"
    if protocol not in PROTOCOLS:
        raise SpecError(f"bad port {text!r}: the protocol is tcp, udp or sctp")
    host, middle, container = _split(ports, text)
    inner = _port_range(container, text)
    if middle in ("", "0"):
        return [PortSpec(port, protocol, host) for port in inner]
    outer = _port_range(middle, text)
    if len(inner) == 1:
        return [PortSpec(inner[0], protocol, host, outer)]
    if len(inner) != len(outer):
        raise SpecError(f"bad port {text!r}: the ranges have different lengths")
    return [
        PortSpec(port, protocol, host, range(there, there + 1))
        for port, there in zip(inner, outer, strict=True)
    ]


def _short_form(text: str) -> str:
    """Of Docker's long form: ``published=8080,target=80,protocol=tcp,mode=host`` (opts/port.go)."""
    given: dict[str, str] = {}
    for word in text.split(","):
        key, equals, value = word.partition("=")
        key = key.strip().lower()
        if not equals or not value or key in given or key not in ("target", "published", "protocol", "mode"):
            raise SpecError(
                f"bad port {text!r}: it is target=PORT[,published=PORT][,protocol=tcp][,mode=host]"
            )
        given[key] = value
    if not given.get("target", "").isdecimal() or given.get("mode", "host") not in ("host", "ingress"):
        raise SpecError(f"bad port {text!r}: target is one port, mode is host or ingress")
    return f"{given.get('published', '')}:{given['target']}/{given.get('protocol', 'tcp')}"


def _split(ports: str, text: str) -> tuple[str, str, str]:
    """Host, host ports and container ports, of which the first two may be empty."""
    host = ""
    if ports.startswith("["):
        host, _, ports = ports[1:].partition("]")
        if not ports.startswith(":") or not host:
            raise SpecError(f"bad port {text!r}: after [ADDRESS] comes :HOST_PORT:PORT")
        ports = ports[1:]
    parts = ports.split(":")
    if len(parts) == 3 and not host:
        host = parts.pop(0)
    if len(parts) > 2 or (host and len(parts) != 2):
        raise SpecError(f"bad port {text!r}: it is [HOST:][HOST_PORT:]PORT[/PROTOCOL]")
    if host:
        import ipaddress

        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            raise SpecError(f"bad port {text!r}: {host!r} is not an address of this host") from None
        # "0.0.0.0" and "::" are every address of one family; _families() tells them apart.
        host = str(address)
    return host, parts[0] if len(parts) == 2 else "", parts[-1]


def _port_range(text: str, whole: str) -> range:
    first, dash, last = text.partition("-")
    if not first.isdecimal() or (dash and not last.isdecimal()) or len(text) > 11 or not text.isascii():
        raise SpecError(f"bad port {whole!r}: {text!r} is not a port or a range of ports")
    low, high = int(first), int(last) if dash else int(first)
    if not 0 < low <= high <= 65535:
        raise SpecError(f"bad port {whole!r}: ports are 1 to 65535, the first of a range is the smaller")
    return range(low, high + 1)


def families(spec: PortSpec) -> tuple[tuple[int, str], ...]:
    """The (family, host address) pairs to publish on: "" stands for every address of that family."""
    if not spec.host:
        return ((AF_INET, ""), (AF_INET6, ""))
    import ipaddress

    address = ipaddress.ip_address(spec.host)
    family = AF_INET6 if address.version == 6 else AF_INET
    return ((family, "" if address.is_unspecified else str(address)),)


def target(protocol: str, family: int, addresses: Mapping[int, str]) -> tuple[str, bool] | None:
    """Which of a container's addresses a port of this family leads to, and whether it is relayed; None: to none.

    From IPv6 to IPv4 only a process can pass on (``relayed``), and there is one for TCP and UDP.
    """
    if family in addresses:
        return addresses[family], False
    if family == AF_INET6 and protocol in RELAYED and os.path.exists(_HOST_INET6):
        return (addresses[AF_INET], True) if AF_INET in addresses else None
    return None


def probe(family: int, protocol: str, host: str, port: int) -> int:
    """Tries whether a port of the host is free by binding to it; 0 is any.  Returns the port.

    Raises OSError: EADDRINUSE, EADDRNOTAVAIL (no such address here), EACCES.
    """
    kind = _socket.SOCK_DGRAM if protocol == "udp" else _socket.SOCK_STREAM
    try:
        probing = _socket.socket(family, kind, PROTOCOLS[protocol])
    except OSError as error:
        # Without IPv6 or SCTP in this kernel nobody else can hold such a port.
        if error.errno not in (errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT):
            raise
        return port or probe(AF_INET, "tcp", "", 0)  # any number is as good
    try:
        if family == AF_INET6:
            probing.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 1)
        if kind == _socket.SOCK_STREAM:  # connections that are closing do not matter, listeners do
            probing.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        probing.bind((host or ("::" if family == AF_INET6 else "0.0.0.0"), port))
        return int(probing.getsockname()[1])
    finally:
        probing.close()


def holder(family: int, protocol: str, port: int, tables_in: str = "/proc/thread-self/net") -> str:
    """Which process holds a port: "nginx (process 42)", or "" when it cannot be seen."""
    inodes = set[str]()
    tables = [f"{protocol}6"] if family == AF_INET6 else [protocol, f"{protocol}6"]
    for table in tables:
        try:
            with open(f"{tables_in}/{table}", encoding="ascii") as file:
                lines = file.read().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            listening = protocol != "tcp" or fields[3] == "0A"  # TCP_LISTEN
            if listening and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    if not inodes:
        return ""
    for process in filter(str.isdecimal, os.listdir("/proc")):
        if _holds(process, inodes):
            try:
                with open(f"/proc/{process}/comm", encoding="utf-8", errors="replace") as file:
                    return f"{file.read().strip()} (process {process})"
            except OSError:
                continue
    return ""


def _holds(process: str, inodes: set[str]) -> bool:
    directory = f"/proc/{process}/fd"
    try:
        return any(_link(f"{directory}/{fd}") in inodes for fd in os.listdir(directory))
    except OSError:
        return False


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:  # closed meanwhile; in our own process the one that has read the directory
        return ""

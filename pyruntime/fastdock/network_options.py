"""What Docker refuses of a container's options of networks (runconfig/hostconfig_unix.go, opts of its command line)."""

from __future__ import annotations

import _socket  # socket itself takes 5 ms to import

from fastdock._errors import SpecError

TYPE_CHECKING = False  # see fastdock._light
if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastdock.options import Options

_NO_LABEL = frozenset(" \t\r\n#;/\\,\"'")


_KEYS = ("alias", "ip", "ip6", "mac-address", "driver-opt", "gw-priority")


def long_form(text: str) -> str:
    """``name=app,alias=db,…`` as ``app;alias=db;…``, a part of Options.network.  SpecError."""
    if '"' in text:
        import csv

        words = next(csv.reader([text], strict=True))
    else:
        words = text.split(",")
    name, given = "", []
    for word in words:
        key, _, value = word.partition("=")
        key = key.strip().lower()
        if not value or key not in ("name", *_KEYS):
            raise SpecError(
                f"network {text!r}: write NAME, or name=NAME{''.join(f'[,{key}=…]' for key in _KEYS)}"
            )
        if key == "name":
            name = value
            continue
        if (key == "driver-opt" and "=" not in value) or (key == "gw-priority" and not _is_number(value)):
            raise SpecError(f"network {text!r}: driver-opt=KEY=VALUE, gw-priority=NUMBER")
        given.append(f"{key}={escaped(value)}")
    if not name or "," in name or ";" in name:
        raise SpecError(f"network {text!r}: name= is missing")
    return ";".join(["bridge" if name == "default" else name, *given])


def _is_number(text: str) -> bool:
    return text.removeprefix("-").isdecimal()


def escaped(value: str) -> str:
    """A value without the separators of Options.network."""
    return value.replace("%", "%25").replace(",", "%2C").replace(";", "%3B")


def unescaped(value: str) -> str:
    """The opposite of ``escaped``."""
    return value.replace("%3B", ";").replace("%2C", ",").replace("%25", "%")


def device_sysctls(sysctls: Iterable[tuple[str, str]]) -> list[tuple[str, str, str]]:
    """Those of the container's own devices, which are not there when the others are written.

    As (name, path below /proc/sys, device): of ``net.ipv4.conf.eth0.rp_filter``, not of ``all`` or ``default``.
    """
    found: list[tuple[str, str, str]] = []
    for name, _ in sysctls:
        # sysctl.d(5): the first separator decides; with dots, slashes stand for dots inside a component.
        slashes = "/" in name and ("." not in name or name.index("/") < name.index("."))
        words = name.split("/") if slashes else [word.replace("/", ".") for word in name.split(".")]
        if (
            len(words) == 5
            and words[0] == "net"
            and words[2] in ("conf", "neigh")
            and words[3] not in _NO_DEVICE
        ):
            found.append((name, "/".join(words), words[3]))
    return found


_NO_DEVICE = ("all", "default", "lo", "", ".", "..")


def first_network(options: Options) -> str:
    """The network that ``--ip``, ``--link`` and ports are of; "" where none is named."""
    return options.network.split(",")[0].partition(";")[0]


def check(options: Options) -> None:
    """Raises SpecError for what its network cannot do."""
    for server in options.dns:
        _check_server(server)
    for domain in options.dns_search:
        labels = domain.removesuffix(".").split(".")
        if domain != "." and not all(label and not _NO_LABEL & {*label} for label in labels):
            raise SpecError(f"dns_search: {domain!r} is not a domain")
    first = first_network(options)
    shared = first.startswith("container:")
    if shared:
        _refuse_what_is_the_owners(options, first)
    if options.link and (shared or first in ("host", "none", "")):
        raise SpecError(
            f"links are to others on a network, and {first or 'none'} is none of the container's own"
        )
    if (shared or first == "host") and options.mac_address:
        raise SpecError(f"mac_address is of a device of its own, and network {first} is another's")
    if shared or first in ("bridge", "host", "none", ""):
        if options.ip or options.ip6:
            raise SpecError("a fixed address needs a network of your own: fastdock network create --subnet")
        if options.network_alias:
            raise SpecError(f"aliases are for networks of your own, not for {first or 'none'}")


def _refuse_what_is_the_owners(options: Options, network: str) -> None:
    given = {
        "hostname": options.hostname, "domainname": options.domainname, "dns": options.dns,
        "add_host": options.add_host, "publish": options.publish or options.publish_all, "expose": options.expose,
    }  # fmt: skip
    if wrong := [name for name, value in given.items() if value]:
        raise SpecError(f"{wrong[0]} is that of the container whose network is shared: {network}")


def _check_server(server: str) -> None:
    address = server.partition("%")[0]
    try:
        _socket.inet_pton(_socket.AF_INET6 if ":" in address else _socket.AF_INET, address)
    except OSError:
        raise SpecError(f"dns: {server!r} is not the address of a server") from None

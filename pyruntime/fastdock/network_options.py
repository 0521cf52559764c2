"""What Docker refuses of a container's options of networks (runconfig/hostconfig_unix.go, opts of its command line)."""

from __future__ import annotations

import _socket  # socket itself takes 5 ms to import

from fastdock._errors import SpecError

TYPE_CHECKING = False  # see fastdock._light
if TYPE_CHECKING:
    from fastdock.options import Options

_NO_LABEL = frozenset(" \t\r\n#;/\\,\"'")


def check(options: Options) -> None:
    """Raises SpecError for what its network cannot do."""
    for server in options.dns:
        _check_server(server)
    for domain in options.dns_search:
        labels = domain.removesuffix(".").split(".")
        if domain != "." and not all(label and not _NO_LABEL & {*label} for label in labels):
            raise SpecError(f"dns_search: {domain!r} is not a domain")
    first = options.network.split(",")[0].partition(";")[0]
    shared = first.startswith("container:")
    if shared:
        _refuse_what_is_the_owners(options, first)
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

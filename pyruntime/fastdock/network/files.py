"""The text of a container's /etc/hosts, /etc/hostname and /etc/resolv.conf, as Docker writes them.

Pure functions: what they need of the host (its resolv.conf) is an argument.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable, Sequence

from fastdock._errors import SpecError
from fastdock._light import NamedTuple

RESOLVER = "127.0.0.11"
"""Where fastdock's resolver answers inside a container."""

_LOCAL_HOSTS = (
    ("127.0.0.1", "localhost"),
    ("::1", "localhost ip6-localhost ip6-loopback"),
    ("fe00::", "ip6-localnet"),
    ("ff00::", "ip6-mcastprefix"),
    ("ff02::1", "ip6-allnodes"),
    ("ff02::2", "ip6-allrouters"),
)


class ResolvConf(NamedTuple):
    """What a resolv.conf says (resolv.conf(5))."""

    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    @property
    def reachable_nameservers(self) -> tuple[str, ...]:
        """Those that another network namespace reaches too: without the loopback's."""
        return tuple(server for server in self.nameservers if not _is_loopback(server))


@functools.lru_cache(16)
def _is_loopback(server: str) -> bool:
    return ipaddress.ip_address(server.split("%")[0]).is_loopback


@functools.lru_cache(4)  # it is the host's, at each start
def parse_resolv_conf(text: str) -> ResolvConf:
    """Reads a resolv.conf; lines that the C library would ignore are ignored."""
    nameservers: list[str] = []
    search: list[str] = []
    options: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2 or line[0] in "#;":
            continue
        if words[0] == "nameserver":
            try:
                ipaddress.ip_address(words[1].split("%")[0])
            except ValueError:
                continue
            nameservers.append(words[1])
        elif words[0] in ("search", "domain"):
            search = words[1:]  # the last one counts
        elif words[0] == "options":
            options += words[1:]
    return ResolvConf(tuple(nameservers), tuple(search), tuple(options))


def resolv_conf(conf: ResolvConf) -> str:
    """The file's text.  ``search .`` (asked for with ``--dns-search .``) means none."""
    lines = [f"nameserver {server}" for server in conf.nameservers]
    if conf.search and conf.search != (".",):
        lines.append("search " + " ".join(conf.search))
    if conf.options:
        lines.append("options " + " ".join(conf.options))
    return "".join(line + "\n" for line in lines)


def hosts(
    hostname: str,
    addresses: Sequence[str],
    extra: Iterable[tuple[str, str]] = (),
    domainname: str = "",
) -> str:
    """/etc/hosts: the usual names, ``--add-host`` entries as (name, address), the container itself."""
    own = own_names(hostname, domainname)
    lines = [*_LOCAL_HOSTS, *((address, name) for name, address in extra), *((a, own) for a in addresses)]
    return "".join(f"{address}\t{names}\n" for address, names in lines)


def own_names(hostname: str, domainname: str) -> str:
    """What a container is called in its own /etc/hosts."""
    return f"{hostname}.{domainname} {hostname}" if domainname else hostname


def hosts_with(text: str, names: str, added: Sequence[str], removed: Iterable[str]) -> str:
    """The text of /etc/hosts after the container got ``added`` addresses and lost others.

    The rest stays as the container left it.
    """
    gone = {f"{address}\t{names}" for address in removed}
    lines = [line for line in text.removesuffix("\n").split("\n") if line not in gone]
    return "".join(line + "\n" for line in (*lines, *(f"{address}\t{names}" for address in added)))


def through_resolver(conf: ResolvConf) -> ResolvConf:
    """The same, asked of our resolver: names of containers have no dots."""
    dots = any(option.startswith("ndots:") for option in conf.options)
    return ResolvConf((RESOLVER,), conf.search, conf.options if dots else (*conf.options, "ndots:0"))


def parse_add_host(entry: str, gateways: Sequence[str]) -> list[tuple[str, str]]:
    """``name:address`` (also ``name=address``) as (name, address) pairs; ``host-gateway`` is the host's addresses.

    Raises SpecError for anything else, and for ``host-gateway`` without a network that reaches the host.
    """
    cut = entry.find("=") if "=" in entry else entry.find(":")
    name, address = entry[:cut].strip(), entry[cut + 1 :].strip().strip("[]")
    if cut < 1 or not address or any(c.isspace() or c == "#" for c in name):
        raise SpecError(f"bad --add-host {entry!r}: it is NAME:ADDRESS")
    if address == "host-gateway":
        if not gateways:
            raise SpecError("--add-host with host-gateway needs a bridge network that reaches the host")
        return [(name, gateway) for gateway in gateways]
    try:
        return [(name, str(ipaddress.ip_address(address)))]
    except ValueError:
        raise SpecError(f"bad --add-host {entry!r}: {address!r} is not an address") from None


def check_hostname(name: str) -> str:
    """The name, if it can be a host name (RFC 1123; at most the kernel's 64 bytes).  Raises SpecError."""
    labels = name.split(".")
    good = (
        name.isascii()
        and len(name) <= 64
        and all(
            0 < len(label) <= 63
            and label.strip("-") == label
            and label.replace("-", "").replace("_", "").isalnum()
            for label in labels
        )
    )
    if not good:
        raise SpecError(f"{name!r} cannot be a host name")
    return name

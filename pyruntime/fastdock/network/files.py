"""The text of a container's /etc/hosts, /etc/hostname and /etc/resolv.conf, as Docker writes them.

On the path of ``fastdock run --network none``, so it imports little.
"""

from __future__ import annotations

import _socket  # socket itself takes 5 ms to import
import os

from fastdock._errors import SpecError
from fastdock._light import NamedTuple

TYPE_CHECKING = False  # see fastdock._light
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

RESOLVER = "127.0.0.11"
"""Where fastdock's resolver answers inside a container."""

_LOCAL_HOSTS = (
    ("127.0.0.1", "localhost"),
    ("::1", "localhost ip6-localhost ip6-loopback"),
    ("fe00::0", "ip6-localnet"),
    ("ff00::0", "ip6-mcastprefix"),
    ("ff02::1", "ip6-allnodes"),
    ("ff02::2", "ip6-allrouters"),
)


class ResolvConf(NamedTuple):
    """What a resolv.conf says (resolv.conf(5))."""

    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    text: str = ""  # the host's own file, which a container gets as it is where nothing else is asked for

    @property
    def reachable_nameservers(self) -> tuple[str, ...]:
        """Those that another network namespace reaches too: without the loopback's."""
        return tuple(server for server in self.nameservers if not _is_loopback(server))


class Names(NamedTuple):
    """What a container is called, and the texts of its files."""

    hostname: str
    hosts: str
    resolv_conf: str


def _is_loopback(server: str) -> bool:
    packed = _packed(server)
    return packed[0] == 127 if len(packed) == 4 else packed == _packed("::1")


def _packed(server: str) -> bytes:
    """An address in the kernel's form, without its zone (``%eth0``); ValueError."""
    address = server.split("%")[0]
    try:
        return _socket.inet_pton(_socket.AF_INET6 if ":" in address else _socket.AF_INET, address)
    except OSError:
        raise ValueError(f"{address!r} is not an address") from None


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
                _packed(words[1])
            except ValueError:
                continue
            nameservers.append(words[1])
        elif words[0] in ("search", "domain"):
            search = words[1:]  # the last one counts
        elif words[0] == "options":
            options += words[1:]
    return ResolvConf(tuple(nameservers), tuple(search), tuple(options))


def host_resolv_conf() -> ResolvConf:
    """The host's, with its text."""
    text = host_file("/etc/resolv.conf")
    return parse_resolv_conf(text)._replace(text=text)


def resolv_conf(conf: ResolvConf) -> str:
    """The file's text, in the order of libnetwork's Build().  ``--dns-search .`` means no search domain."""
    if conf.text:
        return conf.text
    lines = []
    if conf.search and conf.search != (".",):
        lines.append("search " + " ".join(conf.search))
    lines += [f"nameserver {server}" for server in conf.nameservers]
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
    whole = f"{hostname}.{domainname}" if domainname else hostname
    bare = whole.partition(".")[0]
    return whole if bare == whole else f"{whole} {bare}"


def wanted_resolv_conf(dns: Sequence[str], search: Sequence[str], options: Sequence[str]) -> ResolvConf:
    """``--dns`` and its kin; what is not given is the host's."""
    conf = host_resolv_conf()
    if not (dns or search or options):
        return conf
    return ResolvConf(
        tuple(dns) or conf.nameservers, tuple(search) or conf.search, tuple(options) or conf.options
    )


def hostname_of(network: str, wanted: str, container_id: str) -> str:
    """What was asked for, or Docker's default: the short id, with the host's network the host's name.  SpecError."""
    if wanted:
        return check_hostname(wanted)
    return os.uname().nodename if network == "host" else container_id[:12]


def names_without_bridge(
    network: str,
    hostname: str,
    conf: ResolvConf,
    add_host: Sequence[str] = (),
    host_gateways: Sequence[str] = (),
) -> Names:
    """With ``host`` the host's own /etc/hosts unless something is added; with ``none`` no address.  SpecError."""
    extra = [pair for entry in add_host for pair in parse_add_host(entry, host_gateways)]
    if network == "host":
        text = hosts(hostname, (), extra) if extra else host_file("/etc/hosts")  # as Docker does
        return Names(hostname, text, resolv_conf(conf))
    return Names(hostname, hosts(hostname, (), extra), resolv_conf(conf))


def host_file(path: str) -> str:
    """A file of the host; empty if it is not there."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def hosts_with(text: str, names: str, added: Sequence[str], removed: Iterable[str]) -> str:
    """The text of /etc/hosts after the container got ``added`` addresses and lost others.

    The rest stays as the container left it.
    """
    gone = {f"{address}\t{names}" for address in removed}
    lines = [line for line in text.removesuffix("\n").split("\n") if line not in gone]
    return "".join(line + "\n" for line in (*lines, *(f"{address}\t{names}" for address in added)))


def hosts_moved(text: str, names: str, addresses: Sequence[str]) -> str:
    """The text of /etc/hosts after what is called so got these addresses.  The rest stays as the container left it."""
    lines: list[str] = []
    left = [f"{address}\t{names}" for address in addresses]
    for line in text.removesuffix("\n").split("\n"):
        if line.partition("\t")[2] != names:
            lines.append(line)
        else:
            lines += left
            left = []
    return "".join(line + "\n" for line in lines)


def through_resolver(conf: ResolvConf) -> ResolvConf:
    """The same, asked of our resolver: names of containers have no dots."""
    dots = any(option.startswith("ndots:") for option in conf.options)
    return ResolvConf((RESOLVER,), conf.search, conf.options if dots else (*conf.options, "ndots:0"))


def names_host_gateway(add_host: Sequence[str]) -> bool:
    """Whether ``--add-host`` asks for the host's addresses, for which the default network must be there."""
    return any("host-gateway" in entry for entry in add_host)


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
    import ipaddress

    try:
        return [(name, str(ipaddress.ip_address(address)))]
    except ValueError:
        raise SpecError(f"bad --add-host {entry!r}: {address!r} is not an address") from None


def check_hostname(name: str) -> str:
    """The name, if it can be a host name (RFC 1123, but as long as the kernel's 64 bytes).  Raises SpecError."""
    labels = name.split(".")
    good = (
        name.isascii()
        and len(name) <= 64
        and all(
            len(label) > 0 and label.strip("-") == label and label.replace("-", "").replace("_", "").isalnum()
            for label in labels
        )
    )
    if not good:
        raise SpecError(f"{name!r} cannot be a host name")
    return name

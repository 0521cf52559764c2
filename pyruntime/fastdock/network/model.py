"""Networks, what a container may ask of them, and what is kept about it."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

from fastdock import _core
from fastdock._errors import SpecError
from fastdock._light import NamedTuple, Pattern, TypedDict

from . import ipam
from .ipam import Subnet
from .ports import PublishedPort

TYPE_CHECKING = False  # see fastdock._light
if TYPE_CHECKING:
    from typing import Any

    from fastdock._core import net

    from .files import ResolvConf

DEFAULT = "bridge"
PREDEFINED = (DEFAULT, "host", "none")
CONFIGURATION = "null"
"""The driver of a network that only others are made like (``--config-only``), as Docker shows it."""
HOST_BINDING = "com.docker.network.bridge.host_binding_ipv4"
INTERFACE_PREFIX = "com.docker.network.container_iface_prefix"
INTERFACE_NAME = "com.docker.network.endpoint.ifname"
INTERFACE_SYSCTLS = "com.docker.network.endpoint.sysctls"
_INTERFACE = Pattern(r"[^\s/:%,=;.][^\s/:%,=;]{0,14}")


def is_interface(name: str) -> bool:
    """Whether a device can be called so."""
    return bool(_INTERFACE.fullmatch(name))


class NetworkRequest(NamedTuple):
    """What ``network create`` is told."""

    name: str
    driver: str = "bridge"
    subnets: Sequence[str] = ()
    gateways: Sequence[str] = ()
    ip_ranges: Sequence[str] = ()
    aux_addresses: Mapping[str, str] = {}  # name: an address that no container gets
    internal: bool = False
    ipv4: bool = True
    ipv6: bool = False
    options: Mapping[str, str] = {}
    labels: Mapping[str, str] = {}
    attachable: bool = False
    config_only: bool = False
    config_from: str = ""
    ipam_driver: str = "default"
    ipam_options: Mapping[str, str] = {}


class NetworkFields(TypedDict, total=False):
    """What NetworkRequest has beside the name."""

    driver: str
    subnets: Sequence[str]
    gateways: Sequence[str]
    ip_ranges: Sequence[str]
    aux_addresses: Mapping[str, str]
    internal: bool
    ipv4: bool
    ipv6: bool
    options: Mapping[str, str]
    labels: Mapping[str, str]
    attachable: bool
    config_only: bool
    config_from: str
    ipam_driver: str
    ipam_options: Mapping[str, str]


class Network(NamedTuple):
    """A network that containers can join."""

    id: str
    name: str
    driver: str
    device: str  # the bridge, or macvlan's parent
    internal: bool = False
    subnets: tuple[Subnet, ...] = ()
    options: Mapping[str, str] = {}
    labels: Mapping[str, str] = {}
    created: float = 0.0  # seconds since the epoch
    more: Mapping[str, Any] = {}  # what NetworkRequest has beside these, where it was given; "adopted"

    @property
    def config_only(self) -> bool:
        """Whether only other networks are made like it."""
        return self.driver == CONFIGURATION

    @property
    def host_binding(self) -> str:
        """The host's IPv4 address that ports are published on which name none; "" is all."""
        text = self.options.get(HOST_BINDING, "")
        try:
            return "" if text in ("", "0.0.0.0") else ipam.text_of(ipam.pack(text))
        except OSError:
            raise SpecError(f"bad value {text!r} of the network option {HOST_BINDING}: an address") from None

    @property
    def interface_prefix(self) -> str:
        """What its devices' names in containers begin with."""
        prefix = self.options.get(INTERFACE_PREFIX, "eth")
        if not _INTERFACE.fullmatch(f"{prefix}999"):
            raise SpecError(f"bad value {prefix!r} of the network option {INTERFACE_PREFIX}")
        return prefix

    @property
    def predefined(self) -> bool:
        """Whether it is always there: bridge, host or none."""
        return self.name in PREDEFINED

    @property
    def icc(self) -> bool:
        """Whether its containers reach each other."""
        return _flag(self.options, "com.docker.network.bridge.enable_icc", True)

    @property
    def masquerade(self) -> bool:
        """Whether its containers leave with the host's address."""
        return (
            _flag(self.options, "com.docker.network.bridge.enable_ip_masquerade", True) and not self.internal
        )

    @property
    def mtu(self) -> int:
        """Bytes; 0 is the kernel's default."""
        text = self.options.get("com.docker.network.driver.mtu", "0")
        if not text.isdecimal() or not (int(text) == 0 or 68 <= int(text) <= 65535):
            raise SpecError(f"bad MTU {text!r}")
        return int(text)

    def auxiliary(self, subnet: Subnet) -> dict[str, str]:
        """Who else has addresses of the subnet: ``--aux-address``."""
        import ipaddress

        whole = ipaddress.ip_network(subnet.subnet)
        given = self.more.get("aux_addresses", {}).items()
        return {name: address for name, address in given if ipaddress.ip_address(address) in whole}

    @property
    def ipv4(self) -> bool:
        """Whether it has IPv4 addresses."""
        return any(subnet.version == 4 for subnet in self.subnets)

    @property
    def ipv6(self) -> bool:
        """Whether it has IPv6 addresses."""
        return any(subnet.version == 6 for subnet in self.subnets)


@functools.lru_cache(64)  # nearly each start reads the same one
def network_from(row: tuple[Any, ...], subnets: tuple[tuple[Any, ...], ...]) -> Network:
    """From a row of ``networks`` (id, …, created, more) and its subnets."""
    network_id, name, driver, device, internal, options, labels, created, more = row
    return Network(
        network_id,
        name,
        driver,
        device,
        bool(internal),
        tuple(Subnet(*subnet) for subnet in subnets),
        _core.parse_json(options),
        _core.parse_json(labels),
        created,
        _core.parse_json(more),
    )


def _flag(options: Mapping[str, str], key: str, default: bool) -> bool:
    value = options.get(key)
    if value is None:
        return default
    if value.lower() not in ("true", "false", "1", "0"):
        raise SpecError(f"bad value {value!r} of the network option {key}: it is true or false")
    return value.lower() in ("true", "1")


class Attachment(NamedTuple):
    """One network that a container joins: ``--network name=N,ip=A,alias=B``."""

    network: str
    ip: str = ""
    ip6: str = ""
    mac: str = ""
    aliases: tuple[str, ...] = ()
    driver_opts: tuple[tuple[str, str], ...] = ()
    gw_priority: int = 0  # the default route is that of the highest; of several, the first
    links: tuple[tuple[str, str], ...] = ()  # what this container alone calls others here: (name, alias)


_MAC = Pattern("[0-9a-f]{2}(:[0-9a-f]{2}){5}")


def check_mac(text: str) -> str:
    """An Ethernet address that a device can have, with colons.  SpecError; "" is one that will be made."""
    mac = text.lower().replace("-", ":")
    if mac and not (_MAC.fullmatch(mac) and int(mac[1], 16) % 2 == 0 and mac.strip("0:")):
        raise SpecError(
            f"bad MAC address {text!r}: six bytes as 02:42:ac:11:00:02, not that of a group (IEEE 802, 8.2)"
        )
    return mac


class Addresses(TypedDict, total=False):
    """What ``connect`` takes of an attachment, beside the network."""

    ip: str
    ip6: str
    mac: str
    aliases: Sequence[str]
    driver_opts: Mapping[str, str]
    gw_priority: int
    links: Sequence[str]  # NAME[:ALIAS]


_NO_LINK = frozenset(" :#/")


def parse_link(text: str) -> tuple[str, str]:
    """``NAME[:ALIAS]``: the other container and what it is called here.  SpecError."""
    name, colon, alias = text.partition(":")
    alias = alias if colon else name
    if not all(word.isprintable() and word and not _NO_LINK & {*word} for word in (name, alias)):
        raise SpecError(f"bad --link {text!r}: it is NAME or NAME:ALIAS")
    return name, alias


def attachment_of(network: str, addresses: Addresses) -> Attachment:
    """SpecError for what it does not know."""
    if unknown := addresses.keys() - Attachment._fields or addresses.keys() & {"network"}:
        raise SpecError(
            f"{min(unknown)} is nothing that one joins a network with",
            hint="ip, ip6, mac, aliases, driver_opts, gw_priority, links",
        )
    given = {
        **addresses,
        "aliases": tuple(addresses.get("aliases", ())),
        "driver_opts": tuple(addresses.get("driver_opts", {}).items()),
        "links": tuple(map(parse_link, addresses.get("links", ()))),
    }
    return Attachment(network)._replace(**given)  # type: ignore[arg-type]  # of one type each, as Addresses says


class NetworkOptions(NamedTuple):
    """What ``docker run`` says about networks."""

    attachments: Sequence[Attachment] = (Attachment(DEFAULT),)
    hostname: str = ""  # default: the short id
    domainname: str = ""
    dns: Sequence[str] = ()
    dns_search: Sequence[str] = ()
    dns_options: Sequence[str] = ()
    add_host: Sequence[str] = ()  # NAME:ADDRESS, NAME:host-gateway
    publish: Sequence[str] = ()  # -p
    publish_all: bool = False  # -P
    exposed: Sequence[str] = ()  # PORT[/PROTOCOL], the image's and --expose
    egress: str = "allow"  # allow, deny, or a list of prefixes and domains
    sysctls: Sequence[tuple[str, str, str]] = ()  # of its devices: (device, path below /proc/sys, value)


class Endpoint(NamedTuple):
    """A container's place in one network."""

    network_id: str
    network: str
    driver: str
    device: str
    name: str  # in the container: eth0
    mac: str
    addresses: tuple[str, ...]  # with the prefix length
    gateways: tuple[str, ...] = ()  # of its default routes
    host_name: str = ""
    mtu: int = 0
    isolated: bool = False
    macvlan_mode: int = 0
    names: tuple[str, ...] = ()  # what others on this network call it
    host_binding: str = ""  # the host's IPv4 address of published ports that name none
    gw_priority: int = 0
    sysctls: tuple[tuple[str, str], ...] = ()  # of its device: (path below /proc/sys, value)
    driver_opts: tuple[tuple[str, str], ...] = ()
    # What it calls others: (name, alias); on the default bridge (id, names in its /etc/hosts).
    links: tuple[tuple[str, str], ...] = ()

    @property
    def plain_addresses(self) -> list[str]:
        """Without prefix lengths."""
        return [address.partition("/")[0] for address in self.addresses]


class Egress(NamedTuple):
    """Where a container may go.  It always reaches its own networks."""

    prefixes: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()


class Document(NamedTuple):
    """Everything about a container's networks that repairing needs."""

    endpoints: tuple[Endpoint, ...]
    ports: tuple[PublishedPort, ...] = ()
    egress: Egress | None = None
    upstreams: tuple[str, ...] = ()  # servers that the resolver asks for it
    uses_resolver: bool = False
    exposed: tuple[str, ...] = ()  # PORT/PROTOCOL, published or not
    hostname: str = ""  # as in its /etc/hosts, with the domain's name where it has one

    def to_json(self) -> str:
        """As the database keeps it."""
        document = self._asdict()
        document["endpoints"] = [endpoint._asdict() for endpoint in self.endpoints]
        document["ports"] = [port._asdict() for port in self.ports]
        document["egress"] = self.egress._asdict() if self.egress is not None else None
        return _core.dump_json(document)


def document_from(text: str) -> Document:
    """The opposite of ``Document.to_json``."""
    fields = _core.parse_json(text)
    egress = fields["egress"]
    return Document(
        endpoints=tuple(Endpoint(**_with_tuples(each)) for each in fields["endpoints"]),
        ports=tuple(PublishedPort(**each) for each in fields["ports"]),
        egress=None if egress is None else Egress(**_with_tuples(egress)),
        upstreams=tuple(fields["upstreams"]),
        uses_resolver=fields["uses_resolver"],
        exposed=tuple(fields.get("exposed", ())),
        hostname=fields.get("hostname", ""),
    )


def _with_tuples(fields: dict[str, Any]) -> dict[str, Any]:
    """JSON has lists only."""
    return {key: _tuple(value) if isinstance(value, list) else value for key, value in fields.items()}


def _tuple(items: list[Any]) -> tuple[Any, ...]:
    return tuple([tuple(item) if isinstance(item, list) else item for item in items])


class Wanted(NamedTuple):
    """What a container asks of its networks, read and checked: what Networks.take() needs."""

    container_id: str
    name: str
    options: NetworkOptions
    hostname: str
    host_conf: ResolvConf


class NetworkPlan(NamedTuple):
    """What the engine needs to start a container with its networks.

    ``namespace``: "new" (its own), "host" (none of its own), or the id of the container whose it shares.
    """

    namespace: str
    hostname: str
    hosts: str = ""  # text of /etc/hosts; with resolv_conf: empty when the other container's files are shared
    resolv_conf: str = ""
    container_id: str = ""
    document: Document | None = None
    core: net.AttachPlan | None = None  # what net.attach() takes; None: at most a loopback device
    recorded: str = ""  # the document as the database has it

    @property
    def ports(self) -> tuple[PublishedPort, ...]:
        """What is published."""
        return self.document.ports if self.document else ()

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The networks it joins."""
        return self.document.endpoints if self.document else ()


def parse_egress(text: str) -> Egress | None:
    """``allow`` (None), ``deny``, or prefixes and domains separated by commas.  Raises SpecError."""
    if text == "allow":
        return None
    if text == "deny":
        return Egress()
    prefixes: list[str] = []
    domains: list[str] = []
    for item in filter(None, (part.strip().lower() for part in text.split(","))):
        if "/" in item or ":" in item or item.replace(".", "").isdecimal():
            try:
                import ipaddress

                prefixes.append(str(ipaddress.ip_network(item, strict=False)))
            except ValueError:
                raise SpecError(f"bad --egress {item!r}: it is not a network address") from None
        else:
            name = item.removeprefix("*.").rstrip(".")
            if not name or not all(
                part.replace("-", "").replace("_", "").isalnum() for part in name.split(".")
            ):
                raise SpecError(f"bad --egress {item!r}: it is 'allow', 'deny', or prefixes and domain names")
            domains.append(name)
    return Egress(tuple(prefixes), tuple(domains))

"""The group ``network``: create, ls, inspect, connect, disconnect, rm, prune, repair."""

from __future__ import annotations

import copy
import re
import time
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import click

from fastdock._errors import ContainerNotFound, FastdockError, NotFound, SpecError
from fastdock.cli.common import Group, each
from fastdock.cli.errors import describe
from fastdock.cli.output import format_rows
from fastdock.cli.template import Template
from fastdock.cli.template_functions import to_json
from fastdock.containers.networking import endpoint_id

if TYPE_CHECKING:
    from fastdock.containers import Container
    from fastdock.network import Network, Networks

HEADINGS = {
    "ID": "NETWORK ID", "Name": "NAME", "Driver": "DRIVER", "Scope": "SCOPE", "CreatedAt": "CREATED AT",
    "IPv4": "IPV4", "IPv6": "IPV6", "Internal": "INTERNAL", "Labels": "LABELS", "Label": "LABEL",
}  # fmt: skip
TABLE = "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}"


def get_networks(context: click.Context) -> Networks:
    """The networks of the state directory that ``--root`` (or FASTDOCK_ROOT) names."""
    from fastdock.engine import Engine

    return Engine(context.find_root().params.get("root")).networks


@click.group("network", cls=Group)
def network() -> None:
    """Manage networks."""


def _pairs(items: tuple[str, ...]) -> dict[str, str]:
    return {name: value for name, _, value in (item.partition("=") for item in items)}


def _words(items: tuple[str, ...]) -> tuple[str, ...]:
    """Of an option that takes a list with commas: "strings" in Docker's help."""
    return tuple(word for item in items for word in item.split(","))


@network.command("create")
@click.argument("name", metavar="NETWORK")
@click.option("-d", "--driver", default="bridge", help="bridge or macvlan [bridge].")
@click.option("--subnet", "subnets", multiple=True, help="Addresses, as 10.1.0.0/16.")
@click.option("--gateway", "gateways", multiple=True, help="The host's address in the subnet.")
@click.option("--ip-range", "ip_ranges", multiple=True, help="Give out addresses of this part.")
@click.option("--aux-address", "aux_addresses", multiple=True, help="NAME=ADDRESS that no container gets.")
@click.option("--internal/--no-internal", default=False, help="Nothing outside is reached.")
@click.option("--ipv4/--no-ipv4", default=True, help="IPv4 addresses [true].")
@click.option("--ipv6/--no-ipv6", default=False, help="IPv6 addresses as well.")
@click.option("-o", "--opt", "options", multiple=True, help="The driver's option: NAME=VALUE.")
@click.option("--label", "labels", multiple=True, help="NAME=VALUE.")
@click.option("--attachable/--no-attachable", default=False, help="As without: every network is.")
@click.option("--config-only", is_flag=True, help="A configuration for other networks.")
@click.option("--config-from", default="", help="All of it is as in this configuration.")
@click.option("--ipam-driver", default="default", help="There is one: default.")
@click.option("--ipam-opt", "ipam_options", multiple=True, help="Kept, and shown by inspect: NAME=VALUE.")
@click.option("--scope", default="local", help="There is one: local.")
@click.option("--ingress", is_flag=True, help="Refused: it is of swarms.")
@click.pass_context
def create(context: click.Context, /, name: str, scope: str, ingress: bool, **given: Any) -> None:
    """Create a network."""
    if scope != "local" or ingress:
        raise SpecError(
            f"{'ingress networks are' if ingress else f'the scope {scope} is'} of swarms: there are none"
        )
    for key in ("options", "labels", "aux_addresses", "ipam_options"):
        given[key] = _pairs(given[key])
    for key in ("subnets", "gateways", "ip_ranges"):
        given[key] = _words(given[key])
    click.echo(get_networks(context).create(name, **given).id)


@network.command("ls")
@click.option(
    "-f", "--filter", "filters", multiple=True, help="name=, id=, driver=, label=, type=, scope=, dangling=."
)
@click.option("--format", "format_", help="table [TEMPLATE], json, or a Go template.")
@click.option("--no-trunc", is_flag=True, help="Don't shorten IDs.")
@click.option("-q", "--quiet", is_flag=True, help="Only IDs.")
@click.pass_context
def list_command(
    context: click.Context, filters: tuple[str, ...], format_: str | None, no_trunc: bool, quiet: bool
) -> None:
    """List networks."""
    networks = get_networks(context)
    wanted = _Filter(filters, ("name", "id", "driver", "label", "type", "scope", "dangling"), networks)
    rows = [
        {
            "CreatedAt": _time(each, "%Y-%m-%d %H:%M:%S", " +0000 UTC"),
            "Driver": each.driver,
            "ID": each.id if no_trunc else each.id[:12],
            "IPv4": str(each.ipv4).lower(),
            "IPv6": str(each.ipv6).lower(),
            "Internal": str(each.internal).lower(),
            "Label": partial(_label, each),
            "Labels": ",".join(f"{key}={value}" for key, value in each.labels.items()),
            "Name": each.name,
            "Scope": "local",
        }
        for each in sorted(networks.list(), key=_natural)
        if wanted.takes(each)
    ]
    if quiet and format_ in (None, "", "table"):
        format_ = "{{.ID}}"
    click.echo(format_rows(rows, format_, TABLE, HEADINGS), nl=False)


class _Filter:
    """``--filter`` of networks: different names must all match, of one name's values any, but every label."""

    _VALUES: ClassVar = {"type": ("builtin", "custom"), "dangling": ("true", "false", "1", "0")}

    def __init__(self, filters: tuple[str, ...], allowed: tuple[str, ...], networks: Networks) -> None:
        self._networks = networks
        self._wanted: dict[str, list[str]] = {}
        for text in filter(None, filters):
            name, equals, value = text.partition("=")
            name, value = name.strip().lower(), value.strip()
            if not equals:
                raise click.BadParameter(f"{text!r}: bad format of filter (expected name=value)")
            if name not in allowed:
                raise SpecError(f"invalid filter {text!r}", hint=", ".join(f"{each}=" for each in allowed))
            if value not in self._VALUES.get(name, (value,)):
                raise SpecError(f"invalid filter {text!r}", hint=" or ".join(self._VALUES[name]))
            self._wanted.setdefault(name, []).append(value)
        self._until = 0.0
        if times := self._wanted.get("until"):
            from fastdock.cli.listing import until

            self._until = min(map(until, times))

    def takes(self, network: Network) -> bool:
        return all(self._matches(network, name, values) for name, values in self._wanted.items())

    def _matches(self, network: Network, name: str, values: list[str]) -> bool:
        if name in ("label", "label!"):
            has = [_has_label(network, value) for value in values]
            return all(has) if name == "label" else not any(has)
        if name == "until":
            return network.created < self._until
        if name in ("name", "id"):
            return any(_is_found(value, getattr(network, name)) for value in values)
        custom = not network.predefined
        if name == "dangling":
            unused = custom and not self._networks.endpoints(network)
            return ("true" if unused else "false") in values or str(int(unused)) in values
        own = {"driver": network.driver, "scope": "local", "type": "custom" if custom else "builtin"}
        return own[name] in values


def _is_found(pattern: str, text: str) -> bool:
    """As moby's filters.Match: a regular expression, or the very text."""
    try:
        return re.search(pattern, text) is not None
    except re.error:
        return pattern == text


def _natural(network: Network) -> list[str | int]:
    """Docker's order: n2 before n10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"([0-9]+)", network.name)]


def _has_label(network: Network, wanted: str) -> bool:
    key, equals, value = wanted.partition("=")
    return key in network.labels and (not equals or network.labels[key] == value)


def _label(network: Network, name: str) -> str:
    return network.labels.get(name, "")


def _time(network: Network, format_: str = "%Y-%m-%dT%H:%M:%S", zone: str = "Z") -> str:
    """As Go prints it: nanoseconds, without the zeros at their end."""
    seconds, _, fraction = f"{network.created:.9f}".partition(".")
    text = time.strftime(format_, time.gmtime(int(seconds)))
    return f"{text}.{fraction}".rstrip("0").rstrip(".") + zone


@network.command("inspect")
@click.argument("names", nargs=-1, required=True, metavar="NETWORK...")
@click.option("-f", "--format", "format_", help="json, or a Go template.")
@click.option("-v", "--verbose", is_flag=True, expose_value=False, help="As without: more is of swarms.")
@click.pass_context
def inspect(context: click.Context, names: tuple[str, ...], format_: str | None) -> None:
    """Show all about networks, as JSON."""
    networks = get_networks(context)
    found: list[dict[str, Any]] = []
    failed = False
    for name in names:
        try:
            found.append(
                _details(
                    networks, next((n for n in networks.list() if n.name == name), None) or networks.get(name)
                )
            )
        except FastdockError as error:
            click.echo(f"Error: {describe(error)}", err=True)
            failed = True
    if format_ in (None, "json"):
        import json

        click.echo(json.dumps(found, indent=4) if format_ is None else to_json(found))
    else:
        for details in found:
            click.echo(Template(format_).render(details))
    if failed:
        context.exit(1)


def _details(networks: Networks, network: Network) -> dict[str, Any]:
    """As Docker's API has it."""
    containers = {}
    for container_id, (name, document) in networks.endpoints(network).items():
        for endpoint in document.endpoints:
            if endpoint.network_id == network.id:
                addresses = {6 if ":" in address else 4: address for address in endpoint.addresses}
                containers[container_id] = {
                    "Name": name,
                    "EndpointID": endpoint_id(container_id, network.id),
                    "MacAddress": endpoint.mac,
                    "IPv4Address": addresses.get(4, ""),
                    "IPv6Address": addresses.get(6, ""),
                }
    ranges = [
        {"Subnet": subnet.subnet}
        | ({"IPRange": subnet.ip_range} if subnet.ip_range != subnet.subnet else {})
        | {"Gateway": subnet.gateway}
        | ({"AuxiliaryAddresses": mine} if (mine := network.auxiliary(subnet)) else {})
        for subnet in network.subnets
    ] or [{"Subnet": subnet} for subnet in network.more.get("subnets", ())]
    return {
        "Name": network.name,
        "Id": network.id,
        "Created": _time(network),
        "Scope": "local",
        "Driver": network.driver,
        "EnableIPv4": network.ipv4,
        "EnableIPv6": network.ipv6,
        "IPAM": {"Driver": "default", "Options": network.more.get("ipam_options", {}), "Config": ranges},
        "Internal": network.internal,
        "Attachable": network.more.get("attachable", False),
        "Ingress": False,
        "ConfigFrom": {"Network": network.more.get("config_from", "")},
        "ConfigOnly": network.config_only,
        "Containers": containers,
        "Options": _default_options(network) | dict(network.options),
        "Labels": dict(network.labels),
    }


def _default_options(network: Network) -> dict[str, str]:
    """What Docker shows of its default bridge."""
    if network.name != "bridge":
        return {}
    bridge = "com.docker.network.bridge."
    return {
        f"{bridge}default_bridge": "true", f"{bridge}enable_icc": "true", f"{bridge}enable_ip_masquerade": "true",
        f"{bridge}host_binding_ipv4": "0.0.0.0", f"{bridge}name": network.device,
        "com.docker.network.driver.mtu": "1500",
    }  # fmt: skip


@network.command("connect")
@click.argument("name", metavar="NETWORK")
@click.argument("container")
@click.option("--ip", default="", help="IPv4 address.")
@click.option("--ip6", default="", help="IPv6 address.")
@click.option("--mac-address", "mac", default="", help="Ethernet address.")
@click.option("--alias", "aliases", multiple=True, help="Another name on this network.")
@click.option("--link", "links", multiple=True, help="What this container calls another: NAME[:ALIAS].")
@click.option(
    "--driver-opt", "driver_opts", multiple=True, help="The driver's option of this device: NAME=VALUE."
)
@click.option("--gw-priority", type=int, default=0, help="The default route is that of the highest [0].")
@click.pass_context
def connect(
    context: click.Context, /, name: str, container: str, driver_opts: tuple[str, ...], **given: Any
) -> None:
    """Join a container to a network."""
    given["driver_opts"] = _pairs(_words(driver_opts))
    given["aliases"] = _words(given["aliases"])
    kept = _kept(context, container)
    if kept is not None:
        kept.connect(name, **given)
    else:
        get_networks(context).connect(name, container, **given)


@network.command("disconnect")
@click.argument("name", metavar="NETWORK")
@click.argument("container")
@click.option("-f", "--force", is_flag=True, help="As without: it always succeeds if the container is on it.")
@click.pass_context
def disconnect(context: click.Context, name: str, container: str, force: bool) -> None:
    """Take a container off a network."""
    kept = _kept(context, container)
    if kept is not None:
        kept.disconnect(name)
    else:
        get_networks(context).disconnect(name, container)


def _kept(context: click.Context, reference: str) -> Container | None:
    """The container, unless it is one of a ``run --rm``: of that only its network knows."""
    from fastdock.engine import Engine

    try:
        return Engine(context.find_root().params.get("root")).containers.get(reference)
    except ContainerNotFound:
        return None


@network.command("rm")
@click.argument("names", nargs=-1, required=True, metavar="NETWORK...")
@click.option("-f", "--force", is_flag=True, help="One that does not exist is no error.")
@click.pass_context
def remove(context: click.Context, names: tuple[str, ...], force: bool) -> None:
    """Remove networks."""
    networks = get_networks(context)

    def remove_one(name: str) -> None:
        try:
            networks.remove(name)
        except NotFound:
            if force:
                return
            raise
        click.echo(name)

    each(names, remove_one)


@network.command("prune")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.option("--filter", "filters", multiple=True, help="label=, label!=, until=.")
@click.pass_context
def prune(context: click.Context, force: bool, filters: tuple[str, ...]) -> None:
    """Remove the networks that no container uses."""
    networks = get_networks(context)
    wanted = _Filter(filters, ("label", "label!", "until"), networks)
    if not force:
        click.confirm(
            "WARNING! This will remove all custom networks not used by at least one container.\n"
            "Are you sure you want to continue?",
            abort=True,
        )
    removed = networks.prune(keep=lambda each: not wanted.takes(each))
    if removed:
        click.echo("\n".join(["Deleted Networks:", *(gone.name for gone in removed), ""]))


@network.command("repair")
@click.pass_context
def repair(context: click.Context) -> None:
    """Make bridges, firewall and names again what they should be."""
    get_networks(context).repair()


for _other, _command in (("list", list_command), ("remove", remove)):  # as Docker's users write them
    _same = copy.copy(_command)
    _same.hidden = True
    network.add_command(_same, _other)

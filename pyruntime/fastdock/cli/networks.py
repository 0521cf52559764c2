"""The group ``network``: create, ls, inspect, connect, disconnect, rm, prune, repair."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, ClassVar

import click

from fastdock._errors import ContainerNotFound, FastdockError, NotFound, SpecError
from fastdock.cli.common import Group, each
from fastdock.cli.errors import describe
from fastdock.cli.output import format_rows
from fastdock.cli.template import Template
from fastdock.cli.template_functions import to_json

if TYPE_CHECKING:
    from fastdock.containers import Container
    from fastdock.network import Network, Networks

HEADINGS = {
    "ID": "NETWORK ID", "Name": "NAME", "Driver": "DRIVER", "Scope": "SCOPE", "CreatedAt": "CREATED AT",
    "IPv6": "IPV6", "Internal": "INTERNAL", "Labels": "LABELS",
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


@network.command("create")
@click.argument("name")
@click.option("-d", "--driver", default="bridge", help="bridge or macvlan [bridge].")
@click.option("--subnet", "subnets", multiple=True, help="Addresses, as 10.1.0.0/16.")
@click.option("--gateway", "gateways", multiple=True, help="The host's address in the subnet.")
@click.option("--ip-range", "ip_ranges", multiple=True, help="Give out addresses of this part.")
@click.option("--internal", is_flag=True, help="Nothing outside is reached.")
@click.option("--ipv6", is_flag=True, help="IPv6 addresses as well.")
@click.option("-o", "--opt", "options", multiple=True, help="The driver's option: NAME=VALUE.")
@click.option("--label", "labels", multiple=True, help="NAME=VALUE.")
@click.option("--attachable", is_flag=True, expose_value=False, help="As without: every network is.")
@click.option("--scope", type=click.Choice(["local"]), expose_value=False, help="There is one: local.")
@click.pass_context
def create(
    context: click.Context,
    name: str,
    driver: str,
    subnets: tuple[str, ...],
    gateways: tuple[str, ...],
    ip_ranges: tuple[str, ...],
    internal: bool,
    ipv6: bool,
    options: tuple[str, ...],
    labels: tuple[str, ...],
) -> None:
    """Create a network."""
    made = get_networks(context).create(
        name,
        driver=driver,
        subnets=subnets,
        gateways=gateways,
        ip_ranges=ip_ranges,
        internal=internal,
        ipv6=ipv6,
        options=_pairs(options),
        labels=_pairs(labels),
    )
    click.echo(made.id)


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
            "ID": each.id if no_trunc else each.id[:12],
            "Name": each.name,
            "Driver": each.driver,
            "Scope": "local",
            "CreatedAt": _time(each),
            "IPv6": str(each.ipv6).lower(),
            "Internal": str(each.internal).lower(),
            "Labels": ",".join(f"{key}={value}" for key, value in each.labels.items()),
        }
        for each in networks.list()
        if wanted.takes(each)
    ]
    if quiet:
        for row in rows:
            click.echo(row["ID"])
        return
    click.echo(format_rows(rows, format_, TABLE, HEADINGS), nl=False)


class _Filter:
    """``--filter`` of networks: different names must all match, of one name's values any, but every label."""

    _VALUES: ClassVar = {"type": ("builtin", "custom"), "dangling": ("true", "false", "1", "0")}

    def __init__(self, filters: tuple[str, ...], allowed: tuple[str, ...], networks: Networks) -> None:
        self._networks = networks
        self._wanted: dict[str, list[str]] = {}
        for text in filters:
            name, equals, value = text.partition("=")
            if not equals or name not in allowed:
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
        if name == "name":
            return any(value in network.name for value in values)
        if name == "id":
            return any(network.id.startswith(value) for value in values)
        custom = not network.predefined
        if name == "dangling":
            unused = custom and not self._networks.endpoints(network)
            return ("true" if unused else "false") in values or str(int(unused)) in values
        own = {"driver": network.driver, "scope": "local", "type": "custom" if custom else "builtin"}
        return own[name] in values


def _has_label(network: Network, wanted: str) -> bool:
    key, equals, value = wanted.partition("=")
    return key in network.labels and (not equals or network.labels[key] == value)


def _time(network: Network) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(network.created)) if network.created else ""


@network.command("inspect")
@click.argument("names", nargs=-1, required=True)
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
                    "EndpointID": endpoint.host_name,
                    "MacAddress": endpoint.mac,
                    "IPv4Address": addresses.get(4, ""),
                    "IPv6Address": addresses.get(6, ""),
                }
    ranges = [
        {"Subnet": subnet.subnet, "Gateway": subnet.gateway}
        | ({"IPRange": subnet.ip_range} if subnet.ip_range != subnet.subnet else {})
        for subnet in network.subnets
    ]
    return {
        "Name": network.name,
        "Id": network.id,
        "Created": _time(network),
        "Scope": "local",
        "Driver": network.driver,
        "EnableIPv6": network.ipv6,
        "IPAM": {"Driver": "default", "Options": {}, "Config": ranges},
        "Internal": network.internal,
        "Attachable": False,
        "Ingress": False,
        "ConfigOnly": False,
        "Containers": containers,
        "Options": dict(network.options),
        "Labels": dict(network.labels),
    }


@network.command("connect")
@click.argument("name")
@click.argument("container")
@click.option("--ip", default="", help="IPv4 address.")
@click.option("--ip6", default="", help="IPv6 address.")
@click.option("--mac-address", "mac", default="", help="Ethernet address.")
@click.option("--alias", "aliases", multiple=True, help="Another name on this network.")
@click.pass_context
def connect(
    context: click.Context, name: str, container: str, ip: str, ip6: str, mac: str, aliases: tuple[str, ...]
) -> None:
    """Join a container to a network."""
    kept = _kept(context, container)
    if kept is not None:
        kept.connect(name, ip=ip, ip6=ip6, mac=mac, aliases=aliases)
    else:
        get_networks(context).connect(name, container, ip=ip, ip6=ip6, mac=mac, aliases=aliases)


@network.command("disconnect")
@click.argument("name")
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
@click.argument("names", nargs=-1, required=True)
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
        click.confirm("WARNING! This removes all networks that no container uses.\nAre you sure?", abort=True)
    removed = networks.prune(keep=lambda each: not wanted.takes(each))
    if removed:
        click.echo("Deleted Networks:")
    for gone in removed:
        click.echo(gone.name)


@network.command("repair")
@click.pass_context
def repair(context: click.Context) -> None:
    """Make bridges, firewall and names again what they should be."""
    get_networks(context).repair()

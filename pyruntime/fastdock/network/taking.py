"""What a container takes of its networks at its start: addresses, ports, the texts of its files."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from fastdock._errors import SpecError
from fastdock._light import sqlite3

from . import details, files, planning, resolver, rules
from .model import DEFAULT, Attachment, Document, Network, NetworkOptions, NetworkPlan, Wanted

TYPE_CHECKING = False  # see fastdock._light
if TYPE_CHECKING:
    from .links import Linked
    from .networks import Networks


def want(networks: Networks, container_id: str, options: NetworkOptions, name: str) -> Wanted | NetworkPlan:
    """See Networks.want()."""
    first = options.attachments[0].network if options.attachments else ""
    alone = [a.network for a in options.attachments if a.network in ("host", "none") or ":" in a.network]
    mode = alone[0] if alone else first
    hostname = files.hostname_of(mode, options.hostname, container_id)
    if alone or first == "none":
        return _without_bridge(mode, len(options.attachments), hostname, options, networks.host_gateways)
    host_conf = files.host_resolv_conf()
    if len({a.network for a in options.attachments}) != len(options.attachments):
        raise SpecError("a network is named twice")
    networks._need_way_out()
    return Wanted(container_id, name, options, hostname, host_conf)


def _without_bridge(
    mode: str, count: int, hostname: str, options: NetworkOptions, host_gateways: Callable[[], Sequence[str]]
) -> NetworkPlan:
    if count > 1:
        raise SpecError(f"the network {mode} cannot be combined with others")
    if options.egress != "allow":
        raise SpecError("--egress needs a bridge network")
    if mode.startswith("container:"):
        if options.publish or options.publish_all:
            raise SpecError("ports are published by the container whose network is shared")
        return NetworkPlan(mode.partition(":")[2], hostname)
    conf = files.wanted_resolv_conf(options.dns, options.dns_search, options.dns_options)
    gateways = host_gateways() if files.names_host_gateway(options.add_host) else ()
    names = files.names_without_bridge(mode, hostname, conf, options.add_host, gateways)
    return NetworkPlan("host" if mode == "host" else "new", *names)


def _choose(
    networks: Networks, options: NetworkOptions
) -> tuple[Sequence[tuple[Network, Attachment]], Sequence[Linked]]:
    """The networks to join, with the kernel's part of them; and who is linked to on the default bridge."""
    chosen = [(networks.get(attachment.network), attachment) for attachment in options.attachments]
    try:
        if not networks._is_whole(network for network, _ in chosen):
            networks.repair()
    except OSError as error:
        if chosen[0][0].name != DEFAULT:
            raise
        raise details.no_default_network(error) from error
    if not any(attachment.links for attachment in options.attachments):
        return chosen, ()
    from . import links

    linked = links.find(networks, options.attachments)
    return [(network, links.resolved(attachment, linked)) for network, attachment in chosen], linked


def _tell_linked(networks: Networks, container_id: str, document: Document) -> None:
    """Those that are linked to it on the default bridge have its addresses in their /etc/hosts."""
    place = next((each for each in document.endpoints if each.network == DEFAULT), None)
    if place is None:
        return
    linked = networks._database.execute(
        "SELECT container_id, document FROM network_containers"
        " WHERE container_id != ?1 AND instr(document, ?1)",
        (container_id,),
    ).fetchall()
    if linked:
        from . import links

        links.follow(networks, container_id, place, linked)


def take(networks: Networks, wanted: Wanted, pid: int | None, previous: Document | None) -> NetworkPlan:
    """See Networks.take()."""
    container_id, name, options, hostname, host_conf = wanted
    chosen, linked = _choose(networks, options)
    gateways = networks.host_gateways() if files.names_host_gateway(options.add_host) else ()
    owner = details.identity(os.getpid() if pid is None else pid)

    def work(db: sqlite3.Connection) -> tuple[Document, str]:
        if previous is not None:
            details.forget(db, container_id)
        document = planning.make_document(
            db,
            chosen,
            options,
            container_id,
            name,
            networks._scope.port_prefix,
            host_conf,
            hostname,
            previous,
        )
        text = document.to_json()
        # Nobody else is to open the resolver's sockets in it meanwhile: see repairing.start_resolver().
        starts = pid is None or document.uses_resolver
        details.insert_container(
            db, container_id, name, text, document, details.STARTING + owner if starts else owner
        )
        return document, text

    document, text = networks._turns.run(work)
    try:
        theirs = [(each.names, address) for each in linked for address in each.addresses]
        hosts, resolv = planning.texts(document, options, hostname, host_conf, gateways, theirs)
        if pid is None:  # of one that may have lived before
            _tell_linked(networks, container_id, document)
        if document.uses_resolver:
            networks._ensure_resolver()
        networks._ensure_relay([document])
    except BaseException:
        networks.detach(container_id)
        raise
    core = rules.attach_plan(
        networks._scope, document, networks.resolver_socket, resolver.record(container_id, document)
    )
    return NetworkPlan("new", hostname, hosts, resolv, container_id, document, core, text)

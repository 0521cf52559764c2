"""``--link`` on the default bridge, which has no names: lines of /etc/hosts, and variables, as Docker has them.

On networks of the user's the resolver knows links (csrc/net/dns/registry.h).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from fastdock._errors import ContainerNotFound, ContainerNotRunning
from fastdock._light import NamedTuple

from . import details, files, joining
from .model import DEFAULT, Attachment, Endpoint, document_from

TYPE_CHECKING = False  # see fastdock._light
if TYPE_CHECKING:
    from .networks import Networks


class Linked(NamedTuple):
    """Another container on the default bridge."""

    id: str
    alias: str
    names: str  # in /etc/hosts
    addresses: tuple[str, ...]
    ports: tuple[str, ...]  # PORT/PROTOCOL


def find(networks: Networks, attachments: Iterable[Attachment]) -> list[Linked]:
    """Those that a container is linked to on the default bridge.  ContainerNotRunning, SpecError."""
    return [
        _find(networks, *link)
        for attachment in attachments
        if attachment.network == DEFAULT
        for link in attachment.links
    ]


def _find(networks: Networks, target: str, alias: str) -> Linked:
    try:
        container_id, _, document = joining.running(networks, target)
        place = next(each for each in document.endpoints if each.network == DEFAULT)
    except (ContainerNotFound, ContainerNotRunning, StopIteration):
        raise ContainerNotRunning(
            f"cannot link to {target}, as {alias}: no container of this name runs on the network {DEFAULT}"
        ) from None
    (name,) = networks._database.execute(
        "SELECT name FROM network_containers WHERE container_id = ?", (container_id,)
    ).fetchone()
    published = (f"{port.container_port}/{port.protocol}" for port in document.ports)
    return Linked(
        container_id,
        alias,
        " ".join(dict.fromkeys((alias, *document.hostname.split(), name))),
        tuple(place.plain_addresses),
        tuple(dict.fromkeys((*document.exposed, *published))),
    )


def follow(networks: Networks, container_id: str, place: Endpoint, linked: Iterable[tuple[str, str]]) -> None:
    """A container has been started anew: the /etc/hosts of those ``linked`` to it, (id, document), say so."""
    for other, text in linked:
        path = f"{details.files_prefix(networks._run_directory, other)}hosts"
        for target, names in (link for each in document_from(text).endpoints for link in each.links):
            if target == container_id:
                joining.rewrite(
                    path, partial(files.hosts_moved, names=names, addresses=place.plain_addresses)
                )


def variables(linked: Linked, container_name: str, environment: Iterable[str]) -> list[str]:
    """What Docker sets for a link (daemon/links/links.go), but for ranges of ports; ``environment`` is the other's."""
    alias = linked.alias.upper().replace("-", "_")
    address = next((each for each in linked.addresses if ":" not in each), "")
    made: list[str] = []
    for number, protocol in sorted(
        (_split(port) for port in linked.ports), key=lambda p: (p[0], p[1] != "tcp")
    ):
        url, key = f"{protocol}://{address}:{number}", f"{alias}_PORT_{number}_{protocol.upper()}"
        if not made:
            made.append(f"{alias}_PORT={url}")
        made += [f"{key}={url}", f"{key}_ADDR={address}", f"{key}_PORT={number}", f"{key}_PROTO={protocol}"]
    made.append(f"{alias}_NAME=/{container_name}/{linked.alias}")
    theirs = (each for each in environment if each.partition("=")[0] not in ("HOME", "PATH"))
    return [*made, *(f"{alias}_ENV_{each}" for each in theirs)]


def _split(port: str) -> tuple[int, str]:
    number, _, protocol = port.partition("/")
    return int(number), protocol


def resolved(attachment: Attachment, found: Sequence[Linked]) -> Attachment:
    """On the default bridge, a link is to the container that is there now, whatever it will be called."""
    if attachment.network != DEFAULT:
        return attachment
    return attachment._replace(links=tuple((linked.id, linked.names) for linked in found))

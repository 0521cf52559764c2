"""``--link`` on the default bridge, which has no names: lines of /etc/hosts, and variables, as Docker has them.

On networks of the user's the resolver knows links (csrc/net/dns/registry.h).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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
            f"cannot link to {_called(networks, target)}, as {alias}: no container of this name runs on the"
            f" network {DEFAULT}"
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


def _called(networks: Networks, target: str) -> str:
    """What the users of a container that is linked to by its id know it by."""
    row = networks._database.execute("SELECT name FROM containers WHERE id = ?", (target,)).fetchone()
    return str(row[0]) if row else target


def follow(networks: Networks, container_id: str, place: Endpoint, linked: Iterable[tuple[str, str]]) -> None:
    """A container has been started anew: the /etc/hosts of those ``linked`` to it, (id, document), say so."""
    for other, text in linked:
        path = f"{details.files_prefix(networks._run_directory, other)}hosts"
        for target, names in (link for each in document_from(text).endpoints for link in each.links):
            if target == container_id:
                joining.rewrite(
                    path, partial(files.hosts_moved, names=names, addresses=place.plain_addresses)
                )


def with_variables(
    networks: Networks,
    attachments: Iterable[Attachment],
    container_name: str,
    own: Sequence[str],
    find_environment: Callable[[str], Sequence[str]],
) -> list[str]:
    """A container's ``own`` variables and those of its links on the default bridge, which take none of them away.

    ContainerNotRunning, SpecError.
    """
    names = {each.partition("=")[0] for each in own}
    added = [
        each
        for linked in find(networks, attachments)
        for each in variables(linked, container_name, find_environment(linked.id))
    ]
    return [*(each for each in added if each.partition("=")[0] not in names), *own]


def variables(linked: Linked, container_name: str, environment: Iterable[str]) -> list[str]:
    """What Docker 28 sets for a link (moby, daemon/links/links.go); ``environment`` is the other's."""
    alias = linked.alias.upper().replace("-", "_")
    address = next((each for each in linked.addresses if ":" not in each), "")
    ports = sorted(map(_split, linked.ports), key=lambda port: (port[1] != "tcp", port[1], port[0]))
    made: list[str] = []
    for number, protocol in ports:
        url, key = f"{protocol}://{address}:{number}", f"{alias}_PORT_{number}_{protocol.upper()}"
        if not made:
            made.append(f"{alias}_PORT={url}")
        made += [f"{key}={url}", f"{key}_ADDR={address}", f"{key}_PORT={number}", f"{key}_PROTO={protocol}"]
    for first, last, protocol in _ranges(ports):
        url, key = f"{protocol}://{address}", f"{alias}_PORT_{first}_{protocol.upper()}"
        made += [f"{key}_START={url}:{first}", f"{key}_PORT_START={first}"]
        made += [f"{key}_END={url}:{last}", f"{key}_PORT_END={last}"]
    made.append(f"{alias}_NAME=/{container_name}/{linked.alias}")
    theirs = (each for each in environment if each.partition("=")[0] not in ("HOME", "PATH"))
    return [*made, *(f"{alias}_ENV_{each}" for each in theirs)]


def _ranges(ports: Iterable[tuple[int, str]]) -> list[tuple[int, int, str]]:
    """Of ports in order, those of one protocol that follow one another: (first, last, protocol)."""
    found: list[tuple[int, int, str]] = []
    for number, protocol in ports:
        if found and found[-1][1:] == (number - 1, protocol):
            found[-1] = (found[-1][0], number, protocol)
        else:
            found.append((number, number, protocol))
    return [each for each in found if each[0] < each[1]]


def _split(port: str) -> tuple[int, str]:
    number, _, protocol = port.partition("/")
    return int(number), protocol


def resolved(attachment: Attachment, found: Sequence[Linked]) -> Attachment:
    """On the default bridge, a link is to the container that is there now, whatever it will be called."""
    if attachment.network != DEFAULT:
        return attachment
    return attachment._replace(links=tuple((linked.id, linked.names) for linked in found))

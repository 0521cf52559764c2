"""``fastdock ps``: Docker's columns, filters and formats."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from fastdock._errors import SpecError
from fastdock.cli.common import Command
from fastdock.cli.output import format_rows, human_duration, human_size, parse_time

if TYPE_CHECKING:
    from fastdock.containers import Containers
    from fastdock.containers.records import Record
    from fastdock.containers.state import State

HEADINGS = {
    "ID": "CONTAINER ID", "Image": "IMAGE", "Command": "COMMAND", "CreatedAt": "CREATED AT", "RunningFor": "CREATED",
    "Ports": "PORTS", "State": "STATE", "Status": "STATUS", "Size": "SIZE", "Names": "NAMES", "Labels": "LABELS",
    "Mounts": "MOUNTS", "LocalVolumes": "LOCAL VOLUMES", "Networks": "NETWORKS", "Label": "LABEL",
}  # fmt: skip
TABLE = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}"


@click.command("ps", cls=Command)
@click.option("-a", "--all", "show_all", is_flag=True, help="Show all, not only those that run.")
@click.option(
    "-f", "--filter", "filters", multiple=True, help="name=, id=, status=, label=, ancestor=, health= …"
)
@click.option("--format", "format_", help="table [TEMPLATE], json, or a Go template.")
@click.option("-n", "--last", type=int, default=-1, help="The last N created, in all states.")
@click.option("-l", "--latest", is_flag=True, help="The last one created, in all states.")
@click.option("--no-trunc", is_flag=True, help="Don't shorten.")
@click.option("-q", "--quiet", is_flag=True, help="Only IDs.")
@click.option("-s", "--size", is_flag=True, help="Show what it has written.")
@click.pass_context
def ps(
    context: click.Context, show_all: bool, filters: tuple[str, ...], format_: str | None, last: int, latest: bool,
    no_trunc: bool, quiet: bool, size: bool,
) -> None:  # fmt: skip
    """List containers."""
    from fastdock.cli.containers import get_containers

    containers = get_containers(context)
    chosen = Filter(containers, filters)
    if latest:
        last = 1
    found = [
        (record, state)
        for record, state in containers.entries()
        if (show_all or last > 0 or chosen.names_status or state.running) and chosen.takes(record, state)
    ]
    if last > 0:
        found = found[:last]
    if quiet and not format_:
        for record, _ in found:
            click.echo(record.id if no_trunc else record.id[:12])
        return
    now = time.time()
    rows = [row_of(containers, record, state, now, no_trunc, size) for record, state in found]
    click.echo(format_rows(rows, format_, TABLE + ("\t{{.Size}}" if size else ""), HEADINGS), nl=False)


def row_of(
    containers: Containers, record: Record, state: State, now: float, no_trunc: bool, size: bool
) -> dict[str, Any]:
    """The fields of ``--format``."""
    from fastdock.containers.networking import names_text, ports_text

    # moby, daemon/list.go: arguments with a blank are quoted
    program, *arguments = record.command
    command = " ".join([program, *(f"'{word}'" if " " in word else word for word in arguments)])
    if not no_trunc and len(command) > 20:
        command = command[:19] + "…"
    labels = record.labels
    mounts = [mount[2] or mount[1] for mount in record.document["options"].get("mounts", ())]
    return {
        "ID": record.id if no_trunc else record.id[:12],
        "Image": record.image,
        "Command": f'"{command}"',
        "CreatedAt": time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(record.created)),
        "RunningFor": human_duration(max(0.0, now - record.created)) + " ago",
        "Ports": ports_text(containers, record) if state.running else "",
        "State": state.status,
        "Status": status_text(state, now),
        "Size": _size_text(containers, record) if size else "0B",
        "Names": record.name,
        "Labels": ",".join(f"{name}={value}" for name, value in labels.items()),
        "Label": lambda name: labels.get(name, ""),
        "Mounts": ",".join(mounts),
        "LocalVolumes": str(len(record.document.get("volumes") or ())),
        "Networks": names_text(record),
    }


def _size_text(containers: Containers, record: Record) -> str:
    """Docker's: what it has written, and that with its image."""
    from fastdock.containers import Container

    written = Container.of(containers, record).size()
    store = containers.engine.store
    image = 0 if store.find_id(record.image_id) is None else store.get(record.image_id).size
    return human_size(written) + (f" (virtual {human_size(written + image)})" if image else "")


def status_text(state: State, now: float) -> str:
    """Docker's: "Up 3 minutes (healthy)", "Exited (0) 2 hours ago", "Created" …"""
    if state.status == "created":
        return "Created"
    if state.status == "exited":
        return (
            f"Exited ({state.exit_code}) {human_duration(max(0.0, now - parse_time(state.finished_at)))} ago"
        )
    if state.status == "restarting":
        since = human_duration(max(0.0, now - parse_time(state.finished_at)))
        return f"Restarting ({state.exit_code}) {since} ago"
    text = f"Up {human_duration(max(0.0, now - parse_time(state.started_at)))}"
    if state.status == "paused":
        return text + " (Paused)"
    if state.health is not None:
        health = state.health["status"]
        return f"{text} (health: starting)" if health == "starting" else f"{text} ({health})"
    return text


_KNOWN = (
    "id",
    "name",
    "label",
    "exited",
    "status",
    "ancestor",
    "before",
    "since",
    "volume",
    "network",
    "health",
)


_VALUES = {
    "status": ("created", "restarting", "running", "removing", "paused", "exited", "dead"),
    "health": ("starting", "healthy", "unhealthy", "none"),
}


class Filter:
    """``--filter`` of containers: different names must all match, one name's values any of them."""

    def __init__(
        self, containers: Containers, filters: tuple[str, ...], allowed: tuple[str, ...] = _KNOWN
    ) -> None:
        self._containers = containers
        self._wanted: dict[str, list[str]] = {}
        for text in filters:
            name, equals, value = text.partition("=")
            if not equals or name not in allowed:
                raise SpecError(f"invalid filter '{text}'", hint=", ".join(allowed))
            if value not in _VALUES.get(name, (value,)):
                raise SpecError(f"invalid filter '{text}'", hint=", ".join(_VALUES[name]))
            self._wanted.setdefault(name, []).append(value)
        self._times = {
            name: self._created(values)
            for name, values in self._wanted.items()
            if name in ("before", "since")
        }
        self._until = min((_until(value) for value in self._wanted.get("until", ())), default=None)
        self._ancestors = set(self._images(self._wanted.get("ancestor", ())))

    @property
    def names_status(self) -> bool:
        """Whether containers that do not run were asked for."""
        return bool(self._wanted.keys() & {"status", "exited"})

    def _created(self, references: list[str]) -> float:
        return self._containers.record(references[0]).created

    def _images(self, references: Any) -> Iterator[str]:
        for reference in references:
            yield f"builtin:{reference}"
            image_id = self._containers.engine.store.find_id(reference)
            if image_id:
                yield image_id

    def takes(self, record: Record, state: State) -> bool:
        return all(self._matches(name, values, record, state) for name, values in self._wanted.items())

    def _matches(self, name: str, values: list[str], record: Record, state: State) -> bool:
        if name == "id":
            return any(record.id.startswith(value) for value in values)
        if name == "name":
            import re

            return any(re.search(value.removeprefix("/"), record.name) for value in values)
        if name in ("label", "label!"):
            has = [_has_label(record.labels, value) for value in values]
            return all(has) if name == "label" else not any(has)
        if name == "exited":
            return state.status == "exited" and str(state.exit_code) in values
        if name == "status":
            return state.status in values
        if name == "ancestor":
            return record.image_id in self._ancestors or record.image in values
        if name == "before":
            return record.created < self._times[name]
        if name == "since":
            return record.created > self._times[name]
        if name == "until":
            return self._until is None or record.created < self._until
        if name == "volume":
            mounts = record.document["options"].get("mounts", ())
            places = {os.path.normpath(str(part)) for mount in mounts for part in mount[1:3]} | set(
                record.document["volumes"]
            )
            return any(value in places for value in values)
        if name == "network":
            from fastdock.containers.networking import names_text

            return any(joined in values for joined in names_text(record).split(","))
        health = state.health["status"] if state.health is not None else "none"
        return health in values


def _has_label(labels: dict[str, str], wanted: str) -> bool:
    name, equals, value = wanted.partition("=")
    return name in labels and (not equals or labels[name] == value)


def _until(text: str) -> float:
    from fastdock.containers.settings import parse_duration

    if (when := parse_time(text)) > 0:
        return when
    if text.replace(".", "", 1).isdigit():
        return float(text)
    return time.time() - parse_duration(text)

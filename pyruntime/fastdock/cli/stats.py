"""``fastdock stats`` and ``top``."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from fastdock._errors import ContainerNotFound, ContainerNotRunning
from fastdock.cli.common import Command
from fastdock.cli.containers import get_containers
from fastdock.cli.output import align, format_rows, human_size

if TYPE_CHECKING:
    from fastdock.containers import Container

HEADINGS = {
    "Container": "CONTAINER", "ID": "CONTAINER ID", "Name": "NAME", "CPUPerc": "CPU %", "MemUsage": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %", "NetIO": "NET I/O", "BlockIO": "BLOCK I/O", "PIDs": "PIDS",
}  # fmt: skip
TABLE = "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}"


@click.command("stats", cls=Command)
@click.option("-a", "--all", "show_all", is_flag=True, help="Show all containers.")
@click.option("--format", "format_", help="table [TEMPLATE], json, or a Go template.")
@click.option("--no-stream", is_flag=True, help="Only once.")
@click.option("--no-trunc", is_flag=True, help="Don't shorten.")
@click.argument("names", nargs=-1, metavar="[CONTAINER...]")
@click.pass_context
def stats(
    context: click.Context,
    show_all: bool,
    format_: str | None,
    no_stream: bool,
    no_trunc: bool,
    names: tuple[str, ...],
) -> None:
    """Show what containers use, live."""
    containers = get_containers(context)
    before: dict[str, tuple[float, Mapping[str, Any]]] = {}
    first = True
    while True:
        chosen = [containers.get(name) for name in names] or list(containers.list(all=show_all))
        if first:
            before = {container.id: sample for container in chosen if (sample := _sample(container))}
            time.sleep(0.5 if no_stream else 1)
        rows = []
        for container in chosen:
            now = _sample(container)
            rows.append(_row(container, before.get(container.id), now, no_trunc))
            if now is not None:
                before[container.id] = now
        clear = "\033[H\033[J" if not no_stream and sys.stdout.isatty() and not format_ else ""
        click.echo(clear + format_rows(rows, format_, TABLE, HEADINGS), nl=False)
        if no_stream:
            return
        first = False
        time.sleep(1)


def _sample(container: Container) -> tuple[float, Mapping[str, Any]] | None:
    try:
        return time.monotonic(), container.stats()
    except (ContainerNotRunning, ContainerNotFound):
        return None


def _row(
    container: Container,
    before: tuple[float, Mapping[str, Any]] | None,
    now: tuple[float, Mapping[str, Any]] | None,
    no_trunc: bool,
) -> dict[str, str]:
    from fastdock.containers.statistics import Sample

    row = {
        "ID": container.id if no_trunc else container.short_id,
        "Name": container.name,
        "Container": container.short_id,
    }
    if now is None:
        empty = {
            "CPUPerc": "0.00%",
            "MemUsage": "0B / 0B",
            "MemPerc": "0.00%",
            "NetIO": "0B / 0B",
            "BlockIO": "0B / 0B",
        }
        return {**row, **empty, "PIDs": "0"}
    begin = before or now
    sample = Sample(begin[1], now[1], now[0] - begin[0])
    received, sent = network_bytes(container)
    return {
        **row,
        "CPUPerc": f"{sample.cpu:.2f}%",
        "MemUsage": f"{binary_size(sample.memory)} / {binary_size(sample.memory_limit)}",
        "MemPerc": f"{100 * sample.memory / sample.memory_limit:.2f}%",
        "NetIO": f"{human_size(received)} / {human_size(sent)}",
        "BlockIO": f"{human_size(sample.read)} / {human_size(sample.written)}",
        "PIDs": str(sample.pids),
    }


def network_bytes(container: Container) -> tuple[int, int]:
    """What came in and went out over its network devices, without loopback."""
    try:
        with open(f"/proc/{container.pid}/net/dev") as file:
            lines = file.readlines()[2:]
    except (OSError, ContainerNotRunning):
        return 0, 0
    counts = [line.split(":", 1)[1].split() for line in lines if line.split(":", 1)[0].strip() != "lo"]
    return sum(int(count[0]) for count in counts), sum(int(count[8]) for count in counts)


def binary_size(size: float) -> str:
    """Binary units with four digits, as docker stats writes memory: 1.5MiB."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            return f"{size:.4g}{unit}"
        size /= 1024
    raise AssertionError


@click.command("top", cls=Command, context_settings={"ignore_unknown_options": True})
@click.argument("container")
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[PS OPTIONS]")
@click.pass_context
def top(context: click.Context, container: str, options: tuple[str, ...]) -> None:
    """List the processes of a container."""
    headings, rows = get_containers(context).get(container).top(options)
    click.echo(align(["\t".join(row) for row in [headings, *rows]], 20, 1), nl=False)

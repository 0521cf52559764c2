"""``fastdock logs``."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

import click

from fastdock._errors import SpecError
from fastdock.cli.common import Command
from fastdock.cli.containers import get_containers

if TYPE_CHECKING:
    from fastdock.containers import Container


def parse_when(text: str | None) -> float | None:
    """Seconds since the epoch: RFC 3339, a date, a number, or a Go duration before now.  SpecError."""
    if not text:
        return None
    from datetime import datetime

    from fastdock.containers.settings import parse_duration

    try:
        return float(text)
    except ValueError:
        pass
    try:
        when = datetime.fromisoformat(text.replace("Z", "+00:00"))
        return when.timestamp()
    except ValueError:
        pass
    try:
        return time.time() - parse_duration(text)
    except SpecError:
        raise SpecError(f"{text!r} is no time", hint="2026-01-31T12:00:00Z, 1769860800, or 10m") from None


@click.command("logs", cls=Command)
@click.option("--details", is_flag=True, help="Show what was added by log options.")
@click.option("-f", "--follow", is_flag=True, help="Go on until it ends.")
@click.option("--since", help="From this time on (a time, or 10m).")
@click.option("--until", help="Up to this time.")
@click.option("-n", "--tail", default="all", help="Lines from the end.")
@click.option("-t", "--timestamps", is_flag=True, help="Show times.")
@click.argument("container")
@click.pass_context
def logs(
    context: click.Context, details: bool, follow: bool, since: str | None, until: str | None, tail: str,
    timestamps: bool, container: str,
) -> None:  # fmt: skip
    """Show the output of a container."""
    count = int(tail) if tail.isdigit() else None
    if count is None and tail not in ("all", "-1"):
        raise SpecError(f"invalid value for tail: {tail}", hint="a number, or all")
    found = get_containers(context).get(container)
    try:
        if follow or count is not None or since or until or timestamps or details:
            _print_entries(found, follow, count, parse_when(since), parse_when(until), timestamps, details)
        else:
            _print_all(found)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _print_all(container: Container) -> None:
    """The quick way: whole blocks, without an object for each line."""
    from fastdock import _streams
    from fastdock.cli.foreground import _write_all
    from fastdock.containers.logs import check_readable, raw_blocks

    check_readable(container)
    for block in raw_blocks(container._containers.log_path(container.id)):
        for stream, data in _streams.plain_log(block):
            _write_all(stream, data)


def _print_entries(
    container: Container,
    follow: bool,
    tail: int | None,
    since: float | None,
    until: float | None,
    timestamps: bool,
    details: bool,
) -> None:
    outputs = {1: sys.stdout.buffer, 2: sys.stderr.buffer}
    before = 1
    for entry in container.logs(follow=follow, tail=tail, since=since, until=until):
        output = outputs[entry.stream]
        if entry.stream != before:  # both may be one terminal: there the order shows
            outputs[before].flush()
            before = entry.stream
        # Docker puts what log options added (labels, env) before each line: here there is nothing.
        data = b" " + entry.data if details else entry.data
        output.write(entry.stamp.encode() + b" " + data if timestamps else data)
        if follow:
            output.flush()
    outputs[before].flush()

"""``fastdock events``."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

import click

from fastdock._errors import SpecError
from fastdock.cli.common import Command
from fastdock.cli.logs import parse_when
from fastdock.cli.output import format_rows

_FILTERS = ("container", "event", "image", "label", "type", "volume", "network", "scope")


@click.command("events", cls=Command)
@click.option(
    "-f", "--filter", "filters", multiple=True, help="container=, event=, image=, label=, type=, volume= …"
)
@click.option("--format", "format_", help="json, or a Go template.")
@click.option("--since", help="From this time on.")
@click.option("--until", help="Up to this time.")
@click.pass_context
def events(
    context: click.Context,
    filters: tuple[str, ...],
    format_: str | None,
    since: str | None,
    until: str | None,
) -> None:
    """Show what happens, as it happens."""
    from fastdock.containers.events import read_events
    from fastdock.engine import Engine

    engine = Engine(context.find_root().params.get("root"))
    wanted: dict[str, list[str]] = {}
    for text in filters:
        name, equals, value = text.partition("=")
        if not equals or name not in _FILTERS:
            raise SpecError(f"invalid filter '{text}'", hint=", ".join(_FILTERS))
        wanted.setdefault(name, []).append(value)
    for event in read_events(engine, since=parse_when(since), until=parse_when(until)):
        if not all(_matches(event, name, values) for name, values in wanted.items()):
            continue
        click.echo(
            line_of(event)
            if not format_
            else format_rows([_older_names(event)], format_, "", {}).rstrip("\n")
        )
        sys.stdout.flush()


def _older_names(event: Mapping[str, Any]) -> dict[str, Any]:
    """Docker has these members twice: templates may use either."""
    actor = event["Actor"]
    origin = {"From": actor["Attributes"].get("image", "")} if event["Type"] == "container" else {}
    return {"ID": actor["ID"], "Status": event["Action"], **origin, **event}


def line_of(event: Mapping[str, Any]) -> str:
    """Docker's line: time, type, action, id, (attributes)."""
    nanoseconds = event["timeNano"]
    seconds = time.localtime(nanoseconds // 10**9)
    zone = time.strftime("%z", seconds)
    when = time.strftime("%Y-%m-%dT%H:%M:%S", seconds) + f".{nanoseconds % 10**9:09d}{zone[:3]}:{zone[3:]}"
    attributes = ", ".join(f"{name}={value}" for name, value in sorted(event["Actor"]["Attributes"].items()))
    return f"{when} {event['Type']} {event['Action']} {event['Actor']['ID']} ({attributes})"


def _matches(event: Mapping[str, Any], name: str, values: list[str]) -> bool:
    actor = event["Actor"]
    attributes = actor["Attributes"]
    if name == "event":
        return any(event["Action"] == value or event["Action"].startswith(value + ":") for value in values)
    if name == "type":
        return event["Type"] in values
    if name == "label":
        pairs = [value.partition("=") for value in values]
        return all(
            key in attributes and (not equals or attributes[key] == text) for key, equals, text in pairs
        )
    if name == "image":
        return attributes.get("image") in values or (event["Type"] == "image" and actor["ID"] in values)
    if name == "scope":
        return event.get("scope") in values
    return event["Type"] == name and any(
        actor["ID"].startswith(value) or attributes.get("name") == value for value in values
    )

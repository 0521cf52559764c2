"""``fastdock inspect``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import click

from fastdock._errors import FastdockError, NotFound
from fastdock.cli.common import Command, get_images
from fastdock.cli.containers import get_containers
from fastdock.cli.errors import describe
from fastdock.cli.listing import image_size
from fastdock.cli.output import format_rows

Finder = Callable[[str], dict[str, Any]]


def show(names: tuple[str, ...], finders: list[Finder], format_: str | None, what: str) -> None:
    """Docker's: a JSON list, or a template for each; what is missing is an error after the rest."""
    found, errors = [], []
    for name in names:
        try:
            found.append(_find(name, finders, what))
        except FastdockError as error:
            errors.append(describe(error))
    if format_ and format_ != "json":
        click.echo(format_rows(found, format_, "", {}), nl=False)
    else:
        indent = None if format_ == "json" else 4
        click.echo(json.dumps(found, indent=indent, ensure_ascii=False))
    for text in errors:
        click.echo(f"Error: {text}", err=True)
    if errors:
        sys.exit(1)


def _find(name: str, finders: list[Finder], what: str) -> dict[str, Any]:
    for finder in finders:
        try:
            return finder(name)
        except NotFound:
            continue
    raise NotFound(f"no such {what}: {name}")


@click.command("inspect", cls=Command)
@click.option("-f", "--format", "format_", help="json, or a Go template.")
@click.option("-s", "--size", is_flag=True, help="Show what a container has written.")
@click.option(
    "--type", "kind", type=click.Choice(["container", "image", "volume"]), help="Of this type only."
)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.pass_context
def inspect_command(
    context: click.Context, format_: str | None, size: bool, kind: str | None, names: tuple[str, ...]
) -> None:
    """Show all about containers, images and volumes, as JSON."""
    containers = get_containers(context)

    def container(name: str) -> dict[str, Any]:
        found = containers.get(name)
        document = found.inspect()
        if not size:
            return document
        written = found.size()
        return {**document, "SizeRw": written, "SizeRootFs": written + image_size(containers, found.record)}

    finders: dict[str, Finder] = {
        "container": container,
        "image": lambda name: _image(context, name),
        "volume": lambda name: containers.volumes.get(name).inspect(),
    }
    show(names, [finders[kind]] if kind else list(finders.values()), format_, kind or "object")


@click.command("inspect", cls=Command)
@click.option("-f", "--format", "format_", help="json, or a Go template.")
@click.option("-s", "--size", is_flag=True, help="Show what a container has written.")
@click.argument("names", nargs=-1, required=True, metavar="CONTAINER...")
@click.pass_context
def container_inspect(
    context: click.Context, format_: str | None, size: bool, names: tuple[str, ...]
) -> None:
    """Show all about containers, as JSON."""
    context.invoke(inspect_command, format_=format_, size=size, kind="container", names=names)


def _image(context: click.Context, name: str) -> dict[str, Any]:
    image: dict[str, Any] = get_images(context).get(name).inspect()
    return image

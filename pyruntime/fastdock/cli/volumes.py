"""``fastdock volume``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fastdock._errors import SpecError
from fastdock.cli.common import Group, each
from fastdock.cli.containers import get_containers
from fastdock.cli.output import format_rows, human_size

if TYPE_CHECKING:
    from fastdock.volumes import Volume, Volumes

HEADINGS = {"Name": "VOLUME NAME", "Driver": "DRIVER", "Scope": "SCOPE", "Mountpoint": "MOUNTPOINT", "Labels": "LABELS",
            "Label": "LABEL", "Links": "LINKS", "Size": "SIZE"}  # fmt: skip


@click.group("volume", cls=Group)
def volume() -> None:
    """Manage volumes."""


def get_volumes(context: click.Context) -> Volumes:
    return get_containers(context).volumes


def pairs(items: tuple[str, ...]) -> dict[str, str]:
    return dict(item.partition("=")[::2] for item in items)


@volume.command("create")
@click.option("-d", "--driver", default="local", help="local.")
@click.option("--label", "labels", multiple=True, help="NAME=VALUE.")
@click.option("-o", "--opt", "options", multiple=True, help="Options of the driver.")
@click.argument("name", required=False, default="")
@click.pass_context
def create(
    context: click.Context, driver: str, labels: tuple[str, ...], options: tuple[str, ...], name: str
) -> None:
    """Create a volume."""
    if driver != "local":
        raise SpecError(f"volume driver {driver!r} is unknown", hint="local")
    click.echo(get_volumes(context).create(name, labels=pairs(labels), options=pairs(options)).name)


@volume.command("ls")
@click.option("-f", "--filter", "filters", multiple=True, help="dangling=, driver=, label=, name=.")
@click.option("--format", "format_", help="table [TEMPLATE], json, or a Go template.")
@click.option("-q", "--quiet", is_flag=True, help="Only names.")
@click.pass_context
def ls(context: click.Context, filters: tuple[str, ...], format_: str | None, quiet: bool) -> None:
    """List volumes."""
    volumes = get_volumes(context)
    found = [item for item in volumes.list() if all(_matches(volumes, item, text) for text in filters)]
    if quiet:
        for item in found:
            click.echo(item.name)
        return
    click.echo(
        format_rows([_row(item) for item in found], format_, "{{.Driver}}\t{{.Name}}", HEADINGS), nl=False
    )


def _row(item: Volume) -> dict[str, Any]:
    return {
        "Name": item.name, "Driver": "local", "Scope": "local", "Mountpoint": item.path, "Links": "N/A", "Size": "N/A",
        "Labels": ",".join(f"{name}={value}" for name, value in item.labels.items()),
        "Label": lambda name: item.labels.get(name, ""),
    }  # fmt: skip


def _matches(volumes: Volumes, item: Volume, text: str) -> bool:
    name, equals, value = text.partition("=")
    if not equals:
        raise SpecError(f"invalid filter {text!r}", hint="NAME=VALUE")
    if name == "dangling":
        return (value in ("true", "1")) != bool(volumes.users(item.name))
    if name == "driver":
        return value == "local"
    if name == "name":
        return value in item.name
    if name in ("label", "label!"):
        key, has_value, wanted = value.partition("=")
        has = key in item.labels and (not has_value or item.labels[key] == wanted)
        return has == (name == "label")
    raise SpecError(f"invalid filter '{name}'", hint="dangling, driver, label, name")


@volume.command("inspect")
@click.option("-f", "--format", "format_", help="json, or a Go template.")
@click.argument("names", nargs=-1, required=True, metavar="VOLUME...")
@click.pass_context
def inspect(context: click.Context, format_: str | None, names: tuple[str, ...]) -> None:
    """Show all about volumes, as JSON."""
    from fastdock.cli.inspection import show

    show(names, [lambda name: get_volumes(context).get(name).inspect()], format_, "volume")


@volume.command("rm")
@click.option("-f", "--force", is_flag=True, help="No error for one that is not there.")
@click.argument("names", nargs=-1, required=True, metavar="VOLUME...")
@click.pass_context
def rm(context: click.Context, force: bool, names: tuple[str, ...]) -> None:
    """Remove volumes."""
    volumes = get_volumes(context)

    def one(name: str) -> None:
        volumes.remove(name, force=force)
        click.echo(name)

    each(names, one)


@volume.command("prune")
@click.option("-a", "--all", "everything", is_flag=True, help="Named volumes too.")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.option("--filter", "filters", multiple=True, help="label=, label!=.")
@click.pass_context
def prune(context: click.Context, everything: bool, force: bool, filters: tuple[str, ...]) -> None:
    """Remove volumes that no container has."""
    kind = "volumes" if everything else "anonymous local volumes"
    warning = f"WARNING! This will remove all {kind} not used by at least one container."
    if not force and not click.confirm(f"{warning}\nAre you sure you want to continue?"):
        return
    volumes = get_volumes(context)
    keep = None if not filters else lambda item: not all(_matches(volumes, item, text) for text in filters)
    removed, freed = volumes.prune(all=everything, keep=keep)
    if removed:
        click.echo("Deleted Volumes:")
        for name in removed:
            click.echo(name)
        click.echo()
    click.echo(f"Total reclaimed space: {human_size(freed)}")

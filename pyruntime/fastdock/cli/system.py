"""Commands about the state as a whole: system df, system prune, system check."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from fastdock._errors import SpecError
from fastdock.cli.common import Command, Group, get_images
from fastdock.cli.containers import get_containers
from fastdock.cli.output import align, format_rows, human_age, human_size
from fastdock.volumes import disk_use

if TYPE_CHECKING:
    from fastdock.containers.manager import Containers
    from fastdock.image import Images
    from fastdock.volumes import Volumes

TABLE = "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}"
HEADINGS = {
    "Type": "TYPE",
    "TotalCount": "TOTAL",
    "Active": "ACTIVE",
    "Size": "SIZE",
    "Reclaimable": "RECLAIMABLE",
}


@click.group(cls=Group)
def system() -> None:
    """Look after fastdock's state."""


@system.command("df")
@click.option("-v", "--verbose", is_flag=True, help="Show each image, container and volume.")
@click.option("--format", "format_", help="table [TEMPLATE], json, or a Go template.")
@click.pass_context
def system_df(context: click.Context, verbose: bool, format_: str | None) -> None:
    """Show what takes space, and what would come free."""
    containers = get_containers(context)
    if verbose:
        if format_:
            raise SpecError("--format goes with the summary only, not with --verbose")
        for title, lines in (
            ("Images", _images_in_detail(containers.engine.images)),
            ("Containers", _containers_in_detail(containers)),
            ("Local Volumes", _volumes_in_detail(containers.volumes)),
        ):
            click.echo(f"{title} space usage:\n")
            click.echo(align(lines))
        return
    images, volumes = containers.engine.images, containers.volumes
    uses, space = images.disk_use(), images.space()
    all_containers = containers.list(all=True)
    sizes = [container.size() for container in all_containers]
    running = [container.state.running for container in all_containers]
    volume_sizes = [(disk_use(volume.path), bool(volumes.users(volume.name))) for volume in volumes.list()]
    rows = [
        _row("Images", len(uses), sum(bool(use.containers) for use in uses), space.layers, space.unused_layers),
        _row("Containers", len(sizes), sum(running), sum(sizes),
             sum(size for size, runs in zip(sizes, running, strict=True) if not runs)),
        _row("Local Volumes", len(volume_sizes), sum(used for _, used in volume_sizes),
             sum(size for size, _ in volume_sizes), sum(size for size, used in volume_sizes if not used)),
        _row("Blobs", space.blob_count, space.blob_count - space.unused_blob_count, space.blobs, space.unused_blobs),
    ]  # fmt: skip
    click.echo(format_rows(rows, format_, TABLE, HEADINGS), nl=False)


def _images_in_detail(images: Images) -> list[str]:
    lines = ["REPOSITORY\tTAG\tIMAGE ID\tCREATED\tSIZE\tSHARED SIZE\tUNIQUE SIZE\tCONTAINERS"]
    for use in images.disk_use():
        record = use.image
        for name in images.get(record.id).tags or ["<none>:<none>"]:
            repository, _, tag = name.rpartition(":")
            sizes = [human_size(size) for size in (use.size, use.shared, use.unique)]
            cells = [repository, tag, record.id[7:19], human_age(record.created, time.time()), *sizes]
            lines.append("\t".join([*cells, str(use.containers)]))
    return lines


def _containers_in_detail(containers: Containers) -> list[str]:
    from fastdock.cli.listing import Row

    lines = ["CONTAINER ID\tIMAGE\tCOMMAND\tLOCAL VOLUMES\tSIZE\tCREATED\tSTATUS\tNAMES"]
    for record, state in containers.entries():
        shown = Row(containers, record, state, time.time(), size=True).fields()
        names = ("ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names")
        lines.append("\t".join(str(shown[name]) for name in names))
    return lines


def _volumes_in_detail(volumes: Volumes) -> list[str]:
    lines = ["VOLUME NAME\tLINKS\tSIZE"]
    for volume in volumes.list():
        lines.append(f"{volume.name}\t{len(volumes.users(volume.name))}\t{human_size(disk_use(volume.path))}")
    return lines


@system.command("prune")
@click.option("-a", "--all", "everything", is_flag=True, help="All unused images, not only nameless ones.")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.option("--volumes", "with_volumes", is_flag=True, help="Anonymous volumes too.")
@click.pass_context
def prune(context: click.Context, everything: bool, force: bool, with_volumes: bool) -> None:
    """Remove stopped containers, and networks, images and (--volumes) volumes that nothing uses."""
    kinds = ["all stopped containers", "all networks not used by at least one container"]
    kinds += ["all anonymous volumes not used by at least one container"] * with_volumes
    kinds += [
        "all images without at least one container associated to them"
        if everything
        else "all dangling images"
    ]
    warning = "WARNING! This will remove:\n" + "".join(f"  - {kind}\n" for kind in kinds)
    if not force and not click.confirm(f"{warning}\nAre you sure you want to continue?"):
        context.exit(1)
    containers = get_containers(context)
    engine = containers.engine
    gone, freed = containers.prune()
    _list("Deleted Containers:", gone)
    _list("Deleted Networks:", [network.name for network in engine.networks.prune()])
    if with_volumes:
        names, size = containers.volumes.prune()
        freed += size
        _list("Deleted Volumes:", names)
    images = engine.images.prune(all=everything)
    _list("Deleted Images:", [f"{action.lower()}: {name}" for action, name in images.removed])
    click.echo(f"Total reclaimed space: {human_size(freed + images.space)}")


def _list(title: str, names: Sequence[str]) -> None:
    if names:
        click.echo("\n".join([title, *names, ""]))


def _row(kind: str, count: int, active: int, size: int, reclaimable: int) -> dict[str, Any]:
    share = f" ({round(100 * reclaimable / size)}%)" if size else ""
    return {
        "Type": kind,
        "TotalCount": str(count),
        "Active": str(active),
        "Size": human_size(size),
        "Reclaimable": human_size(reclaimable) + share,
    }


@system.command("check", cls=Command)
@click.option("--repair", is_flag=True, help="Put right what can be put right here.")
@click.option("-q", "--quiet", is_flag=True, help="Print what is wrong only.")
@click.pass_context
def system_check(context: click.Context, repair: bool, quiet: bool) -> None:
    """Verify blobs, layers and database against each other."""
    show = None if quiet else (lambda line: click.echo(f"checking {line}", err=True))
    findings = get_images(context).check(repair=repair, progress=show)
    for finding in findings:
        state = "repaired" if finding.repaired else "NOT repaired" if repair else "found"
        click.echo(f"{finding.kind} {finding.name}: {finding.problem} ({state})")
    if not findings:
        click.echo("All is well.")
    context.exit(1 if any(not finding.repaired for finding in findings) else 0)

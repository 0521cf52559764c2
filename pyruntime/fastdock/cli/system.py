"""Commands about the state as a whole: system df, system check."""

from __future__ import annotations

import time
from typing import Any

import click

from fastdock.cli.common import Command, Group, get_images
from fastdock.cli.output import align, format_rows, human_age, human_size

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
@click.option("-v", "--verbose", is_flag=True, help="Show each image.")
@click.option("--format", "format_", help="table [TEMPLATE], json, or a Go template.")
@click.pass_context
def system_df(context: click.Context, verbose: bool, format_: str | None) -> None:
    """Show what takes space, and what would come free."""
    images = get_images(context)
    uses = images.disk_use()
    if verbose:
        lines = ["REPOSITORY\tTAG\tIMAGE ID\tCREATED\tSIZE\tSHARED SIZE\tUNIQUE SIZE\tCONTAINERS"]
        for use in uses:
            record = use.image
            for name in images.get(record.id).tags or ["<none>:<none>"]:
                repository, _, tag = name.rpartition(":")
                cells = [repository, tag, record.id[7:19], human_age(record.created, time.time())]
                cells += [
                    human_size(use.size),
                    human_size(use.shared),
                    human_size(use.unique),
                    str(use.containers),
                ]
                lines.append("\t".join(cells))
        click.echo("Images space usage:\n")
        click.echo(align(lines), nl=False)
        return
    space = images.space()
    active = sum(bool(use.containers) for use in uses)
    rows: list[dict[str, Any]] = [
        _row("Images", len(uses), active, space.layers, space.unused_layers),
        _row(
            "Blobs",
            space.blob_count,
            space.blob_count - space.unused_blob_count,
            space.blobs,
            space.unused_blobs,
        ),
    ]
    click.echo(format_rows(rows, format_, TABLE, HEADINGS), nl=False)


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

"""Commands that read and write files of images and containers: save, load, import, export."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import click

from fastdock._errors import FastdockError, SpecError
from fastdock.cli.common import Command, get_images
from fastdock.cli.progress import transfer_progress


@click.command(cls=Command)
@click.argument("references", nargs=-1, required=True, metavar="IMAGE...")
@click.option("-o", "--output", help="Write to a file instead of stdout.")
@click.option(
    "--format", "format_", type=click.Choice(["docker-archive", "oci-archive"]), default="docker-archive",
    show_default=True, help="docker-archive is an OCI layout too.",
)  # fmt: skip
@click.option("--compression", type=click.Choice(["gzip", "zstd", "none"]), help="Compress the layers so.")
@click.pass_context
def save(
    context: click.Context,
    references: tuple[str, ...],
    output: str | None,
    format_: str,
    compression: str | None,
) -> None:
    """Write images to a tar file."""
    if output is None and sys.stdout.isatty():
        raise click.ClickException("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    images = get_images(context)
    target: Any = output or sys.stdout.buffer
    images.save(references, target, format=format_, compression=compression)


@click.command(cls=Command)
@click.option("-i", "--input", "input_", help="Read from a file instead of stdin.")
@click.option("-q", "--quiet", is_flag=True, help="Print the names only.")
@click.pass_context
def load(context: click.Context, input_: str | None, quiet: bool) -> None:
    """Take the images out of a file that save made."""
    if input_ is None and sys.stdin.isatty():
        raise click.ClickException("requested load from stdin, but stdin is empty")
    images = get_images(context)
    source: Any = input_ or sys.stdin.buffer
    with _named(source), transfer_progress(quiet) as show:
        loaded = images.load(source, progress=show)
    for image, names in loaded:
        for name in names:
            click.echo(f"Loaded image: {name}")
        if not names:
            click.echo(f"Loaded image ID: {image.id}")


@click.command("import", cls=Command)
@click.argument("source", metavar="FILE|URL|-")
@click.argument("reference", required=False, metavar="[REPOSITORY[:TAG]]")
@click.option("-c", "--change", "changes", multiple=True, help="Apply a Dockerfile instruction.")
@click.option("-m", "--message", default="", help="Say why, in the image's history.")
@click.option("--platform", help="Platform of the image: os/architecture[/variant].")
@click.pass_context
def import_command(
    context: click.Context,
    source: str,
    reference: str | None,
    changes: tuple[str, ...],
    message: str,
    platform: str | None,
) -> None:
    """Make an image of a file system's tar."""
    images = get_images(context)
    with _source(source) as file:
        made = images.import_tar(file, reference, changes=changes, message=message, platform=platform)
    click.echo(made.id)


@click.command(cls=Command)
@click.option("-o", "--output", help="Write to a file instead of stdout.")
@click.argument("container")
@click.pass_context
def export(context: click.Context, output: str | None, container: str) -> None:
    """Write a container's whole file system to a tar, without what is mounted in it."""
    from fastdock.cli.containers import get_containers

    if output is None and sys.stdout.isatty():
        raise click.ClickException("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    found = get_containers(context).get(container)
    if output is None:
        found.files.export(sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    try:
        with _named(output), open(output, "wb") as file:
            found.files.export(file)
    except FastdockError:
        if os.path.isfile(output):
            os.unlink(output)  # half an archive is none
        raise


@contextmanager
def _source(source: str) -> Iterator[IO[bytes] | str]:
    if source == "-":
        yield sys.stdin.buffer
    elif source.startswith(("http://", "https://")):
        from urllib.error import URLError
        from urllib.request import urlopen

        try:
            with urlopen(source, timeout=60) as response:
                yield response
        except URLError as error:
            raise SpecError(f"cannot fetch {source}: {error}") from error
    else:
        with _named(source):
            yield source


@contextmanager
def _named(source: object) -> Iterator[None]:
    """A file that is not there is the user's error, not ours."""
    try:
        yield
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        if error.filename != source:
            raise
        raise SpecError(f"cannot open {source}: {error.strerror}") from error

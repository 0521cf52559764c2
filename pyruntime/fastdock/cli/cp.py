"""``fastdock cp``."""

from __future__ import annotations

import sys

import click

from fastdock._errors import SpecError
from fastdock.cli.common import Command
from fastdock.cli.containers import get_containers


def split(text: str) -> tuple[str, str]:
    """CONTAINER:PATH, or ("", path): what begins with / or . is a path of ours."""
    if text.startswith(("/", ".")) or ":" not in text:
        return "", text
    container, _, path = text.partition(":")
    return container, path


@click.command("cp", cls=Command)
@click.option("-a", "--archive", is_flag=True, help="Keep owners.")
@click.option("-L", "--follow-link", is_flag=True, help="Copy what a link in the source leads to.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@click.argument("source")
@click.argument("destination")
@click.pass_context
def cp(
    context: click.Context, archive: bool, follow_link: bool, quiet: bool, source: str, destination: str
) -> None:
    """Copy files between a container and here: CONTAINER:PATH, a path, or - for a tar."""
    (from_name, from_path), (to_name, to_path) = split(source), split(destination)
    if bool(from_name) == bool(to_name):
        raise SpecError(
            "copying between containers is not supported"
            if from_name
            else "must specify at least one container source"
        )
    containers = get_containers(context)
    if from_name:
        files = containers.get(from_name).files
        if to_path == "-":
            files.get_archive(from_path, sys.stdout.buffer)
        else:
            files.get(from_path, to_path, follow=follow_link)
    elif from_path == "-":
        containers.get(to_name).files.put_archive(to_path, sys.stdin.buffer)
    else:
        import os

        path = os.path.realpath(from_path) if follow_link else from_path
        containers.get(to_name).files.put(path, to_path, keep_owners=archive)

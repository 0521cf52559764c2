"""What the commands share: errors on one line with their hint, and the way to the images."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from fastdock._errors import FastdockError
from fastdock.cli.errors import describe

if TYPE_CHECKING:
    from fastdock.image import Images


class Command(click.Command):
    """A command whose FastdockError becomes "Error: …" and exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FastdockError as error:
            raise Failure(error) from error


class Failure(click.ClickException):
    """A FastdockError as click shows it."""

    exit_code = 1

    def __init__(self, error: FastdockError) -> None:
        super().__init__(describe(error))


class Group(click.Group):
    """A group of such commands."""

    command_class = Command
    group_class = type


def get_images(context: click.Context) -> Images:
    """The images of the state directory that ``--root`` (or FASTDOCK_ROOT) names."""
    from fastdock.image import Images

    return Images.at(context.find_root().params.get("root"))


def each(names: tuple[str, ...], action: Any) -> None:
    """Runs ``action`` for every name; errors are printed, and make the exit status 1 at the end."""
    failed = False
    for name in names:
        try:
            action(name)
        except FastdockError as error:
            click.echo(f"Error: {describe(error)}", err=True)
            failed = True
    if failed:
        sys.exit(1)

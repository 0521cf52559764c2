"""What the commands share: errors on one line with their hint, and the way to the images."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from fastdock._errors import FastdockError
from fastdock.cli.errors import describe

if TYPE_CHECKING:
    from fastdock.image import Images


class Switched(click.Command):
    """A command whose switches may have a value, as in ``--sig-proxy=false``: Go's flags are written so."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        while True:
            try:
                return super().parse_args(ctx, [*args])
            except click.BadOptionUsage as error:
                changed = self._without_value(args, error.option_name)
                if changed is None:
                    raise
                args = changed

    def _without_value(self, args: list[str], name: str) -> list[str] | None:
        """The words with this switch in click's form; None: it is no switch, or its value is no truth."""
        switch = next(
            (each for each in self.params if isinstance(each, click.Option) and name in each.opts), None
        )
        at = next((number for number, word in enumerate(args) if word.startswith(f"{name}=")), -1)
        if switch is None or not switch.is_flag or at < 0:
            return None
        value = args[at].partition("=")[2]
        if value in ("1", "t", "T", "true", "TRUE", "True"):  # strconv.ParseBool
            return [*args[:at], name, *args[at + 1 :]]
        if value in ("0", "f", "F", "false", "FALSE", "False"):
            return [*args[:at], *switch.secondary_opts[:1], *args[at + 1 :]]
        return None


class Command(Switched):
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

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args:  # as docker's: no error
            click.echo(ctx.get_help())
            ctx.exit()
        return super().parse_args(ctx, args)


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

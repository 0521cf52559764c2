"""The command ``fastdock`` itself, as a click group of COMMANDS."""

from __future__ import annotations

import importlib
from typing import Any

import click

from fastdock import __version__
from fastdock.cli import COMMANDS
from fastdock.cli.usage import usage


def find(name: str, place: str) -> click.Command:
    """The command ``module:attribute``."""
    module, attribute = place.split(":")
    found = getattr(importlib.import_module(f"fastdock.cli.{module}"), attribute)
    if isinstance(found, click.Command):
        return found
    from fastdock.cli.plain_command import command_of

    return command_of(name, found)


class LazyGroup(click.Group):
    """Finds its commands in COMMANDS, and imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return find(cmd_name, COMMANDS[cmd_name][0])

    def get_help(self, ctx: click.Context) -> str:
        return usage()

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            if error.exit_code == click.UsageError.exit_code:
                # docker/cli, cmd/docker: 125 for a flag that is none or has a wrong value, 1 for missing words
                flags = click.NoSuchOption, click.BadOptionUsage, click.BadParameter
                missing = isinstance(error, click.MissingParameter)
                error.exit_code = 125 if isinstance(error, flags) and not missing else 1  # type: ignore[misc]
            raise

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            message = f"'{args[0]}' is not a fastdock command. See 'fastdock --help'"
            raise click.UsageError(message, ctx) from error


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--root", envvar="FASTDOCK_ROOT", metavar="DIRECTORY")
@click.option("--debug", "-D", is_flag=True)
@click.version_option(__version__, "--version", "-v", message="fastdock %(version)s")
def cli(root: str | None, debug: bool) -> None:
    """The options of all commands; their help is in ``cli.usage``."""

"""``fastdock run`` as click reads it: help, mistakes, and every spelling of its flags."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from fastdock._errors import FastdockError
from fastdock.cli.run import _OPTIONS, FAILED, create, report, run

F = TypeVar("F", bound=Callable[..., Any])


class WrongUsage(click.UsageError):
    """As docker run: 125, not click's 2."""

    exit_code = FAILED


class RunCommand(click.Command):
    """Its own failures end with 125, 126 or 127, as docker run's; wrong usage with 125."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        try:
            return super().make_context(*args, **kwargs)
        except click.UsageError as error:
            raise WrongUsage(error.message, error.ctx) from error

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (FastdockError, TypeError) as error:
            if ctx.find_root().params.get("debug"):
                raise
            ctx.exit(report(error))


def with_flags(function: F) -> F:
    """Gives a command all the flags of a run."""
    for flag in reversed(_OPTIONS):
        function = click.option(*flag.names, **flag.settings)(function)
    return function


@click.command(
    "run",
    cls=RunCommand,
    context_settings={"allow_interspersed_args": False, "help_option_names": ["--help"]},
)
@with_flags
@click.argument("image")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def run_command(context: click.Context, /, image: str, command: tuple[str, ...], **flags: Any) -> None:
    """Create and run a new container from an image."""
    context.exit(run(context.find_root().params.get("root"), image, command, flags))


@click.command(
    "create",
    cls=RunCommand,
    context_settings={"allow_interspersed_args": False, "help_option_names": ["--help"]},
)
@with_flags
@click.argument("image")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def create_command(context: click.Context, /, image: str, command: tuple[str, ...], **flags: Any) -> None:
    """Create a new container, without starting it."""
    click.echo(create(context.find_root().params.get("root"), image, command, flags))

"""A :class:`~fastdock.cli.plain.Plain` as a click command: help, mistakes, and every spelling of its flags."""

from __future__ import annotations

from typing import Any

import click

from fastdock._errors import FastdockError
from fastdock.cli.common import Switched
from fastdock.cli.plain import Plain


def command_of(name: str, plain: Plain) -> click.Command:
    """The click command."""
    arguments = [word.rstrip("*+") for word in plain.arguments]

    @click.pass_context
    def call(context: click.Context, /, **values: Any) -> None:
        words = [values.pop(name) for name in arguments]
        if plain.arguments and plain.arguments[-1][-1] in "*+":
            words[-1:] = words[-1]
        root = context.find_root().params
        try:
            context.exit(plain.run(root.get("root"), tuple(words), values))
        except (FastdockError, TypeError) as error:
            if root.get("debug"):
                raise
            context.exit(plain.report(error))

    parameters: list[click.Parameter] = [click.Option(flag.names, **flag.settings) for flag in plain.flags]
    for word, argument in zip(plain.arguments, arguments, strict=True):
        many = word[-1] in "*+"
        parameters.append(
            click.Argument([argument], nargs=-1 if many else 1, required=not word.endswith("*"))
        )
    # -h is a flag of run
    helps = ["--help"] if any("-h" in flag.names for flag in plain.flags) else ["-h", "--help"]
    settings = {"allow_interspersed_args": plain.interspersed, "help_option_names": helps}
    return Switched(name, callback=call, params=parameters, help=plain.help, context_settings=settings)

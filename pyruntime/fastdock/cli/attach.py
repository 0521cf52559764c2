"""``fastdock attach`` and ``exec``."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from fastdock._errors import ContainerNotRunning, FastdockError, KernelError, SpecError
from fastdock.cli.common import Command
from fastdock.cli.containers import get_containers
from fastdock.cli.errors import describe

if TYPE_CHECKING:
    from fastdock.containers import Container


@click.command("attach", cls=Command)
@click.option("--detach-keys", default="ctrl-p,ctrl-q", help="Keys that detach.")
@click.option("--no-stdin", is_flag=True, help="Do not attach to its input.")
@click.option("--sig-proxy/--no-sig-proxy", default=True, help="Pass signals on to it.")
@click.argument("container")
@click.pass_context
def attach(context: click.Context, detach_keys: str, no_stdin: bool, sig_proxy: bool, container: str) -> None:
    """Attach to a running container's input and output."""
    found = get_containers(context).get(container)
    if found.state.status == "paused":
        raise ContainerNotRunning("you cannot attach to a paused container, unpause it first")
    context.exit(attach_to(found, no_stdin=no_stdin, detach_keys=detach_keys, sig_proxy=sig_proxy))


def attach_to(container: Container, *, no_stdin: bool, detach_keys: str, sig_proxy: bool) -> int:
    """The container's exit code; 1, as docker has it, when it was detached from."""
    from fastdock.cli.attachment import DETACHED, Attachment
    from fastdock.cli.signals import SignalProxy
    from fastdock.containers import control

    settings = container.record.document["settings"]
    interactive = bool(settings.get("open_stdin")) and not no_stdin
    terminal = bool(settings.get("tty"))
    container._need_running()
    proxy = SignalProxy(enabled=sig_proxy and not terminal)
    proxy.hold()
    wanted = control.ATTACH_OUTPUT | control.ATTACH_ERRORS | (control.ATTACH_INPUT if interactive else 0)
    with container._connect() as connection:
        connection.send(control.ATTACH, wanted)
        attachment = Attachment(
            container, connection, terminal=terminal, interactive=interactive, keys=detach_keys, proxy=proxy,
        )  # fmt: skip
        attachment.redraw()
        code = attachment.run()
    if code != DETACHED:
        return code
    print("read escape sequence")
    return 1


class ExecCommand(Command):
    """126 and 127 for programs that cannot be executed or found, as docker exec."""

    def invoke(self, ctx: click.Context) -> object:
        from fastdock.cli.run import FAILED, NOT_EXECUTABLE, exit_code_of

        try:
            return click.Command.invoke(self, ctx)
        except FastdockError as error:
            code = exit_code_of(error)

            click.echo(f"Error: {describe(error)}", err=True)
            # What the kernel refused (a user, a directory): as a program that cannot be executed.
            refused = NOT_EXECUTABLE if isinstance(error, KernelError) else 1
            ctx.exit(refused if code == FAILED else code)


@click.command("exec", cls=ExecCommand, context_settings={"allow_interspersed_args": False})
@click.option("-d", "--detach", is_flag=True, help="Run in the background.")
@click.option("--detach-keys", default="ctrl-p,ctrl-q", help="Keys that detach.")
@click.option("-e", "--env", multiple=True, help="Set an environment variable.")
@click.option("--env-file", multiple=True, help="Read environment variables from a file.")
@click.option("-i", "--interactive", is_flag=True, help="Keep standard input open.")
@click.option("--privileged", is_flag=True, help="All capabilities, no filter.")
@click.option("-t", "--tty", is_flag=True, help="Give it a terminal.")
@click.option("-u", "--user", default="", help="User: name or number[:group].")
@click.option("-w", "--workdir", default="", help="Working directory.")
@click.argument("container")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def exec_command(
    context: click.Context, detach: bool, detach_keys: str, env: tuple[str, ...], env_file: tuple[str, ...],
    interactive: bool, privileged: bool, tty: bool, user: str, workdir: str, container: str, command: tuple[str, ...],
) -> None:  # fmt: skip
    """Run a command in a running container."""
    from fastdock.cli.run import _from_files, _pairs
    from fastdock.containers.execution import detached

    if tty and interactive and not detach and not sys.stdin.isatty():
        raise SpecError("the input device is not a TTY: leave out -t, or run it in a terminal")
    found = get_containers(context).get(container)
    options = {
        "env": {**_from_files(env_file, os.environ), **_pairs(env, os.environ)},
        "cwd": workdir, "user": user, "privileged": privileged,
    }  # fmt: skip
    if detach:
        detached(found, command, **options)
        return
    from fastdock.cli.foreground import ForegroundExec

    context.exit(
        ForegroundExec(found, tty=tty, interactive=interactive, keys=detach_keys).run(command, options)
    )

"""``fastdock attach``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from fastdock._errors import ContainerNotRunning, SpecError
from fastdock.cli.common import Command
from fastdock.cli.containers import get_containers
from fastdock.cli.keys import parse_keys
from fastdock.cli.plain import DETACH_KEYS

if TYPE_CHECKING:
    from fastdock.containers import Container


@click.command("attach", cls=Command)
@click.option("--detach-keys", default=DETACH_KEYS, help="Keys that detach.")
@click.option("--no-stdin", is_flag=True, help="Do not attach to its input.")
@click.option("--sig-proxy/--no-sig-proxy", default=True, help="Pass signals on to it.")
@click.argument("container")
@click.pass_context
def attach(context: click.Context, detach_keys: str, no_stdin: bool, sig_proxy: bool, container: str) -> None:
    """Attach to a running container's input and output."""
    parse_keys(detach_keys)
    found = get_containers(context).get(container)
    if found.state.status == "paused":
        raise ContainerNotRunning("you cannot attach to a paused container, unpause it first")
    if found.record.document["settings"].get("tty") and not no_stdin and not os.isatty(0):
        raise SpecError("the input device is not a TTY: use --no-stdin, or attach from a terminal")
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

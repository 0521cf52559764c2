"""``fastdock run`` and ``create`` of containers that are kept: everything but a plain ``run --rm``."""

from __future__ import annotations

import sys

from fastdock._errors import FastdockError
from fastdock.cli.attachment import DETACHED, Attachment
from fastdock.cli.run import KEPT_SETTINGS
from fastdock.cli.signals import SignalProxy
from fastdock.cli.terminal import size_of
from fastdock.containers import Container, control

TYPE_CHECKING = False  # see cli.direct
if TYPE_CHECKING:
    from typing import Any

    from fastdock.engine import Engine


def create(
    engine: Engine, image: str, command: tuple[str, ...], options: dict[str, Any], flags: dict[str, Any]
) -> Container:
    """Makes the container of the command line's flags."""
    given = {name: flags[name] for name in KEPT_SETTINGS if flags[name] not in (None, False)}
    given["log_opt"] = dict(item.partition("=")[::2] for item in flags["log_opt"])
    given["tty"], given["open_stdin"] = flags["tty"], flags["interactive"]
    given["stdin_once"] = flags["interactive"] and not flags["detach"]
    given["auto_remove"] = flags["rm"]
    options.pop("storage", None)
    container = engine.containers.create(image, command or None, **options, **given)
    if flags["cidfile"]:
        with open(flags["cidfile"], "w", encoding="ascii") as file:
            file.write(container.id)
    return container


def run(
    engine: Engine, image: str, command: tuple[str, ...], options: dict[str, Any], flags: dict[str, Any]
) -> int:
    """Creates and starts it; detached: prints its id, otherwise attends it to its end."""
    container = create(engine, image, command, options, flags)
    try:
        return start(container, flags)
    except FastdockError:
        if flags["rm"]:
            container.remove(force=True)
        raise


def start(container: Container, flags: dict[str, Any]) -> int:
    tty, interactive = flags["tty"], flags["interactive"]
    if flags["detach"]:
        container.start(terminal=size_of(1) if tty else None)
        _warn(container)
        print(container.id, flush=True)
        return 0
    wanted = control.ATTACH_OUTPUT | control.ATTACH_ERRORS
    if flags["attach"]:
        words = [word.lower() for word in flags["attach"]]
        wanted = control.ATTACH_OUTPUT * ("stdout" in words) | control.ATTACH_ERRORS * ("stderr" in words)
    proxy = SignalProxy(enabled=flags["sig_proxy"] and not tty)
    proxy.hold()
    if interactive:
        wanted |= control.ATTACH_INPUT
    # Attached at least to its end: one that is removed at its end can not be asked for its exit code.
    connection = container.start(attach=wanted or control.ATTACH_END, terminal=size_of(1) if tty else None)
    _warn(container)
    if connection is None:  # somebody else has started it meanwhile
        proxy.release_to(container.kill)
        return container.wait()
    with connection:
        attachment = Attachment(
            container,
            connection,
            terminal=tty,
            interactive=interactive,
            keys=flags["detach_keys"],
            proxy=proxy,
        )
        code = attachment.run()
        if code == DETACHED:
            return 0
        if flags["rm"]:
            connection.wait_for_end()  # as docker: it is gone when the prompt is back
    return code


def _warn(container: Container) -> None:
    for warning in container.warnings:
        print(f"fastdock: warning: {warning}", file=sys.stderr)

"""``fastdock exec``.  Free of click: see ``cli.plain``."""

from __future__ import annotations

import os
import sys

from fastdock._errors import FastdockError, KernelError, SpecError
from fastdock.cli import plain
from fastdock.cli.plain import DETACH_KEYS, Plain, option, several
from fastdock.cli.run import FAILED, NOT_EXECUTABLE, _from_files, _pairs, exit_code_of

TYPE_CHECKING = False  # see cli.direct
if TYPE_CHECKING:
    from typing import Any

FLAGS = [
    option("-d", "--detach", is_flag=True, help="Run in the background."),
    option("--detach-keys", default=DETACH_KEYS, help="Keys that detach."),
    several("-e", "--env", help="Set an environment variable."),
    several("--env-file", help="Read environment variables from a file."),
    option("-i", "--interactive", is_flag=True, help="Keep standard input open."),
    option("--privileged", is_flag=True, help="All capabilities, no filter."),
    option("-t", "--tty", is_flag=True, help="Give it a terminal."),
    option("-u", "--user", default="", help="User: name or number[:group]."),
    option("-w", "--workdir", default="", help="Working directory."),
]


def execute(root: str | None, words: tuple[str, ...], flags: dict[str, Any]) -> int:
    """Runs ``words[1:]`` in the container ``words[0]``; its exit code."""
    from fastdock.engine import Engine

    if flags["tty"] and flags["interactive"] and not flags["detach"] and not sys.stdin.isatty():
        raise SpecError("the input device is not a TTY: leave out -t, or run it in a terminal")
    engine = Engine(root)
    try:
        found = engine.containers.get(words[0])
        options = {
            "env": {**_from_files(flags["env_file"], os.environ), **_pairs(flags["env"], os.environ)},
            "cwd": flags["workdir"], "user": flags["user"], "privileged": flags["privileged"],
        }  # fmt: skip
        if flags["detach"]:
            from fastdock.containers.execution import detached

            detached(found, words[1:], **options)
            return 0
        from fastdock.cli.foreground import ForegroundExec

        attended = ForegroundExec(
            found, tty=flags["tty"], interactive=flags["interactive"], keys=flags["detach_keys"]
        )
        return attended.run(words[1:], options)
    finally:
        engine.leave()


def report(error: Exception) -> int:
    """126 and 127 for programs that cannot be executed or found, as docker exec."""
    plain.report(error)
    code = exit_code_of(error) if isinstance(error, FastdockError) else FAILED
    # What the kernel refused (a user, a directory): as a program that cannot be executed.
    refused = NOT_EXECUTABLE if isinstance(error, KernelError) else 1
    return refused if code == FAILED else code


EXEC = Plain("Run a command in a running container.", FLAGS, ("container", "command+"), execute, report)

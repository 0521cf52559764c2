"""The ``fastdock`` command line: Docker's words, flags, output formats and exit codes.

Each command's module is imported only when that command runs, so that ``fastdock --help`` is quick.
"""

from __future__ import annotations

import gc
import os
import sys

TYPE_CHECKING = False  # see cli.direct
if TYPE_CHECKING:
    from typing import Any

# name: (where the command is: a click command, or in capitals one that does without (cli.plain); its help)
COMMANDS = {
    "run": ("run:RUN", "Create and run a new container from an image"),
    "exec": ("execution:EXEC", "Run a command in a running container"),
    "ps": ("listing:PS", "List containers"),
    "create": ("run:CREATE", "Create a new container"),
    "start": ("containers:start", "Start containers"),
    "stop": ("containers:stop", "Stop containers"),
    "restart": ("containers:restart", "Restart containers"),
    "kill": ("containers:kill", "Kill containers"),
    "rm": ("containers:rm", "Remove containers"),
    "logs": ("logs:logs", "Show the output of a container"),
    "attach": ("attach:attach", "Attach to a running container"),
    "inspect": ("inspection:inspect_command", "Show all about containers, images and volumes, as JSON"),
    "cp": ("cp:cp", "Copy files into and out of a container"),
    "stats": ("stats:stats", "Show what containers use"),
    "top": ("stats:top", "List a container's processes"),
    "events": ("events:events", "Show what happens"),
    "wait": ("containers:wait", "Wait for containers to stop, and print their exit codes"),
    "pause": ("containers:pause", "Freeze containers"),
    "unpause": ("containers:unpause", "Let frozen containers go on"),
    "rename": ("containers:rename", "Rename a container"),
    "update": ("containers:update", "Change the limits of containers"),
    "port": ("containers:port", "List a container's published ports"),
    "diff": ("containers:diff", "What a container has changed in its files"),
    "commit": ("containers:commit", "Make an image of a container's changes"),
    "export": ("archives:export", "Write a container's file system to a tar"),
    "container": ("containers:container", "Manage containers"),
    "volume": ("volumes:volume", "Manage volumes"),
    "images": ("images:images_command", "List images"),
    "pull": ("registry:pull", "Download an image from a registry"),
    "push": ("registry:push", "Upload an image to a registry"),
    "import": ("archives:import_command", "Make an image from the contents of a tar"),
    "save": ("archives:save", "Save images to a tar archive"),
    "load": ("archives:load", "Load images from a tar archive"),
    "tag": ("images:tag", "Give an image another name"),
    "rmi": ("images:rmi", "Remove images"),
    "history": ("images:history", "Show how an image came about"),
    "image": ("images:image", "Manage images"),
    "login": ("registry:login", "Log in to a registry"),
    "logout": ("registry:logout", "Log out from a registry"),
    "manifest": ("registry:manifest", "Inspect manifests"),
    "network": ("networks:network", "Manage networks"),
    "system": ("system:system", "Manage fastdock"),
    "bench": ("bench:bench_command", "Measure fastdock beside other engines and VMs on this machine"),
    "info": ("info:info_command", "What this kernel and machine offer, and what is missing"),
    "version": ("info:version_command", "Show the version"),
}


# They tell of this machine as it is, also where no namespaces are to be had.
_ANYWHERE = ("info", "version", "--version", "-v", "--help", "-h", "bench")


# They need no network but the host's, where a registry may be on its loopback device.
_REGISTRY = ("pull", "push", "login", "logout", "manifest")


def main(arguments: list[str] | None = None) -> Any:
    """The command line's entry point."""
    words = sys.argv[1:] if arguments is None else arguments
    root, rest = (words[1], words[2:]) if words[:1] == ["--root"] and len(words) > 1 else (None, words)
    if os.geteuid() != 0 and rest and rest[0] not in _ANYWHERE:
        _enter_namespaces(network=not {*rest[:2]} & {*_REGISTRY})
    # Imports and listings make many objects and no garbage: looking for it takes a tenth of a long `ps`.
    gc.set_threshold(50_000)
    status = _run_plainly(rest, root)
    if status is not None:
        sys.exit(status)
    from fastdock.cli.group import cli

    return cli.main(args=words, prog_name="fastdock")


def _enter_namespaces(*, network: bool) -> None:
    from fastdock import rootless
    from fastdock._errors import FastdockError

    try:
        rootless.enter(network=network)
    except FastdockError as error:
        from fastdock.cli.run import report

        sys.exit(report(error))


def _run_plainly(words: list[str], root: str | None) -> int | None:
    """Runs what does without click, if its arguments are plain; its exit code, or None."""
    if words in ([], ["--help"], ["-h"]):
        from fastdock.cli.usage import usage

        print(usage())
        return 0
    module, _, attribute = COMMANDS.get(words[0], ("",))[0].partition(":") if words else ("", "", "")
    if not attribute.isupper():
        return None
    from fastdock._errors import FastdockError
    from fastdock.cli.direct import parse

    # importlib is a module in Python, which takes 1 ms.
    command = getattr(__import__(f"fastdock.cli.{module}", fromlist=[attribute]), attribute)
    parsed = parse(words[1:], command)
    if parsed is None:
        return None
    try:
        status: int = command.run(root, *parsed)
        sys.stdout.flush()
    except (FastdockError, TypeError) as error:
        status = command.report(error)
    except BrokenPipeError:  # as `fastdock ps | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left in the buffer goes nowhere
        status = 1
    except KeyboardInterrupt:  # before there was a container to get it
        status = 128 + 2
    return status

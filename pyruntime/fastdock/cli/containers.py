"""Commands that list containers and change what they do: ps, start, stop, kill, rm, update …"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from fastdock._errors import FastdockError, NotFound, SpecError
from fastdock.cli.common import Command, Group, each
from fastdock.cli.errors import describe
from fastdock.cli.plain import DETACH_KEYS

if TYPE_CHECKING:
    from fastdock.containers import Container, Containers
    from fastdock.containers.state import State


def get_containers(context: click.Context) -> Containers:
    """The containers of the state directory that ``--root`` (or FASTDOCK_ROOT) names."""
    from fastdock.engine import Engine

    return Engine(context.find_root().params.get("root")).containers


def _names(function: Any) -> Any:
    return click.argument("names", nargs=-1, required=True, metavar="CONTAINER...")(function)


def _for_each(context: click.Context, names: tuple[str, ...], action: Any) -> None:
    """Runs ``action`` with each container, and prints the name as it was given; errors make the status 1."""
    containers = get_containers(context)

    def one(name: str) -> None:
        action(containers.get(name))
        click.echo(name)

    each(names, one)


def _selection(function: Any) -> Any:
    """Names, or podman's words for those that are started and stopped with the machine."""
    function = click.argument("names", nargs=-1, metavar="[CONTAINER...]")(function)
    function = click.option(
        "--filter", "filters", multiple=True, help="With --all: only those (see ps --filter)."
    )(function)
    return click.option("--all", "everything", is_flag=True, help="All that it may concern.")(function)


def _chosen(
    context: click.Context, names: tuple[str, ...], everything: bool, filters: tuple[str, ...],
    concerns: Callable[[State], bool],
) -> tuple[str, ...]:  # fmt: skip
    from fastdock.cli.listing import Filter

    if bool(names) == everything:
        raise SpecError("name containers, or choose them with --all", hint="not both")
    if filters and not everything:
        raise SpecError("--filter needs --all")
    if names:
        return names
    containers = get_containers(context)
    chosen = Filter(containers, filters)
    found = [
        record.id for record, state in containers.entries() if concerns(state) and chosen.takes(record, state)
    ]
    return tuple(reversed(found))  # in the order of their creation: those that need others come later


@click.command("start", cls=Command)
@click.option("-a", "--attach", is_flag=True, help="Attach to its output, and pass signals on.")
@click.option("-i", "--interactive", is_flag=True, help="Attach to its input.")
@click.option("--detach-keys", default=DETACH_KEYS, help="Keys that detach.")
@_selection
@click.pass_context
def start(
    context: click.Context, attach: bool, interactive: bool, detach_keys: str, everything: bool,
    filters: tuple[str, ...], names: tuple[str, ...],
) -> None:  # fmt: skip
    """Start containers."""
    if not attach and not interactive:
        names = _chosen(context, names, everything, filters, lambda state: not state.running)
        _for_each(context, names, lambda container: container.start())
        return
    if everything or filters:
        raise SpecError("--all and --filter cannot be used with --attach or --interactive")
    if not names:
        raise SpecError("name the container to start and attach to")
    if len(names) > 1:
        raise SpecError("you cannot start and attach multiple containers at once")
    from fastdock.cli import kept
    from fastdock.cli.attach import attach_to

    container = get_containers(context).get(names[0])
    settings = container.record.document["settings"]
    if container.state.running:
        context.exit(attach_to(container, no_stdin=not interactive, detach_keys=detach_keys, sig_proxy=True))
    flags = {"tty": bool(settings.get("tty")), "interactive": interactive, "detach": False, "attach": (),
             "detach_keys": detach_keys, "sig_proxy": True, "rm": container.record.auto_remove}  # fmt: skip
    context.exit(kept.start(container, flags))


_signal = click.option("-s", "--signal", help="Signal to send.")
_time = click.option(
    "-t", "--time", "--timeout", "seconds", type=float, help="Seconds to wait before killing it."
)


@click.command("stop", cls=Command)
@_signal
@_time
@_selection
@click.pass_context
def stop(
    context: click.Context, signal: str | None, seconds: float | None, everything: bool, filters: tuple[str, ...],
    names: tuple[str, ...],
) -> None:  # fmt: skip
    """Stop running containers."""
    names = _chosen(context, names, everything, filters, lambda state: state.running)
    _for_each(context, names, lambda container: container.stop(seconds, signal=signal))


@click.command("restart", cls=Command)
@_signal
@_time
@_names
@click.pass_context
def restart(
    context: click.Context, signal: str | None, seconds: float | None, names: tuple[str, ...]
) -> None:
    """Restart containers."""
    _for_each(context, names, lambda container: container.restart(seconds, signal=signal))


@click.command("kill", cls=Command)
@click.option("-s", "--signal", default="KILL", help="Signal to send.")
@_names
@click.pass_context
def kill(context: click.Context, signal: str, names: tuple[str, ...]) -> None:
    """Kill running containers."""
    _for_each(context, names, lambda container: container.kill(signal))


@click.command("pause", cls=Command)
@_names
@click.pass_context
def pause(context: click.Context, names: tuple[str, ...]) -> None:
    """Freeze all processes of containers."""
    _for_each(context, names, lambda container: container.pause())


@click.command("unpause", cls=Command)
@_names
@click.pass_context
def unpause(context: click.Context, names: tuple[str, ...]) -> None:
    """Let frozen containers go on."""
    _for_each(context, names, lambda container: container.unpause())


@click.command("wait", cls=Command)
@_names
@click.pass_context
def wait(context: click.Context, names: tuple[str, ...]) -> None:
    """Wait until containers stop, then print their exit codes."""
    containers = get_containers(context)
    each(names, lambda name: click.echo(containers.get(name).wait()))


@click.command("rm", cls=Command)
@click.option("-f", "--force", is_flag=True, help="Kill it if it runs.")
@click.option("-v", "--volumes", is_flag=True, help="Remove its anonymous volumes too.")
@_names
@click.pass_context
def rm(context: click.Context, force: bool, volumes: bool, names: tuple[str, ...]) -> None:
    """Remove containers."""
    from fastdock._errors import ContainerNotFound

    containers = get_containers(context)

    def remove(name: str) -> FastdockError | None:
        try:
            containers.get(name).remove(force=force, volumes=volumes)
        except FastdockError as error:
            return error
        return None

    failed = False
    for name, error in zip(names, _side_by_side(remove, names), strict=True):
        if error is None:
            click.echo(name)
            continue
        click.echo(f"Error: {describe(error)}", err=True)
        failed = failed or not (force and isinstance(error, ContainerNotFound))
    if failed:
        sys.exit(1)


def _side_by_side(action: Callable[[str], Any], names: tuple[str, ...]) -> Iterator[Any]:
    """The results in order.  Ends of containers wait for the kernel and the disk: so for several at once."""
    if len(names) == 1:
        yield action(names[0])
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(len(names), 16)) as pool:
        yield from pool.map(action, names)


@click.command("rename", cls=Command)
@click.argument("container")
@click.argument("new_name")
@click.pass_context
def rename(context: click.Context, container: str, new_name: str) -> None:
    """Rename a container."""
    get_containers(context).get(container).rename(new_name)


_LIMITS = {
    "memory": ("-m", "--memory"), "memory_swap": ("--memory-swap",), "memory_reservation": ("--memory-reservation",),
    "cpus": ("--cpus",), "cpu_shares": ("-c", "--cpu-shares"), "cpu_period": ("--cpu-period",),
    "cpu_quota": ("--cpu-quota",), "cpuset_cpus": ("--cpuset-cpus",), "cpuset_mems": ("--cpuset-mems",),
    "pids": ("--pids-limit",), "blkio_weight": ("--blkio-weight",),
}  # fmt: skip
_NUMBERS = {"cpu_shares", "cpu_period", "cpu_quota", "pids", "blkio_weight"}


def _limit_options(function: Any) -> Any:
    for name, flags in reversed(_LIMITS.items()):
        function = click.option(*flags, name, type=int if name in _NUMBERS else str)(function)
    return function


@click.command("update", cls=Command)
@_limit_options
@click.option("--restart", help="Restart policy.")
@_names
@click.pass_context
def update(context: click.Context, /, restart: str | None, names: tuple[str, ...], **limits: Any) -> None:
    """Change the limits of containers, at once."""
    if restart is None and all(value is None for value in limits.values()):
        raise SpecError("you must provide one or more flags when using this command")
    _for_each(context, names, lambda container: container.update(restart=restart, **limits))


@click.command("port", cls=Command)
@click.argument("container")
@click.argument("private_port", required=False)
@click.pass_context
def port(context: click.Context, container: str, private_port: str | None) -> None:
    """List the port mappings of a container."""
    published = get_containers(context).get(container).inspect()["NetworkSettings"]["Ports"]
    if private_port:
        wanted = private_port if "/" in private_port else f"{private_port}/tcp"
        published = {wanted: published.get(wanted)}
        if not published[wanted]:
            raise NotFound(f"no public port {wanted} is published for {container}")
    for inside, bindings in published.items():
        for binding in bindings or ():
            host = binding["HostIp"]
            address = f"{f'[{host}]' if ':' in host else host}:{binding['HostPort']}"
            click.echo(address if private_port else f"{inside} -> {address}")


@click.command("diff", cls=Command)
@click.argument("container")
@click.pass_context
def diff(context: click.Context, container: str) -> None:
    """What a container has changed in its file system."""
    for kind, path in get_containers(context).get(container).diff():
        click.echo(f"{kind} {path}")


@click.command("commit", cls=Command)
@click.option("-a", "--author", default="", help="Author.")
@click.option("-c", "--change", "changes", multiple=True, help="Dockerfile instruction to apply.")
@click.option("-m", "--message", default="", help="Commit message.")
@click.option("-p/-P", "--pause/--no-pause", default=True, help="Pause it meanwhile.")
@click.argument("container")
@click.argument("reference", required=False, metavar="[REPOSITORY[:TAG]]")
@click.pass_context
def commit(
    context: click.Context, author: str, changes: tuple[str, ...], message: str, pause: bool, container: str,
    reference: str | None,
) -> None:  # fmt: skip
    """Make an image of a container's changes."""
    image = (
        get_containers(context)
        .get(container)
        .commit(reference, author=author, message=message, changes=changes, pause=pause)
    )
    click.echo(image.id)


@click.command("prune", cls=Command)
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.option("--filter", "filters", multiple=True, help="until=, label=, label!=.")
@click.pass_context
def prune(context: click.Context, force: bool, filters: tuple[str, ...]) -> None:
    """Remove all stopped containers."""
    from fastdock.cli.listing import Filter
    from fastdock.cli.output import human_size

    containers = get_containers(context)
    chosen = Filter(containers, filters, allowed=("until", "label", "label!"))
    warning = "WARNING! This will remove all stopped containers.\nAre you sure you want to continue?"
    if not force and not click.confirm(warning):
        return

    def keep(container: Container) -> bool:
        return not chosen.takes(container.record, container.state)

    removed, freed = containers.prune(keep)
    if removed:
        click.echo("Deleted Containers:")
        for container_id in removed:
            click.echo(container_id)
        click.echo()
    click.echo(f"Total reclaimed space: {human_size(freed)}")


class ContainerGroup(Group):
    """``fastdock container …``: the same commands, and ls, prune and inspect."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_MEMBERS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        from fastdock.cli.group import find

        return find(cmd_name, _MEMBERS[cmd_name]) if cmd_name in _MEMBERS else None


_MEMBERS = {
    "attach": "attach:attach", "commit": "containers:commit", "cp": "cp:cp", "create": "run:CREATE",
    "diff": "containers:diff", "exec": "execution:EXEC", "export": "archives:export",
    "inspect": "inspection:container_inspect",
    "kill": "containers:kill", "list": "listing:PS", "logs": "logs:logs", "ls": "listing:PS", "ps": "listing:PS",
    "pause": "containers:pause", "port": "containers:port", "prune": "containers:prune", "rename": "containers:rename",
    "restart": "containers:restart", "rm": "containers:rm", "run": "run:RUN", "start": "containers:start",
    "stats": "stats:stats", "stop": "containers:stop", "top": "stats:top", "unpause": "containers:unpause",
    "update": "containers:update", "wait": "containers:wait",
}  # fmt: skip


@click.group("container", cls=ContainerGroup)
def container() -> None:
    """Manage containers."""

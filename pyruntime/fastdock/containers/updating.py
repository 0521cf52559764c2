"""Changing what a container may use, and what it is called."""

from __future__ import annotations

from fastdock import _core
from fastdock._errors import Conflict, ContainerNotRunning, SpecError
from fastdock.containers.settings import load_options, load_settings, parse_restart
from fastdock.options import Options, dump, options_from
from fastdock.planning import limits_of

TYPE_CHECKING = False  # see _light
if TYPE_CHECKING:
    from typing import Any

    from fastdock.containers.container import Container

LIMITS = (
    "memory", "memory_swap", "memory_reservation", "cpus", "cpu_shares", "cpu_period", "cpu_quota", "cpuset_cpus",
    "cpuset_mems", "pids", "blkio_weight",
)  # fmt: skip


def update(container: Container, restart: str | None, given: dict[str, Any]) -> list[str]:
    """:meth:`Container.update`."""
    from fastdock.containers.starting import start_lock

    given = {name: value for name, value in given.items() if value is not None}
    if unknown := set(given) - set(LIMITS):
        raise SpecError(f"{sorted(unknown)[0]} cannot be changed", hint=", ".join(LIMITS))
    with start_lock(container):  # joining a network changes the same options
        _update(container, restart, given)
    return []


def _update(container: Container, restart: str | None, given: dict[str, Any]) -> None:
    document = container.record.document
    changed = _merge(load_options(document["options"]), given)
    limits = _limits(changed, given)
    settings = load_settings(document["settings"])
    policy = None
    if restart is not None:
        if settings.auto_remove and parse_restart(restart)[0] != "no":
            raise SpecError(
                "restart policy cannot be updated because AutoRemove is enabled for the container"
            )
        policy = parse_restart(restart)
        settings = settings._replace(restart=policy[0], restart_maximum=policy[1])
    container._change_limits(limits, policy)
    container._change_document({"options": dump(changed), "settings": dump(settings)})


def _merge(options: Options, given: dict[str, Any]) -> Options:
    """The container's options with the new ones, checked together."""
    if "cpus" in given:
        options = options._replace(cpu_period=None, cpu_quota=None)
    if {"cpu_period", "cpu_quota"} & set(given):
        options = options._replace(cpus=None)
    limits = {name: getattr(options, name) for name in LIMITS if getattr(options, name) not in (None, "")}
    checked = options_from({**limits, **given})
    return options._replace(**{name: getattr(checked, name) for name in LIMITS})


def _limits(options: Options, given: dict[str, Any]) -> _core.Limits:
    """What has to change in the cgroup, and no more."""
    everything = limits_of(options, True)
    wanted = set(given)
    if wanted & {"memory", "memory_swap"}:
        wanted |= {"memory", "memory_swap"}
    if wanted & {"cpus", "cpu_period", "cpu_quota"}:
        wanted |= {"cpu_period", "cpu_quota"}
    limits = _core.Limits()
    for name in wanted - {"cpus"}:
        value = getattr(everything, name)
        if value is not None:
            setattr(limits, name, value)
    return limits


def rename(container: Container, name: str) -> None:
    """:meth:`Container.rename`."""
    from fastdock.containers.networking import rename as rename_on_networks
    from fastdock.containers.starting import start_lock
    from fastdock.options import check_name

    with start_lock(container):  # one that is being started is told afterwards
        old = container.name
        if check_name(name) == old:
            raise Conflict(f"container {name} has that name already")
        container._rename(name)
        record = container.record
        container._containers.event("rename", record, [("oldName", "/" + old)])
        try:
            container._tell_name(name)
        except ContainerNotRunning:
            return
        rename_on_networks(container._containers, record)
        container._tell_networks()

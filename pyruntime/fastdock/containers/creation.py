"""Making a container and starting it: from a record to directories, a plan and a monitor."""

from __future__ import annotations

import fcntl
import os
import time

from fastdock import _core
from fastdock._errors import Conflict, SpecError
from fastdock._light import NamedTuple
from fastdock.containers.networking import check_options, hold_links
from fastdock.containers.records import Record
from fastdock.containers.settings import (
    Settings,
    load_options,
    load_settings,
    log_settings,
    parse_signal,
    settings_from,
    split_settings,
)
from fastdock.options import DEFAULT_NETWORK, Options, dump, options_from
from fastdock.planning import Base, Planned, plan_of

TYPE_CHECKING = False  # see _light
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from fastdock.containers.manager import Containers
    from fastdock.endpoint import Endpoint
    from fastdock.engine import Engine

_ATTEMPTS = 30


_MAXIMUM_KNOWN = 64


class Origin(NamedTuple):
    """What a container is made from."""

    image_id: str
    base: Base
    config: dict[str, Any]


class Asked(NamedTuple):
    """What was asked for, read: a start that follows the creation in the same process has it already."""

    document: dict[str, Any]
    """The record's; of another one this says nothing."""
    options: Options
    settings: Settings


def create(
    containers: Containers, image: str, args: Sequence[str] | str | None, given: Mapping[str, Any]
) -> tuple[Record, Asked]:
    """Makes the container, not started.  Conflict, ImageNotFound, SpecError, LimitError; then nothing is left."""
    given_settings, given_options = split_settings(given)
    options = options_from(given_options, network=DEFAULT_NETWORK)
    check_options(options)
    options = hold_links(containers, options)
    origin = find_origin(containers, image, options)
    settings = settings_from(given_settings, origin.config.get("Healthcheck"))
    if options.stop_signal or origin.base.stop_signal:
        parse_signal(options.stop_signal or origin.base.stop_signal)
    options = options._replace(tty=settings.tty, storage="disk")
    container_id = os.urandom(32).hex()
    options, volumes = containers.volumes.resolve(container_id, options, origin)
    planned = plan_for(containers, origin, options)
    command = _command(planned, image, args)
    document = {
        "image": image,
        "command": command,
        "arguments": len(command) - len(planned.entrypoint),
        "options": dump(options),
        "settings": dump(settings),
        "labels": {**(origin.config.get("Labels") or {}), **dict(options.labels)},
        "volumes": volumes,
    }
    lock = _locked_directory(os.path.join(containers.directory, container_id))
    try:
        record = _record(containers, container_id, document, options, origin, planned, settings)
        return record, Asked(document, options, settings)
    except BaseException:
        containers.discard(container_id)
        containers.volumes.drop_unused(volumes)
        raise
    finally:
        os.close(lock)


def _locked_directory(directory: str) -> int:
    """A new directory, locked while there is no row: who looks for leftovers leaves it alone (manager.py).

    Between mkdir and flock somebody may have taken it for one, and removed it.
    """
    while True:
        try:
            os.mkdir(directory, mode=0o700)
        except FileExistsError:
            pass
        try:
            lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.fstat(lock).st_nlink:
            return lock
        os.close(lock)


def _record(
    containers: Containers,
    container_id: str,
    document: dict[str, Any],
    options: Options,
    origin: Origin,
    planned: Planned,
    settings: Settings,
) -> Record:
    from fastdock.containers.names import random_name

    engine = containers.engine
    ids = -1
    if planned.own_ids:
        ids = _core.reserve_ids(engine.root, engine.run_directory, container_id)
    _make_directories(os.path.join(containers.directory, container_id), planned.plan, ids)
    for attempt in range(_ATTEMPTS):
        name = options.name or random_name(attempt)
        record = Record(container_id, name, origin.image_id, time.time(), ids, settings.auto_remove, document)
        try:
            with engine.store.database.transaction():
                if not origin.image_id.startswith("builtin:"):
                    engine.store.hold(f"container:{container_id}", origin.image_id)
                containers.records.add(record, document["volumes"])
            return record
        except Conflict:
            if options.name and not containers.reap_named(name):
                raise
    raise Conflict("no free name was found for the container", hint="give it one with --name")


def find_origin(containers: Containers, image: str, options: Options) -> Origin:
    """The image as it is now.  ImageNotFound."""
    from fastdock import builtin_images

    engine = containers.engine
    if builtin := builtin_images.find(image):
        return Origin(f"builtin:{image}", builtin.base(engine), {})
    if options.pull != "always" and (known := containers.origins.get(engine.store.find_id(image) or "")):
        return known
    return _origin_of(containers, engine._record(image, options.pull, options.platform))


def _origin_of(containers: Containers, record: Any) -> Origin:
    """Kept for the next: an image's ID is the digest of all that this says, and names its layers, too."""
    from fastdock.engine import base_of

    if len(containers.origins) >= _MAXIMUM_KNOWN:
        containers.origins.clear()
    origin = containers.origins[record.id] = Origin(record.id, base_of(record), record.config)
    return origin


def origin_of(containers: Containers, record: Record) -> Origin:
    """The image that the container was made from; it is held, whatever has become of its name."""
    from fastdock import builtin_images

    if record.image_id.startswith("builtin:"):
        builtin = builtin_images.find(record.image_id.removeprefix("builtin:"))
        if builtin is None:
            raise SpecError(f"the built-in image {record.image_id} is none of this version")
        return Origin(record.image_id, builtin.base(containers.engine), {})
    known = containers.origins.get(record.image_id)
    return known or _origin_of(containers, containers.engine.store._record(record.image_id))


def plan_for(containers: Containers, origin: Origin, options: Options) -> Planned:
    """The plan for the container's process, without what is its own: directories and ids."""
    engine = containers.engine
    # What the plan does not depend on must not keep it from being used again.
    key = ("kept", origin.image_id, origin.base, options._replace(name="", labels=()))
    planned = engine._plans.get(key)
    if planned is None:
        planned = plan_of(origin.base, options, seccomp_cache=os.path.join(engine.root, "seccomp"))
        with engine._lock:
            if len(engine._plans) >= 256:
                engine._plans.clear()
            engine._plans[key] = planned
    return planned


def _command(planned: Planned, image: str, args: Sequence[str] | str | None) -> list[str]:
    from fastdock.engine import command_of

    return command_of(planned, image, args)


def _make_directories(directory: str, plan: _core.LaunchPlan, ids: int) -> None:
    """One for each overlay, the root first; they belong to the container's root, who opens what is below."""
    owner = _core.first_id(ids) if ids >= 0 else 0
    overlays = [plan.root, *(mount for mount in plan.mounts if mount.type == "overlay")]
    for number, _ in enumerate(overlays):
        place = os.path.join(directory, str(number)) if number else directory
        if number:
            os.mkdir(place, 0o700)
        for name in ("upper", "work"):
            os.mkdir(os.path.join(place, name), 0o755)
            os.chown(os.path.join(place, name), owner, owner)
        os.chown(place, owner, owner)


def place_overlays(engine: Engine, plan: _core.LaunchPlan, directory: str) -> None:
    """Puts the container's directories into its plan, and makes the overlays durable."""
    from fastdock.builtin_images import mount_points

    def place(mount: _core.Mount | None, at: str) -> _core.Mount:
        assert mount is not None
        mount.directory = at
        # volatile would make the container's own fsync do nothing, and refuse the second start.
        mount.options = ",".join(word for word in mount.options.split(",") if word != "volatile")
        return mount

    root = place(plan.root, directory)
    root.layers = [mount_points(engine), *root.layers]
    plan.root = root
    mounts, number = [], 0
    for mount in plan.mounts:
        if mount.type == "overlay":
            number += 1
            mount = place(mount, os.path.join(directory, str(number)))
        mounts.append(mount)
    plan.mounts = mounts


class Start(NamedTuple):
    """What starts a container, complete but for streams, cgroup and networks."""

    plan: _core.LaunchPlan
    limits: _core.Limits
    options: Options
    settings: Settings
    exposed: tuple[str, ...]
    stop_signal: str
    """The user's or the image's; "" where neither has said."""


def plan_of_record(containers: Containers, record: Record, asked: Asked | None = None) -> Start:
    """The record as it is now, made into a plan."""
    if asked is None or asked.document is not record.document:
        options = load_options(record.document["options"])
        settings = load_settings(record.document["settings"])
    else:
        options, settings = asked.options, asked.settings
    origin = origin_of(containers, record)
    planned = plan_for(containers, origin, options)
    plan = planned.plan.copy()
    plan.argv = record.command
    if not plan.hostname and options.uts != "host":
        plan.hostname = record.id[:12]
        if not any(variable.startswith("HOSTNAME=") for variable in plan.environment):
            plan.environment = [*plan.environment, f"HOSTNAME={plan.hostname}"]
    if record.ids >= 0:
        mapping = [(0, _core.first_id(record.ids), _core.IDS_PER_RANGE)]
        plan.set_id_maps(mapping, mapping)
    place_overlays(containers.engine, plan, os.path.join(containers.directory, record.id))
    stop_signal = options.stop_signal or origin.base.stop_signal
    return Start(plan, planned.limits, options, settings, planned.exposed, stop_signal)


def request_for(
    containers: Containers,
    record: Record,
    start: Start,
    terminal: tuple[int, int] | None,
    endpoint: Endpoint,
) -> _core.MonitorRequest:
    """What the monitor is told."""
    engine, plan, limits, settings = containers.engine, start.plan, start.limits, start.settings
    if settings.tty:
        plan.set_terminal(*(terminal or (0, 0)))
    endpoint.apply(plan, record.ids >= 0)
    request = _core.MonitorRequest(
        engine.root, engine.run_directory, engine.cgroup_parent, record.id, plan, limits
    )
    request.network_of = endpoint.namespace_file
    request.files = endpoint.files
    if endpoint.core is not None:
        request.set_network(endpoint.core)
    request.attributes = event_attributes(record)
    request.set_restart(settings.restart, settings.restart_maximum)
    log = log_settings(settings.log_driver, dict(settings.log_options))
    request.set_log(
        settings.log_driver, containers.log_path(record.id), log.maximum_size, log.maximum_files, log.compress
    )
    request.stop_signal = parse_signal(start.stop_signal or "SIGTERM")
    request.stop_timeout = round(settings.stop_timeout * 1000) if settings.stop_timeout >= 0 else -1
    request.open_stdin, request.stdin_once = settings.open_stdin, settings.stdin_once
    request.remove, request.ids = settings.auto_remove, record.ids
    if settings.health is not None:
        _add_health(request, plan, settings)
    return request


def stop_signal_of(containers: Containers, record: Record, options: Options) -> int:
    return parse_signal(options.stop_signal or origin_of(containers, record).base.stop_signal or "SIGTERM")


def event_attributes(record: Record) -> list[tuple[str, str]]:
    return [*record.labels.items(), ("image", record.image), ("name", record.name)]


def _add_health(request: _core.MonitorRequest, plan: _core.LaunchPlan, settings: Settings) -> None:
    health = settings.health
    assert health is not None
    probe = _core.exec_plan(plan)
    kind, *command = health.test
    # moby, daemon/health.go: the shell of CMD-SHELL is the image's SHELL, which is nearly always this.
    probe.argv = command if kind == "CMD" else ["/bin/sh", "-c", *command]
    request.set_health(
        probe,
        interval=round(health.interval * 1000),
        timeout=round(health.timeout * 1000),
        start_period=round(health.start_period * 1000),
        start_interval=round(health.start_interval * 1000),
        retries=health.retries,
    )

"""The engine: images, and containers started from them, below one state directory."""

from __future__ import annotations

import _thread
import os

from fastdock import _core
from fastdock._errors import FastdockError, ImageNotFound, KernelError, SpecError
from fastdock.options import options_from
from fastdock.planning import Base, Planned, has_files, has_own_filter, plan_of
from fastdock.store.paths import default_root, is_marked, make_private, run_directory

TYPE_CHECKING = False  # see _light
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from fastdock.containers import Containers
    from fastdock.endpoint import Endpoint
    from fastdock.image import Images
    from fastdock.network import Networks
    from fastdock.options import RunOptions
    from fastdock.process import CompletedProcess, Popen
    from fastdock.rootless.remote import Launcher
    from fastdock.store import Store
    from fastdock.volumes import Volumes

DEFAULT_IMAGE = "host"
_MAXIMUM_PLANS = 256


class Engine:
    """Explicit state: ``Engine(root="/srv/fastdock")``; any number in one process, and over one root.

    ``root``: the state directory (``FASTDOCK_ROOT``, else ``/var/lib/fastdock``).  It is made on first use,
    mode 0700.  What processes that were killed left there is removed when an engine is opened.

    All methods may be called from any thread, and after ``os.fork()``.
    """

    def __init__(self, root: str | os.PathLike[str] | None = None) -> None:
        self.root = os.path.abspath(os.fspath(root)) if root is not None else default_root()
        make_private(self.root)
        self.run_directory = run_directory(self.root)
        # A root of its own gets cgroups of its own, so that its sweeps meet nobody else's containers.
        suffix = os.path.basename(self.run_directory)
        self.cgroup_parent = "fastdock" if suffix == "fastdock" else f"fastdock/{suffix}"
        self._lock = _thread.allocate_lock()
        self._plans: dict[tuple[Any, ...], Planned] = {}
        self._recent = _thread._local()
        self._leases: dict[str, int] = {}
        self._store: Store | None = None
        self._images: Images | None = None
        self._networks: Networks | None = None
        self._containers: Containers | None = None
        self._remote: Launcher | None = None
        if os.geteuid() != 0:
            from fastdock.rootless.remote import Launcher

            self._remote = Launcher(self.root)
            return
        _core.Session.remove_abandoned(self.root, self.run_directory, self.cgroup_parent)
        if suffix != "fastdock" and not is_marked(self.root, self.run_directory):
            from fastdock.store import vanished

            vanished.mark(self.root, self.run_directory)
            vanished.sweep(os.path.dirname(self.run_directory), "fastdock")

    @property
    def store(self) -> Store:
        """The images' database and directories."""
        if self._store is None:
            from fastdock.store import Store

            if self._remote is not None:
                raise FastdockError(
                    "without root, only run() and Popen() work in a process as it is",
                    hint="call fastdock.rootless.enter() first, before any thread starts",
                )
            self._store = Store(self.root)
        return self._store

    @property
    def images(self) -> Images:
        """The images: pull, list, tag, remove …"""
        if self._images is None:
            from fastdock.image import Images

            self._images = Images(self.store)
        return self._images

    @property
    def networks(self) -> Networks:
        """The networks: create, list, remove …; who died without giving addresses back does it now."""
        if self._networks is None:
            from fastdock.network import Networks

            self._networks = Networks(self.store.database, self.run_directory, self.root)
            self._networks.collect()
        return self._networks

    @property
    def containers(self) -> Containers:
        """The containers that outlive their caller: create, get, list …"""
        if self._containers is None:
            from fastdock.containers import Containers

            self._containers = Containers(self)
        return self._containers

    @property
    def volumes(self) -> Volumes:
        """The volumes: create, get, list …"""
        return self.containers.volumes

    def run(
        self,
        image: str | Sequence[str] | None = None,
        args: Sequence[str] | str | None = None,
        **keywords: Any,
    ) -> CompletedProcess:
        """:func:`fastdock.run` with this engine."""
        from fastdock.process import run_container

        return run_container(self, image, args, **keywords)

    def Popen(  # noqa: N802
        self,
        image: str | Sequence[str] | None = None,
        args: Sequence[str] | str | None = None,
        **keywords: Any,
    ) -> Popen:
        """:class:`fastdock.Popen` with this engine."""
        from fastdock.process import Popen

        return Popen(image, args, engine=self, **keywords)

    def leave(self) -> None:
        """In place of ``close``, where the process is about to end: what ends with it needs no closing."""
        if self._store is not None:
            self._store.database.leave_open()

    def close(self) -> None:
        """Gives back what was kept for further starts: images, mounts, id ranges, the database connection."""
        _core.release_kept()
        if self._remote is not None:
            self._remote.close()
        with self._lock:
            leases, self._leases = self._leases, {}
            self._plans.clear()
            self._recent = _thread._local()
        for descriptor in leases.values():
            os.close(descriptor)
        if self._store is not None:
            self._store.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- starting -------------------------------------------------------------------------------------------

    def _start(
        self,
        image: str | Sequence[str] | None,
        args: Sequence[str] | str | None,
        stdio: list[int],
        given: Mapping[str, Any] | RunOptions,
        *,
        outlive_thread: bool = True,
    ) -> tuple[list[str], _core.Container]:
        """Prepares and launches a throw-away container: its command, and it."""
        if self._remote is not None:
            return self._remote.start(image, args, stdio, given)  # type: ignore[return-value]  # as AttachedContainer
        planned, command = self._prepare(image, args, given)
        return command, self._launch(planned, command, stdio, outlive_thread=outlive_thread)

    def _prepare(
        self,
        image: str | Sequence[str] | None,
        args: Sequence[str] | str | None,
        given: Mapping[str, Any] | RunOptions,
    ) -> tuple[Planned, list[str]]:
        """What can be done before the start of a throw-away container: the plan (and image), and the command."""
        image, args = which_image(image, args)
        planned = self._planned(image, given)
        return planned, command_of(planned, image, args)

    def _launch(
        self,
        planned: Planned,
        command: list[str],
        stdio: list[int],
        *,
        terminal: tuple[int, int] | None = None,
        outlive_thread: bool = True,
        files: bool = False,
        held: bool = False,
    ) -> _core.Container:
        """Starts a throw-away container of this process's session.

        ``outlive_thread``: it goes on when the calling thread ends; False where that waits for it anyway.
        ``files``: it has /etc/hosts, hostname and resolv.conf of its own in any case, and what it writes can be
        looked at by others (``_core.Container.memory``).  ``held``: it waits for its program (``begin``).
        """
        plan = planned.plan.copy()
        plan.argv = command
        plan.stdio = stdio
        if terminal is not None:
            plan.set_terminal(*terminal)
        session = _core.Session.current(self.root, self.run_directory, self.cgroup_parent)
        outlive = outlive_thread and _thread.get_native_id() != os.getpid()

        def start(plan: _core.LaunchPlan, **attached: Any) -> _core.Container:
            return _core.Container.start(
                session,
                plan,
                limits=planned.limits,
                own_ids=planned.own_ids,
                in_memory=planned.in_memory,
                outlive_thread=outlive,
                held=held,
                held_in_filter=held and has_own_filter(planned.options),
                **attached,
            )

        if files or has_files(planned.options):
            return self._start_attached(start, session.new_id, planned, plan, keep_memory=files)
        return start(plan)

    def _start_attached(
        self,
        start: Callable[..., _core.Container],
        new_id: Callable[[], str],
        planned: Planned,
        plan: _core.LaunchPlan,
        *,
        keep_memory: bool,
        tries: int = 2,
    ) -> _core.Container:
        """Starts a container with networks, or with none but the files of names."""
        from fastdock.unbridged import AttachedContainer, UnbridgedEndpoint

        identifier, own = new_id(), plan.copy()
        endpoint: Endpoint | UnbridgedEndpoint
        if planned.options.network in ("none", "host"):
            from fastdock.network.files import names_host_gateway

            gateways = self.networks.host_gateways() if names_host_gateway(planned.options.add_host) else ()
            endpoint = UnbridgedEndpoint(self.run_directory, identifier, planned.options, gateways)
        else:
            from fastdock.endpoint import Endpoint

            endpoint = Endpoint(
                self.networks,
                self.run_directory,
                identifier,
                planned.options,
                planned.exposed,
                find_owner=self.network_owner,
                find_environment=self.environment_of,
            )
        try:
            endpoint.apply(own, planned.own_ids)
            container = start(
                own,
                id=identifier,
                network=endpoint.network,
                network_of=endpoint.namespace_file,
                keep_memory=keep_memory,
            )
            endpoint.started(container.pid)
        except BaseException as error:
            endpoint.close()
            if tries > 1 and isinstance(error, KernelError) and is_network_lost(error):
                return self._start_attached(
                    start, new_id, planned, plan, keep_memory=keep_memory, tries=tries - 1
                )
            raise
        return AttachedContainer(container, endpoint)  # type: ignore[return-value]  # a container and its endpoint, with the same methods

    def network_owner(self, reference: str) -> tuple[str, int]:
        """Id and init process of the container that ``container:REFERENCE`` shares the network of.

        Raises ContainerNotFound, ContainerNotRunning, Conflict.
        """
        from fastdock.containers.networking import owner_of

        return owner_of(self, reference)

    def environment_of(self, container_id: str) -> Sequence[str]:
        """The variables of a container, for those that are linked to it; none of one that has just gone."""
        from fastdock.containers.networking import environment_of

        return environment_of(self, container_id)

    def _planned(self, image: str, given: Mapping[str, Any] | RunOptions) -> Planned:
        """The plan for this image and these options; the last time's if nothing has changed, which costs least."""
        from fastdock import builtin_images

        if given.get("pull") == "always" or builtin_images.find(image):  # to be looked at each time
            return self._newly_planned(image, given)
        stamp = self.store.database.stamp()
        recent: dict[Any, Planned] = self._recent.__dict__.setdefault("plans", {})
        if self._recent.__dict__.get("stamp") != stamp or len(recent) >= _MAXIMUM_PLANS:
            recent.clear()
            self._recent.stamp = stamp
        key = (image, *((name, _frozen(value)) for name, value in given.items()))
        try:
            known = recent.get(key)
        except TypeError:  # something of the user's own among the options
            return self._newly_planned(image, given)
        if known is None:
            known = recent[key] = self._newly_planned(image, given)
        return known

    def _newly_planned(self, image: str, given: Mapping[str, Any] | RunOptions) -> Planned:
        options = options_from(given)
        source, base = self._base(image, options.pull, options.platform)
        key = (source, options)
        planned = self._plans.get(key)
        if planned is None:
            planned = plan_of(base(), options, seccomp_cache=os.path.join(self.root, "seccomp"))
            planned = planned._replace(source=source)
            with self._lock:
                if len(self._plans) >= _MAXIMUM_PLANS:
                    self._plans.clear()
                self._plans[key] = planned
        return planned

    def _base(self, image: str, pull: str, platform: str) -> tuple[str, Any]:
        """Something that names exactly this image's content, and a function that gives its Base."""
        from fastdock import builtin_images

        if builtin := builtin_images.find(image):
            return builtin.key(), lambda: builtin.base(self)
        record = self._record(image, pull, platform)
        self._lease(record.id)
        return record.id, lambda: base_of(record)

    def _record(self, image: str, pull: str, platform: str) -> Any:
        if pull != "always":
            try:
                return self.store.get(image)
            except ImageNotFound:
                if pull == "never":
                    raise
        self.images.pull(image, platform=platform or None)
        return self.store.get(image)

    def _lease(self, image_id: str) -> None:
        """Keeps the image while this engine is open, so that no ``rmi`` takes its layers away."""
        with self._lock:
            if image_id not in self._leases:
                self._leases[image_id] = self.store.lease(image_id)


def _frozen(value: Any) -> Any:
    """A list's or dictionary's value, for a key."""
    if isinstance(value, dict):
        return (dict, *((name, _frozen(each)) for name, each in value.items()))
    return (list, *map(_frozen, value)) if isinstance(value, list) else value


def is_network_lost(error: KernelError) -> bool:
    """Whether a start failed because somebody flushed the firewall or killed the resolver just now."""
    return error.operation in ("configure the firewall", "talk to the resolver at")


def base_of(record: Any) -> Base:
    """What an image of the store says about starting it."""
    config = record.config
    return Base(
        layers=tuple(record.layer_paths),
        environment=tuple(config.get("Env") or ()),
        entrypoint=tuple(config.get("Entrypoint") or ()),
        command=tuple(config.get("Cmd") or ()),
        user=config.get("User") or "",
        cwd=config.get("WorkingDir") or "",
        stop_signal=config.get("StopSignal") or "",
        volumes=tuple(config.get("Volumes") or ()),
        exposed=tuple(config.get("ExposedPorts") or ()),
        i386=record.architecture in ("386", "i386"),
    )


def which_image(
    image: str | Sequence[str] | None, args: Sequence[str] | str | None
) -> tuple[str, Sequence[str] | str | None]:
    """``run(["true"])`` is a command in the default image; ``run("busybox")`` an image with its own."""
    if image is None or isinstance(image, str):
        return image or DEFAULT_IMAGE, args
    if args is not None:
        raise SpecError(
            "two commands were given: the first argument is an image's name, the second a command"
        )
    return DEFAULT_IMAGE, image


def command_of(planned: Planned, image: str, args: Sequence[str] | str | None) -> list[str]:
    """Docker's rule: entrypoint and command, the user's command in place of the image's."""
    if args is None:
        given = list(planned.command)
    else:
        given = [args] if isinstance(args, str) else [os.fspath(word) for word in args]
    command = [*planned.entrypoint, *given]
    if not command:
        raise SpecError(f"no command: the image {image} has none, and none was given")
    return command


_default: Engine | None = None
_default_lock = _thread.allocate_lock()


def default_engine() -> Engine:
    """The engine of ``fastdock.run`` and friends; opened at the first use."""
    global _default
    with _default_lock:
        if _default is None or _default.root != default_root():
            _default = Engine()
        return _default

"""The /etc/hosts, hostname and resolv.conf of a container, and what one has that joins no bridge: these alone.

On the path of ``fastdock run --network none``, so it imports little; ``endpoint.py`` is the rest.
"""

from __future__ import annotations

import os

from fastdock import _core
from fastdock._errors import SpecError
from fastdock.network.files import hostname_of, names_without_bridge, wanted_resolv_conf

TYPE_CHECKING = False  # see fastdock._light
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from fastdock.endpoint import Endpoint
    from fastdock.network.files import Names
    from fastdock.options import Options


class UnbridgedEndpoint:
    """The files of one throw-away container with ``--network none`` or ``host``.  Give it back with ``close``.

    Of one that was killed they go with its session (csrc/launch/session.cpp).
    """

    network = None  # nothing to attach
    namespace_file = ""

    def __init__(
        self, run_directory: str, container_id: str, options: Options, host_gateways: Sequence[str] = ()
    ) -> None:
        """``host_gateways``: what ``host-gateway`` in ``--add-host`` means.  Raises SpecError."""
        self._directory = f"{run_directory}/names/{container_id}"
        if options.egress != "allow":
            raise SpecError("--egress needs a bridge network")
        wanted = options.hostname or (os.uname().nodename if options.uts == "host" else "")
        self._names = names_without_bridge(
            options.network, hostname_of(options.network, wanted, container_id),
            wanted_resolv_conf(options.dns, options.dns_search, options.dns_option), options.add_host,
            host_gateways,
        )  # fmt: skip

    def apply(self, plan: _core.LaunchPlan, own_ids: bool) -> None:
        """The files into the container's own copy of the launch plan."""
        os.makedirs(self._directory, 0o700)
        write_names(self._names, self._directory, plan, own_ids)

    def started(self, pid: int) -> None:
        """Nothing of it is anybody else's."""

    def close(self) -> None:
        """The container has ended (or did not start)."""
        remove_directory(self._directory)


class AttachedContainer:
    """A ``_core.Container`` with an endpoint: ``finish`` gives that back, too."""

    def __init__(self, container: _core.Container, endpoint: Endpoint | UnbridgedEndpoint) -> None:
        self._container = container
        self.endpoint = endpoint

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def finish(self) -> tuple[int, int | None, int]:
        """What it used; afterwards nothing is left of it."""
        try:
            return self._container.finish()
        finally:
            self.endpoint.close()


def write_names(names: Names, directory: str, plan: _core.LaunchPlan, own_ids: bool) -> None:
    """Writes the three files, and mounts them where the user mounts nothing else."""
    for name, text in texts_of(names):
        file = os.open(f"{directory}/{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            os.write(file, text.encode())
            os.fchmod(file, 0o644)  # whatever the umask is
        finally:
            os.close(file)
    mount_names(f"{directory}/", plan, own_ids)


def texts_of(names: Names) -> list[tuple[str, str]]:
    """(name, text) of the three files."""
    return [("hosts", names.hosts), ("hostname", names.hostname + "\n"), ("resolv.conf", names.resolv_conf)]


def mount_names(prefix: str, plan: _core.LaunchPlan, map_ids: bool) -> None:
    """Mounts the three files, whose paths begin with ``prefix``, where the user mounts nothing else."""
    mounts = plan.mounts
    taken = {mount.destination for mount in mounts}
    for name in ("hosts", "hostname", "resolv.conf"):
        source, destination = prefix + name, f"/etc/{name}"
        if destination not in taken:
            mounts.append(_core.Mount(type="bind", source=source, destination=destination, map_ids=map_ids))
    plan.mounts = mounts


def remove_directory(path: str) -> None:
    """``shutil.rmtree`` without importing it, which takes 2 ms of each ``fastdock run``."""
    try:
        _core.remove_tree(path)
    except OSError:
        pass  # as far as it goes; or another process does the same

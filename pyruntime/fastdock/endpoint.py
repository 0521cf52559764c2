"""A container's networks from its start to its end: what the engine does around launch()."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

from fastdock import _core
from fastdock._errors import ContainerNotRunning, KernelError
from fastdock.network import Attachment, NetworkOptions, NetworkPlan, Networks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastdock.options import Options

_FILES = ("hosts", "hostname", "resolv.conf")


class Endpoint:
    """Addresses, ports and files of one container.  Give it back with ``close``."""

    def __init__(
        self,
        networks: Networks,
        run_directory: str,
        container_id: str,
        options: Options,
        exposed: Sequence[str] = (),
    ) -> None:
        """Takes what the container needs.  Raises NotFound, Conflict, SpecError."""
        self._networks = networks
        self._id = container_id
        self._directory = os.path.join(run_directory, "networks", container_id)
        names = options.network.split(",")
        first = Attachment(
            names[0], ip=options.ip, ip6=options.ip6, mac=options.mac_address, aliases=options.network_alias
        )
        self.plan: NetworkPlan = networks.plan(
            container_id,
            NetworkOptions(
                attachments=[first, *(Attachment(name, aliases=options.network_alias) for name in names[1:])],
                hostname=options.hostname,
                domainname=options.domainname,
                dns=options.dns,
                dns_search=options.dns_search,
                dns_options=options.dns_option,
                add_host=options.add_host,
                publish=options.publish,
                publish_all=options.publish_all,
                exposed=(*exposed, *options.expose),
                egress=options.egress,
            ),
            options.name,
        )

    def apply(self, plan: _core.LaunchPlan, own_ids: bool) -> None:
        """Host name, files and namespace into the container's own copy of the launch plan."""
        namespace = self.plan.namespace
        if namespace not in ("new", "host"):
            pid = self._networks.process_of(namespace)
            if pid is None:
                raise ContainerNotRunning(
                    f"the container {namespace} has no network to share: it is not running"
                )
            plan.set_namespace("net", "join", f"/proc/{pid}/ns/net")
            plan.raise_loopback = False
            return
        os.makedirs(self._directory, 0o700)
        texts = dict(
            zip(_FILES, (self.plan.hosts, self.plan.hostname + "\n", self.plan.resolv_conf), strict=True)
        )
        mounts = plan.mounts
        for name, text in texts.items():
            path = os.path.join(self._directory, name)
            with open(path, "x", encoding="utf-8") as file:
                file.write(text)
            os.chmod(path, 0o644)
            if all(mount.destination != f"/etc/{name}" for mount in mounts):
                mounts.append(
                    _core.Mount(type="bind", source=path, destination=f"/etc/{name}", map_ids=own_ids)
                )
        plan.mounts = mounts

    def started(self, pid: int) -> None:
        """The container runs: what it has lives as long as that process."""
        self._networks.started(self.plan, pid)

    def close(self) -> None:
        """The container has ended (or did not start): everything is given back."""
        self._networks.detach(self._id)
        shutil.rmtree(self._directory, ignore_errors=True)


class AttachedContainer:
    """A ``_core.Container`` with networks: ``finish`` gives them back, too."""

    def __init__(self, container: _core.Container, endpoint: Endpoint) -> None:
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


def is_lost(error: KernelError) -> bool:
    """Whether a start failed because somebody flushed the firewall or killed the resolver just now."""
    return error.operation in ("configure the firewall", "talk to the resolver at")

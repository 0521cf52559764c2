"""A container's networks from its start to its end: what the engine does around launch()."""

from __future__ import annotations

import os

from fastdock import _core
from fastdock._errors import ContainerNotRunning, KernelError
from fastdock.network import Attachment, NetworkOptions, NetworkPlan, Networks
from fastdock.network.details import files_directory
from fastdock.network.files import Names
from fastdock.unbridged import mount_names, remove_directory, texts_of, write_names

TYPE_CHECKING = False  # see fastdock._light
if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastdock._core import net
    from fastdock.network import Document
    from fastdock.options import Options


class Endpoint:
    """Addresses, ports and files of one container.  Give it back with ``close``."""

    @property
    def core(self) -> net.AttachPlan | None:
        """What its process's network namespace gets; None: at most a loopback device."""
        return self.plan.core

    def __init__(
        self,
        networks: Networks,
        run_directory: str,
        container_id: str,
        options: Options,
        exposed: Sequence[str] = (),
        previous: Document | None = None,
        directory: str = "",
    ) -> None:
        """Takes what the container needs; of ``previous``, the same addresses.

        ``directory``: where somebody else (a monitor) puts its ``files``, and sees to their end.
        Raises NotFound, Conflict, SpecError.
        """
        self._networks = networks
        self._id = container_id
        self.namespace_file = ""  # of the container whose network namespace this one shares
        self.files: list[tuple[str, str]] = []  # (name, text): what the monitor is to write
        self._is_monitored = bool(directory)
        self._directory = directory or files_directory(run_directory, container_id)
        self.plan: NetworkPlan = networks.plan(
            container_id,
            NetworkOptions(
                attachments=attachments_of(options),
                hostname=options.hostname or (os.uname().nodename if options.uts == "host" else ""),
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
            previous,
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
            plan.set_namespace("net", "host")  # it is born in the other's: see ``namespace_file``
            plan.raise_loopback = False
            self.namespace_file = f"/proc/{pid}/ns/net"
            return
        names = Names(self.plan.hostname, self.plan.hosts, self.plan.resolv_conf)
        if self._is_monitored:
            self.files = texts_of(names)
            mount_names(self._directory, plan, False)  # they belong to the container's root as they are
            return
        os.makedirs(self._directory, 0o700, exist_ok=True)
        write_names(names, self._directory, plan, own_ids)

    def started(self, pid: int) -> None:
        """The container runs: what it has lives as long as that process."""
        self._networks.started(self.plan, pid)

    def keep(self, run_directory: str, *, starting: bool) -> None:
        """For a container with a monitor, in place of ``started``: see Networks.keep()."""
        self._networks.keep(self.plan, run_directory, starting=starting)

    def close(self) -> None:
        """The container has ended (or did not start): everything is given back."""
        self._networks.detach(self._id)
        if not self._is_monitored:
            remove_directory(self._directory)


def check_options(options: Options) -> None:
    """Refuses now what would be refused at the start.  SpecError."""
    from fastdock.network.model import parse_egress
    from fastdock.network.ports import families, parse_port

    for text in (*options.publish, *options.expose):
        for spec in parse_port(text):
            families(spec)
    parse_egress(options.egress)
    attachments_of(options)


def attachments_of(options: Options) -> list[Attachment]:
    """The networks that it joins.  ``--ip`` and ``--mac-address`` are of the first, ``--network-alias`` of all."""
    made: list[Attachment] = []
    for text in filter(None, options.network.split(",")):
        name, *words = text.split(";")
        pairs = [(key, value) for key, _, value in (word.partition("=") for word in words)]
        given = dict(pairs)
        first = not made
        made.append(
            Attachment(
                name,
                ip=given.get("ip", options.ip if first else ""),
                ip6=given.get("ip6", options.ip6 if first else ""),
                mac=given.get("mac-address", options.mac_address if first else ""),
                aliases=(*options.network_alias, *(value for key, value in pairs if key == "alias")),
            )
        )
    return made


def suspend(networks: Networks, run_directory: str, container_id: str) -> Document | None:
    """As ``give_back``, but its addresses are still its own: for the next Endpoint."""
    document = networks.suspend(container_id)
    remove_directory(files_directory(run_directory, container_id))
    return document


def give_back(networks: Networks, run_directory: str, container_id: str) -> None:
    """What is left of a kept container's endpoint; it does not run."""
    networks.detach(container_id)
    remove_directory(files_directory(run_directory, container_id))


def is_lost(error: KernelError) -> bool:
    """Whether a start failed because somebody flushed the firewall or killed the resolver just now."""
    return error.operation in ("configure the firewall", "talk to the resolver at")

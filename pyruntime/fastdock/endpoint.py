"""A container's networks from its start to its end: what the engine does around launch()."""

from __future__ import annotations

import os
from functools import lru_cache

from fastdock import _core
from fastdock.network import Attachment, NetworkOptions, NetworkPlan, Networks
from fastdock.network.details import claim_files, empty, files_prefix, remove_files
from fastdock.network.files import Names
from fastdock.network.model import check_mac, parse_link
from fastdock.network_options import unescaped
from fastdock.unbridged import mount_names, texts_of

TYPE_CHECKING = False  # see fastdock._light
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastdock._core import net
    from fastdock.network import Document
    from fastdock.options import Options


class Endpoint:
    """Addresses, ports and files of one container.  Give it back with ``close``.

    Its order::

        endpoint = Endpoint(...)
        endpoint.take()                         # for a container with a monitor
        endpoint.apply(plan, own_ids)
        Container.start(..., network=endpoint.network)   # for one without: taken while it is being made

    """

    def __init__(
        self,
        networks: Networks,
        run_directory: str,
        container_id: str,
        options: Options,
        exposed: Sequence[str] = (),
        directory: str = "",
        *,
        find_owner: Callable[[str], tuple[str, int]],
        find_environment: Callable[[str], Sequence[str]],
    ) -> None:
        """``directory``: where a monitor puts the ``files`` of one on no network.

        ``find_owner``: id and init process of the container whose network is shared.  Raises SpecError.
        ``find_environment``: the variables of a container by its id, for links.
        """
        self._run_directory, self._find_owner = run_directory, find_owner
        self._find_environment, self._options = find_environment, options
        self._networks = networks
        self._id = container_id
        self._claim = -1  # of the files: see claim_files()
        self._resolv_conf = -1  # open from the time when it can be mounted until it is known
        self.namespace_file = ""  # of the container whose network namespace this one shares
        self._directory = directory
        self.files: list[tuple[str, str]] = []  # (name, text): what the monitor is to write
        self._prefix = files_prefix(run_directory, container_id)
        self._wanted = networks.want(container_id, _network_options(options, tuple(exposed)), options.name)
        self._plan = self._wanted if isinstance(self._wanted, NetworkPlan) else None

    @property
    def uses_bridge(self) -> bool:
        """Whether something has to be taken: a network, and not another's namespace, or none."""
        return not isinstance(self._wanted, NetworkPlan)

    @property
    def network(self) -> Callable[[int], net.AttachPlan] | None:
        """For Container.start()."""
        return self.created if self.uses_bridge else None

    @property
    def core(self) -> net.AttachPlan | None:
        """What has been taken, for the core."""
        return self._plan.core if self._plan else None

    def take(self, previous: Document | None = None, pid: int | None = None) -> None:
        """Takes what the container needs; of ``previous``, the same addresses.

        Raises NotFound, Conflict, SpecError.
        """
        if not isinstance(self._wanted, NetworkPlan):
            self._plan = self._networks.take(self._wanted, pid=pid, previous=previous)

    def created(self, pid: int) -> net.AttachPlan:
        """Takes it for a process that is being made, with files that are there already.  Raises the same."""
        self.take(pid=pid)
        assert self._plan is not None
        assert self._plan.core is not None
        self._write_rest(self._plan)
        return self._plan.core

    def apply(self, plan: _core.LaunchPlan, own_ids: bool) -> None:
        """Host name, files and namespace into the container's own copy of the launch plan."""
        taken = self._plan
        if taken is not None and taken.namespace not in ("new", "host"):
            owner, pid = self._find_owner(taken.namespace)
            plan.set_namespace("net", "host")  # it is born in the other's: see ``namespace_file``
            plan.raise_loopback = False
            self.namespace_file = f"/proc/{pid}/ns/net"
            self._share_names(owner, plan, own_ids)
            return
        if taken is not None and taken.core is None:  # a kept one on no network, or the host's
            self.files = texts_of(Names(taken.hostname, taken.hosts, taken.resolv_conf))
            mount_names(f"{self._directory}/", plan, False)  # they belong to the container's root as they are
            return
        self._make_files()
        mount_names(self._prefix, plan, own_ids)
        if self._options.link:
            from fastdock.network.links import with_variables

            name = self._options.name or self._id[:12]
            linked = attachments_of(self._options)
            plan.environment = with_variables(
                self._networks, linked, name, plan.environment, self._find_environment
            )

    def _share_names(self, owner: str, plan: _core.LaunchPlan, own_ids: bool) -> None:
        """The name and the files in /etc of the container whose network this one shares, as Docker has it."""
        places = {  # of one on a bridge; of a kept one without; of a throw-away one without
            files_prefix(self._run_directory, owner): own_ids,
            f"{self._run_directory}/containers/{owner}/": False,
            f"{self._run_directory}/names/{owner}/": own_ids,
        }
        for prefix, map_ids in places.items():
            try:
                with open(f"{prefix}hostname", encoding="utf-8") as file:
                    name = file.read(65).rstrip("\n")
            except FileNotFoundError:
                continue
            if plan.hostname in ("", self._id[:12]):
                own = f"HOSTNAME={plan.hostname}"
                plan.environment = [*(each for each in plan.environment if each != own), f"HOSTNAME={name}"]
                plan.hostname = name
            mount_names(prefix, plan, map_ids)
            return

    def _make_files(self) -> None:
        """So that they can be mounted: what is not known yet, ``created`` writes."""
        self._claim = claim_files(self._prefix)
        self._resolv_conf = self._open("resolv.conf")
        hostname = self._open("hostname")
        try:
            os.write(hostname, (self._wanted.hostname + "\n").encode())
        finally:
            os.close(hostname)
        if self._plan is not None:
            self._write_rest(self._plan)

    def _open(self, name: str) -> int:
        fd = os.open(self._prefix + name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        empty(fd)
        return fd

    def _write_rest(self, plan: NetworkPlan) -> None:
        os.write(self._claim, plan.hosts.encode())
        os.write(self._resolv_conf, plan.resolv_conf.encode())
        self._let_go()  # the database has it now, so nobody sweeps its files

    def _let_go(self) -> None:
        for fd in (self._claim, self._resolv_conf):
            if fd >= 0:
                os.close(fd)
        self._claim = self._resolv_conf = -1

    def started(self, pid: int) -> None:
        """It runs."""
        if self._plan is not None and self._plan.document is not None and self._plan.document.uses_resolver:
            self._networks.started(self._plan, pid)

    def keep(self, run_directory: str, *, starting: bool) -> None:
        """For a container with a monitor: see Networks.keep()."""
        if self._plan is not None:
            self._networks.keep(self._plan, run_directory, starting=starting)

    def close(self) -> None:
        """The container has ended (or did not start): everything is given back."""
        if self.uses_bridge:
            self._networks.detach(self._id, self._plan)
            remove_files(self._prefix)
        self._let_go()


@lru_cache(64)
def _network_options(options: Options, exposed: tuple[str, ...]) -> NetworkOptions:
    return NetworkOptions(
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
        sysctls=_device_sysctls(options),
    )


def _device_sysctls(options: Options) -> tuple[tuple[str, str, str], ...]:
    if not options.sysctls:
        return ()
    from fastdock.network_options import device_sysctls

    values = dict(options.sysctls)
    return tuple((device, path, values[name]) for name, path, device in device_sysctls(options.sysctls))


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
    """The networks it joins.  ``--ip``, ``--mac-address``, ``--link`` are of the first, ``--network-alias`` of all."""
    made: list[Attachment] = []
    for text in filter(None, options.network.split(",")):
        name, *words = text.split(";")
        pairs = [(key, unescaped(value)) for key, _, value in (word.partition("=") for word in words)]
        given = dict(pairs)
        first = not made
        own_links = options.link if first else ()
        made.append(
            Attachment(
                name,
                ip=given.get("ip", options.ip if first else ""),
                ip6=given.get("ip6", options.ip6 if first else ""),
                mac=check_mac(given.get("mac-address", options.mac_address if first else "")),
                aliases=(*options.network_alias, *(value for key, value in pairs if key == "alias")),
                driver_opts=tuple(_pair(value) for key, value in pairs if key == "driver-opt"),
                gw_priority=int(given.get("gw-priority", 0)),
                links=tuple(map(parse_link, [*own_links, *(v for key, v in pairs if key == "link")])),
            )
        )
    return made


def _pair(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    return key, value


def suspend(networks: Networks, run_directory: str, container_id: str) -> Document | None:
    """As ``give_back``, but its addresses are still its own: for the next Endpoint."""
    document = networks.suspend(container_id)
    remove_files(files_prefix(run_directory, container_id))
    return document


def give_back(networks: Networks, run_directory: str, container_id: str) -> None:
    """What is left of a kept container's endpoint; it does not run."""
    networks.detach(container_id)
    remove_files(files_prefix(run_directory, container_id))

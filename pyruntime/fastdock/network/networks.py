"""The networks of an engine root.

A container's life with it, in this order::

    plan = networks.plan(container_id, options)       # addresses and ports are the container's from here on
    networks.attach(plan, pid)                        # its process exists and waits: Observer.created of launch
    networks.started(plan, pid)                       # from here on they live as long as that process
    networks.detach(container_id)                     # it has ended

or, where its process is there already, which saves the third::

    wanted = networks.want(container_id, options)
    plan = networks.take(wanted, pid=pid)

``plan.core`` is what the C++ core needs: ``fastdock::net::attach_process(plan, pid)`` does the second step without
Python.  Whatever dies in between, ``collect()`` finds by the owner that is recorded with each container.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Mapping, Sequence

from fastdock._core import net
from fastdock._errors import (
    Conflict,
    KernelError,
    NotFound,
    SpecError,
)
from fastdock._light import sqlite3
from fastdock.store.paths import is_rootless, main_root

from . import details, relay, resolver, rules, turns
from .model import (
    DEFAULT,
    PREDEFINED,
    Addresses,
    Attachment,
    Document,
    Endpoint,
    Network,
    NetworkOptions,
    NetworkPlan,
    NetworkRequest,
    Wanted,
    attachment_of,
    document_from,
    network_from,
)

TYPE_CHECKING = False  # see fastdock._light
if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Any, Unpack

    from fastdock.store.database import Database

    from .model import NetworkFields


class Networks:
    """All networks of one engine root.  Any number of processes use them at once."""

    def __init__(self, database: Database, run_directory: str, root: str = "/var/lib/fastdock") -> None:
        """``root`` tells engines on one machine apart: each has its own firewall tables and default bridge."""
        self._database = database
        self._run_directory = run_directory
        self._turns = turns.Turns(self._transaction)
        self._root = os.path.realpath(root)
        self.resolver_socket = f"{run_directory}/dns.sock"
        self.relay_socket = f"{run_directory}/relay.sock"
        self._relay_asked = float("-inf")
        if root == main_root():
            self._scope, self._default_bridge = net.Scope(), "fastdock0"
        else:
            import binascii  # a name, not a secret; hashlib takes 1.5 ms to import

            tag = f"{binascii.crc32(os.path.realpath(root).encode()):08x}"[:5]
            self._scope, self._default_bridge = net.Scope(f"fastdock-{tag}", f"f{tag}"), f"fastdock-{tag}"

    def _transaction(self) -> AbstractContextManager[sqlite3.Connection]:
        """A write transaction, entered in turn."""
        return turns.transaction(self._database, self._run_directory)

    def _ports_are_lost(self) -> bool:
        """Whether, without root, a holder was started anew that nobody has told of the ports."""
        if not is_rootless():
            return False
        from . import forwarding

        return not forwarding.is_known(self._database.connection)

    @staticmethod
    def _need_way_out() -> None:
        """FastdockError where, without root, networks cannot be had."""
        if is_rootless():
            from . import forwarding

            forwarding.need_way_out()

    # --- networks ---

    def create(self, name: str, **given: Unpack[NetworkFields]) -> Network:
        """Creates a network; what can be ``given`` is NetworkRequest.

        Raises Conflict for a name or subnet that is taken, SpecError for options that make no sense, KernelError.
        """
        from . import creating

        if name in (*PREDEFINED, "default"):
            raise Conflict(f"the network {name} is predefined", operation="create network")
        return creating.make(self, NetworkRequest(name, **given))

    def get(self, reference: str) -> Network:
        """By name, id, or the beginning of an id.  Raises NotFound; SpecError when several fit."""
        if reference == DEFAULT:
            return self.ensure_default()
        if reference in PREDEFINED:
            raise Conflict(
                f"the network {reference} is a container's from its creation on: nothing joins or leaves it",
                operation="find network",
            )
        found = self._stored("name = ?1 OR id = ?1", (reference,))
        if not found and reference and not reference.strip("0123456789abcdef"):
            found = self._stored("id LIKE ? || '%'", (reference,))
        if len(found) > 1:
            raise SpecError(f"several networks begin with {reference}")
        if not found:
            raise NotFound(f"no such network: {reference}", operation="find network", path=reference)
        return found[0]

    def ensure_default(self) -> Network:
        """The network called "bridge", made when it is first needed."""
        found = self._stored("name = ?", (DEFAULT,))
        if found:
            return found[0]
        try:
            from . import creating

            return creating.make(self, NetworkRequest(DEFAULT))
        except Conflict:
            if not (found := self._stored("name = ?", (DEFAULT,))):
                raise
            return found[0]  # another process was faster
        except OSError as error:
            raise details.no_default_network(error) from error

    def list(self) -> Sequence[Network]:
        """All networks, the predefined ones too."""
        import hashlib

        created = self.ensure_default().created
        pseudo = [
            Network(hashlib.sha256(name.encode()).hexdigest(), name, driver, "", created=created)
            for name, driver in (("host", "host"), ("none", "null"))
        ]
        return sorted([*self._stored(), *pseudo], key=lambda network: network.name)

    def endpoints(self, network: Network) -> Mapping[str, tuple[str, Document]]:
        """Who is on the network: container id -> (name, document)."""
        rows = self._database.execute(
            "SELECT c.container_id, c.name, c.document FROM network_endpoints e JOIN network_containers c"
            " USING (container_id) WHERE e.network_id = ?",
            (network.id,),
        )
        return {row[0]: (row[1], document_from(row[2])) for row in rows}

    def remove(self, reference: str) -> Network:
        """Removes a network.  Raises NotFound, Conflict when it is predefined or containers are on it."""
        from . import creating

        return creating.remove(self, reference)

    def prune(self, keep: Callable[[Network], bool] | None = None) -> Sequence[Network]:
        """Removes every network of the user's that no container uses, but those to ``keep``; those it removed."""
        from . import creating

        return creating.prune(self, keep)

    # --- containers ---

    def plan(
        self, container_id: str, options: NetworkOptions, name: str = "", previous: Document | None = None
    ) -> NetworkPlan:
        """Takes addresses and ports for a container: ``want`` and ``take`` in one."""
        wanted = self.want(container_id, options, name)
        return wanted if isinstance(wanted, NetworkPlan) else self.take(wanted, previous=previous)

    def want(self, container_id: str, options: NetworkOptions, name: str = "") -> Wanted | NetworkPlan:
        """What a container asks for, checked as far as nothing has to be taken; or its plan, if it needs nothing.

        Raises SpecError.
        """
        from . import taking

        return taking.want(self, container_id, options, name)

    def take(
        self, wanted: Wanted, *, pid: int | None = None, previous: Document | None = None
    ) -> NetworkPlan:
        """Takes addresses and ports.  ``detach`` gives them back.

        They live as long as the process ``pid``; without one as long as this process, until ``started`` or ``keep``.
        With one, ``started`` has to be called where the document says that it uses the resolver.
        ``previous``: what ``suspend`` returned; it has the same addresses again.
        Raises NotFound for an unknown network, Conflict for a taken address or port, SpecError.
        """
        from . import taking

        return taking.take(self, wanted, pid, previous)

    def attach(self, plan: NetworkPlan, pid: int) -> None:
        """Gives the process's network namespace its networks.  Raises KernelError, and leaves nothing behind then."""
        if plan.core is not None:
            net.attach_process(plan.core, pid)

    def started(self, plan: NetworkPlan, pid: int) -> None:
        """From now on the container's addresses live as long as the process ``pid``, not as long as this one."""
        if plan.core is not None:
            self._database.execute(
                "UPDATE network_containers SET owner = ? WHERE container_id = ?",
                (details.identity(pid), plan.container_id),
            )

    def keep(self, plan: NetworkPlan, run_directory: str, *, starting: bool) -> None:
        """The same for a container with a monitor: what it has lives as long as that; while it is ``starting``, as
        long as this process, too."""
        if plan.core is not None:
            owner = details.kept_owner(run_directory, os.getpid() if starting else None)
            self._database.execute(
                "UPDATE network_containers SET owner = ? WHERE container_id = ?", (owner, plan.container_id)
            )

    def document(self, container_id: str) -> Document | None:
        """A container's endpoints and ports, while it has any."""
        text = self._recorded(container_id)
        return None if text is None else document_from(text)

    def attached(self, container_id: str) -> net.AttachPlan | None:
        """What a container is attached to now, as the core has it."""
        document = self.document(container_id)
        if document is None:
            return None
        record = resolver.record(container_id, document)
        return rules.attach_plan(self._scope, document, self.resolver_socket, record)

    def _recorded(self, container_id: str) -> str | None:
        row = self._database.execute(
            "SELECT document FROM network_containers WHERE container_id = ?", (container_id,)
        ).fetchone()
        return None if row is None else str(row[0])

    def detach(self, container_id: str, plan: NetworkPlan | None = None, *, running: bool = False) -> None:
        """Takes a container off its networks and gives everything back.  Good at any time, and twice.

        Devices end with the container's namespace; of one that is ``running`` they are removed (30 ms).
        ``plan``: what it got at its start, where that is known.
        """
        text = self._recorded(container_id)
        if text is None:
            return
        if plan is not None and plan.core is not None and plan.recorded == text:
            document, core = plan.document, plan.core
        else:
            document = document_from(text)
            try:
                core = rules.attach_plan(self._scope, document, "", "")
            except KernelError:  # nothing was ever made of what the core cannot even read
                self._turns.run(lambda db: details.forget(db, container_id))
                return
        assert document is not None
        self._release(container_id, document, core, running)
        self._turns.run(lambda db: details.forget(db, container_id))

    def suspend(self, container_id: str) -> Document | None:
        """As ``detach``, but its addresses and ports stay its own until the next ``plan``, while this process lives."""
        document = self.document(container_id)
        if document is not None:
            self._release(container_id, document, rules.attach_plan(self._scope, document, "", ""), False)
        return document

    def hold(self, container_id: str) -> None:
        """What a container with a monitor has stays its own between two of its lives, while this process lives."""
        self._database.execute(
            "UPDATE network_containers SET owner = ? WHERE container_id = ?",
            (details.STARTING + details.identity(os.getpid()), container_id),
        )

    def _release(self, container_id: str, document: Document, core: net.AttachPlan, running: bool) -> None:
        (net.detach if running else net.release)(core)
        if document.uses_resolver:
            self._forget_in_resolver(container_id)

    def running(self, reference: str) -> tuple[str, int]:
        """Id and init process of a running container that has networks.

        Raises ContainerNotFound, ContainerNotRunning, SpecError.
        """
        from . import joining

        return joining.running(self, reference)[:2]

    def connect(self, reference: str, container: str, **addresses: Unpack[Addresses]) -> Endpoint:
        """Joins a running container to one more network.

        Raises NotFound, ContainerNotRunning, Conflict (it is on it already; the address is taken), SpecError.
        """
        return self.join(attachment_of(reference, addresses), container)

    def join(self, attachment: Attachment, container: str, publish: NetworkOptions | None = None) -> Endpoint:
        """As ``connect``; ``publish``: its ports, if none of its networks led out."""
        from . import joining

        return joining.connect(
            self,
            self.get(attachment.network),
            attachment,
            *joining.running(self, container),
            publish,
        )

    def disconnect(self, reference: str, container: str) -> None:
        """Takes a running container off a network.  Raises NotFound, ContainerNotRunning."""
        from . import joining

        joining.disconnect(self, self.get(reference), *joining.running(self, container))

    def rename(self, container_id: str, name: str) -> None:
        """A container that runs is called differently from now on."""
        from . import joining

        joining.rename(self, container_id, name)

    # --- what was lost ---

    def collect(self, but: str = "") -> int:
        """Takes off their networks the containers whose owner is dead, ``but`` that one; how many."""
        return details.collect(self, but)

    def repair(self) -> None:
        """Makes the kernel's state again what the database says: bridges, firewall, names.

        After somebody flushed the firewall, removed a bridge, or the machine was started anew.
        """
        from . import repairing

        repairing.repair(self)

    def take_down(self) -> None:
        """Takes bridges and firewall tables out of the kernel, before this root is deleted.

        The networks stay, and come back when one is used.  Conflict: a container is on one.
        """
        from . import repairing

        repairing.take_down(self)

    def _is_whole(self, networks: Iterable[Network]) -> bool:
        if not net.firewall_is_current(self._scope):
            return False
        if self._ports_are_lost():
            return False
        try:
            for network in networks:
                net.find_link(network.device)
        except KernelError:
            return False
        return True

    def _ensure_resolver(self) -> None:
        """Starts the resolver unless it runs, and tells it about the containers that are running already."""
        if not resolver.is_running(self.resolver_socket):
            from . import repairing

            repairing.start_resolver(self)

    def _ensure_relay(self, documents: Iterable[Document]) -> None:
        """Starts the relay of IPv6 ports if one of the containers has any, unless it runs."""
        if any(map(relay.is_needed, documents)):
            self._relay_asked = relay.ensure(self.relay_socket, self._scope, self._relay_asked)

    def _forget_in_resolver(self, container_id: str) -> None:
        try:
            net.unregister_container(self.resolver_socket, container_id)
        except KernelError as error:
            if error.errno not in (errno.ENOENT, errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE):
                raise

    def host_gateways(self) -> Sequence[str]:
        """The host's addresses on the default network: what ``host-gateway`` means."""
        return [subnet.gateway for subnet in self.ensure_default().subnets]

    def _stored(self, where: str = "1", parameters: Sequence[object] = ()) -> Sequence[Network]:
        rows = self._database.execute(
            "SELECT id, name, driver, device, internal, options, labels, created, more, version, subnet, gateway,"
            " ip_range"
            f" FROM networks LEFT JOIN network_subnets ON network_id = id WHERE {where} ORDER BY name, version",
            parameters,
        )
        found: dict[str, tuple[tuple[Any, ...], list[tuple[Any, ...]]]] = {}
        for row in rows:
            subnets = found.setdefault(row[0], (row[:9], []))[1]
            if row[9] is not None:
                subnets.append(row[9:])
        return [network_from(row, tuple(subnets)) for row, subnets in found.values()]

    def _documents(self) -> Mapping[str, Document]:
        rows = self._database.execute(
            "SELECT container_id, document FROM network_containers WHERE document != ''"
        )
        return {row[0]: document_from(row[1]) for row in rows}

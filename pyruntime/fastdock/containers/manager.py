"""All kept containers of an engine."""

from __future__ import annotations

import fcntl
import os
import time

from fastdock import _core
from fastdock._errors import Conflict, ContainerNotFound
from fastdock.containers.networking import give_back, uses_networks
from fastdock.containers.records import Record, Records
from fastdock.containers.state import LOST, ZERO_TIME, State, ended_state, live_states, read_state
from fastdock.store.locks import is_locked

TYPE_CHECKING = False  # see _light
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from fastdock.containers.container import Container
    from fastdock.containers.creation import Origin
    from fastdock.engine import Engine
    from fastdock.volumes import Volumes


class Containers:
    """``engine.containers``: create, find and list containers that outlive their caller."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.directory = os.path.join(engine.root, "containers")
        self.run_directory = os.path.join(engine.run_directory, "containers")
        for directory in (self.directory, self.run_directory):
            os.makedirs(directory, mode=0o700, exist_ok=True)
        self.records = Records(engine.store.database, self.directory)
        self._volumes: Volumes | None = None
        self._repaired = 0.0
        self.exec_plans: dict[str, _core.LaunchPlan] = {}
        self.origins: dict[str, Origin] = {}  # by image ID: creation.py
        self.repair()

    @property
    def volumes(self) -> Volumes:
        if self._volumes is None:
            from fastdock.volumes import Volumes

            self._volumes = Volumes(self.engine)
        return self._volumes

    # -- making and finding --------------------------------------------------------------------------------

    def create(self, image: str, args: Sequence[str] | str | None = None, **options: Any) -> Container:
        """Makes a container; it is started by ``start()``.

        Options are those of RunOptions and of settings.py.  Conflict (the name is taken), ImageNotFound,
        SpecError, LimitError.
        """
        from fastdock.containers.container import Container
        from fastdock.containers.creation import create

        record, asked = create(self, image, args, options)
        self.event("create", record)
        return Container.of(self, record, asked)

    def get(self, reference: str) -> Container:
        """By name, id, or beginning of an id.  ContainerNotFound, Conflict (several begin so)."""
        from fastdock.containers.container import Container

        return Container.of(self, self.record(reference))

    def record(self, reference: str) -> Record:
        try:
            record = self.records.get(reference)
        except ContainerNotFound:
            from fastdock.containers.foreground import find

            return find(self, reference)
        if not self._reaped(record) and not (
            record.auto_remove and self._lost(record, self.state(record.id))
        ):
            return record
        raise ContainerNotFound(f"no such container: {reference}")

    def list(self, *, all: bool = False) -> Sequence[Container]:
        """Those that run, or ``all``; the newest first."""
        from fastdock.containers.container import Container

        return [Container.of(self, record) for record, state in self.entries() if all or state.running]

    def entries(self) -> Iterator[tuple[Record, State]]:
        """Every container with its state, the newest first."""
        if time.monotonic() - self._repaired > 1:
            self.repair()
        there, running = set(os.listdir(self.directory)), live_states(self.engine.run_directory)
        records = self.records.all()
        if unknown := running.keys() - {record.id for record in records}:
            from fastdock.containers.foreground import record_of

            found = [record_of(self, container_id) for container_id in unknown]
            records.extend(record for record in found if record)
            records.sort(key=lambda record: -record.created)
        for record in records:
            if record.is_foreground:
                yield record, running[record.id]
            elif record.id in there or not self._reaped(record):
                places = f"{self.directory}/{record.id}", f"{self.run_directory}/{record.id}"
                state = running.get(record.id) or ended_state(*places)
                if not (record.auto_remove and self._lost(record, state)):
                    yield record, state

    def __iter__(self) -> Iterator[Container]:
        return iter(self.list(all=True))

    def state(self, container_id: str) -> State:
        """What it is doing; of one whose monitor was killed that is seen, and repaired."""
        places = f"{self.directory}/{container_id}", f"{self.run_directory}/{container_id}"
        state = read_state(*places)
        if state.running and not is_locked(places[1]):
            self.repair()
            state = read_state(*places)
        return state

    def log_path(self, container_id: str) -> str:
        return os.path.join(self.directory, container_id, f"{container_id}-json.log")

    def prune(self, keep: Callable[[Container], bool] | None = None) -> tuple[Sequence[str], int]:
        """Removes all that do not run, but those for which ``keep`` says so; (ids, bytes that were freed)."""
        removed, freed = [], 0
        for container in self.list(all=True):
            if container.state.running or (keep and keep(container)):
                continue
            size = container.size()
            try:
                container.remove()
            except ContainerNotFound:
                continue
            removed.append(container.id)
            freed += size
        return removed, freed

    def event(self, action: str, record: Record, more: Sequence[tuple[str, str]] = ()) -> None:
        from fastdock.containers.creation import event_attributes

        _core.append_event(
            self.engine.root, "container", action, record.id, [*event_attributes(record), *more]
        )

    # -- what others left ----------------------------------------------------------------------------------

    def repair(self) -> None:
        """Ends what monitors that were killed left, and removes what never became a container."""
        engine = self.engine
        self._repaired = time.monotonic()
        for container_id in _core.repair(engine.root, engine.run_directory, engine.cgroup_parent):
            try:
                record = self.records.get(container_id)
            except ContainerNotFound:
                continue
            self.event("die", record, [("exitCode", "137")])
            if record.auto_remove:
                self.remove_files(record.id, record.ids)
                self._reaped(record)
        self._remove_orphans()

    def _remove_orphans(self) -> None:
        """Directories without a row, unless they are being made, or belong to a session that lives."""
        names = set(os.listdir(self.directory)) - self.records.ids()
        sessions = os.path.join(self.engine.run_directory, "sessions")
        for name in names:
            if os.path.exists(os.path.join(sessions, name[-24:])):
                continue
            try:
                lock = os.open(
                    os.path.join(self.directory, name), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
                )
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass
            else:
                if name not in self.records.ids() and not os.path.exists(os.path.join(sessions, name[-24:])):
                    self.discard(name)
            finally:
                os.close(lock)

    def discard(self, container_id: str) -> None:
        """What never became a container: its files, its ids, its hold on the image."""
        # The directory last: who is killed here leaves one, by which the next sees that something is left.
        self._release_ids_of(container_id)
        self.engine.store.release(f"container:{container_id}")
        self.remove_files(container_id, -1)

    def _release_ids_of(self, container_id: str) -> None:
        directory = os.path.join(self.engine.root, "ids")
        for number in os.listdir(directory) if os.path.isdir(directory) else ():
            self._release_ids(number, container_id)

    def _release_ids(self, number: int | str, container_id: str) -> None:
        """Does nothing if the range is another's by now."""
        path = os.path.join(self.engine.root, "ids", str(number))
        try:
            with open(path) as file:
                if file.read() == container_id:
                    os.unlink(path)
        except FileNotFoundError:
            pass

    def _reaped(self, record: Record) -> bool:
        """Whether the container is gone; then what is left of it goes as well."""
        if self.records.is_there(record.id):
            return False
        give_back(self, record)
        self.engine.store.release(f"container:{record.id}")
        if record.ids >= 0:  # whoever removed the directory may have been killed before these
            self._release_ids(record.ids, record.id)
        volumes = record.document.get("volumes") or []
        if self.records.drop(record.id):
            self.volumes.drop_unused(volumes)
        return True

    def _lost(self, record: Record, state: State) -> bool:
        """Whether it was to be removed at its end, and went down with the machine; then it is removed now."""
        if state.running or (state.exit_code, state.finished_at) != (LOST, ZERO_TIME):
            return False
        from fastdock.containers.container import Container

        try:
            Container.of(self, record).remove()
        except Conflict:  # somebody has just started it
            return False
        except ContainerNotFound:
            pass
        return True

    def collect_networks(self, record: Record) -> None:
        """It has ended: its addresses and ports are free for others."""
        if uses_networks(record):
            self.engine.networks.collect()

    def reap_named(self, name: str) -> bool:
        """Whether the name was held by a container that is gone, and is free now."""
        try:
            return self._reaped(self.records.get(name))
        except ContainerNotFound:
            return True

    def remove_files(self, container_id: str, ids: int) -> None:
        """The container's directory, its cgroup if any is left, and its range of ids."""
        engine = self.engine
        _core.remove_cgroup(engine.root, engine.run_directory, engine.cgroup_parent, container_id)
        _core.remove_tree(os.path.join(self.directory, container_id))
        if ids >= 0:
            try:
                os.unlink(os.path.join(engine.root, "ids", str(ids)))
            except FileNotFoundError:
                pass

"""Volumes: directories that outlive containers, named or anonymous, with Docker's rules."""

from __future__ import annotations

import os
import time

from fastdock import _core
from fastdock._errors import Conflict, NotFound, SpecError
from fastdock._light import NamedTuple, sqlite3
from fastdock.mount_options import _VOLUME_NAME, MountOption

TYPE_CHECKING = False  # see _light
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from fastdock.containers.creation import Origin
    from fastdock.engine import Engine
    from fastdock.options import Options


class Volume(NamedTuple):
    """One volume.  Its files have the ids that containers see (the mount is id-mapped)."""

    name: str
    path: str
    """The directory on the host."""
    created: float
    """Seconds since the epoch."""
    anonymous: bool
    labels: Mapping[str, str]
    options: Mapping[str, str]

    def inspect(self) -> dict[str, Any]:
        """What ``docker volume inspect`` says."""
        return {
            "CreatedAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.created)),
            "Driver": "local",
            "Labels": dict(self.labels) or None,
            "Mountpoint": self.path,
            "Name": self.name,
            "Options": dict(self.options) or None,
            "Scope": "local",
        }


class Volumes:
    """``engine.volumes``."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._database = engine.store.database
        self._directory = os.path.join(engine.root, "volumes")
        os.makedirs(self._directory, mode=0o700, exist_ok=True)

    def create(
        self,
        name: str = "",
        *,
        labels: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
        anonymous: bool = False,
    ) -> Volume:
        """Makes a volume, or gives the one that has the name.  SpecError."""
        if name and not _VOLUME_NAME.fullmatch(name):
            raise SpecError(f"volume name {name!r}: letters, digits, and after the first also _ . -")
        if options:
            raise SpecError(f"unknown option of a local volume: {next(iter(options))}")
        anonymous = anonymous or not name
        name = name or os.urandom(32).hex()
        # The directory first: a row means that it is there.
        os.makedirs(os.path.join(self._directory, name, "_data"), mode=0o755, exist_ok=True)
        row = (name, time.time(), anonymous, _core.dump_json(dict(labels or {})), "{}")
        made = self._database.execute("INSERT OR IGNORE INTO volumes VALUES (?, ?, ?, ?, ?)", row).rowcount
        if made:
            _core.append_event(self._engine.root, "volume", "create", name, [("driver", "local")])
        return self.get(name)

    def get(self, name: str) -> Volume:
        """NotFound."""
        rows = self._database.execute(
            "SELECT name, created, anonymous, labels, options FROM volumes WHERE name = ?", (name,)
        ).fetchall()
        if not rows:
            raise NotFound(f"no such volume: {name}")
        return self._volume(rows[0])

    def list(self) -> Sequence[Volume]:
        """By name."""
        self._reap()
        rows = self._database.execute(
            "SELECT name, created, anonymous, labels, options FROM volumes ORDER BY name"
        )
        return [self._volume(row) for row in rows.fetchall()]

    def users(self, name: str) -> Sequence[str]:
        """The ids of the containers that have it."""
        rows = self._database.execute(
            "SELECT container FROM volume_uses WHERE volume = ? ORDER BY 1", (name,)
        )
        return [row[0] for row in rows.fetchall()]

    def _reap(self) -> None:
        """Containers of `run --rm` are gone from the disk before their rows and anonymous volumes."""
        for _ in self._engine.containers.entries():
            pass

    def remove(self, name: str, *, force: bool = False) -> None:
        """Conflict: a container has it.  NotFound, unless ``force``."""
        self._reap()
        try:
            with self._database.transaction() as connection:
                if connection.execute("DELETE FROM volumes WHERE name = ?", (name,)).rowcount == 0:
                    if force:
                        return
                    raise NotFound(f"no such volume: {name}")
        except sqlite3.IntegrityError:
            users = ", ".join(user[:12] for user in self.users(name))
            raise Conflict(
                f"volume {name} is in use by container {users}", hint="remove the container first"
            ) from None
        _core.remove_tree(os.path.join(self._directory, name))
        _core.append_event(self._engine.root, "volume", "destroy", name, [("driver", "local")])

    def prune(
        self, *, all: bool = False, keep: Callable[[Volume], bool] | None = None
    ) -> tuple[Sequence[str], int]:
        """Removes anonymous volumes (``all``: every one) that no container has; (names, bytes)."""
        removed, freed = [], 0
        for volume in self.list():
            if (volume.anonymous or all) and not self.users(volume.name) and not (keep and keep(volume)):
                size = disk_use(volume.path)
                try:
                    self.remove(volume.name)
                except (Conflict, NotFound):  # somebody was faster
                    continue
                removed.append(volume.name)
                freed += size
        return removed, freed

    def drop_unused(self, names: Iterable[str]) -> None:
        """Those of the names that are anonymous and that no container has any more."""
        for name in names:
            try:
                if self.get(name).anonymous and not self.users(name):
                    self.remove(name)
            except (Conflict, NotFound):
                continue

    def resolve(self, container_id: str, options: Options, origin: Origin) -> tuple[Options, Sequence[str]]:
        """The options with binds in place of volumes, which are made and filled; and the volumes' names."""
        taken = {mount.target for mount in options.mounts}
        wanted = list(options.mounts)
        wanted += [
            MountOption("volume", path) for path in origin.base.volumes if path.rstrip("/") not in taken
        ]
        mounts, names = [], []
        for mount in wanted:
            if mount.type != "volume":
                mounts.append(mount)
                continue
            volume = self.create(mount.source, anonymous=not mount.source)
            names.append(volume.name)
            if not mount.no_copy:
                self._fill(volume, mount.target, origin)
            mounts.append(mount._replace(type="bind", source=volume.path))
        mounts.sort(key=lambda mount: mount.target.count("/"))
        return options._replace(mounts=tuple(mounts)), names

    def _fill(self, volume: Volume, target: str, origin: Origin) -> None:
        """Docker: an empty volume gets what the image has at its place."""
        from fastdock.containers.trees import copy_tree

        if os.listdir(volume.path):
            return
        view = _core.open_view(list(origin.base.layers))
        try:
            try:
                source = _core.open_in_root(view, target, os.O_RDONLY | os.O_DIRECTORY)
            except (FileNotFoundError, NotADirectoryError):
                return
            try:
                copy_tree(source, volume.path)
            finally:
                os.close(source)
        finally:
            os.close(view)

    def _volume(self, row: tuple[Any, ...]) -> Volume:
        name, created, anonymous, labels, options = row
        path = os.path.join(self._directory, name, "_data")
        return Volume(
            name, path, created, bool(anonymous), _core.parse_json(labels), _core.parse_json(options)
        )


def disk_use(path: str) -> int:
    """Bytes of the files below a directory."""
    total = 0
    for base, _, files in os.walk(path):
        for name in files:
            try:
                total += os.lstat(os.path.join(base, name)).st_size
            except FileNotFoundError:
                continue
    return total

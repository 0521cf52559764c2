"""Images as objects: ``engine.images`` is an :class:`Images`, each of them an :class:`Image`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from fastdock._errors import ImageNotFound, SpecError
from fastdock.registry.face import RemoteImages
from fastdock.registry.reference import familiar, parse
from fastdock.store import ImageRecord, Store, default_root, sweep

if TYPE_CHECKING:
    from fastdock.registry.progress import ProgressCallback
    from fastdock.store.check import Finding

__all__ = ["DiskUse", "HistoryEntry", "Image", "Images", "Pruned", "Space", "familiar", "parse"]

Names = list[str]  # (inside Images, "list" is the method)
Removals = list[tuple[str, str]]
Source = str | os.PathLike[str] | IO[bytes]


class HistoryEntry(NamedTuple):
    """One step by which an image came about, the newest first."""

    id: str  # the image's ID for the newest, "<missing>" for the others
    created: str  # RFC 3339
    created_by: str
    size: int  # bytes of its layer, unpacked
    comment: str
    tags: tuple[str, ...]


class DiskUse(NamedTuple):
    """What one image takes, in bytes."""

    image: ImageRecord
    size: int  # all layers, unpacked
    shared: int  # of these, layers that other images use too
    unique: int
    containers: int  # how many hold it


class Space(NamedTuple):
    """What all images take, in bytes, and what of it would come free."""

    layers: int  # unpacked
    unused_layers: int  # of images that no container uses, or of none
    blobs: int
    unused_blobs: int  # that no image needs
    blob_count: int
    unused_blob_count: int


class Pruned(NamedTuple):
    removed: list[tuple[str, str]]  # ("Untagged", name), ("Deleted", digest)
    space: int  # bytes that came free


class Image:
    """An image that is here.  It is a view: after a change, ask again."""

    def __init__(self, images: Images, record: ImageRecord) -> None:
        self._images = images
        self.record = record

    def __repr__(self) -> str:
        names = ", ".join(self.tags) or "untagged"
        return f"<Image {self.short_id} {names}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Image) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def short_id(self) -> str:
        return self.record.id[7:19]

    @property
    def tags(self) -> list[str]:
        """Its names as people type them: ``busybox:latest``."""
        return [familiar(name) for name in self.record.names]

    @property
    def digests(self) -> list[str]:
        return [familiar(name) for name in self.record.digests]

    @property
    def config(self) -> dict[str, Any]:
        return self.record.config

    @property
    def labels(self) -> dict[str, str]:
        return self.record.config.get("Labels") or {}

    @property
    def size(self) -> int:
        return self.record.size

    def tag(self, name: str) -> None:
        self._images.tag(self.id, name)

    def remove(self, *, force: bool = False) -> Sequence[tuple[str, str]]:
        return self._images.remove(self.id, force=force)

    def save(self, output: Source, **options: Any) -> None:
        self._images.save([self.record.names[0] if self.record.names else self.id], output, **options)

    def history(self) -> Sequence[HistoryEntry]:
        return self._images.history(self.id)

    def inspect(self) -> dict[str, Any]:
        """Docker's ``image inspect``."""
        record, document = self.record, self.record.document
        return {
            "Id": record.id,
            "RepoTags": self.tags,
            "RepoDigests": self.digests,
            "Parent": "",
            "Comment": (document.get("history") or [{}])[-1].get("comment", ""),
            "Created": record.created,
            "DockerVersion": document.get("docker_version", ""),
            "Author": document.get("author", ""),
            "Config": {"Env": None, "Cmd": None, "Labels": None, "Entrypoint": None, **record.config},
            "Architecture": record.architecture,
            **({"Variant": document["variant"]} if document.get("variant") else {}),
            "Os": document.get("os", ""),
            "Size": record.size,
            "GraphDriver": {
                "Name": "overlay2",
                "Data": {"LowerDir": ":".join(reversed(record.layer_paths))},
            },
            "RootFS": {"Type": "layers", "Layers": record.diff_ids},
            "Metadata": {"LastTagTime": _rfc3339(record.tagged)},
        }


class Images(RemoteImages):
    """The images of one state directory."""

    def __init__(self, store: Store) -> None:
        self.store = store

    @classmethod
    def at(cls, root: str | os.PathLike[str] | None = None) -> Images:
        """The images below a state directory (FASTDOCK_ROOT or the default), without an engine around them."""
        return cls(Store(root or default_root()))

    def tags_of(self, repository: str) -> Sequence[str]:
        """The full names of a repository that is given without a tag; none if ``repository`` has a tag."""
        return self.store.names_in(repository)

    # -- what is here --------------------------------------------------------------------------------------

    def get(self, reference: str) -> Image:
        """The image with this name, ID or beginning of an ID; ImageNotFound, SpecError."""
        return Image(self, self.store.get(reference))

    def list(self) -> Sequence[Image]:
        """All images, the last tagged first."""
        return [Image(self, record) for record in self.store.records()]

    def __iter__(self) -> Iterator[Image]:
        return iter(self.list())

    def __contains__(self, reference: str) -> bool:
        try:
            return self.store.find_id(reference) is not None
        except SpecError:
            return False

    def history(self, reference: str) -> Sequence[HistoryEntry]:
        """How an image came about, newest step first."""
        record = self.store.get(reference)
        sizes = [self.store.layer_size(path) for path in record.layer_paths[: len(record.diff_ids)]]
        steps = record.document.get("history") or []
        if sum(not step.get("empty_layer") for step in steps) != len(sizes):  # missing, or wrong
            steps = [{"created": record.created}] * len(sizes)
        entries, layer = [], 0
        for number, step in enumerate(steps):
            size = 0
            if not step.get("empty_layer"):
                size, layer = sizes[layer], layer + 1
            newest = number == len(steps) - 1
            entries.append(
                HistoryEntry(
                    id=record.id if newest else "<missing>",
                    created=step.get("created") or "",
                    created_by=step.get("created_by") or "",
                    size=size,
                    comment=step.get("comment") or "",
                    tags=tuple(map(familiar, record.names)) if newest else (),
                )
            )
        return entries[::-1]

    def disk_use(self) -> Sequence[DiskUse]:
        """What each image takes; layers that several share are told apart."""
        records = self.store.records()
        users: dict[str, int] = {}
        for record in records:
            for path in set(record.layer_paths):
                users[path] = users.get(path, 0) + 1
        uses = []
        for record in records:
            sizes = {path: self.store.layer_size(path) for path in record.layer_paths}
            shared = sum(size for path, size in sizes.items() if users[path] > 1)
            total = sum(sizes.values())
            uses.append(DiskUse(record, total, shared, total - shared, len(self.store.holders(record.id))))
        return uses

    def space(self) -> Space:
        """What the images take in all."""
        execute = self.store.database.execute
        held = {record.id for record in self.store.records() if self.store.holders(record.id)}
        users: dict[str, set[str]] = {}
        for key, image_id in execute("SELECT key, image_id FROM image_layers").fetchall():
            users.setdefault(key, set()).add(image_id)
        sizes = dict(execute("SELECT key, size FROM layers").fetchall())
        needed = {digest for (digest,) in execute("SELECT DISTINCT digest FROM image_blobs").fetchall()}
        blobs = {digest: self.store.blobs.size(digest) for digest in self.store.blobs.digests()}
        unused = [digest for digest in blobs if digest not in needed]
        return Space(
            layers=sum(sizes.values()),
            unused_layers=sum(size for key, size in sizes.items() if not users.get(key, set()) & held),
            blobs=sum(blobs.values()),
            unused_blobs=sum(blobs[digest] for digest in unused),
            blob_count=len(blobs),
            unused_blob_count=len(unused),
        )

    # -- names and removal ---------------------------------------------------------------------------------

    def tag(self, source: str, target: str) -> Image:
        """Gives an image another name, taking it away from whichever image has it."""
        return Image(self, self.store.tag(source, target))

    def remove(self, reference: str, *, force: bool = False) -> Sequence[tuple[str, str]]:
        """Takes a name away; the image goes with its last one.  Conflict, ImageNotFound (see Store.remove)."""
        return self.store.remove(reference, force=force)

    def prune(self, *, all: bool = False, keep: Callable[[Image], bool] | None = None) -> Pruned:
        """Removes images without a name (``all``: those that no container uses), and what nothing needs.

        Images for which ``keep`` says so stay.
        """
        before = self.store.bytes_used()
        removed: Removals = []
        for image in self.list():
            named = bool(image.record.names or image.record.digests)
            if (named and not all) or (keep and keep(image)) or self.store.holders(image.id):
                continue
            try:
                removed += self.store.remove(image.id, force=True)
            except ImageNotFound:  # another process was faster
                continue
        removed += [("Deleted", digest) for digest in sweep.sweep(self.store, everything=True)]
        return Pruned(removed, max(0, before - self.store.bytes_used()))

    # -- files ---------------------------------------------------------------------------------------------

    def import_tar(
        self,
        source: Source,
        reference: str | None = None,
        *,
        changes: Sequence[str] = (),
        message: str = "",
        platform: str | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Image:
        """Makes an image of one layer from a file system's tar (plain, gzip or zstd): a path or a file object.

        ``changes`` are Dockerfile instructions (``CMD ["sh"]``).  ImageError, SpecError.
        """
        from fastdock import assemble

        name = _tag_name(reference)
        with _opened(source) as file:
            record = assemble.from_tar(
                self.store, file, name, changes=changes, message=message, platform=platform, progress=progress
            )
        return Image(self, record)

    def commit(
        self,
        upper: str | os.PathLike[str],
        parent: str | ImageRecord,
        reference: str | None = None,
        *,
        config: dict[str, Any] | None = None,
        changes: Sequence[str] = (),
        author: str = "",
        message: str = "",
        created_by: str = "",
        uid_offset: int = 0,
        gid_offset: int = 0,
    ) -> Image:
        """Makes an image from an overlay's upper directory over ``parent``.

        ``config`` replaces the parent's (what the container was run with); ``changes`` come on top.  The offsets
        are subtracted from owners: the first id of the container's user namespace.
        """
        from fastdock import assemble

        record = parent if isinstance(parent, ImageRecord) else self.store.get(parent)
        step = assemble.Step(created_by=created_by, author=author, comment=message)
        made = assemble.from_upper(
            self.store,
            os.fspath(upper),
            record,
            _tag_name(reference),
            config,
            changes,
            step,
            uid_offset,
            gid_offset,
        )
        return Image(self, made)

    def save(
        self,
        references: Sequence[str],
        output: Source,
        *,
        compression: str | None = None,
        format: str = "docker-archive",
    ) -> None:
        """Writes images to one tar that docker, podman and skopeo load; "oci-archive" leaves Docker's part out.

        A repository without a tag stands for all its tags.
        """
        from fastdock.store import archive

        if format not in ("docker-archive", "oci-archive"):
            raise SpecError(f"{format!r} is not a format", hint="docker-archive or oci-archive")
        chosen = self._to_save(references)
        with _opened(output, "wb") as file:
            archive.save(self.store, chosen, file, compression=compression, docker=format == "docker-archive")

    def load(
        self, source: Source, *, progress: ProgressCallback | None = None
    ) -> Sequence[tuple[Image, Sequence[str]]]:
        """Takes the images out of an archive of docker save or an OCI layout; each with the names it came with."""
        from fastdock.store import archive

        with _opened(source) as file:
            loaded = archive.load(self.store, file, progress)
        return [(Image(self, entry.image), [familiar(name) for name in entry.names]) for entry in loaded]

    def bootstrap(
        self, what: str, reference: str | None = None, *, progress: Callable[[str], None] | None = None
    ) -> Image:
        """Makes a base image of this machine's own: ``busybox``, or ``debian[:suite]`` from its package mirror."""
        from fastdock import bootstrap

        return Image(self, bootstrap.bootstrap(self.store, what, _tag_name(reference or what), progress))

    def check(
        self, *, repair: bool = False, progress: Callable[[str], None] | None = None
    ) -> Sequence[Finding]:
        """Verifies blobs, layers and database against each other; what is wrong, and whether it was repaired."""
        from fastdock.store.check import check

        return check(self.store, repair=repair, progress=progress)

    def _to_save(self, references: Sequence[str]) -> Sequence[tuple[ImageRecord, Sequence[str]]]:
        chosen: dict[str, tuple[ImageRecord, Names]] = {}
        for reference in references:
            names = self.store.names_in(reference)
            for name in names or [reference]:
                record = self.store.get(name)
                kept = chosen.setdefault(record.id, (record, []))[1]
                if name in record.names:
                    kept.append(name)
                elif (full := _full_name(name)) in record.names:
                    kept.append(full)
        return [*chosen.values()]


@contextmanager
def _opened(source: Source, mode: str = "rb") -> Iterator[IO[bytes]]:
    """A path opened (and, if it was being written and that failed, removed again), or the file object itself."""
    if not isinstance(source, str | os.PathLike):
        yield source
        return
    existed = os.path.exists(source)
    try:
        with open(source, mode) as file:
            yield file
    except BaseException:
        if mode == "wb" and not existed and os.path.exists(source):
            os.unlink(source)
        raise


def _tag_name(reference: str | None) -> str | None:
    """The full name to give an image; SpecError where it is a digest."""
    if reference is None:
        return None
    name = parse(reference)
    if name.digest:
        raise SpecError(f"{reference}: an image cannot be named by digest")
    return name.name


def _full_name(reference: str) -> str:
    try:
        return parse(reference).name
    except SpecError:
        return ""


def _rfc3339(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))

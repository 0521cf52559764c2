"""Images in one tar file: docker-archive and OCI archive, to and from.

What we write is both: an OCI image layout, and beside its index the ``manifest.json`` that docker load reads
(as Docker's own archives are since version 25).
"""

from __future__ import annotations

import io
import json
import os
import posixpath
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any, NamedTuple

from fastdock._errors import ImageError, SpecError
from fastdock.registry.platform import host_platform, select
from fastdock.registry.progress import Progress, ProgressCallback, short
from fastdock.registry.reference import familiar, parse
from fastdock.store.blobs import digest_of
from fastdock.store.compose import as_stored, compose
from fastdock.store.ingest import add_layer, compression_suffix, pipe_from, read_chunks, write_all
from fastdock.store.manifest import (
    DOCKER_CONFIG,
    MAX_CONFIG,
    MAX_LAYERS,
    MAX_MANIFEST,
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    Index,
    Manifest,
    Platform,
    check_image,
    encode,
    layer_compression,
    parse_config,
    parse_manifest,
)
from fastdock.store.record import ImageRecord
from fastdock.store.store import Store

MAX_MEMBERS = 100_000
MAX_HEADER = 1 << 20  # bytes of one extended header of the archive
CONTAINERD_NAME = "io.containerd.image.name"
REF_NAME = "org.opencontainers.image.ref.name"


class Loaded(NamedTuple):
    image: ImageRecord
    names: list[str]  # full names that the archive gave it


# -- writing -----------------------------------------------------------------------------------------------


def save(
    store: Store,
    images: Sequence[tuple[ImageRecord, Sequence[str]]],
    output: IO[bytes],
    *,
    compression: str | None = None,
    docker: bool = True,
) -> None:
    """Writes images, each with full names, as one tar; the same images always give the same bytes.

    ``output`` need not be seekable.  Without ``docker``, only the OCI layout is written.
    """
    with store.writing(), tarfile.open(fileobj=output, mode="w|", format=tarfile.GNU_FORMAT) as tar:
        entries: list[Descriptor] = []
        docker_entries: list[dict[str, Any]] = []
        blobs: dict[str, bytes | None] = {}
        for image, names in images:
            manifest, data = _oci_manifest(store, image, compression)
            blobs |= {digest_of(data): data}
            blobs |= {blob.digest: None for blob in (manifest.config, *manifest.layers)}
            platform = Platform(image.document.get("os", "linux"), image.architecture)
            for name in names or [""]:
                annotations = {CONTAINERD_NAME: name, REF_NAME: familiar(name)} if name else None
                entries.append(Descriptor(OCI_MANIFEST, digest_of(data), len(data), platform, annotations))
            docker_entries.append(
                {
                    "Config": _blob_path(image.id),
                    "RepoTags": [familiar(name) for name in names] or None,
                    "Layers": [_blob_path(layer.digest) for layer in manifest.layers],
                }
            )
        _add_bytes(tar, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        for digest in sorted(blobs):
            content = blobs[digest]
            if content is not None:
                _add_bytes(tar, _blob_path(digest), content)
            else:
                with open(store.blobs.path(digest), "rb") as file:
                    tar.addfile(_member(_blob_path(digest), os.fstat(file.fileno()).st_size), file)
        _add_bytes(tar, "index.json", encode(Index(2, entries, "application/vnd.oci.image.index.v1+json")))
        if docker:
            _add_bytes(tar, "manifest.json", json.dumps(docker_entries, separators=(",", ":")).encode())


def _oci_manifest(store: Store, image: ImageRecord, compression: str | None) -> tuple[Manifest, bytes]:
    """The image's manifest in OCI's terms (an OCI layout holds no Docker manifests)."""
    stored = as_stored(store, image) if compression is None else None
    composed = stored or compose(store, image, compression)
    if composed.document.media_type == OCI_MANIFEST:
        return composed.document, composed.data
    layers = [
        Descriptor(OCI_LAYER + {"none": "", "gzip": "+gzip", "zstd": "+zstd"}[kind], layer.digest, layer.size)
        for layer in composed.document.layers
        for kind in [layer_compression(layer.media_type)]
    ]
    config = composed.document.config
    manifest = Manifest(2, Descriptor(OCI_CONFIG, config.digest, config.size), layers, OCI_MANIFEST)
    return manifest, encode(manifest)


def _blob_path(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    return member


def _add_bytes(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    tar.addfile(_member(name, len(data)), io.BytesIO(data))


# -- reading -----------------------------------------------------------------------------------------------


def load(store: Store, source: IO[bytes], progress: ProgressCallback | None = None) -> list[Loaded]:
    """Takes the images out of an archive, gives them the names that it says.

    ImageError where it is not such an archive, or anything in it is not what its digest says.
    """
    with store.writing(), _plain(store, source) as file:
        archive = _Archive(file)
        if "index.json" in archive.members:
            return _load_oci(store, archive, progress)
        if "manifest.json" in archive.members:
            return _load_docker(store, archive, progress)
    raise ImageError(
        "this is no image archive: it has neither index.json nor manifest.json",
        hint="a plain file system tar is for 'fastdock import'",
    )


@contextmanager
def _plain(store: Store, source: IO[bytes]) -> Iterator[IO[bytes]]:
    """The archive, uncompressed and seekable: itself, or a copy that is gone afterwards."""
    start = source.read(4)
    if source.seekable():
        source.seek(-len(start), os.SEEK_CUR)
        if not compression_suffix(start) and source.tell() == 0:
            yield source
            return
        start = b""
    from fastdock import _core

    def feed(pipe: int) -> None:
        with os.fdopen(os.dup(pipe), "wb", buffering=0) as file:
            for chunk in (start, *read_chunks(source)):
                write_all(file, chunk)

    with tempfile.TemporaryFile(dir=store.layers.staging) as copy:
        with pipe_from(feed) as reader:
            _core.recompress(reader, copy.fileno(), "none")
        copy.seek(0)
        yield copy


class _LimitedFile:
    """A file whose reads are limited: tarfile reads an extended header of any size into memory at once."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.tell, self.seek = file.tell, file.seek

    def read(self, size: int) -> bytes:
        if size > MAX_HEADER:
            raise ImageError("the archive has a header of more than a megabyte")
        return self._file.read(size)


class _Archive:
    """The regular files of an archive, by name."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.members: dict[str, tuple[int, int]] = {}  # name -> offset, size
        links: dict[str, str] = {}
        try:
            with tarfile.open(fileobj=_LimitedFile(file), mode="r:") as tar:  # type: ignore[call-overload]
                for number, member in enumerate(tar):
                    if number > MAX_MEMBERS:
                        raise ImageError(f"the archive has more than {MAX_MEMBERS} members")
                    tar.members = []  # tarfile would keep them all
                    name = posixpath.normpath(member.name)
                    if member.isreg() and not member.issparse():
                        self.members[name] = member.offset_data, member.size
                    elif member.issym():  # how docker save once wrote a layer that it had written before
                        links[name] = posixpath.normpath(
                            posixpath.join(posixpath.dirname(name), member.linkname)
                        )
                    elif member.islnk():
                        links[name] = posixpath.normpath(member.linkname)
        except (tarfile.TarError, EOFError, ValueError) as error:
            raise ImageError(f"this is no tar archive: {error}") from error
        for name, target in links.items():
            if target in self.members:
                self.members.setdefault(name, self.members[target])

    def find(self, name: str) -> tuple[int, int]:
        found = self.members.get(posixpath.normpath(name))
        if found is None:
            raise ImageError(f"the archive lacks {name[:200]}")
        return found

    def read(self, name: str, limit: int) -> bytes:
        offset, size = self.find(name)
        if size > limit:
            raise ImageError(f"{name[:200]} in the archive is larger than {limit} bytes")
        self._file.seek(offset)
        return self._file.read(size)

    def read_json(self, name: str) -> Any:
        try:
            return json.loads(self.read(name, MAX_MANIFEST))
        except (ValueError, RecursionError) as error:
            raise ImageError(f"{name} in the archive is malformed: {error}") from error

    def read_blob(self, descriptor: Descriptor, limit: int) -> bytes:
        data = self.read(_blob_path(descriptor.digest), limit)
        if len(data) != descriptor.size or digest_of(data) != descriptor.digest:
            raise ImageError(f"blob {descriptor.digest} in the archive is not what its digest says")
        return data

    def chunks(self, name: str, progress: Callable[[int], None] | None) -> Iterator[bytes]:
        offset, size = self.find(name)
        self._file.seek(offset)
        return read_chunks(self._file, size, progress)


def _load_layer(
    store: Store,
    archive: _Archive,
    name: str,
    diff_id: str,
    digest: str | None,
    progress: ProgressCallback | None,
) -> Descriptor:
    """One layer of the archive, unless it is here already; its blob's descriptor."""
    if store.layers.find_diff(diff_id):
        row = store.database.execute(
            "SELECT media_type, digest, size FROM layer_blobs WHERE diff_id = ? AND (digest = ? OR ? IS NULL)",
            (diff_id, digest, digest),
        ).fetchone()
        if row and store.blobs.has(row[1]):
            return Descriptor(*row)
    _, size = archive.find(name)
    step = Progress(short(diff_id), "Loading layer", 0, size)
    tell = (lambda done: progress(step._replace(current=done))) if progress else None
    descriptor, _ = add_layer(store, archive.chunks(name, tell), diff_id=diff_id)
    if digest and descriptor.digest != digest:
        raise ImageError(f"layer {digest} in the archive has the digest {descriptor.digest}")
    return descriptor


def _load_docker(store: Store, archive: _Archive, progress: ProgressCallback | None) -> list[Loaded]:
    entries = archive.read_json("manifest.json")
    if not isinstance(entries, list):
        raise ImageError("manifest.json in the archive is malformed")
    loaded = []
    for entry in entries:
        config_path, layers, tags = _docker_entry(entry)
        config = archive.read(config_path, MAX_CONFIG)
        diff_ids = parse_config(config).rootfs.diff_ids
        if len(diff_ids) != len(layers) or len(layers) > MAX_LAYERS:
            raise ImageError(f"manifest.json lists {len(layers)} layers, the configuration {len(diff_ids)}")
        descriptors = [
            _load_layer(store, archive, path, diff_id, None, progress)
            for path, diff_id in zip(layers, diff_ids, strict=True)
        ]
        manifest = Manifest(
            2, Descriptor(OCI_CONFIG, digest_of(config), len(config)), descriptors, OCI_MANIFEST
        )
        loaded.append(_record(store, config, encode(manifest), OCI_MANIFEST, tags))
    return loaded


def _docker_entry(entry: Any) -> tuple[str, list[str], list[str]]:
    """(Config, Layers, RepoTags) of one entry of manifest.json."""
    try:
        config, layers, tags = entry["Config"], entry["Layers"] or [], entry.get("RepoTags") or []
    except (KeyError, TypeError, AttributeError):
        raise ImageError("manifest.json in the archive is malformed") from None
    lists = isinstance(layers, list) and isinstance(tags, list)
    if not lists or not all(isinstance(item, str) for item in (config, *layers, *tags)):
        raise ImageError("manifest.json in the archive is malformed")
    return config, layers, tags


def _load_oci(store: Store, archive: _Archive, progress: ProgressCallback | None) -> list[Loaded]:
    index = parse_manifest(archive.read("index.json", MAX_MANIFEST), "")
    if not isinstance(index, Index):
        raise ImageError("index.json in the archive is no index")
    tags = _docker_tags(archive)
    found: dict[str, tuple[Descriptor, list[str]]] = {}
    for entry in index.manifests:
        names = found.setdefault(entry.digest, (entry, []))[1]
        annotations = entry.annotations or {}
        name = annotations.get(CONTAINERD_NAME) or annotations.get(REF_NAME, "")
        if ":" in name or "/" in name:  # a tag alone says nothing about the repository
            names.append(name)
    loaded = []
    for descriptor, names in found.values():
        data = archive.read_blob(descriptor, MAX_MANIFEST)
        document = parse_manifest(data, descriptor.media_type)
        if isinstance(document, Index):
            descriptor = select(document.manifests, host_platform(), "the archive's image")
            data = archive.read_blob(descriptor, MAX_MANIFEST)
            document = parse_manifest(data, descriptor.media_type)
        if not isinstance(document, Manifest):
            raise ImageError("an index in the archive leads to another index")
        if document.config.media_type not in (OCI_CONFIG, DOCKER_CONFIG):
            continue  # a signature or another artifact beside the images
        check_image(document)
        config = archive.read_blob(document.config, MAX_CONFIG)
        diff_ids = parse_config(config).rootfs.diff_ids
        if len(diff_ids) != len(document.layers):
            raise ImageError(
                f"the manifest has {len(document.layers)} layers, the configuration {len(diff_ids)}"
            )
        for layer, diff_id in zip(document.layers, diff_ids, strict=True):
            _load_layer(store, archive, _blob_path(layer.digest), diff_id, layer.digest, progress)
        names += tags.get(document.config.digest, [])
        loaded.append(_record(store, config, data, document.media_type, names))
    return loaded


def _docker_tags(archive: _Archive) -> dict[str, list[str]]:
    """The RepoTags of the manifest.json beside an OCI index, by configuration."""
    if "manifest.json" not in archive.members:
        return {}
    entries = archive.read_json("manifest.json")
    tags = {}
    for entry in entries if isinstance(entries, list) else []:
        config, _, names = _docker_entry(entry)
        tags["sha256:" + posixpath.basename(config).removesuffix(".json")] = names
    return tags


def _record(store: Store, config: bytes, manifest: bytes, media_type: str, names: Sequence[str]) -> Loaded:
    try:
        full = list(dict.fromkeys(parse(name).name for name in names))
    except SpecError as error:
        raise ImageError(f"the archive names its image badly: {error}") from error
    image = store.add_image(config=config, manifest=manifest, media_type=media_type, name=None)
    for name in full:
        image = store.add_image(config=config, manifest=manifest, media_type=media_type, name=name)
    return Loaded(image, full)

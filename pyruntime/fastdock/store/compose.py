"""Manifests for images that leave: as they came, or made anew with other compression.

A layer's tar never changes, only how it is compressed; so the configuration, and with it the image's ID, stays.
"""

from __future__ import annotations

import os
import tempfile
from typing import NamedTuple

from fastdock._errors import ImageError, ImageNotFound
from fastdock.store.blobs import digest_of
from fastdock.store.manifest import (
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    Manifest,
    encode,
    layer_compression,
    parse_manifest,
)
from fastdock.store.record import ImageRecord
from fastdock.store.store import Store

SUFFIX = {"none": "", "gzip": "+gzip", "zstd": "+zstd"}


class Composed(NamedTuple):
    """A manifest whose blobs are all here."""

    data: bytes
    document: Manifest

    @property
    def digest(self) -> str:
        return digest_of(self.data)

    @property
    def media_type(self) -> str:
        return self.document.media_type


def compose(store: Store, image: ImageRecord, compression: str | None = None) -> Composed:
    """The manifest to push or save an image with.  Call within ``store.writing()``.

    Without a ``compression`` ("none", "gzip", "zstd"), it is the one that the image was pulled with, if its blobs
    are here; layers that never were compressed (imported, committed) become gzip.
    """
    if compression not in (None, *SUFFIX):
        raise ImageError(f"{compression!r} is not a compression", hint="gzip, zstd or none")
    if compression is None and (pulled := as_pulled(store, image)):
        return pulled
    layers = [_layer(store, diff_id, compression) for diff_id in image.diff_ids]
    config = Descriptor(OCI_CONFIG, image.id, store.blobs.size(image.id))
    manifest = Manifest(2, config, layers, OCI_MANIFEST)
    data = encode(manifest)
    store.add_manifest(image.id, data, OCI_MANIFEST, [layer.digest for layer in layers])
    return Composed(data, manifest)


def as_pulled(store: Store, image: ImageRecord) -> Composed | None:
    """The manifest under which a registry knows the image, if one does and all its blobs are here."""
    rows = store.database.execute(
        "SELECT digest, media_type FROM manifests m WHERE image_id = ? AND (from_registry "
        "OR digest = (SELECT manifest FROM images WHERE id = m.image_id)) ORDER BY rowid DESC",
        (image.id,),
    ).fetchall()
    for digest, media_type in rows:
        data = store.blobs.read(digest)
        document = parse_manifest(data, media_type)
        if isinstance(document, Manifest) and all(store.blobs.has(layer.digest) for layer in document.layers):
            from_registry = store.is_from_registry(digest)
            if from_registry or all(layer_compression(x.media_type) != "none" for x in document.layers):
                return Composed(data, document)
    return None


def as_stored(store: Store, image: ImageRecord) -> Composed | None:
    """The image's own manifest, whatever its compression, if all its blobs are here."""
    row = store.database.execute(
        "SELECT media_type FROM manifests WHERE digest = ?", (image.manifest,)
    ).fetchone()
    if row is None or not store.blobs.has(image.manifest):
        return None
    data = store.blobs.read(image.manifest)
    document = parse_manifest(data, row[0])
    if isinstance(document, Manifest) and all(store.blobs.has(layer.digest) for layer in document.layers):
        return Composed(data, document)
    return None


def _layer(store: Store, diff_id: str, compression: str | None) -> Descriptor:
    """A blob of the layer in a compression (None: any that compresses), made if there is none."""
    rows = store.database.execute(
        "SELECT digest, size, media_type FROM layer_blobs WHERE diff_id = ? ORDER BY rowid", (diff_id,)
    ).fetchall()
    here = [row for row in rows if store.blobs.has(row[0])]
    for digest, size, media_type in here:
        kind = layer_compression(media_type)
        if kind == compression or (compression is None and kind != "none"):
            return Descriptor(OCI_LAYER + SUFFIX[kind], digest, size)
    if not here:
        raise ImageNotFound(f"no blob of layer {diff_id} is here", hint="pull the image again")
    return compress(store, here[0][0], diff_id, compression or "gzip")


def compress(store: Store, source: str, diff_id: str, compression: str) -> Descriptor:
    """Makes another blob of a layer.  The same tar and compression always give the same bytes."""
    from fastdock import _core

    fd, path = tempfile.mkstemp(dir=store.blobs.ingest, prefix="compress-")
    try:
        with open(store.blobs.path(source), "rb") as file:
            result = _core.recompress(file.fileno(), fd, compression)
        if result.diff_id != diff_id:
            raise ImageError(f"blob {source} is damaged", hint="run 'fastdock system check --repair'")
        os.fsync(fd)
        store.blobs.publish(path, result.digest)
    except BaseException:
        if os.path.exists(path):
            os.unlink(path)
        raise
    finally:
        os.close(fd)
    descriptor = Descriptor(OCI_LAYER + SUFFIX[compression], result.digest, result.compressed_size)
    store.record_blob(descriptor.digest, diff_id, descriptor.size, descriptor.media_type)
    return descriptor

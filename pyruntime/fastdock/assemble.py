"""New images from files: a tar, or the upper directory of a container over its image."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from typing import IO, Any, NamedTuple

from fastdock._errors import ImageError
from fastdock.changes import apply_changes
from fastdock.registry.platform import host_platform, parse_platform
from fastdock.store import ImageRecord, Store, sweep
from fastdock.store.blobs import digest_of
from fastdock.store.compose import as_stored
from fastdock.store.ingest import add_layer, piped, read_chunks
from fastdock.store.manifest import (
    MAX_LAYERS,
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    Manifest,
    encode,
)


class Step(NamedTuple):
    """What an image's history says of its newest layer."""

    created_by: str = ""
    author: str = ""
    comment: str = ""


def from_tar(
    store: Store,
    source: IO[bytes],
    name: str | None,
    *,
    changes: Sequence[str] = (),
    message: str = "",
    platform: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> ImageRecord:
    """An image of one layer."""
    wanted = parse_platform(platform) if platform else host_platform()
    config = apply_changes({}, changes)
    unpacked = False
    try:
        with store.writing():
            descriptor, diff_id = add_layer(store, read_chunks(source, progress=progress))
            unpacked = True
            document = {
                "architecture": wanted.architecture,
                **({"variant": wanted.variant} if wanted.variant else {}),
                "os": wanted.os,
                "config": config,
                "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            }
            return add(store, document, [descriptor], name, Step(comment=message or "Imported by fastdock"))
    except ImageError:
        if unpacked:  # a layer that can be no image's first one: nothing is kept of it
            sweep.sweep(store, everything=True)
        raise


def from_upper(
    store: Store,
    upper: str,
    parent: ImageRecord,
    name: str | None,
    config: dict[str, Any] | None,
    changes: Sequence[str],
    step: Step,
    uid_offset: int,
    gid_offset: int,
) -> ImageRecord:
    """An image of the parent's layers and one more; takes time for what was changed, not for the image."""
    from fastdock import _core

    if len(parent.diff_ids) >= MAX_LAYERS:
        raise ImageError(f"the image has {MAX_LAYERS} layers already", hint="export it and import that")
    changed = apply_changes(parent.config if config is None else config, changes)

    def produce(fd: int) -> None:
        _core.write_diff(upper, fd, uid_offset=uid_offset, gid_offset=gid_offset)

    with store.writing():
        with piped(produce) as chunks:
            descriptor, diff_id = add_layer(store, chunks)
        document = {
            **parent.document,
            "config": changed,
            "rootfs": {"type": "layers", "diff_ids": [*parent.diff_ids, diff_id]},
        }
        if step.author:
            document["author"] = step.author
        return add(store, document, [*_parent_layers(store, parent), descriptor], name, step)


def _parent_layers(store: Store, parent: ImageRecord) -> list[Descriptor]:
    """The blobs of the parent's layers; one that is not here is described by its tar, and found when needed."""
    stored = as_stored(store, parent)
    if stored:
        return stored.document.layers
    layers = []
    for diff_id in parent.diff_ids:
        row = store.database.execute(
            "SELECT media_type, digest, size FROM layer_blobs WHERE diff_id = ? ORDER BY rowid", (diff_id,)
        ).fetchone()
        layers.append(Descriptor(*row) if row else Descriptor(OCI_LAYER, diff_id, 0))
    return layers


def add(
    store: Store, document: dict[str, Any], layers: Sequence[Descriptor], name: str | None, step: Step
) -> ImageRecord:
    """Records an image whose layers are here.  Call within ``store.writing()``."""
    created = timestamp()
    entry = {
        "created": created,
        "created_by": step.created_by,
        "author": step.author,
        "comment": step.comment,
    }
    history = [*(document.get("history") or []), {key: value for key, value in entry.items() if value}]
    config = json.dumps({**document, "created": created, "history": history}, separators=(",", ":")).encode()
    manifest = Manifest(2, Descriptor(OCI_CONFIG, digest_of(config), len(config)), list(layers), OCI_MANIFEST)
    return store.add_image(config=config, manifest=encode(manifest), media_type=OCI_MANIFEST, name=name)


def timestamp() -> str:
    """Now, or SOURCE_DATE_EPOCH (reproducible-builds.org), as RFC 3339."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    seconds = int(epoch) if epoch.isascii() and epoch.isdigit() else time.time_ns() / 1e9
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1e9):09d}Z" if seconds % 1 else f"{whole}Z"

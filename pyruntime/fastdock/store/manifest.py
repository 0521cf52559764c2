"""Manifests, indexes and image configurations: OCI and Docker v2 schema 2, strictly checked.

Foreign JSON.  The media type that was announced and the document's shape must agree, else two readers could
see two different images under one digest (CVE-2021-41190).
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

import msgspec

from fastdock._errors import ImageError
from fastdock.store.blobs import check_digest

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1"

INDEX_TYPES = (OCI_INDEX, DOCKER_INDEX)
MANIFEST_TYPES = (OCI_MANIFEST, DOCKER_MANIFEST)
LAYER_SUFFIXES = {"": "none", "+gzip": "gzip", ".gzip": "gzip", "+zstd": "zstd"}

MAX_MANIFEST = 4 << 20  # bytes; the limit that registries set too (distribution-spec, "Pushing Manifests")
MAX_CONFIG = 8 << 20
MAX_LAYERS = 498  # OVL_MAX_STACK (fs/overlayfs/params.h) is 500; one completes the others, one is the engine's


class Platform(msgspec.Struct, omit_defaults=True):
    os: str = ""
    architecture: str = ""
    variant: str = ""


class Descriptor(
    msgspec.Struct, omit_defaults=True, rename={"media_type": "mediaType", "artifact_type": "artifactType"}
):
    media_type: str
    digest: str
    size: int
    platform: Platform | None = None
    annotations: dict[str, str] | None = None
    artifact_type: str | None = None

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError("a descriptor's size is negative")


class Manifest(
    msgspec.Struct, omit_defaults=True, rename={"schema_version": "schemaVersion", "media_type": "mediaType"}
):
    schema_version: int
    config: Descriptor
    layers: list[Descriptor]
    media_type: str = ""
    subject: Descriptor | None = None
    annotations: dict[str, str] | None = None


class Index(
    msgspec.Struct, omit_defaults=True, rename={"schema_version": "schemaVersion", "media_type": "mediaType"}
):
    schema_version: int
    manifests: list[Descriptor]
    media_type: str = ""
    annotations: dict[str, str] | None = None


class _RootFs(msgspec.Struct):
    type: str
    diff_ids: list[str]


class Healthcheck(msgspec.Struct, rename="pascal"):
    test: list[str] | None = None
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class RunConfig(msgspec.Struct, rename="pascal"):
    """The ``config`` of an image configuration: the fields that fastdock acts on, and their types."""

    user: str = ""
    env: list[str] | None = None
    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    working_dir: str = ""
    labels: dict[str, str] | None = None
    volumes: dict[str, Any] | None = None
    exposed_ports: dict[str, Any] | None = None
    stop_signal: str = ""
    stop_timeout: int | None = None
    shell: list[str] | None = None
    on_build: list[str] | None = None
    healthcheck: Healthcheck | None = None


class History(msgspec.Struct, omit_defaults=True):
    created: str | None = None
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


class ImageConfig(msgspec.Struct):
    architecture: str
    os: str
    rootfs: _RootFs
    config: RunConfig | None = None
    history: list[History] | None = None
    created: str | None = None
    author: str = ""
    variant: str = ""


_T = TypeVar("_T")


def _decode(data: bytes, kind: type[_T], what: str) -> _T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ImageError(f"{what} is malformed: {error}") from error


class _Shape(msgspec.Struct):
    """Which members a manifest has; all that is needed to tell the kinds apart."""

    manifests: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    layers: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    config: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    fs_layers: msgspec.Raw | msgspec.UnsetType = msgspec.field(default=msgspec.UNSET, name="fsLayers")
    media_type: Any = msgspec.field(default="", name="mediaType")


def parse_manifest(data: bytes, media_type: str) -> Manifest | Index:
    """The manifest or index in ``data``, announced as ``media_type``.

    Raises ImageError where it is malformed, of a kind that fastdock does not read, or ambiguous.
    """
    if len(data) > MAX_MANIFEST:
        raise ImageError(f"the manifest is larger than {MAX_MANIFEST} bytes")
    media_type = media_type.partition(";")[0].strip().lower()
    if media_type.startswith(DOCKER_SCHEMA_1):
        raise ImageError(
            "the manifest is Docker schema 1, which has no verifiable layers",
            hint="push the image again with any Docker newer than 1.10",
        )
    shape = _decode(data, _Shape, "the manifest")
    inner = shape.media_type if isinstance(shape.media_type, str) else "?"
    kind = inner if media_type in ("", "application/json", "text/plain") else media_type
    if inner and inner != kind:
        raise ImageError(f"the manifest says that it is {inner}, and was announced as {media_type}")
    is_index, is_manifest = shape.manifests is not msgspec.UNSET, shape.layers is not msgspec.UNSET
    has_config = shape.config is not msgspec.UNSET
    if shape.fs_layers is not msgspec.UNSET or (is_index and (is_manifest or has_config)):
        raise ImageError("the manifest is ambiguous: it has the members of two kinds", hint="CVE-2021-41190")
    if not kind:  # an OCI document need not say what it is
        kind = OCI_INDEX if is_index else OCI_MANIFEST
    if kind in INDEX_TYPES and is_index:
        index = _decode(data, Index, "the index")
        index.media_type = kind
        return _checked(index, index.schema_version, index.manifests)
    if kind in MANIFEST_TYPES and is_manifest and has_config:
        manifest = _decode(data, Manifest, "the manifest")
        manifest.media_type = kind
        return _checked(manifest, manifest.schema_version, [manifest.config, *manifest.layers])
    raise ImageError(f"the manifest does not have the shape of {kind[:200]}")


def _checked(document: _T, version: int, descriptors: list[Descriptor]) -> _T:
    if version != 2:
        raise ImageError(f"the manifest has schema version {version}, not 2")
    for descriptor in descriptors:
        check_digest(descriptor.digest)
    return document


def check_image(manifest: Manifest) -> None:
    """ImageError unless the manifest is that of a container image whose layers fastdock can stack."""
    if manifest.config.media_type not in (OCI_CONFIG, DOCKER_CONFIG):
        raise ImageError(
            f"this is not a container image but an artifact: its configuration is {manifest.config.media_type}"
        )
    if len(manifest.layers) > MAX_LAYERS:
        raise ImageError(
            f"the image has {len(manifest.layers)} layers; the kernel's overlay stacks at most {MAX_LAYERS}",
            hint="squash it: export a container of it elsewhere and import the tar",
        )
    for layer in manifest.layers:
        layer_compression(layer.media_type)


def layer_compression(media_type: str) -> str:
    """``none``, ``gzip`` or ``zstd``; ImageError where the media type is not that of a layer."""
    plain = media_type.replace("nondistributable.", "").replace("foreign.", "")
    for base in (OCI_LAYER, DOCKER_LAYER):
        if plain.startswith(base) and plain[len(base) :] in LAYER_SUFFIXES:
            return LAYER_SUFFIXES[plain[len(base) :]]
    raise ImageError(f"{media_type[:200]!r} is not a kind of layer that fastdock can unpack")


def parse_config(data: bytes) -> ImageConfig:
    """The image configuration in ``data``, its types checked; ImageError where it cannot be used."""
    if len(data) > MAX_CONFIG:
        raise ImageError(f"the image configuration is larger than {MAX_CONFIG} bytes")
    _check_text(data)
    config = _decode(data, ImageConfig, "the image configuration")
    if config.rootfs.type != "layers":
        raise ImageError(f"the image's rootfs is of type {config.rootfs.type!r}, not 'layers'")
    for diff_id in config.rootfs.diff_ids:
        check_digest(diff_id)
    for variable in (config.config and config.config.env) or []:
        if "\0" in variable or variable.startswith("="):
            raise ImageError("the image configuration has a malformed environment variable")
    return config


def _check_text(data: bytes) -> None:
    """ImageError unless every JSON reader can read it, and print it: it is kept, and read again by others.

    msgspec does not look into members that it was not asked for.
    """
    try:
        json.dumps(json.loads(data.decode()), ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise ImageError(f"the image configuration is malformed: {error}") from error


def encode(document: Manifest | Index) -> bytes:
    """The document as bytes, always the same ones."""
    return msgspec.json.encode(document)

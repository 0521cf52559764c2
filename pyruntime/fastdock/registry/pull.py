"""Pulling an image: manifest, configuration, layers; every byte verified before it is used."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import NamedTuple

from fastdock._errors import FastdockError, ImageError, ImageNotFound, RegistryError
from fastdock.registry.client import RegistryClient, Retry
from fastdock.registry.credentials import CredentialStore
from fastdock.registry.download import LayerDownload, blob_lock, locked
from fastdock.registry.platform import check_platform, host_platform, parse_platform, select
from fastdock.registry.progress import Progress, ProgressCallback, ignore, short
from fastdock.registry.reference import Reference
from fastdock.registry.settings import Settings, load_settings
from fastdock.store import ImageRecord, Store
from fastdock.store.blobs import digest_of
from fastdock.store.manifest import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    MAX_CONFIG,
    MAX_MANIFEST,
    Descriptor,
    Index,
    Manifest,
    Platform,
    check_image,
    parse_config,
    parse_manifest,
)

JOBS = 4  # layers at a time
MAX_PAGES = 1000  # of a list of tags
ACCEPT = ", ".join((*MANIFEST_TYPES, *INDEX_TYPES))


class Fetched(NamedTuple):
    """A manifest or index as a registry gave it, its digest verified."""

    data: bytes
    media_type: str
    digest: str
    document: Manifest | Index


class PullResult(NamedTuple):
    image: ImageRecord
    digest: str  # of the manifest or index that the reference names
    changed: bool  # whether the reference named another image, or none, before


class Transfer(NamedTuple):
    """What pulls and pushes are done with; the defaults are those of this machine and user."""

    settings: Settings
    credentials: CredentialStore
    retry: Retry
    jobs: int = JOBS

    @classmethod
    def default(cls) -> Transfer:
        return cls(load_settings(), CredentialStore(), Retry())


@asynccontextmanager
async def connect(
    reference: Reference, transfer: Transfer, mirror: str | None = None
) -> AsyncIterator[RegistryClient]:
    """A client for the reference's registry, or for one of its mirrors."""
    registry = reference.domain
    if mirror:
        registry = mirror.partition("://")[2].partition("/")[0]
    async with RegistryClient(
        registry,
        settings=transfer.settings,
        credentials=transfer.credentials,
        retry=transfer.retry,
        endpoint=mirror,
    ) as client:
        yield client


async def fetch_manifest(
    client: RegistryClient, repository: str, selector: str, size: int | None = None
) -> Fetched:
    """The manifest or index that a tag or digest names, verified.  ImageNotFound if there is none."""
    data, headers = await client.fetch(
        f"{repository}/manifests/{selector}",
        scope=f"repository:{repository}:pull",
        limit=MAX_MANIFEST,
        headers={"Accept": ACCEPT},
    )
    digest = digest_of(data)
    wanted = selector if ":" in selector else headers.get("Docker-Content-Digest", "")
    if wanted.startswith("sha256:") and wanted != digest:
        raise ImageError(f"{client.host} sends a manifest with digest {digest} where {wanted} was asked for")
    if size is not None and len(data) != size:
        raise ImageError(f"manifest {digest} has {len(data)} bytes; the index says {size}")
    media_type = headers.get("Content-Type", "")
    document = parse_manifest(data, media_type)
    return Fetched(data, document.media_type, digest, document)


async def resolve(
    client: RegistryClient, reference: Reference, platform: Platform
) -> tuple[Fetched, Fetched]:
    """What the reference names, and the manifest in it for the platform (the same, if it is no index)."""
    top = await fetch_manifest(client, reference.path, reference.selector)
    if isinstance(top.document, Manifest):
        return top, top
    entry = select(top.document.manifests, platform, reference.familiar)
    found = await fetch_manifest(client, reference.path, entry.digest, entry.size)
    if not isinstance(found.document, Manifest) or found.media_type != entry.media_type:
        raise ImageError(f"{entry.digest} is not the {entry.media_type} that its index says")
    return top, found


async def pull(
    store: Store,
    reference: Reference,
    *,
    platform: str | None = None,
    progress: ProgressCallback = ignore,
    transfer: Transfer | None = None,
) -> PullResult:
    """Brings an image here: from a mirror, if one is set and has it, else from its registry.

    Raises ImageNotFound, RegistryError or ImageError.  What was fetched until then is kept for the next pull.
    """
    transfer = transfer or Transfer.default()
    wanted = parse_platform(platform) if platform else host_platform()
    problems: list[FastdockError] = []
    for mirror in (*transfer.settings.of(reference.domain).mirrors, None):
        try:
            async with connect(reference, transfer, mirror) as client:
                work = _Pull(store, client, reference, wanted, progress, transfer.jobs)
                return await work.run(chosen=platform is not None)
        except (ImageNotFound, RegistryError, ImageError) as error:
            if mirror is None:
                raise
            problems.append(error)
            progress(Progress("", f"mirror {mirror} failed: {error}"))
    raise AssertionError("the registry itself comes last")


class _Pull:
    def __init__(
        self,
        store: Store,
        client: RegistryClient,
        reference: Reference,
        platform: Platform,
        progress: ProgressCallback,
        jobs: int,
    ) -> None:
        self.store, self.client, self.reference, self.platform = store, client, reference, platform
        self.progress = progress
        self.jobs = jobs

    async def run(self, *, chosen: bool) -> PullResult:
        """``chosen``: the platform was asked for, so an image of another one is not what is wanted."""
        before = self.store.find_id(str(self.reference))
        self.progress(Progress("", f"{self.reference.selector}: Pulling from {self.reference.path}"))
        top, found = await resolve(self.client, self.reference, self.platform)
        manifest = found.document
        assert isinstance(manifest, Manifest)
        check_image(manifest)
        with self.store.writing():
            config = await self._config(manifest.config)
            parsed = parse_config(config)
            if chosen:
                has = Platform(parsed.os, parsed.architecture, parsed.variant)
                check_platform(has, self.platform, self.reference.familiar)
            diff_ids = parsed.rootfs.diff_ids
            if len(diff_ids) != len(manifest.layers):
                raise ImageError(
                    f"the manifest has {len(manifest.layers)} layers, the configuration {len(diff_ids)}"
                )
            await self._layers(manifest, diff_ids)
            image = self._record(top, found, config, manifest)
        return PullResult(image, top.digest, before != image.id)

    async def _config(self, descriptor: Descriptor) -> bytes:
        """The configuration's bytes, from the store or the registry."""
        async with locked(blob_lock(self.store, descriptor.digest), lambda: None):
            if self.store.blobs.has(descriptor.digest):
                return self.store.blobs.read(descriptor.digest, MAX_CONFIG)
            if descriptor.size > MAX_CONFIG:
                raise ImageError(f"the image configuration is larger than {MAX_CONFIG} bytes")
            path = self.reference.path
            data, _ = await self.client.fetch(
                f"{path}/blobs/{descriptor.digest}", scope=f"repository:{path}:pull", limit=descriptor.size
            )
            if len(data) != descriptor.size or digest_of(data) != descriptor.digest:
                raise ImageError(f"the image configuration is not what its digest {descriptor.digest} says")
            self.store.blobs.write(data)
            return data

    async def _layers(self, manifest: Manifest, diff_ids: list[str]) -> None:
        """All layers, several at a time; the first error stops the others."""
        pairs = {diff_id: layer for layer, diff_id in zip(manifest.layers, diff_ids, strict=True)}
        for layer in pairs.values():
            self.progress(Progress(short(layer.digest), "Pulling fs layer", 0, layer.size))
        turns = asyncio.Semaphore(self.jobs)
        with ThreadPoolExecutor(self.jobs, thread_name_prefix="fastdock-layer") as threads:

            async def download(diff_id: str, layer: Descriptor) -> None:
                async with turns:
                    await LayerDownload(
                        self.store, self.client, self.reference.path, layer, diff_id, threads, self.progress
                    ).run()

            try:
                async with asyncio.TaskGroup() as group:
                    for diff_id, layer in pairs.items():
                        group.create_task(download(diff_id, layer))
            except BaseExceptionGroup as failures:
                raise failures.exceptions[0] from None

    def _record(self, top: Fetched, found: Fetched, config: bytes, manifest: Manifest) -> ImageRecord:
        repository = self.reference.repository
        extra = [] if top is found else [self.store.blobs.write(top.data)]
        image = self.store.add_image(
            config=config,
            manifest=found.data,
            media_type=found.media_type,
            name=self.reference.name if self.reference.tag else None,
            digest_names=[(repository, top.digest)],
            extra_blobs=extra,
        )
        for descriptor in (manifest.config, *manifest.layers):
            self.store.record_source(descriptor.digest, repository)
        return image


async def list_tags(client: RegistryClient, repository: str) -> list[str]:
    """All tags of a repository, page by page."""
    tags: list[str] = []
    target = f"{repository}/tags/list?n=1000"
    for _ in range(MAX_PAGES):
        data, headers = await client.fetch(target, scope=f"repository:{repository}:pull", limit=MAX_MANIFEST)
        try:
            page = json.loads(data).get("tags") or []
            tags += [tag for tag in page if isinstance(tag, str)]
        except (ValueError, AttributeError, TypeError):
            raise RegistryError(f"{client.host} gives a malformed list of tags") from None
        link = headers.get("Link", "")
        if 'rel="next"' not in link and "rel=next" not in link:
            return tags
        target = link[link.find("<") + 1 : link.find(">")]
    raise RegistryError(f"{client.host} gives endless pages of tags")


async def fetch_referrers(client: RegistryClient, repository: str, digest: str) -> Index:
    """What refers to a manifest: signatures, attestations (distribution-spec, "Listing Referrers").

    A registry without that call has an index under the tag ``sha256-<digest>``, if anything refers at all.
    """
    scope = f"repository:{repository}:pull"
    try:
        data, headers = await client.fetch(
            f"{repository}/referrers/{digest}", scope=scope, limit=MAX_MANIFEST
        )
    except ImageNotFound:
        try:
            found = await fetch_manifest(client, repository, digest.replace(":", "-"))
        except ImageNotFound:
            return Index(2, [])
        document = found.document
    else:
        document = parse_manifest(data, headers.get("Content-Type", ""))
    if not isinstance(document, Index):
        raise RegistryError(f"{client.host} answers no index of referrers")
    return document

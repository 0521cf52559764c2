"""A registry that says whatever a test wants it to say, and pulling from it."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from fastdock.image import Images
from fastdock.registry.client import Retry
from fastdock.registry.credentials import Credentials, CredentialStore
from fastdock.registry.pull import PullResult, Transfer, pull
from fastdock.registry.reference import parse
from fastdock.registry.settings import RegistrySettings, Settings
from fastdock.store import Store
from fastdock.store.blobs import digest_of
from fastdock.store.manifest import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def tar(**files: bytes) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return output.getvalue()


class FakeImage:
    """One image's documents and blobs."""

    def __init__(self, *layers: bytes) -> None:
        tars = layers or (tar(a=b"1"),)
        self.blobs = [gzip.compress(one, mtime=0) for one in tars]
        self.config = encoded(
            architecture="amd64",
            os="linux",
            rootfs={"type": "layers", "diff_ids": [digest_of(one) for one in tars]},
        )
        self.manifest = encoded(
            schemaVersion=2,
            mediaType=OCI_MANIFEST,
            config=descriptor(OCI_CONFIG, self.config),
            layers=[descriptor(OCI_LAYER + "+gzip", blob) for blob in self.blobs],
        )

    def index(self, **changes: object) -> bytes:
        entry = {
            **descriptor(OCI_MANIFEST, self.manifest),
            "platform": {"os": "linux", "architecture": "amd64"},
        }
        return encoded(schemaVersion=2, mediaType=OCI_INDEX, manifests=[{**entry, **changes}])


def encoded(**document: object) -> bytes:
    return json.dumps(document).encode()


def descriptor(media_type: str, data: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}


class FakeRegistry:
    """Serves repository ``x``: manifests by tag or digest, blobs by digest; ``hooks`` come first."""

    def __init__(self) -> None:
        self.manifests: dict[str, tuple[bytes, str]] = {}
        self.blobs: dict[str, bytes] = {}
        self.hooks: list[Callable[[web.Request], Awaitable[web.StreamResponse | None]]] = []
        self.requests: list[web.Request] = []
        self._runner: web.AppRunner | None = None

    def add(self, image: FakeImage, tag: str = "latest") -> None:
        for name in (tag, digest_of(image.manifest)):
            self.manifests[name] = (image.manifest, OCI_MANIFEST)
        for blob in (image.config, *image.blobs):
            self.blobs[digest_of(blob)] = blob

    async def start(self) -> FakeRegistry:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self.host = f"127.0.0.1:{self.port}"
        return self

    async def stop(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        for hook in self.hooks:
            if (response := await hook(request)) is not None:
                return response
        kind, _, name = request.path.removeprefix("/v2/x/").partition("/")
        if kind == "manifests" and name in self.manifests:
            data, media_type = self.manifests[name]
            return web.Response(body=data, headers={"Content-Type": media_type})
        if kind == "blobs" and name in self.blobs:
            return web.Response(body=self.blobs[name])
        return web.json_response({"errors": [{"code": "UNKNOWN", "message": "no such thing"}]}, status=404)

    def authorizations(self, path: str = "") -> list[str | None]:
        """What each request for a path had as its Authorization."""
        return [one.headers.get("Authorization") for one in self.requests if path in one.path]


@pytest.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    server = await FakeRegistry().start()
    yield server
    await server.stop()


@pytest.fixture
async def elsewhere() -> AsyncIterator[FakeRegistry]:
    """Another host (port), for redirects to lead to."""
    server = await FakeRegistry().start()
    yield server
    await server.stop()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "state")


@pytest.fixture
def fetch(store: Store, tmp_path: Path) -> Callable[..., Awaitable[PullResult]]:
    """Pulls ``x`` from a fake registry, without waiting between attempts."""

    async def run(
        registry: FakeRegistry, reference: str = "x", credentials: Credentials | None = None, **settings: Any
    ) -> PullResult:
        keeper = CredentialStore(tmp_path / "docker" / "config.json")
        if credentials:
            keeper.put(registry.host, credentials)
        known = {registry.host: RegistrySettings(**settings)}
        transfer = Transfer(Settings(known, ()), keeper, Retry(attempts=4, delay=0.001, longest=0.01))
        return await pull(store, parse(f"{registry.host}/{reference}"), transfer=transfer)

    return run


def assert_nothing_left(store: Store) -> None:
    """No image, no layer, nothing half-made, no blob that was not verified."""
    assert Images(store).list() == []
    assert os.listdir(store.layers.directory) == []
    assert os.listdir(store.layers.staging) == []
    assert not any(store.blobs.damaged(digest) for digest in store.blobs.digests())

"""fastdock.aio.Images: what it gives, that the loop goes on meanwhile, and that a pull can be called off."""

from __future__ import annotations

import asyncio
import io
import os
from pathlib import Path

import pytest
from aiohttp import web
from fake_registry import FakeImage, FakeRegistry, registry, tar

from fastdock import ImageNotFound, Images, aio
from fastdock.registry.client import Retry
from fastdock.registry.credentials import CredentialStore
from fastdock.registry.pull import Transfer
from fastdock.registry.settings import Settings

__all__ = ["registry"]  # a fixture


@pytest.fixture
def images(tmp_path: Path) -> aio.Images:
    return aio.Images(Images.at(tmp_path / "state"))


@pytest.fixture
def transfer(tmp_path: Path) -> Transfer:
    return Transfer(Settings({}, ()), CredentialStore(tmp_path / "config.json"), Retry(attempts=1))


async def test_a_life(images: aio.Images) -> None:
    made = await images.import_tar(io.BytesIO(tar(a=b"1")), "x:1", changes=["LABEL l=1"])
    assert (made.tags, made.labels, made.sync.id) == (["x:1"], {"l": "1"}, made.id)
    assert (await made.inspect())["RepoTags"] == ["x:1"]
    assert [image.id for image in await images.list()] == [made.id]
    await made.tag("y:1")
    archive = io.BytesIO()
    await images.save(["y:1"], archive)
    assert await images.remove("y:1") == [("Untagged", "y:1")]
    archive.seek(0)
    ((loaded, names),) = await images.load(archive)
    assert (loaded, names) == (made, ["y:1"])
    await made.remove(force=True)
    with pytest.raises(ImageNotFound):
        await images.get("x:1")


async def test_pull(images: aio.Images, registry: FakeRegistry, transfer: Transfer) -> None:
    """From a server in the same loop: so the loop goes on."""
    registry.add(FakeImage())
    result = await images.pull(f"{registry.host}/x", transfer=transfer)
    assert result.changed
    assert (await images.get(f"{registry.host}/x")).id == result.image.id


@pytest.mark.parametrize("at", ["manifests", "blobs"])
async def test_cancelled_pull(
    images: aio.Images, registry: FakeRegistry, transfer: Transfer, at: str
) -> None:
    """It has ended when the cancelling has: nobody writes any more."""
    asked = asyncio.Event()

    async def stall(request: web.Request) -> None:
        if at in request.path:
            asked.set()
            await asyncio.Event().wait()

    registry.add(FakeImage())
    registry.hooks.append(stall)
    pull = asyncio.ensure_future(images.pull(f"{registry.host}/x", transfer=transfer))
    await asked.wait()
    pull.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pull
    assert os.listdir(images.sync.store.layers.staging) == []
    registry.hooks.clear()
    assert (await images.pull(f"{registry.host}/x", transfer=transfer)).changed

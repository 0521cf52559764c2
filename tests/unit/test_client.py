"""The registry client against a registry that is busy, knows no ranges, has many pages, stalls."""

import os

import pytest
from aiohttp import web
from fake_registry import FakeImage, fetch, registry, store, tar

from fastdock._errors import ImageNotFound, RegistryError
from fastdock.registry.client import RegistryClient, Retry
from fastdock.registry.pull import fetch_referrers, list_tags
from fastdock.registry.settings import Settings
from fastdock.store.blobs import digest_of
from fastdock.store.manifest import OCI_INDEX

__all__ = ["fetch", "registry", "store"]  # fixtures


async def test_pull(registry, store, fetch):
    """What the fake serves is an image, so that what follows fails for its own reason."""
    registry.add(FakeImage(tar(a=b"1"), tar(b=b"2")))
    result = await fetch(registry)
    assert len(result.image.layer_paths) == 2


async def test_registry_without_ranges(registry, store, fetch):
    """Where Range is ignored, what we have already is skipped."""
    image = FakeImage(tar(a=os.urandom(200_000)))
    registry.add(image)
    digest = digest_of(image.blobs[0])
    with open(store.blobs.partial_path(digest), "wb") as file:
        file.write(image.blobs[0][:70_000])
    registry.hooks.append(_ignore_range(registry, digest))
    assert (await fetch(registry)).changed


def _ignore_range(registry, digest):
    async def whole(request):
        if digest not in request.path:
            return None
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(registry.blobs[digest])
        return response

    return whole


async def test_not_found(registry, fetch):
    """A 404 is ImageNotFound, so that run's --pull can tell."""
    with pytest.raises(ImageNotFound, match="no such thing"):
        await fetch(registry)


async def test_error_messages_are_cleaned(registry, fetch):
    """A registry's words go to a terminal: no control characters, no novels."""

    async def shout(request):
        message = "\x1b[31mboo\r\n" + "x" * 10_000
        return web.json_response({"errors": [{"code": "DENIED", "message": message}]}, status=403)

    registry.hooks.append(shout)
    with pytest.raises(RegistryError) as caught:
        await fetch(registry)
    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


async def test_pull_within_a_running_loop(registry, tmp_path, monkeypatch):
    """The blocking API works where a loop runs already (Jupyter)."""
    import asyncio

    from fastdock.registry.face import run_async

    async def answer():
        return 42

    assert run_async(answer()) == 42
    assert asyncio.get_running_loop()


async def test_a_cancelled_pull_leaves_no_thread(registry, store, fetch):
    """Ctrl-C: what was being unpacked is gone, what arrived is kept for the next pull."""
    import asyncio

    image = FakeImage(tar(a=os.urandom(3_000_000)))
    registry.add(image)
    digest = digest_of(image.blobs[0])
    arrived = asyncio.Event()

    async def stall(request):
        if digest not in request.path or "Range" in request.headers:
            return None
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(image.blobs[0][:2_500_000])
        arrived.set()
        await asyncio.Event().wait()
        return response

    registry.hooks.append(stall)
    task = asyncio.create_task(fetch(registry))
    await arrived.wait()
    while not os.path.exists(store.blobs.partial_path(digest)) or not os.path.getsize(
        store.blobs.partial_path(digest)
    ):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert os.listdir(store.layers.staging) == []
    assert os.path.getsize(store.blobs.partial_path(digest)) > 0


# -- what may pass is tried again --------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_overload_is_waited_for(registry, fetch, status):
    """A registry that is busy twice and then answers."""
    registry.add(FakeImage())
    left = [2]

    async def busy(request):
        if "/blobs/" in request.path and left[0]:
            left[0] -= 1
            return web.Response(status=status, headers={"Retry-After": "0"})
        return None

    registry.hooks.append(busy)
    await fetch(registry)
    assert left == [0]


async def test_retry_after_is_heeded_and_bounded():
    """As long as the registry says, but not for ever."""
    retry = Retry(delay=1, longest=30)
    assert retry.seconds(0, "7") == 7
    assert retry.seconds(0, "100000") == 30
    assert retry.seconds(0, "Wed, 21 Oct 2026 07:28:00 GMT") <= 1
    assert 5.6 <= retry.seconds(3) <= 8


async def test_lasting_overload_is_an_error(registry, fetch):
    """After some attempts the user gets to know."""

    async def busy(request):
        return web.Response(status=503)

    registry.hooks.append(busy)
    with pytest.raises(RegistryError, match="503"):
        await fetch(registry)
    assert len(registry.requests) <= 6


# -- questions ---------------------------------------------------------------------------------------------


async def test_referrers(registry):
    """The call of distribution-spec 1.1."""
    image = FakeImage()
    digest = digest_of(image.manifest)
    registry.manifests["unused"] = (b"", "")

    async def referrers(request):
        if request.path == f"/v2/x/referrers/{digest}":
            return web.Response(body=image.index(artifactType="application/x-sbom"), content_type=OCI_INDEX)
        return None

    registry.hooks.append(referrers)
    async with RegistryClient(registry.host, settings=Settings(certificates=())) as client:
        index = await fetch_referrers(client, "x", digest)
    assert [entry.artifact_type for entry in index.manifests] == ["application/x-sbom"]


async def test_tags_come_in_pages(registry):
    """Link headers are followed, on the same registry."""

    async def pages(request):
        if not request.path.endswith("/tags/list"):
            return None
        if "last" in request.query:
            return web.json_response({"tags": ["c"]})
        link = '</v2/x/tags/list?n=2&last=b>; rel="next"'
        return web.json_response({"tags": ["a", "b"]}, headers={"Link": link})

    registry.hooks.append(pages)
    async with RegistryClient(registry.host, settings=Settings(certificates=())) as client:
        assert await list_tags(client, "x") == ["a", "b", "c"]


async def test_pages_that_do_not_end(registry, monkeypatch):
    """A registry cannot keep us counting for ever."""
    count = [0]

    async def pages(request):
        count[0] += 1
        link = f'</v2/x/tags/list?last={count[0]}>; rel="next"'
        return web.json_response({"tags": ["a"] * 100}, headers={"Link": link})

    registry.hooks.append(pages)
    monkeypatch.setattr("fastdock.registry.pull.MAX_PAGES", 5)
    async with RegistryClient(registry.host, settings=Settings(certificates=())) as client:
        with pytest.raises(RegistryError, match="endless"):
            await list_tags(client, "x")

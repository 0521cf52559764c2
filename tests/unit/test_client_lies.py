"""The registry client against a registry that lies."""

import os

import pytest
from aiohttp import web
from fake_registry import FakeImage, assert_nothing_left, encoded, fetch, registry, store, tar

from fastdock._errors import ImageError, RegistryError
from fastdock.store.blobs import digest_of
from fastdock.store.manifest import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST

__all__ = ["fetch", "registry", "store"]  # fixtures


async def test_manifest_of_another_digest(registry, store, fetch):
    """By digest, the manifest must have it."""
    image = FakeImage()
    registry.add(image)
    wrong = "sha256:" + "0" * 64
    registry.manifests[wrong] = (image.manifest, OCI_MANIFEST)
    with pytest.raises(ImageError, match="digest"):
        await fetch(registry, f"x@{wrong}")
    assert_nothing_left(store)


@pytest.mark.parametrize(
    "media_type", [OCI_INDEX, DOCKER_MANIFEST, "application/vnd.docker.distribution.manifest.v1+json"]
)
async def test_manifest_announced_as_something_else(registry, store, fetch, media_type):
    """Media type and shape agree, or nothing is done (CVE-2021-41190)."""
    image = FakeImage()
    registry.manifests["latest"] = (image.manifest, media_type)
    with pytest.raises(ImageError):
        await fetch(registry)
    assert_nothing_left(store)


async def test_manifest_that_is_also_an_index(registry, store, fetch):
    """The document of CVE-2021-41190."""
    import json

    image = FakeImage()
    registry.add(image)
    both = {**json.loads(image.manifest), **json.loads(image.index())}
    for media_type in (OCI_MANIFEST, OCI_INDEX):
        registry.manifests["latest"] = (encoded(**both, mediaType_=1), media_type)
        with pytest.raises(ImageError, match=r"ambiguous|announced"):
            await fetch(registry)
    assert_nothing_left(store)


@pytest.mark.parametrize("change", [{"size": 1}, {"mediaType": OCI_INDEX}, {"mediaType": DOCKER_MANIFEST}])
async def test_index_that_lies_about_its_manifest(registry, store, fetch, change):
    """Size and kind of what an index names are checked."""
    image = FakeImage()
    registry.add(image)
    registry.manifests["latest"] = (image.index(**change), OCI_INDEX)
    with pytest.raises(ImageError):
        await fetch(registry)
    assert_nothing_left(store)


async def test_enormous_manifest(registry, store, fetch):
    """Four megabytes, then no more is read."""

    async def endless(request):
        response = web.StreamResponse(headers={"Content-Type": OCI_MANIFEST})
        await response.prepare(request)
        try:
            while True:
                await response.write(b" " * 65536)
        except (ConnectionError, RuntimeError):
            pass
        return response

    registry.hooks.append(endless)
    with pytest.raises(RegistryError, match="more than"):
        await fetch(registry)
    assert_nothing_left(store)


async def test_layer_that_does_not_end(registry, store, fetch):
    """A blob is read to its size and not beyond."""
    image = FakeImage()
    registry.add(image)
    blob = image.blobs[0]
    registry.blobs[digest_of(blob)] = blob + b"\0" * 1_000_000
    with pytest.raises(ImageError, match="size"):
        await fetch(registry)
    assert_nothing_left(store)


async def test_configuration_of_another_digest(registry, store, fetch):
    """The configuration is verified before it is believed."""
    image = FakeImage()
    registry.add(image)
    registry.blobs[digest_of(image.config)] = image.config.replace(b"amd64", b"arm64")
    with pytest.raises(ImageError, match="digest"):
        await fetch(registry)
    assert_nothing_left(store)


async def test_layer_that_unpacks_to_something_else(registry, store, fetch):
    """The blob is right and the configuration names another tar: refused."""
    image, other = FakeImage(tar(a=b"1")), FakeImage(tar(a=b"2"))
    image.config = other.config
    mixed = encoded(
        schemaVersion=2,
        config={"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest_of(other.config),
                "size": len(other.config)},
        layers=[{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest_of(image.blobs[0]),
                 "size": len(image.blobs[0])}],
    )  # fmt: skip
    image.manifest = mixed
    registry.add(image)
    with pytest.raises(ImageError, match="unpacks to"):
        await fetch(registry)
    assert_nothing_left(store)


async def test_more_layers_than_the_configuration_says(registry, store, fetch):
    """Their number must agree."""
    image, other = FakeImage(tar(a=b"1"), tar(b=b"1")), FakeImage()
    image.config = other.config
    document = {**__import__("json").loads(image.manifest)}
    document["config"] = __import__("json").loads(other.manifest)["config"]
    image.manifest = encoded(**document)
    registry.add(image)
    with pytest.raises(ImageError, match="layers"):
        await fetch(registry)
    assert_nothing_left(store)


async def test_another_range_than_asked_for(registry, store, fetch):
    """A wrong Content-Range would put bytes where they do not belong."""
    image = FakeImage(tar(a=os.urandom(200_000)))
    registry.add(image)
    digest = digest_of(image.blobs[0])
    with open(store.blobs.partial_path(digest), "wb") as file:
        file.write(image.blobs[0][:1000])

    async def wrong(request):
        if digest in request.path and "Range" in request.headers:
            return web.Response(status=206, body=b"x", headers={"Content-Range": "bytes 0-0/200000"})
        return None

    registry.hooks.append(wrong)
    with pytest.raises(RegistryError, match="range"):
        await fetch(registry)

"""The registry client against a registry that lies, redirects, stalls and leaks."""

import os

import pytest
from aiohttp import web
from yarl import URL

from fastdock._errors import ImageError, ImageNotFound, RegistryError
from fastdock.image import Images
from fastdock.registry.client import RegistryClient, Retry
from fastdock.registry.credentials import Credentials, CredentialStore
from fastdock.registry.pull import Transfer, fetch_referrers, list_tags, pull
from fastdock.registry.reference import parse
from fastdock.registry.settings import RegistrySettings, Settings
from fastdock.store import Store
from fastdock.store.blobs import digest_of
from fastdock.store.manifest import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from tests.unit.fake import FakeImage, FakeRegistry, encoded, tar

SECRET = Credentials("me", "secret")


@pytest.fixture
async def registry():
    server = await FakeRegistry().start()
    yield server
    await server.stop()


@pytest.fixture
async def elsewhere():
    """Another host (port), for redirects to lead to."""
    server = await FakeRegistry().start()
    yield server
    await server.stop()


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "state")


@pytest.fixture
def fetch(store, tmp_path):
    """Pulls ``x`` from a fake registry, without waiting between attempts."""

    async def run(registry, reference="x", credentials=None, **settings):
        keeper = CredentialStore(tmp_path / "docker" / "config.json")
        if credentials:
            keeper.put(registry.host, credentials)
        known = {registry.host: RegistrySettings(**settings)}
        transfer = Transfer(Settings(known, ()), keeper, Retry(attempts=4, delay=0.001, longest=0.01))
        return await pull(store, parse(f"{registry.host}/{reference}"), transfer=transfer)

    return run


def assert_nothing_left(store):
    """No image, no layer, nothing half-made, no blob that was not verified."""
    assert Images(store).list() == []
    assert os.listdir(store.layers.directory) == []
    assert os.listdir(store.layers.staging) == []
    assert not any(store.blobs.damaged(digest) for digest in store.blobs.digests())


async def test_pull(registry, store, fetch):
    """What the fake serves is an image, so that what follows fails for its own reason."""
    registry.add(FakeImage(tar(a=b"1"), tar(b=b"2")))
    result = await fetch(registry)
    assert len(result.image.layer_paths) == 2


# -- credentials stay with their host ----------------------------------------------------------------------


def guard(registry, challenge):
    """Has a registry demand authentication."""

    async def hook(request):
        if request.path.startswith("/v2/") and "Authorization" not in request.headers:
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        return None

    registry.hooks.insert(0, hook)


def redirect(registry, path, target, status=307):
    async def hook(request):
        if path in request.path:
            return web.Response(status=status, headers={"Location": target(request)})
        return None

    registry.hooks.append(hook)


async def test_credentials_do_not_follow_a_redirect(registry, elsewhere, fetch):
    """Blobs are often on another host: it must not see the password (CVE-2020-15157)."""
    image = FakeImage()
    registry.add(image)
    elsewhere.add(image)
    guard(registry, "Basic realm=x")
    redirect(registry, "/blobs/", lambda request: f"http://{elsewhere.host}{request.path}")
    await fetch(registry, credentials=SECRET)
    assert any(registry.authorizations("/manifests/"))
    assert elsewhere.requests
    assert not any(elsewhere.authorizations())


async def test_a_redirect_that_asks_for_credentials_gets_none(registry, elsewhere, fetch):
    """Nor does it when it asks for it."""
    registry.add(FakeImage())
    guard(registry, "Basic realm=x")
    guard(elsewhere, "Basic realm=y")
    redirect(registry, "/blobs/", lambda request: f"http://{elsewhere.host}{request.path}")
    with pytest.raises(RegistryError):
        await fetch(registry, credentials=SECRET)
    assert not any(elsewhere.authorizations())


async def test_a_token_server_of_another_site_sees_no_password(registry, elsewhere, fetch, monkeypatch):
    """A realm is checked before anything is sent there."""
    guard(registry, f'Bearer realm="http://evil.example:{elsewhere.port}/token",service="x"')
    with pytest.raises(RegistryError):
        await fetch(registry, credentials=SECRET)
    assert elsewhere.requests == []


async def test_tokens_are_asked_for_by_scope(registry, elsewhere, fetch):
    """The token server gets the scope and the password; the registry the token alone."""
    registry.add(FakeImage())

    async def give(request):
        return web.json_response({"token": "t0k3n"}) if request.path == "/token" else None

    elsewhere.hooks.append(give)
    guard(registry, f'Bearer realm="http://{elsewhere.host}/token?a=b",service="s"')
    await fetch(registry, credentials=SECRET)
    (request,) = elsewhere.requests
    assert request.query["a"] == "b"
    assert request.query["scope"] == "repository:x:pull"
    assert request.headers["Authorization"].startswith("Basic ")
    assert set(registry.authorizations("/blobs/")) == {"Bearer t0k3n"}


async def test_redirects_do_not_give_up_tls():
    """From https to http: never."""
    client = RegistryClient("r.example", settings=Settings(certificates=()))
    with pytest.raises(RegistryError, match="without TLS"):
        client._redirect(URL("https://r.example/v2/x"), "http://r.example/v2/x")
    for location in ("", "ftp://r.example/x", "//[", "file:///etc/passwd"):
        with pytest.raises(RegistryError):
            client._redirect(URL("https://r.example/v2/x"), location)
    with pytest.raises(RegistryError, match="this machine"):
        client._redirect(URL("https://r.example/v2/x"), "https://127.0.0.1:2375/containers/json")
    assert client._redirect(URL("https://r.example/v2/x"), "/v2/y").path == "/v2/y"


async def test_plain_http_is_for_loopback_and_the_configured(monkeypatch):
    """A registry elsewhere is asked by TLS, whatever happens."""
    async with RegistryClient("r.example", settings=Settings(certificates=())) as client:
        assert await client._find_scheme() == "https"
    with_ca = Settings({"localhost:5000": RegistrySettings(ca="/ca.pem")}, ())
    async with RegistryClient("localhost:5000", settings=with_ca) as client:
        assert await client._find_scheme() == "https"


async def test_endless_redirects(registry, fetch):
    """They end."""
    redirect(registry, "/manifests/", lambda request: request.path)
    with pytest.raises(RegistryError, match="circles"):
        await fetch(registry)


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


# -- lies --------------------------------------------------------------------------------------------------


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


async def test_not_found(registry, fetch):
    """A 404 is ImageNotFound, so that run's --pull can tell."""
    with pytest.raises(ImageNotFound, match="no such thing"):
        await fetch(registry)


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
    while not os.path.exists(store.blobs.partial_path(digest)) or not os.path.getsize(store.blobs.partial_path(digest)):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert os.listdir(store.layers.staging) == []
    assert os.path.getsize(store.blobs.partial_path(digest)) > 0

"""The registry client where a registry redirects and asks for credentials: they stay with their host."""

import pytest
from aiohttp import web
from fake_registry import FakeImage, elsewhere, fetch, registry, store
from yarl import URL

from fastdock._errors import RegistryError
from fastdock.registry.client import RegistryClient
from fastdock.registry.credentials import Credentials
from fastdock.registry.settings import RegistrySettings, Settings

__all__ = ["elsewhere", "fetch", "registry", "store"]  # fixtures

SECRET = Credentials("me", "secret")


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

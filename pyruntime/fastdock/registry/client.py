"""One registry over HTTP: requests with authentication, redirects, retries and certificates.

What may go wrong on the way is handled here once: 401 (authenticate, try again), 3xx (follow, leaving
credentials behind when the host changes), 429 and 5xx and cut connections (wait, try again).
"""

from __future__ import annotations

import asyncio
import json
import random
import ssl
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple
from urllib.parse import urlencode
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL

from fastdock._errors import FastdockError, ImageNotFound, RegistryError
from fastdock.registry import auth
from fastdock.registry.credentials import Credentials, CredentialStore
from fastdock.registry.settings import RegistrySettings, Settings, is_loopback, tls_context

# Bytes; aiohttp pauses the socket at twice that.  Its default, 64 KiB, costs 40 % more time.
READ_BUFFER = 1 << 20
MAX_REDIRECTS = 5
MAX_ANSWER = 1 << 20  # bytes of an error or of a token answer
RETRIED = frozenset({408, 429, 500, 502, 503, 504})
REDIRECTS = frozenset({301, 302, 303, 307, 308})
HUB = "registry-1.docker.io"

Body = bytes | Callable[[], AsyncIterator[bytes]]


class Retry(NamedTuple):
    """How to go on after a failure that may pass."""

    attempts: int = 6
    delay: float = 0.5  # seconds before the second attempt; doubles
    longest: float = 30.0  # seconds, also of a Retry-After

    def seconds(self, attempt: int, retry_after: str | None = None) -> float:
        if retry_after and retry_after.isascii() and retry_after.isdigit():
            return min(float(retry_after), self.longest)
        return min(self.delay * 2.0**attempt, self.longest) * random.uniform(0.7, 1.0)


class Interrupted(RegistryError):
    """The connection broke, or the registry asked to come back later, once too often."""


class _Connector(aiohttp.TCPConnector):
    """Knows all its connections, until their sockets are closed.

    aiohttp closes some of them in order, which in TLS takes an answer of the peer, and waits for none of these.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(limit=limit)
        self._transports: weakref.WeakSet[asyncio.Transport] = weakref.WeakSet()

    async def connect(self, *arguments: Any, **options: Any) -> aiohttp.connector.Connection:
        connection = await super().connect(*arguments, **options)
        if connection.transport:
            self._transports.add(connection.transport)
        return connection

    async def cut(self) -> None:
        """Closes every socket that is still open."""
        for transport in list(self._transports):
            transport.abort()
        await asyncio.sleep(0)  # the loop closes the sockets in its next turn


class RegistryClient:
    """Speaks to one registry (or mirror).  Use within its ``async with``."""

    def __init__(
        self,
        registry: str,
        *,
        settings: Settings,
        credentials: CredentialStore | Credentials | None = None,
        retry: Retry | None = None,
        endpoint: str | None = None,
    ) -> None:
        """``registry`` is a reference's domain; ``endpoint`` a mirror's URL, if it is to be asked instead."""
        url = URL(endpoint) if endpoint else None
        self.registry = registry
        self.host = _netloc(url) if url else HUB if registry == "docker.io" else registry
        self.settings: RegistrySettings = settings.of(
            self.host if url or registry != "docker.io" else registry
        )
        self.retry = retry or Retry()
        self._scheme = url.scheme if url else ""
        self._prefix = url.raw_path.rstrip("/") if url else ""
        self._credentials = credentials
        self._asked_credentials: Credentials | bool | None = False  # False: not asked yet
        self._tokens: dict[str, str | auth.Token] = {}
        self._token_lock = asyncio.Lock()
        self._tls: ssl.SSLContext | bool | None = None

    async def __aenter__(self) -> RegistryClient:
        self._connector = _Connector(limit=16)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)
        self._session = aiohttp.ClientSession(
            connector=self._connector,
            timeout=timeout,
            read_bufsize=READ_BUFFER,
            auto_decompress=False,  # digests are of the bytes that were sent
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "fastdock", "Accept-Encoding": "identity"},
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()
        await self._connector.cut()

    # -- requests ------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def request(
        self,
        method: str,
        target: str,
        *,
        scope: str = "",
        headers: Mapping[str, str] | None = None,
        body: Body = b"",
        expected: Collection[int] = (200,),
        attempts: int = 0,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Sends a request until it gets an answer whose status is ``expected``, or ``attempts`` are used up.

        ``target`` is a path of the registry, or a URL that it gave (an upload's Location).  A body that is a
        callable is called again for each attempt.  Raises ImageNotFound for a 404, RegistryError for the rest.
        """
        url = await self._url(target)
        attempts = attempts or self.retry.attempts
        attempt = 0
        while True:
            retry_after = None
            try:
                response = await self._send(method, url, scope, dict(headers or {}), body)
                if response.status not in RETRIED or response.status in expected:
                    break
                problem = f"{response.status} {response.reason}"
                retry_after = response.headers.get("Retry-After")
                await _discard(response)
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError) as error:
                if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
                    raise self._tls_error(error) from error
                problem = str(error) or type(error).__name__
                if isinstance(error, aiohttp.ClientConnectorError):  # nobody there: a typing error, as a rule
                    attempt = max(attempt, attempts - 2)
            attempt += 1
            if attempt >= attempts:
                raise Interrupted(f"{self.host} does not answer {method} {url.path}: {problem}")
            await self.sleep(self.retry.seconds(attempt - 1, retry_after))
        try:
            if response.status not in expected:
                raise await self._error(response, method)
            yield response
        finally:
            _leave(response)

    sleep: Callable[[float], Awaitable[None]] = staticmethod(asyncio.sleep)

    async def fetch(
        self, target: str, *, scope: str, limit: int, headers: Mapping[str, str] | None = None
    ) -> tuple[bytes, Mapping[str, str]]:
        """The body of a GET, of at most ``limit`` bytes, and the answer's headers."""
        for attempt in range(self.retry.attempts):
            try:
                async with self.request("GET", target, scope=scope, headers=headers) as response:
                    return await read_limited(response, limit), response.headers
            except (aiohttp.ClientError, TimeoutError) as error:  # cut in the middle of the body
                problem = error
            await self.sleep(self.retry.seconds(attempt))
        raise Interrupted(f"{self.host} breaks off while sending {target}: {problem}")

    async def check_login(self) -> None:
        """RegistryError unless the registry accepts the credentials, or asks for none."""
        async with self.request("GET", "", attempts=2) as response:
            await _discard(response)

    async def _send(
        self, method: str, url: URL, scope: str, headers: dict[str, str], body: Body
    ) -> aiohttp.ClientResponse:
        """One attempt: authenticates and follows redirects, but does not retry."""
        own = self._is_own(url)
        challenged = False
        for _ in range(MAX_REDIRECTS + 1):
            if own and (authorization := self._authorization(scope)):
                headers["Authorization"] = authorization
            else:
                headers.pop("Authorization", None)
            response = await self._session.request(
                method,
                url,
                headers=headers,
                data=body() if callable(body) else body or None,
                allow_redirects=False,
                ssl=self._tls_context() if own else True,
                proxy=_proxy(url),
            )
            if response.status == 401 and own and not challenged:
                challenged = True
                await _discard(response)
                await self._authenticate(response.headers.getall("WWW-Authenticate", []), scope)
            elif response.status in REDIRECTS and method in ("GET", "HEAD"):
                await _discard(response)
                url = self._redirect(url, response.headers.get("Location", ""))
                own = self._is_own(url)
            else:
                return response
        raise RegistryError(f"{self.host} redirects in circles: {url}")

    def _redirect(self, url: URL, location: str) -> URL:
        """Where a redirect leads; RegistryError where it gives up TLS or is no URL."""
        try:
            target = url.join(URL(location, encoded=True))
        except ValueError:
            raise RegistryError(f"{self.host} redirects to a malformed URL: {location[:200]!r}") from None
        if not location or target.scheme not in ("http", "https"):
            raise RegistryError(f"{self.host} redirects to a malformed URL: {location[:200]!r}")
        if url.scheme == "https" and target.scheme == "http":
            raise RegistryError(
                f"{self.host} redirects to {target.host} without TLS", hint="that is not followed"
            )
        if is_loopback(_netloc(target)) and not is_loopback(self.host):
            raise RegistryError(f"{self.host} redirects to this machine itself: {target}")
        return target

    def _is_own(self, url: URL) -> bool:
        """Whether the URL is the registry itself: same scheme, host and port."""
        return url.scheme == self._scheme and _netloc(url) == _netloc(URL(f"{self._scheme}://{self.host}"))

    async def _url(self, target: str) -> URL:
        if not self._scheme:
            async with self._token_lock:
                if not self._scheme:
                    self._scheme = await self._find_scheme()
        base = URL(f"{self._scheme}://{self.host}{self._prefix}/v2/", encoded=True)
        url = base.join(URL(target, encoded=True))
        return url if self._is_own(url) else self._redirect(base, str(url))

    async def _find_scheme(self) -> str:
        """https; http only where plain HTTP is allowed, and TLS is not what the registry speaks."""
        plain = is_loopback(self.host) or self.settings.insecure
        if not plain or (self.settings.ca and not self.settings.insecure):
            return "https"
        try:
            async with self._session.get(
                f"https://{self.host}/v2/", ssl=self._tls_context(), allow_redirects=False
            ) as response:
                await _discard(response)
                return "https"
        except aiohttp.ClientConnectorCertificateError as error:
            raise self._tls_error(error) from error
        except (aiohttp.ClientError, TimeoutError):
            return "http"

    def _tls_context(self) -> ssl.SSLContext | bool:
        """How to verify the registry; True is aiohttp's own context, which is there already (a new one: 30 ms)."""
        if self._tls is None:
            own = self.settings.insecure or self.settings.ca or self.settings.certificate
            self._tls = tls_context(self.settings) if own else True
        return self._tls

    def _tls_error(self, error: BaseException) -> RegistryError:
        return RegistryError(
            f"cannot trust {self.host}: {error}",
            hint=f"put its CA into /etc/docker/certs.d/{self.host}/ca.crt, or set it in registries.toml",
        )

    # -- authentication ------------------------------------------------------------------------------------

    def _authorization(self, scope: str) -> str:
        token = self._tokens.get("") or self._tokens.get(scope)
        if isinstance(token, auth.Token):
            return f"Bearer {token.value}" if token.is_fresh else ""
        return token or ""

    async def credentials(self) -> Credentials | None:
        """This registry's credentials, asked for once (a helper may open a dialog)."""
        if isinstance(self._asked_credentials, bool):
            source = self._credentials
            if isinstance(source, CredentialStore):
                self._asked_credentials = await asyncio.to_thread(source.get, self.registry)
            else:
                self._asked_credentials = source
        return self._asked_credentials

    async def _authenticate(self, headers: list[str], scope: str) -> None:
        """Answers a challenge: afterwards _authorization(scope) has what the registry wants."""
        challenge = auth.pick_challenge(", ".join(headers))
        async with self._token_lock:
            credentials = await self.credentials()
            if challenge.scheme == "basic":
                if credentials is None:
                    raise RegistryError(
                        f"{self.registry} wants a user name and password",
                        hint=f"fastdock login {self.registry}",
                    )
                self._tokens[""] = auth.basic(credentials)
                return
            realm = challenge.parameters.get("realm", "")
            allowed = self.settings.token_hosts
            auth.check_realm(realm, self.host, self._scheme, allowed, secret=credentials is not None)
            self._tokens[scope] = await self._fetch_token(
                URL(realm), challenge.parameters.get("service", ""), scope, credentials
            )

    async def _fetch_token(
        self, realm: URL, service: str, scope: str, credentials: Credentials | None
    ) -> auth.Token:
        scopes = scope.split()
        if credentials and credentials.identity_token:
            form = {
                "grant_type": "refresh_token",
                "service": service,
                "client_id": "fastdock",
                "scope": scope,
            }
            form["refresh_token"] = credentials.identity_token
            method, url, data, headers = "POST", realm, form, {}
        else:
            query = [("service", service)] if service else []
            query += [("scope", one) for one in scopes]
            if credentials:
                query.append(("account", credentials.username))
            joined = "&".join(part for part in (realm.raw_query_string, urlencode(query)) if part)
            url = URL(str(realm).partition("?")[0] + "?" + joined, encoded=True)
            method, data, headers = (
                "GET",
                None,
                {"Authorization": auth.basic(credentials)} if credentials else {},
            )
        tls = self._tls_context() if _netloc(realm) == self.host or is_loopback(_netloc(realm)) else True
        try:
            async with self._session.request(
                method, url, data=data, headers=headers, allow_redirects=False, ssl=tls, proxy=_proxy(url)
            ) as response:
                answer = await read_limited(response, MAX_ANSWER)
                if response.status != 200:
                    raise self._denied(response.status, f"the token server {realm.host} answers")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise RegistryError(f"cannot get a token from {realm.host}: {error}") from error
        try:
            return auth.parse_token(json.loads(answer))
        except ValueError:
            raise RegistryError(f"the token server {realm.host} gave a malformed answer") from None

    # -- errors --------------------------------------------------------------------------------------------

    def _denied(self, status: int, what: str) -> RegistryError:
        return RegistryError(f"{what} {status}: access denied", hint=f"fastdock login {self.registry}")

    async def _error(self, response: aiohttp.ClientResponse, method: str) -> FastdockError:
        """What a registry's error answer says (distribution-spec, "Error Codes")."""
        try:
            detail = describe_errors(await read_limited(response, MAX_ANSWER))
        except (aiohttp.ClientError, TimeoutError, RegistryError):
            detail = ""
        text = f"{self.host}: {response.status} {response.reason}" + (f": {detail}" if detail else "")
        if response.status == 404:
            return ImageNotFound(text)
        if response.status in (401, 403):
            hint = f"it may not exist, or need 'fastdock login {self.registry}'"
            return RegistryError(text, hint=hint)
        return RegistryError(f"{text} ({method} {response.url.path})")


async def read_limited(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body; RegistryError once it is longer than ``limit`` bytes."""
    data = bytearray()
    async for chunk in response.content.iter_any():
        data += chunk
        if len(data) > limit:
            raise RegistryError(f"{response.url.host} sends more than {limit} bytes for {response.url.path}")
    return bytes(data)


async def _discard(response: aiohttp.ClientResponse) -> None:
    """Ends with an answer whose body nobody wants: a short one is read, and its connection used again."""
    with suppress(aiohttp.ClientError, TimeoutError, RegistryError):
        await read_limited(response, MAX_ANSWER)
    _leave(response)


def _leave(response: aiohttp.ClientResponse) -> None:
    """Gives the connection back; one in the middle of a body is cut (see _Connector)."""
    connection = response.connection
    if connection and connection.transport and not response.content.is_eof():
        connection.transport.abort()
    response.release()


def describe_errors(body: bytes) -> str:
    """The messages in a registry's JSON errors, on one line; empty where there are none."""
    try:
        errors: Any = json.loads(body)["errors"]
        parts = [f"{error.get('code', '')}: {error.get('message', '')}".strip(": ") for error in errors[:5]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ""
    text = "; ".join(part for part in parts if part)
    return "".join(character if character.isprintable() else "?" for character in text)[:500]


def _netloc(url: URL) -> str:
    host = url.host or ""
    host = f"[{host}]" if ":" in host else host
    return host if url.is_default_port() else f"{host}:{url.port}"


def _proxy(url: URL) -> str | None:
    """The proxy that the environment sets for a URL.  (aiohttp's trust_env would also send what ~/.netrc has.)"""
    proxy = getproxies().get(url.scheme)
    return proxy if proxy and not proxy_bypass(url.host or "") else None

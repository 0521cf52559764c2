"""Authentication: challenges, tokens, and which host may see what.

Bearer tokens as in distribution-spec's "token authentication", Basic as in RFC 7617.  The rules of SECURITY.md:
credentials go to the registry itself and to a token server of the same site, over TLS; elsewhere only if the
machine's owner says so (``token_hosts``).
"""

from __future__ import annotations

import base64
import re
import time
from typing import NamedTuple
from urllib.parse import urlsplit

from fastdock._errors import RegistryError
from fastdock.registry.credentials import Credentials
from fastdock.registry.settings import is_loopback

_CHALLENGE = re.compile(r"\s*([A-Za-z0-9!#$%&\'*+.^_`|~-]+)(?:\s+(?=[^,=\s]+\s*=)|\s*,|\s*$)")
_PARAMETER = re.compile(r'\s*([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))\s*,?')
DEFAULT_LIFETIME = 60.0  # seconds, if a token server does not say (distribution-spec)


class Challenge(NamedTuple):
    scheme: str  # lowercase
    parameters: dict[str, str]


class Token(NamedTuple):
    value: str
    expires: float  # time.monotonic()

    @property
    def is_fresh(self) -> bool:
        return time.monotonic() < self.expires


def parse_challenges(header: str) -> list[Challenge]:
    """The challenges of a WWW-Authenticate header (RFC 9110, 11.6.1); what is malformed is left out."""
    challenges: list[Challenge] = []
    position = 0
    while position < len(header) and len(challenges) < 8:
        scheme = _CHALLENGE.match(header, position)
        if not scheme:
            break
        position = scheme.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(header, position):
            quoted, plain = parameter[2], parameter[3]
            parameters[parameter[1].lower()] = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            position = parameter.end()
        challenges.append(Challenge(scheme[1].lower(), parameters))
    return challenges


def pick_challenge(header: str) -> Challenge:
    """The strongest challenge that fastdock can answer: Bearer, else Basic."""
    challenges = parse_challenges(header)
    for scheme in ("bearer", "basic"):
        for challenge in challenges:
            if challenge.scheme == scheme:
                return challenge
    raise RegistryError(f"the registry wants an authentication that fastdock does not know: {header[:200]!r}")


def basic(credentials: Credentials) -> str:
    text = f"{credentials.username}:{credentials.password}".encode()
    return "Basic " + base64.b64encode(text).decode()


def check_realm(realm: str, registry: str, scheme: str, token_hosts: tuple[str, ...], secret: bool) -> None:
    """RegistryError where a token server may not be asked, or (``secret``) not be shown the credentials.

    ``registry`` is the host[:port] that sent the challenge, over ``scheme``.
    """
    try:
        parts = urlsplit(realm)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise RegistryError(f"{registry} names a malformed token server: {realm[:200]!r}") from None
    if parts.scheme not in ("http", "https") or not host or parts.username or parts.password:
        raise RegistryError(f"{registry} names a malformed token server: {realm[:200]!r}")
    netloc = parts.netloc
    if parts.scheme == "http" and not (scheme == "http" and (netloc == registry or is_loopback(netloc))):
        raise RegistryError(
            f"{registry} names a token server without TLS: {realm[:200]!r}",
            hint="credentials are not sent in the clear",
        )
    if is_loopback(netloc) and not is_loopback(registry):
        raise RegistryError(f"{registry} names a token server on this machine: {realm[:200]!r}")
    own = urlsplit(f"//{registry}").hostname or ""
    if secret and not (host in token_hosts or f"{host}:{port}" in token_hosts or same_site(own, host)):
        raise RegistryError(
            f"{registry} wants its password shown to another site's token server, {host}",
            hint=f'if that is right, set token_hosts = ["{host}"] for it in registries.toml',
        )


def same_site(registry: str, host: str) -> bool:
    """Whether two host names belong together: registry-1.docker.io and auth.docker.io, registry.x.org and x.org.

    Without a list of public suffixes: the registry's name without its first label, which must leave two labels
    (three below a country's second level, like co.uk).
    """
    registry, host = registry.lower().rstrip("."), host.lower().rstrip(".")
    if host == registry:
        return True
    if is_loopback(registry) and is_loopback(host):
        return True
    if re.fullmatch(r"[0-9.]+|.*:.*", registry):  # an address has no site
        return False
    labels = registry.split(".")[1:]
    least = 3 if len(labels) >= 2 and len(labels[-1]) == 2 and len(labels[-2]) <= 3 else 2
    site = ".".join(labels)
    return len(labels) >= least and (host == site or host.endswith("." + site))


def parse_token(answer: object) -> Token:
    """The token in a token server's answer; RegistryError where there is none."""
    if not isinstance(answer, dict):
        raise RegistryError("the token server's answer is malformed")
    value = answer.get("token") or answer.get("access_token")
    if not isinstance(value, str) or not re.fullmatch(r"[\x21-\x7e]+", value):
        raise RegistryError("the token server gave no token")
    lifetime = answer.get("expires_in")
    seconds = float(lifetime) if isinstance(lifetime, int | float) and lifetime > 0 else DEFAULT_LIFETIME
    return Token(value, time.monotonic() + seconds * 0.9)

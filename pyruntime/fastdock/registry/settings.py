"""What the machine's owner says about registries: mirrors, plain HTTP, certificates.

TOML, in ``/etc/fastdock/registries.toml``, then ``~/.config/fastdock/registries.toml``, then the file that
``FASTDOCK_REGISTRIES`` names; later ones win::

    [registry."registry.example:5000"]
    insecure = true                    # plain HTTP is fine, and so is a certificate that nobody signed
    ca = "/etc/ssl/example-ca.pem"     # also found in /etc/docker/certs.d/<registry>/*.crt
    certificate = "client.pem"         # also /etc/docker/certs.d/<registry>/*.cert and *.key
    key = "client.key"
    mirrors = ["https://mirror.example"]   # asked first, for pulls
    token_hosts = ["login.example"]    # hosts, besides its own, that may see this registry's passwords
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from fastdock._errors import SpecError

CERTIFICATES = (Path("/etc/fastdock/certs.d"), Path("/etc/docker/certs.d"))
_KEYS = {"insecure": bool, "ca": str, "certificate": str, "key": str, "mirrors": list, "token_hosts": list}


class RegistrySettings(NamedTuple):
    """What is set for one registry."""

    insecure: bool = False
    ca: str = ""
    certificate: str = ""
    key: str = ""
    mirrors: tuple[str, ...] = ()
    token_hosts: tuple[str, ...] = ()


class Settings(NamedTuple):
    """What is set for all of them."""

    registries: Mapping[str, RegistrySettings] = MappingProxyType({})
    certificates: tuple[Path, ...] = CERTIFICATES

    def of(self, registry: str) -> RegistrySettings:
        """The settings of a registry (``host[:port]``), with what certs.d adds."""
        found = self.registries.get(registry, RegistrySettings())
        for base in self.certificates:
            directory = base / registry
            if not directory.is_dir():
                continue
            ca = found.ca or str(directory) if any(directory.glob("*.crt")) else found.ca
            client = sorted(directory.glob("*.cert"))
            if client and not found.certificate:
                found = found._replace(certificate=str(client[0]), key=str(client[0].with_suffix(".key")))
            found = found._replace(ca=ca)
        return found


def load_settings() -> Settings:
    """The settings of this machine and user; SpecError where a file is malformed."""
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    paths = [Path("/etc/fastdock/registries.toml"), Path(config, "fastdock", "registries.toml")]
    if extra := os.environ.get("FASTDOCK_REGISTRIES"):
        paths.append(Path(extra))
    registries: dict[str, RegistrySettings] = {}
    for path in paths:
        if path.exists():
            registries |= read_settings(path)
    return Settings(registries)


def read_settings(path: Path) -> dict[str, RegistrySettings]:
    """The registries of one file."""
    import tomllib

    try:
        document = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: {error}") from error
    tables = document.pop("registry", {})
    if document or not isinstance(tables, dict):
        raise SpecError(f'{path}: only [registry."host"] tables belong here')
    return {name: _registry(path, name, table) for name, table in tables.items()}


def _registry(path: Path, name: str, table: Any) -> RegistrySettings:
    if not isinstance(table, dict):
        raise SpecError(f"{path}: registry.{name} must be a table")
    for key, value in table.items():
        kind = _KEYS.get(key)
        if kind is None:
            raise SpecError(f"{path}: unknown setting {key!r} of {name}", hint=f"known: {', '.join(_KEYS)}")
        texts = all(isinstance(item, str) for item in value) if isinstance(value, list) else True
        if not isinstance(value, kind) or not texts:
            raise SpecError(f"{path}: {key} of {name} has the wrong type")
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in table.items()
    }
    return RegistrySettings(**values)


def is_loopback(host: str) -> bool:
    """Whether ``host[:port]`` is this machine's loopback by its very name (no resolver is asked)."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def tls_context(settings: RegistrySettings) -> ssl.SSLContext:
    """How to verify the registry, and to show who we are."""
    try:
        context = ssl.create_default_context()
        if settings.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if settings.ca:
            path = Path(settings.ca)
            for file in sorted(path.glob("*.crt")) if path.is_dir() else [path]:
                context.load_verify_locations(cafile=file)
        if settings.certificate:
            context.load_cert_chain(settings.certificate, settings.key or None)
    except (OSError, ssl.SSLError) as error:
        raise SpecError(f"cannot load the registry's certificates: {error}") from error
    return context

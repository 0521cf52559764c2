"""Credentials: Docker's ``config.json`` and its credential helpers.

``$DOCKER_CONFIG/config.json`` (``~/.docker``) holds ``auths`` (base64, not encrypted), ``credHelpers`` (a
program for a registry) and ``credsStore`` (a program for all): github.com/docker/docker-credential-helpers.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from fastdock._errors import RegistryError, SpecError

HUB_KEY = "https://index.docker.io/v1/"
_HELPER = re.compile(r"[A-Za-z0-9_.+-]+")
_NOT_FOUND = "credentials not found in native keychain"


class Credentials(NamedTuple):
    username: str
    password: str
    identity_token: str = ""  # a refresh token; then there is no password


def config_path() -> Path:
    directory = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    return Path(directory, "config.json")


def server_key(registry: str) -> str:
    """What Docker files a registry's credentials under."""
    return HUB_KEY if registry == "docker.io" else registry


class CredentialStore:
    """The credentials in one ``config.json``."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or config_path()

    def get(self, registry: str) -> Credentials | None:
        """The credentials for a registry, or None.  RegistryError where a helper fails."""
        config, key = self._read(), server_key(registry)
        if helper := self._helper(config, key):
            return _ask_helper(helper, key)
        for name, entry in config.get("auths", {}).items():
            if _host(name) == _host(key) and isinstance(entry, dict):
                return _decode(entry, self.path)
        return None

    def put(self, registry: str, credentials: Credentials) -> str:
        """Keeps credentials, with a helper if one is configured; where they went, in words."""
        config, key = self._read(), server_key(registry)
        entry: dict[str, str] = {}
        if helper := self._helper(config, key):
            secret = credentials.identity_token or credentials.password
            username = "<token>" if credentials.identity_token else credentials.username
            _run_helper(
                helper, "store", json.dumps({"ServerURL": key, "Username": username, "Secret": secret})
            )
        else:
            text = f"{credentials.username}:{credentials.password}".encode()
            entry["auth"] = base64.b64encode(text).decode()
            if credentials.identity_token:
                entry["identitytoken"] = credentials.identity_token
        config.setdefault("auths", {})[key] = entry
        self._write(config)
        return f"docker-credential-{helper}" if helper else str(self.path)

    def erase(self, registry: str) -> bool:
        """Forgets credentials; whether there were any."""
        config, key = self._read(), server_key(registry)
        if helper := self._helper(config, key):
            _run_helper(helper, "erase", key)
        auths = config.get("auths", {})
        found = [name for name in auths if _host(name) == _host(key)]
        for name in found:
            del auths[name]
        if found:
            self._write(config)
        return bool(found)

    def _helper(self, config: dict[str, Any], key: str) -> str:
        helpers = config.get("credHelpers", {})
        helper = helpers.get(key) or helpers.get(_host(key)) or config.get("credsStore") or ""
        if helper and not _HELPER.fullmatch(str(helper)):
            raise SpecError(f"{self.path}: {helper!r} is not the name of a credential helper")
        return str(helper)

    def _read(self) -> dict[str, Any]:
        try:
            config = json.loads(self.path.read_text())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise SpecError(f"cannot read {self.path}: {error}") from error
        sections = ("auths", "credHelpers")
        if not isinstance(config, dict) or any(
            not isinstance(config.get(name, {}), dict) for name in sections
        ):
            raise SpecError(f"{self.path} is not a Docker configuration")
        return config

    def _write(self, config: dict[str, Any]) -> None:
        """Replaces the file whole, readable by its owner only."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=".config-")  # mode 0600
        try:
            with os.fdopen(fd, "w") as file:
                json.dump(config, file, indent="\t")
                file.write("\n")
            os.replace(temporary, self.path)
        except BaseException:
            os.unlink(temporary)
            raise


def _host(key: str) -> str:
    """The registry that a key of ``auths`` means: old entries are URLs."""
    return key.removeprefix("https://").removeprefix("http://").partition("/")[0]


def _decode(entry: dict[str, Any], path: Path) -> Credentials | None:
    token = str(entry.get("identitytoken") or "")
    encoded = str(entry.get("auth") or "")
    if not encoded:
        username, password = str(entry.get("username") or ""), str(entry.get("password") or "")
        return Credentials(username, password, token) if username or token else None
    try:
        username, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise SpecError(f"{path} has a malformed auth entry: {error}") from error
    if not colon:
        raise SpecError(f"{path} has a malformed auth entry: no colon between name and password")
    return Credentials(username, password.rstrip("\0"), token)


def _ask_helper(helper: str, key: str) -> Credentials | None:
    output = _run_helper(helper, "get", key)
    if output is None:
        return None
    try:
        answer = json.loads(output)
        username, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError) as error:
        raise RegistryError(f"docker-credential-{helper} gave a malformed answer") from error
    return Credentials("", "", secret) if username == "<token>" else Credentials(username, secret)


def _run_helper(helper: str, action: str, text: str) -> str | None:
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run([program, action], input=text, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        raise RegistryError(f"{program} is not installed", hint="config.json asks for it") from None
    except subprocess.TimeoutExpired:
        raise RegistryError(f"{program} {action} did not answer in a minute") from None
    if done.returncode == 0:
        return done.stdout
    message = (done.stdout.strip() or done.stderr.strip())[:500]
    if action != "store" and _NOT_FOUND in message:
        return None
    raise RegistryError(f"{program} {action}: {message}")

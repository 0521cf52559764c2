"""Docker's config.json and its credential helpers."""

import json
import os
import stat

import pytest

from fastdock._errors import RegistryError, SpecError
from fastdock.registry.credentials import Credentials, CredentialStore

HELPER = """#!/bin/sh
# Docker's protocol: the action as argument, the data on stdin.  Keeps one entry in a file.
store={store}
case $1 in
store) cat > $store ;;
get) read server; test -f $store && grep -q "\\"$server\\"" $store && cat $store && exit 0
     echo "credentials not found in native keychain"; exit 1 ;;
erase) rm -f $store ;;
*) exit 2 ;;
esac
"""


@pytest.fixture
def store(tmp_path):
    return CredentialStore(tmp_path / "docker" / "config.json")


@pytest.fixture
def helper(tmp_path, monkeypatch):
    """A credential helper on the PATH, docker-credential-test."""
    program = tmp_path / "bin" / "docker-credential-test"
    program.parent.mkdir()
    program.write_text(HELPER.format(store=tmp_path / "keychain"))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return tmp_path / "keychain"


def configure(store, **config):
    store.path.parent.mkdir(exist_ok=True)
    store.path.write_text(json.dumps(config))


def test_kept_and_forgotten(store):
    """login and logout, in a file that only its owner reads."""
    assert store.get("r.example") is None
    store.put("r.example", Credentials("me", "pa:ss"))
    assert store.get("r.example") == Credentials("me", "pa:ss")
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    assert store.erase("r.example")
    assert not store.erase("r.example")
    assert store.get("r.example") is None


def test_docker_hub_has_its_old_key(store):
    """Docker finds what we keep."""
    store.put("docker.io", Credentials("me", "x"))
    assert list(json.loads(store.path.read_text())["auths"]) == ["https://index.docker.io/v1/"]
    assert store.get("docker.io") == Credentials("me", "x")


def test_other_settings_survive(store):
    """The file is Docker's: what we do not know stays."""
    configure(store, HttpHeaders={"X": "y"}, auths={"https://r.example/v1/": {"auth": "YTpi"}})
    assert store.get("r.example") == Credentials("a", "b")
    store.put("other.example", Credentials("c", "d"))
    assert json.loads(store.path.read_text())["HttpHeaders"] == {"X": "y"}


@pytest.mark.parametrize("settings", [{"credsStore": "test"}, {"credHelpers": {"r.example": "test"}}])
def test_helper(store, helper, settings):
    """Secrets go to the helper, and none into the file."""
    configure(store, **settings)
    assert store.get("r.example") is None
    assert store.put("r.example", Credentials("me", "secret")) == "docker-credential-test"
    assert "secret" not in store.path.read_text()
    assert json.loads(helper.read_text())["Secret"] == "secret"
    assert store.get("r.example") == Credentials("me", "secret")
    store.erase("r.example")
    assert store.get("r.example") is None


def test_identity_tokens_from_a_helper(store, helper):
    """A helper's <token> is a refresh token, not a password."""
    configure(store, credsStore="test")
    store.put("r.example", Credentials("", "", "refresh"))
    assert store.get("r.example") == Credentials("", "", "refresh")


@pytest.mark.parametrize("name", ["../evil", "a/b", "a b", "x;y"])
def test_a_helper_is_a_plain_name(store, name):
    """config.json cannot run a program off the PATH."""
    configure(store, credsStore=name)
    with pytest.raises(SpecError):
        store.get("r.example")


def test_missing_helper(store):
    """The error names the program."""
    configure(store, credsStore="absent-helper")
    with pytest.raises(RegistryError, match="docker-credential-absent-helper"):
        store.get("r.example")


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"auths": []}', '{"auths": {"r.example": {"auth": "%%%"}}}']
)
def test_malformed_files(store, text):
    """A broken file is an error that names it, and is not overwritten."""
    store.path.parent.mkdir()
    store.path.write_text(text)
    with pytest.raises(SpecError, match=r"config\.json"):
        store.get("r.example")
    assert store.path.read_text() == text

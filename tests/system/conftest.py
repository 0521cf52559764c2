"""Real registries on loopback, started by the tests."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import v2

from fastdock.image import Images
from fastdock.registry.client import Retry
from fastdock.registry.credentials import CredentialStore
from fastdock.registry.pull import Transfer
from fastdock.registry.settings import RegistrySettings, Settings
from fastdock.store import Store
from tests.system.servers import Registry, TokenServer, make_certificate

FAST = Retry(attempts=6, delay=0.01, longest=0.05)


@pytest.hookimpl(tryfirst=True)  # before -m and -k select
def pytest_collection_modifyitems(items):
    """Who calls OCI runtimes does it on cgroup v2, too: in the VM of tests/kernel."""
    v2.double(items, Path(__file__).parent, ("test_oci_callers.py", "test_oci_rootless_podman.py"))


def pytest_runtest_logreport(report):
    v2.write_result(report)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """(certificate, key) of a CA that signs itself, for localhost and 127.0.0.1."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def registry(tmp_path):
    """The CNCF registry, plain HTTP."""
    with Registry(tmp_path / "registry") as server:
        yield server


@pytest.fixture
def tls_registry(tmp_path, certificate):
    """The CNCF registry with TLS and basic authentication: user "me", password "secret"."""
    with Registry(tmp_path / "registry", certificate=certificate, password=("me", "secret")) as server:
        yield server


@pytest.fixture
def images(tmp_path):
    """An empty state directory."""
    return Images(Store(tmp_path / "state"))


@pytest.fixture
def other(tmp_path):
    """Another empty state directory: somebody else's machine."""
    return Images(Store(tmp_path / "other"))


@pytest.fixture
def docker_config(tmp_path, monkeypatch):
    """Docker's configuration directory, empty."""
    directory = tmp_path / "docker-config"
    directory.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(directory))
    return directory


@pytest.fixture
def transfer(tmp_path):
    """Makes a Transfer whose retries do not wait, with settings for one registry."""

    def make(host="", credentials=None, **settings):
        store = CredentialStore(tmp_path / "credentials" / "config.json")
        if credentials:
            store.put(host, credentials)
        return Transfer(Settings({host: RegistrySettings(**settings)}, ()), store, FAST)

    return make


@pytest.fixture
def skopeo(tmp_path):
    """Runs skopeo; what it prints."""
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))

    def run(*arguments):
        command = ["skopeo", "--policy", str(policy), *map(str, arguments)]
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "TMPDIR": str(tmp_path)}
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def token_server(certificate):
    """A token server whose tokens docker-registry trusts."""
    server = TokenServer(certificate)
    yield server
    server.close()

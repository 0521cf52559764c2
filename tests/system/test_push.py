"""Pushing to the real registry."""

import json
import subprocess
import tempfile
from pathlib import Path

import pytest

from fastdock._errors import RegistryError, SpecError
from fastdock.registry import push as push_module
from fastdock.registry.credentials import Credentials
from tests.system import make
from tests.system.servers import Proxy, Registry

pytestmark = pytest.mark.system


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_compression(registry, images, other, transfer, skopeo, tmp_path, compression):
    """The layer is compressed as asked for, always to the same bytes, and skopeo reads it."""
    name = f"{registry.host}/x:{compression}"
    make.image(images, name, {"a": b"1" * 100_000})
    make.image(other, name, {"a": b"1" * 100_000})
    first = images.push(name, compression=compression, transfer=transfer())
    (layer,) = json.loads(images.store.blobs.read(first.digest))["layers"]
    assert layer["mediaType"].endswith({"gzip": "+gzip", "zstd": "+zstd", "none": ".tar"}[compression])
    other.push(name, compression=compression, transfer=transfer())
    assert other.store.blobs.has(layer["digest"])
    target = tmp_path / "copied"
    skopeo("copy", "--src-tls-verify=false", f"docker://{name}", f"dir:{target}")
    assert (target / layer["digest"][7:]).exists()


def test_second_push_sends_nothing(registry, images, transfer):
    """What the registry has is not sent again."""
    name = f"{registry.host}/x:1"
    make.image(images, name)
    images.push(name, transfer=transfer())
    with Proxy(registry.port) as proxy:
        images.tag(name, f"{proxy.host}/x:2")
        images.push(f"{proxy.host}/x:2", transfer=transfer())
        assert [line.split()[0] for line in proxy.requests if "/blobs/" in line] == ["HEAD", "HEAD"]


def test_cross_repository_mount(registry, images, transfer):
    """A blob that another repository of the registry has is mounted from there."""
    name = f"{registry.host}/first:1"
    make.image(images, name, {"noise": make.noise(100_000)})
    images.push(name, transfer=transfer())
    images.tag(name, f"{registry.host}/second:1")
    steps = []
    images.push(f"{registry.host}/second:1", progress=steps.append, transfer=transfer())
    assert "Mounted from first" in [step.status for step in steps]


@pytest.mark.parametrize("size", [200_000, 6 << 20])
def test_cut_uploads_go_on(registry, images, transfer, monkeypatch, size):
    """An upload that breaks off is resumed (large blobs) or begun again (small ones)."""
    monkeypatch.setattr(push_module, "PIECE", 1 << 20)
    make.image(images, "x", {"noise": make.noise(size)})
    with Proxy(registry.port, cut_after=size // 3, cuts=2, cut_uploads=True) as proxy:
        images.tag("x", f"{proxy.host}/x:1")
        pushed = images.push(f"{proxy.host}/x:1", transfer=transfer())
        assert proxy.cuts == 0
    (layer,) = json.loads(images.store.blobs.read(pushed.digest))["layers"]
    assert (
        registry.blob(layer["digest"]).read_bytes()
        == Path(images.store.blobs.path(layer["digest"])).read_bytes()
    )


def test_token_server(tmp_path, certificate, images, other, transfer, token_server):
    """Bearer tokens for docker-registry from a token server: scopes as asked for, the password to it alone."""
    with Registry(tmp_path / "guarded", token=(f"{token_server.url}/token", certificate[0])) as guarded:
        name = f"{guarded.host}/a/b:1"
        make.image(images, name)
        login = transfer(guarded.host, Credentials("me", "secret"))
        pushed = images.push(name, transfer=login)
        assert other.pull(name, transfer=login).digest == pushed.digest
    scopes = [request["scope"] for request in token_server.requests]
    assert ["repository:a/b:pull,push"] in scopes
    assert ["repository:a/b:pull"] in scopes
    assert {request["user"] for request in token_server.requests} == {"me"}


def test_push_without_permission(tmp_path, certificate, images, transfer, token_server):
    """Without credentials the token server's refusal is what the user reads."""
    with Registry(tmp_path / "guarded", token=(f"{token_server.url}/token", certificate[0])) as guarded:
        make.image(images, f"{guarded.host}/x:1")
        with pytest.raises(RegistryError) as caught:
            images.push(f"{guarded.host}/x:1", transfer=transfer())
        assert "fastdock login" in caught.value.hint


def test_push_of_nothing(images, transfer):
    """A name by digest has no tag to push to."""
    with pytest.raises(SpecError):
        images.tag("x", "x@sha256:" + "0" * 64)


def test_referrers(registry, images, transfer):
    """docker-registry 2.8 knows no referrers call: the tag scheme is the fallback."""
    name = f"{registry.host}/x:1"
    make.image(images, name)
    digest = images.push(name, transfer=transfer()).digest
    assert images.referrers(name, transfer=transfer()) == []
    media_type = "application/vnd.oci.image.index.v1+json"
    entry = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 1,
             "artifactType": "application/x-signature"}  # fmt: skip
    from urllib.request import Request, urlopen

    url = f"http://{registry.host}/v2/x/manifests/{digest.replace(':', '-')}"
    entry["size"] = len(images.store.blobs.read(digest))
    body = json.dumps({"schemaVersion": 2, "mediaType": media_type, "manifests": [entry]}).encode()
    urlopen(Request(url, body, {"Content-Type": media_type}, method="PUT")).close()
    assert [one["artifactType"] for one in images.referrers(name, transfer=transfer())] == [
        "application/x-signature"
    ]


def test_podman_pulls_what_we_push(registry, images, transfer, tmp_path):
    """Another engine takes our image under our digest."""
    name = f"{registry.host}/x:1"
    made = make.image(images, name, changes=['CMD ["sh"]'])
    images.push(name, transfer=transfer())
    policy = tmp_path / "policy.json"
    policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    with tempfile.TemporaryDirectory(prefix="pod") as runroot:  # podman wants it shorter than 50 characters
        podman = [
            "podman",
            "--root",
            str(tmp_path / "podman"),
            "--runroot",
            runroot,
            "--storage-driver",
            "vfs",
        ]
        done = subprocess.run(
            [*podman, "pull", "-q", "--tls-verify=false", "--signature-policy", str(policy), name],
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == made.id[7:]

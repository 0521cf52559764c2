"""Pulling from the real registry."""

import io
import json
import os
import shutil
import subprocess
import sys

import pytest

from fastdock._errors import ImageError, ImageNotFound, RegistryError
from fastdock.registry.credentials import Credentials
from fastdock.registry.pull import ACCEPT
from tests.system import make
from tests.system.servers import Proxy

pytestmark = pytest.mark.system


def test_pull_what_was_pushed(registry, images, other, transfer):
    """The same digests, layers, configuration and name on both sides."""
    name = f"{registry.host}/a/b:1"
    made = make.image(images, name, changes=['CMD ["sh"]', "ENV A=b"])
    pushed = images.push(name, transfer=transfer())
    pulled = other.pull(name, transfer=transfer())
    assert pulled.digest == pushed.digest
    assert pulled.changed
    image = other.get(name)
    assert image.id == made.id
    assert image.config == {"Cmd": ["sh"], "Env": ["A=b"]}
    assert image.digests == [f"{registry.host}/a/b@{pushed.digest}"]
    assert make.tree(image) == make.tree(made)
    assert not other.check()
    again = other.pull(name, transfer=transfer())
    assert not again.changed


def test_pull_by_digest(registry, images, other, transfer):
    """By digest there is no tag; the image is found by that digest."""
    name = f"{registry.host}/x:1"
    made = make.image(images, name)
    digest = images.push(name, transfer=transfer()).digest
    pulled = other.pull(f"{registry.host}/x@{digest}", transfer=transfer())
    assert pulled.image.names == ()
    assert other.get(f"{registry.host}/x@{digest}").id == made.id


def test_second_image_fetches_what_is_new(registry, images, other, transfer):
    """Of ten layers, nine are shared: one is fetched."""
    first, second = (f"{registry.host}/x:{tag}" for tag in "12")
    base = make.layered(images, first, [5000] * 9)
    (upper := images.store.root + "-upper") and os.mkdir(upper)
    with open(upper + "/new", "w") as file:
        file.write("new")
    images.commit(upper, base.id, second)
    for name in (first, second):
        images.push(name, transfer=transfer())
    with Proxy(registry.port) as proxy:
        other.pull(f"{proxy.host}/x:1", transfer=transfer())
        assert len(proxy.gets("blobs")) == 10  # nine layers and a configuration
        proxy.requests.clear()
        other.pull(f"{proxy.host}/x:2", transfer=transfer())
        assert len(proxy.gets("blobs")) == 2


def test_cut_connections_are_resumed(registry, images, other, transfer):
    """A registry that drops connections half-way: the rest is asked for, not the whole again."""
    size = 4 << 20
    name = f"{registry.host}/x:1"
    made = make.image(images, name, {"noise": make.noise(size)})
    images.push(name, transfer=transfer())
    with Proxy(registry.port, cut_after=size // 4, cuts=3) as proxy:
        pulled = other.pull(f"{proxy.host}/x:1", transfer=transfer())
        assert proxy.cuts == 0
        assert proxy.received < size * 1.7
    assert pulled.image.id == made.id
    assert make.tree(other.get(made.id)) == make.tree(made)


def test_a_registry_that_always_cuts(registry, images, other, transfer):
    """It is given up with a clear error; what arrived is there for the next pull."""
    size = 2 << 20
    name = f"{registry.host}/x:1"
    make.image(images, name, {"noise": make.noise(size)})
    images.push(name, transfer=transfer())
    with (
        Proxy(registry.port, cut_after=20000, cuts=1000) as proxy,
        pytest.raises(RegistryError, match="breaking off"),
    ):
        other.pull(f"{proxy.host}/x:1", transfer=transfer())
    assert len(os.listdir(other.store.blobs.ingest)) == 1
    other.pull(name, transfer=transfer())
    assert not other.check()


def test_partial_files_are_resumed(registry, images, other, transfer):
    """What a killed process left of a blob is not fetched again."""
    size = 4 << 20
    name = f"{registry.host}/x:1"
    make.image(images, name, {"noise": make.noise(size)})
    digest = _layer(images, images.push(name, transfer=transfer()).digest)
    data = registry.blob(digest).read_bytes()
    with open(other.store.blobs.partial_path(digest), "wb") as file:
        file.write(data[: 3 << 20])
    with Proxy(registry.port) as proxy:
        other.pull(f"{proxy.host}/x:1", transfer=transfer())
        assert proxy.received < 1.2 * (1 << 20)
    assert other.store.blobs.size(digest) == len(data)


@pytest.mark.parametrize("left", ["garbage", "too long"])
def test_damaged_partial_files_are_not_trusted(registry, images, other, transfer, left):
    """Bytes of a crash that are wrong cost one more download, not the image."""
    name = f"{registry.host}/x:1"
    made = make.image(images, name, {"noise": make.noise(300_000)})
    digest = _layer(images, images.push(name, transfer=transfer()).digest)
    data = registry.blob(digest).read_bytes()
    with open(other.store.blobs.partial_path(digest), "wb") as file:
        file.write(b"x" * 100_000 if left == "garbage" else data + b"more")
    assert other.pull(name, transfer=transfer()).image.id == made.id


def _layer(images, manifest):
    """The digest of the only layer of a manifest."""
    (layer,) = json.loads(images.store.blobs.read(manifest))["layers"]
    return layer["digest"]


@pytest.mark.parametrize("damage", ["bit", "short", "long", "other"])
def test_damaged_layers_are_refused(registry, images, other, transfer, damage):
    """A blob that is not what its digest says is an error, and nothing of it stays."""
    name = f"{registry.host}/x:1"
    make.image(images, name, {"noise": make.noise(50_000)})
    file = registry.blob(_layer(images, images.push(name, transfer=transfer()).digest))
    data = file.read_bytes()
    file.write_bytes(
        {
            "bit": data[:20_000] + bytes([data[20_000] ^ 1]) + data[20_001:],
            "short": data[:-100],
            "long": data + b"x",
            "other": make.tar({"evil": b"evil"}),
        }[damage]
    )
    with pytest.raises((ImageError, RegistryError)):
        other.pull(name, transfer=transfer())
    assert other.list() == []
    assert os.listdir(other.store.layers.directory) == []
    assert os.listdir(other.store.layers.staging) == []


def test_unknown_image(registry, images, transfer):
    """The error names the image; the registry's own words are in it."""
    with pytest.raises(ImageNotFound, match="manifest unknown"):
        images.pull(f"{registry.host}/none:1", transfer=transfer())


def test_nobody_answers(images, transfer):
    """No registry at that port."""
    with pytest.raises(RegistryError, match="localhost:1"):
        images.pull("localhost:1/x", transfer=transfer())


def test_tls_and_password(tls_registry, certificate, images, other, transfer):
    """Basic authentication over TLS with a CA of our own."""
    name = f"{tls_registry.host}/x:1"
    make.image(images, name)
    login = transfer(tls_registry.host, Credentials("me", "secret"), ca=str(certificate[0]))
    images.push(name, transfer=login)
    assert other.pull(name, transfer=login).image.id == images.get(name).id


def test_tls_without_its_ca(tls_registry, images, transfer):
    """A certificate that nobody vouches for is refused, on loopback too, and plain HTTP is not tried."""
    with pytest.raises(RegistryError, match="cannot trust"):
        images.pull(f"{tls_registry.host}/x:1", transfer=transfer())


def test_wrong_password(tls_registry, certificate, images, transfer):
    """A refusal says how to log in."""
    for credentials in (None, Credentials("me", "wrong")):
        attempt = transfer(tls_registry.host, credentials, ca=str(certificate[0]))
        with pytest.raises(RegistryError) as caught:
            images.pull(f"{tls_registry.host}/x:1", transfer=attempt)
        assert "fastdock login" in caught.value.hint


def test_login_and_logout(tls_registry, certificate, images, docker_config, transfer):
    """login verifies before it keeps; the pull afterwards uses what it kept; logout forgets."""
    host = tls_registry.host
    make.image(images, f"{host}/x:1")
    anonymous = transfer(host, ca=str(certificate[0]))
    with pytest.raises(RegistryError):
        images.login("me", "wrong", host, transfer=anonymous)
    with pytest.raises(RegistryError):
        images.push(f"{host}/x:1", transfer=anonymous)
    images.login("me", "secret", host, transfer=anonymous)
    images.push(f"{host}/x:1", transfer=anonymous)
    assert images.logout(host, transfer=anonymous)
    with pytest.raises(RegistryError):
        images.pull(f"{host}/x:1", transfer=anonymous)


def test_mirror_first(registry, tmp_path, images, other, transfer):
    """A mirror is asked before the registry; where it does not know the image, the registry is."""
    from tests.system.servers import Registry

    name = f"{registry.host}/x:1"
    make.image(images, name)
    images.push(name, transfer=transfer())
    with Registry(tmp_path / "mirror") as mirror, Proxy(mirror.port) as proxy:
        settings = transfer(registry.host, mirrors=(f"http://{proxy.host}",))
        other.pull(name, transfer=settings)
        assert proxy.gets("manifests")
        images.tag(name, f"{mirror.host}/x:1")
        images.push(f"{mirror.host}/x:1", transfer=transfer())
        other.remove(name)
        with Proxy(registry.port) as origin:
            moved = name.replace(registry.host, origin.host)
            other.pull(moved, transfer=transfer(origin.host, mirrors=(f"http://{proxy.host}",)))
            assert origin.requests == []


def test_all_tags(registry, images, transfer):
    """The registry's list of tags."""
    made = make.image(images, f"{registry.host}/x:1")
    for tag in ("2", "b.c"):
        made.tag(f"{registry.host}/x:{tag}")
        images.push(f"{registry.host}/x:{tag}", transfer=transfer())
    images.push(f"{registry.host}/x:1", transfer=transfer())
    assert sorted(images.remote_tags(f"{registry.host}/x", transfer=transfer())) == ["1", "2", "b.c"]


def test_platforms(registry, images, other, transfer, skopeo, tmp_path):
    """An index: this machine's image, another by --platform, a clear error for one that is not there."""
    entries = []
    for platform in ("linux/amd64", "linux/arm64/v8"):
        name = f"{registry.host}/multi:{platform.replace('/', '-')}"
        make.image(images, name, {"platform": platform.encode()}, platform=platform)
        pushed = images.push(name, transfer=transfer())
        system, architecture, *variant = platform.split("/")
        described = {
            "os": system,
            "architecture": architecture,
            **({"variant": variant[0]} if variant else {}),
        }
        media_type = "application/vnd.oci.image.manifest.v1+json"
        entries.append(
            {"mediaType": media_type, "digest": pushed.digest, "size": pushed.size, "platform": described}
        )
    _put_index(registry, "multi", "latest", entries)
    name = f"{registry.host}/multi"
    native = other.pull(name, transfer=transfer()).image
    assert make.tree(other.get(native.id))["platform"].startswith(b"linux/")
    foreign = other.pull(name, platform="arm64", transfer=transfer()).image
    assert foreign.architecture == "arm64"
    assert make.tree(other.get(name)) == {"platform": b"linux/arm64/v8"}
    with pytest.raises(ImageNotFound) as caught:
        other.pull(name, platform="linux/s390x", transfer=transfer())
    assert "linux/amd64, linux/arm64/v8" in caught.value.hint


def _put_index(registry, repository, tag, entries):
    from urllib.request import Request, urlopen

    media_type = "application/vnd.oci.image.index.v1+json"
    body = json.dumps({"schemaVersion": 2, "mediaType": media_type, "manifests": entries}).encode()
    url = f"http://{registry.host}/v2/{repository}/manifests/{tag}"
    urlopen(Request(url, body, {"Content-Type": media_type}, method="PUT")).close()


def test_another_platform_than_was_asked_for(registry, images, other, transfer):
    """An image without an index is for one platform, which its configuration says."""
    name = f"{registry.host}/one:1"
    make.image(images, name)
    images.push(name, transfer=transfer())
    with pytest.raises(ImageNotFound, match="does not exist for linux/s390x"):
        other.pull(name, platform="linux/s390x", transfer=transfer())
    assert other.list() == []
    ours = images.get(name).record
    other.pull(name, platform=f"linux/{ours.architecture}", transfer=transfer())


def test_skopeo_pushes_and_pulls(registry, images, other, transfer, skopeo, tmp_path):
    """Images pushed by skopeo come here with skopeo's digest, and go back with the same."""
    make.image(images, "x:1", {"a": b"1", "noise": make.noise(100_000)})
    images.save(["x:1"], tmp_path / "x.tar")
    for kind in ("v2s2", "oci"):
        target = f"docker://{registry.host}/{kind}:1"
        skopeo(
            "copy",
            "--dest-tls-verify=false",
            "--format",
            kind,
            f"docker-archive:{tmp_path / 'x.tar'}",
            target,
        )
        digest = json.loads(skopeo("inspect", "--tls-verify=false", target))["Digest"]
        assert other.pull(f"{registry.host}/{kind}:1", transfer=transfer()).digest == digest
        other.tag(f"{registry.host}/{kind}:1", f"{registry.host}/back-{kind}:1")
        assert other.push(f"{registry.host}/back-{kind}:1", transfer=transfer()).digest == digest
        back = json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{registry.host}/back-{kind}:1"))
        assert back["Digest"] == digest


def test_zstd_from_skopeo(registry, images, other, transfer, skopeo, tmp_path):
    """zstd layers, as skopeo compresses them."""
    made = make.image(images, "x:1", {"a": b"1" * 5000})
    images.save(["x:1"], tmp_path / "x.tar", format="oci-archive")
    skopeo("copy", "--dest-tls-verify=false", "--dest-compress-format", "zstd",
           f"oci-archive:{tmp_path / 'x.tar'}", f"docker://{registry.host}/z:1")  # fmt: skip
    pulled = other.pull(f"{registry.host}/z:1", transfer=transfer()).image
    assert pulled.id == made.id
    assert "+zstd" in other.store.blobs.read(pulled.manifest).decode()


def test_import_of_export(images):
    """A plain tar, gzip and zstd of the same files are the same layer."""
    data = make.tar({"a": b"1" * 1000})
    packed = subprocess.run(["zstd", "-q", "-c"], input=data, capture_output=True, check=True).stdout
    gzipped = make.tar({"a": b"1" * 1000}, "gz")
    layers = {images.import_tar(io.BytesIO(one)).record.diff_ids[0] for one in (data, packed, gzipped)}
    assert len(layers) == 1


def test_127_layers(registry, images, tmp_path, transfer):
    """As many as Docker takes, from the registry to a running container; more than overlayfs takes are refused."""
    from fastdock import Engine

    with Engine(root=tmp_path / "engine") as engine:
        engine.images.bootstrap("busybox", "base:1")
        names = [f"{registry.host}/many:{count}" for count in (127, 501)]
        made = engine.images.get("base:1")
        upper = tmp_path / "upper"
        for number in range(1, 127):
            upper.mkdir()
            upper.chmod(0o755)
            (upper / f"layer{number}").write_text(str(number))
            made = engine.images.commit(upper, made.id, names[0])
            shutil.rmtree(upper)
        assert len(made.record.diff_ids) == 127
        engine.images.push(names[0], transfer=transfer())
        _push_with_layers(names[0], names[1], 501)
    with Engine(root=tmp_path / "puller") as engine:
        engine.images.pull(names[0], transfer=transfer())
        script = "ls /layer* | wc -l; cat /layer1 /layer126"
        done = engine.run(names[0], ["/bin/sh", "-c", script], capture_output=True, text=True)
        assert done.stdout == "126\n1126"
        with pytest.raises(ImageError, match="501 layers"):
            engine.images.pull(names[1], transfer=transfer())
        assert len(engine.images.list()) == 1


def _push_with_layers(source, name, count):
    """Pushes an image whose manifest lists one layer of another again and again."""
    import urllib.request

    host, _, rest = name.partition("/")
    repository, _, tag = rest.partition(":")
    with urllib.request.urlopen(
        urllib.request.Request(f"http://{host}/v2/{repository}/manifests/127", headers={"Accept": ACCEPT})
    ) as answer:
        manifest = json.load(answer)
    manifest["layers"] = manifest["layers"][:1] * count
    request = urllib.request.Request(
        f"http://{host}/v2/{repository}/manifests/{tag}",
        data=json.dumps(manifest).encode(),
        headers={"Content-Type": manifest["mediaType"]},
        method="PUT",
    )
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 201


@pytest.mark.parametrize("kind", ["one gzip", "ten gzip", "zstd with a large window"])
def test_peak_memory(registry, images, tmp_path, kind):
    """A pull takes less than 150 MB, however much it pulls."""
    name, archive, upper = f"{registry.host}/memory:1", tmp_path / "archive.tar", tmp_path / "upper"
    layers = 10 if kind == "ten gzip" else 1
    made = None
    for number in range(layers):
        upper.mkdir(mode=0o755)
        with open(upper / f"data{number}", "wb") as file:
            for _ in range(400 // layers):
                file.write(os.urandom(1 << 19) * 2)
        if made is None:
            pack = "cat" if kind != "zstd with a large window" else "zstd -1 --long=26"
            subprocess.run(f"tar -C {upper} -c . | {pack} > {archive}", shell=True, check=True)
            made = images.import_tar(archive, name)
        else:
            made = images.commit(upper, made.id, name)
        shutil.rmtree(upper)
    images.push(name)
    program = (
        "import sys; from fastdock.cli import main\n"
        "try: main(sys.argv[1:])\n"  # (ru_maxrss would be this process's: it survives execve)
        "finally: print(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0])"
    )
    command = [sys.executable, "-c", program, "--root", str(tmp_path / "other"), "pull", "-q", name]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[-1]) * 1024 < 150_000_000

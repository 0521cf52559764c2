"""save and load: docker-archive and OCI archives, hostile ones too."""

import gzip
import io
import json
import os
import subprocess
import tarfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_store import images

from fastdock._errors import ImageError, SpecError
from fastdock.image import Images
from fastdock.store import Store
from fastdock.store.blobs import digest_of
from tests.system import make

__all__ = ["images"]  # a fixture


@pytest.fixture
def other(tmp_path):
    return Images(Store(tmp_path / "other"))


def saved(images, *references, **options):
    output = io.BytesIO()
    images.save(references, output, **options)
    return output.getvalue()


def members(data):
    """name -> content"""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}


def packed(files):
    return io.BytesIO(make.tar(files))


@pytest.mark.parametrize("format", ["docker-archive", "oci-archive"])
@pytest.mark.parametrize("compression", [None, "gzip", "zstd", "none"])
def test_there_and_back(images, other, format, compression):
    """The same ID, name, layers and configuration, whatever the compression."""
    made = make.layered(images, "me/app:1", [2000, 3000])
    ((image, names),) = other.load(
        io.BytesIO(saved(images, "me/app:1", format=format, compression=compression))
    )
    assert names == ["me/app:1"]
    assert image.id == made.id
    assert make.tree(image) == make.tree(made)
    assert other.check() == []


def test_reproducible(images, other):
    """The same images give the same bytes; so does what was loaded from them."""
    make.image(images, "x:1")
    first = saved(images, "x:1")
    assert saved(images, "x:1") == first
    other.load(io.BytesIO(first))
    assert saved(other, "x:1") == first


@pytest.mark.parametrize(
    "pack",
    [gzip.compress, lambda data: subprocess.run(["zstd", "-qc"], input=data, capture_output=True).stdout],
)
@pytest.mark.parametrize("seekable", [True, False])
def test_compressed_archives(images, other, tmp_path, pack, seekable):
    """docker save | gzip, and zstd; from a file and from a pipe."""
    made = make.image(images, "x:1")
    data = pack(saved(images, "x:1"))
    if seekable:
        (tmp_path / "x").write_bytes(data)
        ((image, _),) = other.load(tmp_path / "x")
    else:
        reader, writer = os.pipe()
        with os.fdopen(reader, "rb") as source:
            with os.fdopen(writer, "wb") as sink:
                sink.write(data)
            ((image, _),) = other.load(source)
    assert image.id == made.id


def test_several_images_and_names(images, other):
    """A repository stands for all its tags; images by ID come without a name."""
    first, second = make.image(images, "x:1", {"a": b"1"}), make.image(images, "y:1", {"a": b"2"})
    images.tag("x:1", "x:2")
    loaded = other.load(io.BytesIO(saved(images, "x", second.id)))
    assert {image.id: sorted(names) for image, names in loaded} == {first.id: ["x:1", "x:2"], second.id: []}


def test_layers_are_stored_once(images):
    """What images share is in the archive once."""
    make.layered(images, "x:1", [2000])
    make.layered(images, "x:2", [2000, 10])
    names = list(members(saved(images, "x:1", "x:2")))
    assert len(names) == len(set(names))


def test_unknown_format_and_image(images, tmp_path):
    """Nothing is written."""
    with pytest.raises(SpecError):
        images.save(["x"], tmp_path / "out", format="zip")
    with pytest.raises(Exception, match="no such image"):
        images.save(["x"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_legacy_docker_archive(images, other):
    """As docker save wrote until version 24: a directory for each layer, links to repeated ones."""
    layer = make.tar({"a": b"1"})
    diff_id = digest_of(layer)
    config = json.dumps(
        {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff_id] * 2}}
    )
    manifest = [{"Config": "cfg.json", "RepoTags": ["old/app:1"], "Layers": ["l1/layer.tar", "l2/layer.tar"]}]
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        for name, data in (
            ("l1/layer.tar", layer),
            ("cfg.json", config.encode()),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo("l2/layer.tar")
        link.type, link.linkname = tarfile.SYMTYPE, "../l1/layer.tar"
        archive.addfile(link)
    ((image, names),) = other.load(io.BytesIO(output.getvalue()))
    assert names == ["old/app:1"]
    assert image.record.diff_ids == [diff_id] * 2


# -- hostile archives --------------------------------------------------------------------------------------


def test_a_layer_that_is_not_its_digest(images, other):
    """Every blob is verified."""
    make.image(images, "x:1", {"a": b"1"})
    files = members(saved(images, "x:1"))
    (layer,) = json.loads(files["manifest.json"])[0]["Layers"]
    files[layer] = make.tar({"a": b"2"})
    with pytest.raises(ImageError):
        other.load(packed(files))
    assert_nothing(other)


@pytest.mark.parametrize("name", ["index.json", "manifest.json", "config"])
def test_changed_documents(images, other, name):
    """A configuration or manifest that was altered is not taken under its old digest."""
    make.image(images, "x:1")
    files = members(saved(images, "x:1"))
    path = json.loads(files["manifest.json"])[0]["Config"] if name == "config" else name
    files[path] = (
        files[path].replace(b"amd64", b"arm64")
        if name == "config"
        else b'{"schemaVersion":2,"manifests":[{}]}'
    )
    if name == "manifest.json":
        del files["index.json"]
    with pytest.raises(ImageError):
        other.load(packed(files))
    assert_nothing(other)


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"a": b"1"},
        {"manifest.json": b"["},
        {"manifest.json": b"[{}]"},
        {"manifest.json": b"[1]"},
        {"manifest.json": b'{"a": 1}'},
        {"manifest.json": b'[{"Config": "/etc/passwd", "Layers": []}]'},
        {"manifest.json": b'[{"Config": "../../../etc/passwd", "Layers": []}]'},
        {"manifest.json": b'[{"Config": 7, "Layers": "x"}]'},
        {"index.json": b"{}"},
        {
            "index.json": b'{"schemaVersion":2,"manifests":[{"mediaType":"x","digest":"sha256:../x","size":1}]}'
        },
        {"index.json": b'{"schemaVersion":2,"layers":[],"config":{},"manifests":[]}'},
    ],
)
def test_malformed(other, files):
    """Names that lead outside the archive are names that the archive lacks."""
    with pytest.raises(ImageError):
        other.load(packed(files))
    assert_nothing(other)


@pytest.mark.parametrize(
    "data", [b"", b"x" * 2000, gzip.compress(b"x" * 2000), gzip.compress(b"x" * 2000)[:30]]
)
def test_no_archive(other, data):
    """Not a tar at all."""
    with pytest.raises(ImageError):
        other.load(io.BytesIO(data))
    assert_nothing(other)


def test_a_header_of_a_gigabyte(other):
    """tarfile would read an extended header into memory whole."""
    member = tarfile.TarInfo("x")
    member.size, member.type = 1 << 30, tarfile.XHDTYPE
    with pytest.raises(ImageError, match="megabyte"):
        other.load(io.BytesIO(member.tobuf() + b"\0" * 10_000))


def test_a_truncated_archive(images, other):
    """An archive that ends early is an error, wherever it does."""
    make.image(images, "x:1", {"noise": make.noise(5000)})
    data = saved(images, "x:1")
    for size in range(0, len(data) - 10240, 1024):
        with pytest.raises(ImageError):
            other.load(io.BytesIO(data[:size]))
    assert_nothing(other)


def test_a_bad_name_in_an_archive(images, other):
    """The name is foreign too."""
    make.image(images, "x:1")
    files = members(saved(images, "x:1"))
    entry = json.loads(files["manifest.json"])
    entry[0]["RepoTags"] = ["NOT A NAME"]
    files["manifest.json"] = json.dumps(entry).encode()
    del files["index.json"]
    with pytest.raises(ImageError, match="names its image badly"):
        other.load(packed(files))
    assert other.list() == []


def assert_nothing(images):
    assert images.list() == []
    assert os.listdir(images.store.layers.staging) == []
    assert os.listdir(images.store.blobs.ingest) == []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.floats(0, 1), value=st.integers(0, 255), count=st.integers(1, 40))
def test_damaged_anywhere(images, other, position, value, count):
    """Whatever bytes are overwritten: an error, or the image that was saved."""
    if "x:1" not in images:
        make.image(images, "x:1")
    data = bytearray(saved(images, "x:1"))
    start = int(position * len(data))
    data[start : start + count] = bytes([value]) * len(data[start : start + count])
    try:
        loaded = other.load(io.BytesIO(data))
    except ImageError:
        return
    for image, _ in loaded:
        assert image.id == images.get("x:1").id

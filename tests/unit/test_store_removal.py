"""The store of images: removal, holds and leases, and what somebody left half-made."""

import gzip
import io
import os
from pathlib import Path

import pytest
from image_store import files_of, images

from fastdock._errors import Conflict, ImageNotFound
from fastdock.store.blobs import digest_of
from fastdock.store.manifest import OCI_MANIFEST
from tests.system import make

__all__ = ["images"]  # a fixture


def test_removal_gives_all_back(images):
    """The last name takes the image, its layer and its blobs along."""
    make.image(images, "x:1")
    images.tag("x:1", "y:2")
    assert images.remove("x:1") == [("Untagged", "x:1")]
    assert [verb for verb, _ in images.remove("y:2")] == ["Untagged", "Deleted", "Deleted"]
    assert files_of(images) == ([], [])
    assert images.check() == []


def test_shared_layers_stay(images, tmp_path):
    """What another image uses is kept."""
    base = make.layered(images, "base", [100])
    top = make.layered(images, "top", [100, 200])
    assert base.record.layer_paths[0] == top.record.layer_paths[0]
    images.remove("top")
    assert make.tree(images.get("base")) == make.tree(base)
    assert images.check() == []


def test_removal_of_a_name_by_digest(images, tmp_path):
    """The digest is untagged, the image stays as long as it has a name."""
    made = make.image(images, "x:1")
    images.store.record_push(made.id, made.record.manifest, "docker.io/library/x")
    reference = f"x@{made.record.manifest}"
    assert images.get(reference).id == made.id
    assert images.remove(reference) == [("Untagged", reference)]
    assert images.get("x:1").digests == []


def test_the_same_tar_in_two_blobs(images, tmp_path):
    """An image whose own blob was never fetched keeps the one that it was unpacked from."""
    data = make.tar({"a": b"1" * 1000})
    packed = gzip.compress(data, mtime=0)
    images.import_tar(io.BytesIO(data), "plain")
    second = images.import_tar(io.BytesIO(packed), "packed")
    images.store.blobs.remove(digest_of(packed))  # as when its layer was here before it was pulled
    config = images.store.blobs.read(second.id)
    manifest = images.store.blobs.read(second.record.manifest)
    with images.store.writing():
        images.store.add_image(config=config, manifest=manifest, media_type=OCI_MANIFEST, name=None)
    images.remove("plain")
    assert images.check() == []
    images.save(["packed"], tmp_path / "x.tar")


def test_removal_by_id_with_several_repositories(images):
    """Docker refuses without force."""
    made = make.image(images, "x:1")
    images.tag("x:1", "y:1")
    with pytest.raises(Conflict):
        images.remove(made.id)
    assert ("Untagged", "y:1") in images.remove(made.id, force=True)
    assert images.list() == []


def test_held_images_stay(images):
    """A container keeps its image: refused, or with force kept until the container is gone."""
    made = make.image(images, "x:1")
    images.store.hold("container:1", made.id)
    with pytest.raises(Conflict, match="container:1"):
        images.remove("x:1")
    images.remove("x:1", force=True)
    assert images.list() == []
    assert os.path.exists(made.record.layer_paths[0])
    with pytest.raises(ImageNotFound):
        images.store.hold("container:2", made.id)
    images.store.release("container:1")
    assert files_of(images) == ([], [])


def test_leased_images_stay(images):
    """The same for as long as a descriptor is open, in whatever process."""
    made = make.image(images, "x:1")
    lease = images.store.lease(made.id)
    with pytest.raises(Conflict, match="running container"):
        images.remove("x:1")
    assert images.prune(all=True).removed == []
    os.close(lease)
    images.remove("x:1")
    with pytest.raises(ImageNotFound):
        images.store.lease(made.id)
    assert files_of(images) == ([], [])


def test_nothing_is_swept_while_somebody_writes(images):
    """A removal during a pull leaves the files to the last writer."""
    make.image(images, "x:1")
    with images.store.writing():
        images.remove("x:1")
        assert files_of(images) != ([], [])
    assert files_of(images) == ([], [])


def test_leftovers_of_the_dead_are_cleared(images):
    """The next writer removes what a killed one left half-made; unfinished downloads wait for a week."""
    store = images.store
    os.mkdir(os.path.join(store.layers.staging, "layer-dead"))
    for name in ("write-dead", "0" * 64, "1" * 64):
        Path(store.blobs.ingest, name).touch()
    os.utime(os.path.join(store.blobs.ingest, "1" * 64), (0, 0))
    make.image(images, "x:1")
    assert os.listdir(store.layers.staging) == []
    assert os.listdir(store.blobs.ingest) == ["0" * 64]

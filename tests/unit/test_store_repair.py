"""The store of images: damage is found and repaired; what a reboot may have cut is not trusted."""

import os
from pathlib import Path

import pytest
from image_store import files_of, images

from fastdock.store import layers
from tests.system import make

__all__ = ["images"]  # a fixture


def damage_blob(images, image):
    path = images.store.blobs.path(images.store.blob_of_layer(image.record.diff_ids[0]))
    with open(path, "r+b") as file:
        file.write(b"damage")


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: os.unlink(os.path.join(path, "etc/name")),
        lambda path: os.chmod(os.path.join(path, "etc/name"), 0o777),
        lambda path: Path(path, "more").touch(),
        lambda path: os.truncate(os.path.join(path, "etc/name"), 1),
        lambda path: layers.remove_tree(path),
        lambda path: os.setxattr(os.path.join(path, "etc/name"), "user.x", b"y"),
    ],
)
def test_damaged_layers_are_found_and_repaired(images, damage):
    """A file missing, changed or too much; the layer is unpacked again from its blob."""
    made = make.image(images, "x:1")
    before = make.tree(made)
    assert images.check() == []
    damage(made.record.layer_paths[0])
    (finding,) = images.check()
    assert finding.kind == "layer"
    assert not finding.repaired
    assert [finding.repaired for finding in images.check(repair=True)] == [True]
    assert images.check() == []
    assert make.tree(made) == before


def test_whiteouts_are_no_damage(images, tmp_path):
    """An archive says no time of them."""
    make.image(images, "x:1")
    upper = tmp_path / "upper"
    upper.mkdir()
    os.mknod(upper / "gone", 0o20600, 0)
    images.commit(upper, "x:1", "x:2")
    assert images.check() == []


def test_damaged_blobs_are_found(images):
    """A blob that is not what its name says is removed; what depends on it is named."""
    made = make.image(images, "x:1")
    damage_blob(images, made)
    assert {finding.kind for finding in images.check()} == {"blob"}
    images.check(repair=True)
    assert "image" in {finding.kind for finding in images.check()}
    make.image(images, "x:1", {"etc/": b"", "etc/name": b"x:1"})
    images.prune()
    assert images.check() == []


def test_strays_are_found_and_removed(images):
    """Files that the database does not know."""
    make.image(images, "x:1")
    before = files_of(images)
    os.mkdir(os.path.join(images.store.layers.directory, "f" * 64))
    images.store.blobs.write(b"stray")
    assert {finding.kind for finding in images.check()} == {"leftover"}
    assert all(finding.repaired for finding in images.check(repair=True))
    assert files_of(images) == before


def test_a_layer_that_a_reboot_may_have_cut_is_unpacked_again(images, monkeypatch):
    """Layers are not fsynced: after a reboot, one that was not known to be on the disk is not trusted."""
    made = make.image(images, "x:1")
    before = make.tree(made)
    os.unlink(os.path.join(made.record.layer_paths[0], "etc/name"))  # as a power cut would
    monkeypatch.setattr(layers, "_boot_id", "another boot")
    assert make.tree(images.get("x:1")) == before


def test_what_is_settled_is_trusted_after_a_reboot(images, monkeypatch):
    """The next writer syncs what earlier ones wrote."""
    made = make.image(images, "x:1")
    images.store.layers.settle()
    monkeypatch.setattr(layers, "_boot_id", "another boot")
    inode = os.stat(made.record.layer_paths[0]).st_ino
    assert os.stat(images.get("x:1").record.layer_paths[0]).st_ino == inode

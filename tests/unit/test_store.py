"""The store of images: found by their names, imported and committed."""

import io
import os
from pathlib import Path

import pytest
from image_store import files_of, images

from fastdock._errors import ImageError, ImageNotFound, SpecError
from fastdock.image import Images
from fastdock.store import Store
from tests.system import make

__all__ = ["images"]  # a fixture


def test_found_by_every_name(images):
    """Name, full name, ID, the ID's hexadecimal digits, its beginning."""
    made = make.image(images, "me/app:1")
    for reference in ("me/app:1", "docker.io/me/app:1", made.id, made.id[7:], made.short_id, made.id[:20]):
        assert images.get(reference).id == made.id
    assert "me/app:1" in images
    assert "me/app" not in images


def test_not_found(images):
    """The hint says how to get it."""
    with pytest.raises(ImageNotFound) as caught:
        images.get("nothing")
    assert caught.value.hint == "fastdock pull nothing"
    with pytest.raises(SpecError):
        images.get("No Name")


def test_ambiguous_beginning(images):
    """Two images whose IDs begin alike, as two of 257 must: more digits are wanted."""
    first = {}
    for number in range(257):
        made = make.image(images, f"x:{number}")
        digits = made.id.removeprefix("sha256:")[:2]
        other = first.setdefault(digits, made.id)
        if other != made.id:
            break
    with pytest.raises(SpecError, match="more than one"):
        images.get(digits)
    assert images.get(other).id == other


def test_record(images):
    """What the engine gets."""
    make.image(images, "x:1", {"a": b"1"}, changes=["ENV A=b", 'CMD ["sh"]'], platform="linux/arm64")
    record = images.store.get("x:1")
    assert record.config == {"Env": ["A=b"], "Cmd": ["sh"]}
    assert record.architecture == "arm64"
    assert record.names == ("docker.io/library/x:1",)
    (path,) = record.layer_paths
    assert Path(path, "a").read_text() == "1"


def test_a_tag_moves(images):
    """The newer image takes the name; the older one dangles and is pruned."""
    first = make.image(images, "x:1", {"a": b"1"})
    second = make.image(images, "x:1", {"a": b"2"})
    assert images.get("x:1").id == second.id
    assert images.get(first.id).tags == []
    pruned = images.prune()
    assert ("Deleted", first.id) in pruned.removed
    assert pruned.space > 0
    assert [image.id for image in images.list()] == [second.id]


# -- import and commit -------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"garbage" * 100, make.tar({"a": b"1" * 5000})[:3000]])
def test_what_cannot_be_imported(images, data):
    """No tar, or half of one: an error, and nothing left behind."""
    with pytest.raises(ImageError):
        images.import_tar(io.BytesIO(data), "x")
    assert images.list() == []
    assert os.listdir(images.store.layers.staging) == []
    assert os.listdir(images.store.blobs.ingest) == []
    assert files_of(images) == ([], [])


def test_an_import_that_names_a_file_outside(images, tmp_path):
    """A tar cannot write outside its layer."""
    with pytest.raises(ImageError):
        images.import_tar(io.BytesIO(make.tar({"../../../escaped": b"x"})), "x")
    assert not list(tmp_path.rglob("escaped"))


def test_commit(images, tmp_path):
    """The parent's layers and one more; its configuration with the changes on top; its history goes on."""
    parent = make.image(images, "x:1", changes=["ENV A=1", 'CMD ["sh"]'])
    upper = tmp_path / "upper"
    upper.mkdir(mode=0o755)
    (upper / "new").write_text("new")
    made = images.commit(
        upper, "x:1", "y:1", changes=["ENV B=2"], author="me", message="why", created_by="sh -c x"
    )
    assert made.record.layer_paths[0] == parent.record.layer_paths[0]
    assert made.config == {"Env": ["A=1", "B=2"], "Cmd": ["sh"]}
    assert made.inspect()["Author"] == "me"
    newest, oldest = made.history()
    assert (newest.created_by, newest.comment, newest.tags) == ("sh -c x", "why", ("y:1",))
    assert oldest.id == "<missing>"
    assert make.tree(made) == {**make.tree(parent), "new": b"new"}
    images.remove("x:1")
    assert images.check() == []


def test_commit_of_another_owner(images, tmp_path):
    """Ids of the container's user namespace are what the layer has."""
    if os.geteuid() != 0:
        pytest.skip("needs root to give files away")
    make.image(images, "x:1")
    upper = tmp_path / "upper"
    upper.mkdir(mode=0o755)
    os.chown(upper, 100_000, 100_000)
    (upper / "file").touch()
    os.chown(upper / "file", 100_033, 100_044)
    made = images.commit(upper, "x:1", uid_offset=100_000, gid_offset=100_000)
    status = os.stat(os.path.join(made.record.layer_paths[-1], "file"))
    assert (status.st_uid, status.st_gid) == (33, 44)


def test_reproducible_import(images, tmp_path, monkeypatch):
    """With SOURCE_DATE_EPOCH the same tar is the same image."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    other = Images(Store(tmp_path / "other"))
    assert make.image(images, "x", {"a": b"1"}).id == make.image(other, "x", {"a": b"1"}).id

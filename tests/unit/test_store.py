"""The store: names, references, removal, holds, repair, migrations, permissions."""

import gzip
import io
import os
import sqlite3
import stat
import threading
from pathlib import Path

import pytest

from fastdock._errors import Conflict, FastdockError, ImageError, ImageNotFound, SpecError
from fastdock.image import Images
from fastdock.store import Store, database, layers
from fastdock.store.blobs import digest_of
from fastdock.store.database import MIGRATIONS
from fastdock.store.locks import FileLock
from fastdock.store.manifest import OCI_MANIFEST
from tests.system import make


@pytest.fixture
def images(tmp_path):
    return Images(Store(tmp_path / "state"))


def files_of(images):
    """What is in layers/ and blobs/."""
    return sorted(os.listdir(images.store.layers.directory)), sorted(images.store.blobs.digests())


# -- finding -----------------------------------------------------------------------------------------------


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


# -- removal -----------------------------------------------------------------------------------------------


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


# -- check and repair --------------------------------------------------------------------------------------


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


# -- the directory and the database ------------------------------------------------------------------------


def test_everything_is_private(images, tmp_path):
    """0700 all the way: other users run no set-uid file out of a layer (CVE-2021-41091)."""
    make.image(images, "x:1")
    root = images.store.root
    for path in (
        root,
        *(os.path.join(root, name) for name in ("layers", "blobs", "staging", "ingest", "locks")),
    ):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
    os.chmod(root, 0o755)
    os.unlink(os.path.join(root, "oci-layout"))
    Store(root)
    assert stat.S_IMODE(os.stat(root).st_mode) == 0o700


def test_a_root_that_is_a_link_or_a_file(tmp_path):
    """Somebody else's link in a shared directory must not decide where state goes."""
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        with pytest.raises(FastdockError):
            Store(tmp_path / name)


def test_a_newer_database_is_left_alone(tmp_path):
    """A schema of the future is refused, not misread."""
    Store(tmp_path / "state").close()
    connection = sqlite3.connect(tmp_path / "state/fastdock.db")
    connection.execute(f"PRAGMA user_version={len(MIGRATIONS) + 1}")
    connection.close()
    with pytest.raises(FastdockError, match="newer fastdock"):
        Store(tmp_path / "state")


def test_a_damaged_database_is_an_error(tmp_path):
    """With its path."""
    Store(tmp_path / "state").close()
    (tmp_path / "state/fastdock.db").write_bytes(b"x" * 5000)
    with pytest.raises(FastdockError, match=r"fastdock\.db"):
        Store(tmp_path / "state")


def test_threads_and_forks(images):
    """One store object serves all threads, and a forked child."""
    make.image(images, "x:1")
    found = []
    threads = [threading.Thread(target=lambda: found.append(images.get("x:1").id)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    child = os.fork()
    if not child:
        try:
            images.tag("x:1", "from:child")
            os._exit(0)
        except BaseException:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert "from:child" in images


def test_many_opens_at_once(tmp_path):
    """The directory and the schema are made once, by whoever is first."""
    problems = []

    def open_it():
        try:
            Store(tmp_path / "state").records()
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


# -- locks -------------------------------------------------------------------------------------------------


def test_locks_exclude(tmp_path):
    """Exclusive against shared and exclusive; the file goes with the last exclusive holder."""
    path = str(tmp_path / "lock")
    with FileLock(path):
        assert not FileLock(path).acquire(blocking=False)
        assert not FileLock(path, shared=True).acquire(blocking=False)
    assert not os.path.exists(path)
    with FileLock(path, shared=True), FileLock(path, shared=True):
        assert not FileLock(path).acquire(blocking=False)


def test_a_removed_lock_file_is_no_lock(tmp_path):
    """Who waited for a file that was removed meanwhile takes the new one."""
    path = str(tmp_path / "lock")
    counter = []

    def work():
        for _ in range(50):
            with FileLock(path):
                counter.append(len(counter))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter == list(range(200))


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


def test_busy_database_says_so(tmp_path, monkeypatch):
    """Who waits for another writer waits for a while, then hears whom it waited for."""
    monkeypatch.setattr(database, "BUSY_TIMEOUT", 0.05)
    store = Store(tmp_path / "state")
    other = sqlite3.connect(store.database.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(FastdockError, match="another process has been writing") as caught:
        store.database.execute("DELETE FROM names")
    assert "fuser" in caught.value.hint
    with pytest.raises(FastdockError, match="another process has been writing"), store.database.transaction():
        pass
    assert store.database.execute("SELECT count(*) FROM names").fetchone() == (0,)
    other.execute("ROLLBACK")
    other.close()
    with store.database.transaction() as connection:
        connection.execute("DELETE FROM names")


def test_a_connection_outlives_its_thread(tmp_path):
    kept = database.Database(str(tmp_path / "fastdock.db"))
    seen = [kept.connection]
    for _ in range(2):
        thread = threading.Thread(target=lambda: seen.append(kept.connection))
        thread.start()
        thread.join()
    assert seen[0] is not seen[1]
    assert seen[1] is seen[2]
    child = os.fork()
    if child == 0:  # what threads of the parent have left is not the child's to use
        taken = []
        thread = threading.Thread(target=lambda: taken.append(kept.connection))
        thread.start()
        thread.join()
        os._exit(0 if taken[0] not in seen else 1)
    assert os.waitpid(child, 0)[1] == 0
    kept.close()
    with pytest.raises(sqlite3.ProgrammingError):
        seen[1].execute("SELECT 1")


def test_the_stamp_is_the_same_after_what_is_unstamped(tmp_path):
    kept = database.Database(str(tmp_path / "fastdock.db"))
    before = kept.stamp()
    for unstamped in (True, False):
        with kept.transaction(unstamped=unstamped) as db:
            db.execute("INSERT INTO volumes VALUES (?, 0, 0, '{}', '{}')", (str(unstamped),))
        assert (kept.stamp() == before) is unstamped

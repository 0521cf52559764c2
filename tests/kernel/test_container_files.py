"""A container's files from outside: cp both ways, single files, volumes; and containers that attack those who copy."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from kept import container, shell

from fastdock import PIPE, Conflict, Container, Engine, FastdockError, NotFound

pytestmark = pytest.mark.kernel


@pytest.fixture(params=["running", "stopped"])
def subject(request: pytest.FixtureRequest, engine: Engine) -> Iterator[Container]:
    """A container that runs, and one that does not: copying is the same."""
    made = engine.containers.create("busybox", ["sleep", "1000"])
    if request.param == "running":
        made.start()
    yield made
    made.remove(force=True, volumes=True)


def owner_seen_inside(made: Container, path: str) -> str:
    made.start()
    return str(made.exec(["stat", "-c", "%u:%g %a", path], stdout=PIPE, text=True).stdout.strip())


class TestExport:
    def test_everything_and_nothing_that_is_mounted(self, subject: Container, tmp_path: Path) -> None:
        """Owners as inside, what is mounted as empty mount points; the tar is an image again."""
        (tmp_path / "file").write_bytes(b"content")
        subject.put(tmp_path / "file", "/root/file")
        buffer = io.BytesIO()
        subject.files.export(buffer)
        buffer.seek(0)
        with tarfile.open(fileobj=buffer) as tar:
            members = {member.name: member for member in tar}
        assert (members["root/file"].uid, members["root/file"].size) == (0, 7)
        assert members["proc"].isdir()
        assert {member.uid for member in members.values()} == {0}
        assert not [name for name in members if name.startswith(("proc/", "sys/", "dev/"))]
        engine = subject._containers.engine
        buffer.seek(0)
        engine.images.import_tar(buffer, "exported:1")
        done = engine.run("exported:1", ["/bin/cat", "/root/file"], capture_output=True)
        assert done.stdout == b"content"
        engine.images.remove("exported:1", force=True)

    def test_a_binds_files_are_not_exported(self, engine: Engine, tmp_path: Path) -> None:
        (tmp_path / "secret").write_bytes(b"of the host")
        with container(
            engine, ["sleep", "1000"], volumes=[f"{tmp_path}/secret:/secret", f"{tmp_path}:/dir"]
        ) as made:
            buffer = io.BytesIO()
            made.files.export(buffer)
        buffer.seek(0)
        with tarfile.open(fileobj=buffer) as tar:
            sizes = {member.name: member.size for member in tar}
        assert sizes["secret"] == 0
        assert "dir" in sizes
        assert "dir/secret" not in sizes


class TestCopy:
    def test_file_in_and_out(self, subject: Container, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"content")
        (tmp_path / "file").chmod(0o751)
        subject.put(tmp_path / "file", "/root/")
        subject.get("/root/file", tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == b"content"
        assert (tmp_path / "back").stat().st_mode & 0o777 == 0o751
        assert owner_seen_inside(subject, "/root/file") == "0:0 751"

    def test_tree_with_links(self, subject: Container, tmp_path: Path) -> None:
        tree = tmp_path / "tree"
        (tree / "sub").mkdir(parents=True)
        (tree / "sub/file").write_text("x")
        (tree / "link").symlink_to("sub/file")
        (tree / "absolute").symlink_to("/etc/shadow")
        os.link(tree / "sub/file", tree / "hard")
        subject.put(tree, "/srv-new")
        subject.get("/srv-new", tmp_path / "out")
        assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["absolute", "hard", "link", "sub"]
        assert os.readlink(tmp_path / "out/absolute") == "/etc/shadow"
        assert (tmp_path / "out/link").read_text() == "x"

    def test_dockers_rules_for_names(self, subject: Container, tmp_path: Path) -> None:
        (tmp_path / "dir").mkdir()
        (tmp_path / "dir/a").write_text("a")
        subject.put(tmp_path / "dir", "/tmp")  # into an existing directory
        assert subject.listdir("/tmp/dir") == ["a"]
        subject.put(f"{tmp_path}/dir/.", "/root")  # its contents
        assert subject.read_bytes("/root/a") == b"a"
        subject.put(tmp_path / "dir/a", "/tmp/renamed")
        assert subject.read_bytes("/tmp/renamed") == b"a"
        with pytest.raises(NotFound):
            subject.put(tmp_path / "dir/a", "/nowhere/")
        with pytest.raises(FastdockError):
            subject.put(tmp_path / "dir", "/tmp/renamed")
        with pytest.raises(NotFound):
            subject.get("/nosuchfile", tmp_path)

    def test_archives(self, subject: Container) -> None:
        buffer = io.BytesIO()
        subject.files.get_archive("/etc", buffer)
        buffer.seek(0)
        with tarfile.open(fileobj=buffer) as tar:
            assert tar.getmember("etc/passwd").uid == 0
        buffer.seek(0)
        subject.files.put_archive("/tmp", buffer)
        assert sorted(subject.listdir("/tmp/etc")) == sorted(subject.listdir("/etc"))

    def test_owners_are_kept_when_asked(self, subject: Container) -> None:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            entry = tarfile.TarInfo("owned")
            entry.uid, entry.gid, entry.mode = 33, 34, 0o600
            tar.addfile(entry)
        buffer.seek(0)
        subject.files.put_archive("/tmp", buffer)
        assert owner_seen_inside(subject, "/tmp/owned") == "33:34 600"

    def test_single_files(self, subject: Container) -> None:
        subject.write_bytes("/tmp/x", b"1")
        with subject.open("/tmp/x", "a") as file:
            file.write("2")
        with subject.open("/tmp/x") as file:
            assert file.read() == "12"
        with pytest.raises(FileExistsError):
            subject.open("/tmp/x", "x")
        with pytest.raises(IsADirectoryError):
            subject.open("/tmp")
        with pytest.raises(FileNotFoundError):
            subject.read_bytes("/none")
        assert owner_seen_inside(subject, "/tmp/x") == "0:0 644"

    def test_damaged_archive(self, subject: Container) -> None:
        with pytest.raises(FastdockError, match="not a tar"):
            subject.files.put_archive("/tmp", io.BytesIO(b"nonsense" * 200))


class TestAttacks:
    @pytest.fixture
    def outside(self, tmp_path: Path) -> Path:
        (tmp_path / "secret").write_text("secret")
        return tmp_path

    def test_links_stay_inside(self, engine: Engine, outside: Path) -> None:
        """CVE-2018-15664, CVE-2019-14271: what leads out of the container leads nowhere, both ways."""
        script = (
            f"ln -s {outside} /tmp/out; ln -s ../../../../..{outside} /tmp/up; ln -s /proc/1/root/proc /tmp/p"
        )
        with container(engine, shell(f"{script}; echo ok; sleep 1000")) as made:
            made.wait_for(log="ok", timeout=60)
            for name in ("out", "up"):
                with pytest.raises(FileNotFoundError):
                    made.read_bytes(f"/tmp/{name}/secret")
                with pytest.raises((FileNotFoundError, NotFound)):
                    made.put(outside / "secret", f"/tmp/{name}/planted")
            assert sorted(p.name for p in outside.iterdir()) == ["secret"]
            with pytest.raises(OSError, match=r"."):
                made.read_bytes("/tmp/p/version")

    def test_links_swapped_meanwhile(self, engine: Engine, outside: Path) -> None:
        """A container that exchanges a directory for a link all the time never gets a file out of itself."""
        swap = f"ln -s {outside} /x/l; rm -rf /x/d; busybox mv /x/l /x/d; rm /x/d; mkdir /x/d"
        with container(engine, shell(f"mkdir -p /x/d; echo ok; while :; do {swap}; done")) as made:
            made.wait_for(log="ok", timeout=60)
            for _ in range(200):
                try:
                    made.put(outside / "secret", "/x/d/planted")
                except (OSError, FastdockError):
                    pass
                try:
                    assert made.read_bytes("/x/d/secret") != b"secret"
                except (OSError, FastdockError):
                    pass
            assert sorted(p.name for p in outside.iterdir()) == ["secret"]

    def test_archive_with_escaping_names(self, engine: Engine, outside: Path) -> None:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for name in ("../../../up", "/abs", "a/../../b"):
                tar.addfile(tarfile.TarInfo(name))
            link = tarfile.TarInfo("l")
            link.type, link.linkname = tarfile.SYMTYPE, str(outside)
            tar.addfile(link)
            tar.addfile(tarfile.TarInfo("l/planted"))
        buffer.seek(0)
        with container(engine) as made:
            with pytest.raises((FileNotFoundError, NotADirectoryError, FastdockError)):
                made.files.put_archive("/tmp", buffer)
            assert set(made.listdir("/tmp")) == {"up", "abs", "b", "l"}
        assert sorted(p.name for p in outside.iterdir()) == ["secret"]

    def test_devices_and_pipes_are_not_opened(self, engine: Engine) -> None:
        with container(
            engine, shell("mkfifo() { busybox mkfifo $1; }; mkfifo /tmp/f; echo ok; sleep 1000")
        ) as made:
            made.wait_for(log="ok", timeout=60)
            for path in ("/tmp/f", "/dev/zero", "/dev/null"):
                with pytest.raises(OSError, match="regular"):
                    made.open(path)

    def test_hostile_tree_on_the_way_out(self, engine: Engine, outside: Path) -> None:
        """A link and a directory of one name, as a container may make while it is copied."""
        target = outside / "copy"
        target.mkdir()
        with container(engine, shell(f"mkdir /t; ln -s {outside} /t/l; echo ok; sleep 1000")) as made:
            made.wait_for(log="ok", timeout=60)
            made.get("/t", target)
        assert os.readlink(target / "t/l") == str(outside)
        assert sorted(p.name for p in outside.iterdir()) == ["copy", "secret"]


class TestVolumes:
    def test_named_volume_outlives_containers(self, engine: Engine) -> None:
        with container(engine, shell("echo kept > /data/file; id -u"), volumes=["tests-named:/data"]) as made:
            made.wait()
        with container(engine, shell("cat /data/file"), volumes=["tests-named:/data:ro"]) as made:
            assert made.wait() == 0
            with pytest.raises(Conflict):
                engine.volumes.remove("tests-named")
        volume = engine.volumes.get("tests-named")
        assert os.stat(f"{volume.path}/file").st_uid == 0  # Docker's ids, whoever is root in the container
        engine.volumes.remove("tests-named")
        with pytest.raises(NotFound):
            engine.volumes.get("tests-named")

    def test_filled_from_the_image(self, engine: Engine) -> None:
        mounted_over = {"hosts", "hostname", "resolv.conf"}
        filled = {"volumes": ["tests-fill:/etc"], "network": "none"}
        with container(engine, shell("ls /etc; stat -c %u:%g /var/www"), **filled) as made:
            made.wait()
            found = set(os.listdir(engine.volumes.get("tests-fill").path))
            assert found - mounted_over == {"group", "passwd"}
        empty = "type=volume,source=tests-empty,target=/etc,volume-nocopy"
        with container(engine, ["true"], mounts=[empty], network="none"):
            assert set(os.listdir(engine.volumes.get("tests-empty").path)) <= mounted_over
        engine.volumes.remove("tests-fill")
        engine.volumes.remove("tests-empty")

    def test_anonymous_volumes_go_with_rm_v(self, engine: Engine) -> None:
        made = engine.containers.create("busybox", ["true"], volumes=["/data"])
        (name,) = made.record.document["volumes"]
        made.remove()
        assert engine.volumes.get(name).anonymous
        assert name in engine.volumes.prune()[0]

    def test_users(self, engine: Engine) -> None:
        with container(engine, shell("touch /data/mine"), volumes=["tests-user:/data"], user="root") as made:
            made.wait()
            assert engine.volumes.users("tests-user") == [made.id]
        engine.volumes.remove("tests-user")

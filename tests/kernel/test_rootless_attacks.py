"""What a rootless user, its containers and its neighbours must not be able to do."""

from __future__ import annotations

import io
import os
import shutil
import socket
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest
from ordinary_user import OrdinaryUser

pytestmark = [pytest.mark.kernel, pytest.mark.here]

_RUN = ("run", "--rm", "--network", "none")


def test_nothing_of_ours_is_set_uid(place_for_others: Path) -> None:
    special = [
        path for path in place_for_others.rglob("*") if path.lstat().st_mode & (stat.S_ISUID | stat.S_ISGID)
    ]
    assert [path for path in special if path.is_file()] == []


def test_a_neighbour_reaches_neither_socket_nor_state(user: OrdinaryUser, lone_user: OrdinaryUser) -> None:
    user.ok(*_RUN, "busybox", "true")
    connect = f"import socket; socket.socket(socket.AF_UNIX, 5).connect({str(user.run_directory / 'rootless.sock')!r})"
    assert "PermissionError" in lone_user.python(connect).stderr
    for place in (user.home / ".local/share/fastdock", user.run_directory):
        assert "Permission denied" in lone_user.run("ls", str(place)).stderr


def test_a_set_uid_program_of_an_image_is_the_users_and_out_of_reach(
    user: OrdinaryUser, lone_user: OrdinaryUser, place_for_others: Path
) -> None:
    archive = place_for_others / "suid.tar"
    with tarfile.open(archive, "w") as tar:
        entry = tarfile.TarInfo("tool")
        entry.mode, entry.size = 0o4755, 3
        tar.addfile(entry, io.BytesIO(b"abc"))
    archive.chmod(0o644)
    user.ok("import", str(archive), "suid")
    (tool,) = (user.home / ".local/share/fastdock/layers").rglob("tool")
    assert tool.stat().st_uid == user.uid
    assert "Permission denied" in lone_user.run("ls", str(tool)).stderr
    user.ok("rmi", "suid")


@pytest.mark.parametrize("mode", [0o777, 0o770])
def test_a_runtime_directory_that_others_may_write_is_refused(user: OrdinaryUser, mode: int) -> None:
    place = Path(f"/var/tmp/fd-open-{os.getpid()}")
    place.mkdir()
    os.chown(place, user.uid, user.gid)
    place.chmod(mode)
    done = user.fastdock(*_RUN, "busybox", "true", env={"XDG_RUNTIME_DIR": str(place)})
    assert done.returncode == 125
    assert "this user alone" in done.stderr
    assert list(place.iterdir()) == []
    place.rmdir()


def test_a_runtime_directory_of_somebody_else_is_refused(user: OrdinaryUser, lone_user: OrdinaryUser) -> None:
    done = user.fastdock(*_RUN, "busybox", "true", env={"XDG_RUNTIME_DIR": str(lone_user.runtime)})
    assert done.returncode == 125
    assert not any("fdt" in words for words in lone_user.processes().values())


@pytest.mark.parametrize("kind", ["directory", "link"])
def test_a_neighbour_who_was_first_in_tmp_gets_nothing(
    user: OrdinaryUser, lone_user: OrdinaryUser, kind: str
) -> None:
    place = Path(f"/tmp/fastdock-{user.uid}")
    if kind == "directory":
        place.mkdir()
        os.chown(place, lone_user.uid, lone_user.gid)
    else:
        place.symlink_to(lone_user.home)
    environment = {key: value for key, value in user.environment.items() if key != "XDG_RUNTIME_DIR"}
    try:
        done = subprocess.run(
            [*user.command, *_RUN, "busybox", "true"], user=user.uid, group=user.gid, extra_groups=[],
            env=environment, cwd=user.home, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 125
        assert "not a directory of this user" in done.stderr
    finally:
        place.unlink() if kind == "link" else shutil.rmtree(place)


def test_a_holder_that_somebody_else_runs_is_not_believed(user: OrdinaryUser) -> None:
    """Who answers there chooses the namespaces that one enters."""
    user.stop()
    path = user.run_directory / "rootless.sock"
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as fake:
        fake.bind(str(path))
        path.chmod(0o666)
        fake.listen()
        done = user.fastdock(*_RUN, "busybox", "true")
    path.unlink()
    assert done.returncode == 125
    assert "another user" in done.stderr


def test_the_holder_bears_any_request(user: OrdinaryUser) -> None:
    user.ok(*_RUN, "busybox", "true")
    before = user.holder()
    path = str(user.run_directory / "rootless.sock")
    # The user itself sends them, as the only one who may.
    code = f"""
import random, socket
numbers = random.Random(7)
words = [b"enter", b"take", b"set", b"known", b"x", b"tcp", b"udp", b"*", b"*6", b"1.2.3.4", b"::1", b"0", b"99999",
         b"-1", b"\\n", b" ", b"\\0", b"\\xff" * 9, b"8080"]
requests = [b" ".join(numbers.choices(words, k=numbers.randrange(1, 9))) for _ in range(300)]
requests += [b"set a\\n" + b"tcp * 1 1.1.1.1 1\\n" * 9000, b"a" * 100_000, b"take " + b"s" * 5000]
for request in requests:
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.connect({path!r})
    s.settimeout(20)
    s.send(request)
    assert s.recv(4096)
    s.close()
"""
    done = user.python(code)
    assert done.returncode == 0, done.stderr
    assert user.holder() == before
    user.stop()  # what was bound in the name of no root goes with it


# --- what a container may not ---


@pytest.mark.parametrize("flags", [(), ("--privileged",)], ids=["plain", "privileged"])
def test_a_container_has_no_more_rights_on_the_host_than_its_user(
    user: OrdinaryUser, flags: tuple[str, ...]
) -> None:
    secret = Path("/etc/shadow").read_text()
    tries = """
cat /host/etc/shadow
echo x >>/host/etc/passwd
mknod /tmp/disk b 8 0
mknod /tmp/mem c 1 1
chown 0:0 /host/etc/hostname
echo 0 >/host/proc/sys/kernel/panic
kill -0 1; kill -9 %d
mount -t tmpfs none /host/etc && echo hidden
cat /host/root/.bashrc /host/var/lib/fastdock/fastdock.db
echo done
"""
    with subprocess.Popen(["sleep", "600"]) as victim:
        done = user.fastdock(*_RUN, *flags, "-v", "/:/host", "busybox", "sh", "-c", tries % victim.pid)
        alive = victim.poll() is None
        victim.kill()
    assert done.stdout.strip().splitlines()[-1] == "done"
    assert alive
    assert secret.split("\n")[0] not in done.stdout
    assert Path("/etc/shadow").read_text() == secret
    assert Path("/etc/passwd").read_text().endswith("\n")
    assert "x\n" not in Path("/etc/passwd").read_text().splitlines(keepends=True)


def test_files_that_a_container_makes_set_uid_are_its_users(user: OrdinaryUser) -> None:
    """A set-uid root file in a container is the user's own, outside."""
    user.ok(
        *_RUN,
        "-v",
        f"{user.home}:/home",
        "busybox",
        "sh",
        "-c",
        "cp /bin/busybox /home/tool; chmod 4755 /home/tool",
    )
    assert (user.home / "tool").stat().st_uid == user.uid
    (user.home / "tool").unlink()


def test_a_container_sees_no_other_process_and_cannot_write_cgroups(user: OrdinaryUser) -> None:
    shown = user.ok(
        *_RUN, "busybox", "sh", "-c", "ls /proc | grep -c '^[0-9]'; mkdir /sys/fs/cgroup/x 2>&1; true"
    )
    count, *said = shown.splitlines()
    assert int(count) <= 4
    assert "Read-only" in said[0] or "Permission denied" in said[0] or "No such" in said[0]


def test_the_hosts_loopback_is_not_a_containers(user: OrdinaryUser) -> None:
    """pasta and slirp4netns can lead there; started by fastdock they do not."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        code = f"""
import socket, struct
places = ["127.0.0.1", "10.0.2.2"]
for line in open("/proc/net/route").read().splitlines()[1:]:
    places.append(socket.inet_ntoa(struct.pack("<I", int(line.split()[2], 16))))
for place in places:
    try: socket.create_connection((place, {port}), 2)
    except OSError: pass
    else: print("reached", place)
print("tried", len(places))
"""
        shown = user.ok("run", "--rm", "host", "python3", "-c", code)
    assert "reached" not in shown
    assert "tried" in shown


def test_a_port_for_loopback_is_bound_there_only(user: OrdinaryUser) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    user.ok("run", "-d", "--name", "near", "-p", f"127.0.0.1:{port}:80", "busybox", "sleep", "60")
    listening = [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    assert f"0100007F:{port:04X}" in listening
    assert f"00000000:{port:04X}" not in listening
    user.ok("rm", "-f", "near")

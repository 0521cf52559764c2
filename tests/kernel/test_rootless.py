"""fastdock as an ordinary user: the command line, the Python API, the store, ports and names."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import tarfile
import time
import urllib.request
from pathlib import Path

import pytest
from ordinary_user import OrdinaryUser

pytestmark = [pytest.mark.kernel, pytest.mark.here]


def test_root_inside_is_the_user_outside(user: OrdinaryUser) -> None:
    shown = user.ok("run", "--rm", "--network", "none", "-v", f"{user.home}:/home", "busybox", "sh", "-c",
                    "id -u; echo written >/home/by-container; cat /proc/self/uid_map")  # fmt: skip
    assert shown.split()[:4] == ["0", "0", str(user.uid), "1"]
    assert os.stat(user.home / "by-container").st_uid == user.uid


def test_other_users_of_the_container_are_subordinate_ids(user: OrdinaryUser) -> None:
    user.ok("run", "-d", "--name", "web", "--network", "none", "-u", "web", "busybox", "sleep", "60")
    (pid,) = (pid for pid, words in user.processes().items() if words == "sleep 60")
    first = next(int(line.split(":")[1]) for line in Path("/etc/subuid").read_text().splitlines()
                 if line.startswith(f"{user.name}:"))  # fmt: skip
    assert os.stat(f"/proc/{pid}").st_uid == first + 33 - 1
    assert user.ok("exec", "-u", "0", "web", "id", "-u").strip() == "0"
    user.ok("rm", "-f", "web")


def test_a_detached_container_from_start_to_removal(user: OrdinaryUser) -> None:
    user.ok("run", "-d", "--name", "box", "--network", "none", "busybox", "sh", "-c", "echo said; sleep 60")
    assert "box" in user.ok("ps")
    assert user.ok("exec", "box", "echo", "inside").strip() == "inside"
    assert "sleep 60" in user.ok("top", "box")
    assert json.loads(user.ok("inspect", "box"))[0]["State"]["Running"]
    user.ok("restart", "-t", "0", "box")
    user.ok("stop", "-t", "0", "box")
    assert user.ok("logs", "box").split() == ["said", "said"]
    user.ok("rm", "box")
    assert user.ok("ps", "-aq") == ""


def test_the_terminal_is_a_terminal(user: OrdinaryUser) -> None:
    assert user.ok("run", "--rm", "-t", "--network", "none", "busybox", "tty").strip() == "/dev/pts/0"


def test_state_is_the_users_own_and_closed(user: OrdinaryUser) -> None:
    user.ok("run", "--rm", "--network", "none", "busybox", "true")
    for directory in (user.home / ".local/share/fastdock", user.run_directory):
        status = directory.stat()
        assert (status.st_uid, status.st_mode & 0o777) == (user.uid, 0o700)
    assert (user.run_directory / "rootless.sock").stat().st_mode & 0o777 == 0o600
    assert not Path(f"/var/lib/fastdock/{user.uid}").exists()


def test_the_host_image_shows_no_secrets_and_can_be_written_over(user: OrdinaryUser) -> None:
    shown = user.ok("run", "--rm", "--network", "none", "host", "sh", "-c",
                    "echo new >/usr/new && cat /usr/new; cat /etc/shadow; ls -A /home /root")  # fmt: skip
    assert shown.split() == ["new", "/home:", "/root:"]


def test_without_a_runtime_directory_it_is_in_tmp(user: OrdinaryUser) -> None:
    environment = {key: value for key, value in user.environment.items() if key != "XDG_RUNTIME_DIR"}
    done = subprocess.run(
        [*user.command, "run", "--rm", "--network", "none", "busybox", "true"], user=user.uid, group=user.gid,
        extra_groups=[], env=environment, cwd=user.home, capture_output=True, text=True, check=False,
    )  # fmt: skip
    place = Path(f"/tmp/fastdock-{user.uid}")
    try:
        assert done.returncode == 0, done.stderr
        assert place.stat().st_mode & 0o777 == 0o700
    finally:
        user.run("sh", "-c", f"kill $(pgrep -f {place}/fastdock)")
        user.run("rm", "-rf", str(place))


# --- images ---


def _archive(path: Path, *entries: tarfile.TarInfo) -> None:
    with tarfile.open(path, "w") as tar:
        for entry in entries:
            tar.addfile(entry, io.BytesIO(bytes(entry.size)))
    path.chmod(0o644)


def _entry(name: str, **values: object) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    for key, value in values.items():
        setattr(entry, key, value)
    return entry


def test_layers_keep_owners_whiteouts_and_leave_devices_out(
    user: OrdinaryUser, place_for_others: Path
) -> None:
    archive = place_for_others / "owners.tar"
    _archive(
        archive,
        _entry("bin", type=tarfile.DIRTYPE, mode=0o755),
        _entry("file", uid=1000, gid=50, mode=0o640),
        _entry("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
        _entry("hidden", type=tarfile.CHRTYPE, devmajor=0, devminor=0),
    )
    user.ok("import", str(archive), "owners")
    user.ok("create", "--name", "look", "--network", "none", "owners", "/x")
    listed = subprocess.run(["tar", "tvf", "-"], input=user.run(*user.command, "export", "look", text=False).stdout,
                            capture_output=True, check=True).stdout.decode()  # fmt: skip
    assert "1000/50" in listed
    assert "null" not in listed
    assert "hidden" not in listed
    user.ok("rm", "look")
    user.ok("rmi", "owners")


def test_an_id_that_is_nobodys_is_a_clear_error(user: OrdinaryUser, place_for_others: Path) -> None:
    archive = place_for_others / "far.tar"
    _archive(archive, _entry("file", uid=900_000))
    done = user.fastdock("import", str(archive), "far")
    assert done.returncode != 0
    assert "/etc/subuid" in done.stderr
    assert "far" not in user.ok("images")


def test_commit_and_run_what_was_committed(user: OrdinaryUser) -> None:
    user.ok(
        "run", "--name", "made", "--network", "none", "busybox", "sh", "-c", "echo kept >/kept; rm /bin/yes"
    )
    user.ok("commit", "made", "mine")
    user.ok("rm", "made")
    shown = user.ok(
        "run", "--rm", "--network", "none", "mine", "sh", "-c", "cat /kept; test -e /bin/yes || echo gone"
    )
    assert shown.split() == ["kept", "gone"]
    user.ok("rmi", "mine")


# --- limits ---


def test_a_limit_that_cannot_be_set_is_an_error_that_names_it(user: OrdinaryUser) -> None:
    for flag, value, name in (
        ("--memory", "64m", "memory"),
        ("--pids-limit", "9", "pids"),
        ("--cpus", "1", "cpu"),
    ):
        done = user.fastdock("run", "--rm", "--network", "none", flag, value, "busybox", "true")
        assert done.returncode == 125
        assert f"cannot set the cgroup limit {name}" in done.stderr
        assert "delegated" in done.stderr


def test_pause_needs_a_cgroup_and_says_so(user: OrdinaryUser) -> None:
    user.ok("run", "-d", "--name", "box", "--network", "none", "busybox", "sleep", "60")
    done = user.fastdock("pause", "box")
    assert done.returncode == 1
    assert "delegated" in done.stderr
    user.ok("rm", "-f", "box")


def test_a_run_in_the_foreground_is_seen_by_others(user: OrdinaryUser) -> None:
    """What it writes, in memory, and its networks; pause says what it needs."""
    script = "trap 'exit 7' TERM; echo x > /new; echo ready; while :; do sleep 0.1; done"
    words = (*user.command, "run", "--rm", "-l", "of=test", "busybox", "sh", "-c", script)
    process = user.start(*words, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        while not (found := user.ok("ps", "-q", "--filter", "label=of=test").strip()):
            pass
        assert "A /new\n" in user.ok("diff", found)
        assert "sha256:" in user.ok("commit", "--pause=false", found, "seen")
        user.ok("network", "create", "second")
        user.ok("network", "connect", "second", found)
        assert "eth1" in user.ok("exec", found, "ip", "addr")
        assert "delegated" in user.fastdock("pause", found).stderr
        user.ok("stop", found)
        assert process.wait(60) == 7
    finally:
        process.kill()
        process.communicate()
    user.ok("network", "rm", "second")
    assert user.ok("run", "--rm", "--network", "none", "seen", "cat", "/new") == "x\n"
    user.ok("rmi", "seen")


def test_a_user_namespace_of_its_own_needs_root(user: OrdinaryUser) -> None:
    done = user.fastdock("run", "--rm", "--userns", "private", "busybox", "true")
    assert done.returncode == 125
    assert "needs root" in done.stderr


# --- one id alone ---


def test_a_user_without_subordinate_ids_runs_containers(lone_user: OrdinaryUser) -> None:
    assert lone_user.ok("run", "--rm", "--network", "none", "busybox", "id", "-u").strip() == "0"
    assert lone_user.ok("run", "--rm", "-t", "--network", "none", "host", "tty").strip() == "/dev/pts/0"
    lone_user.ok("run", "-d", "--name", "box", "--network", "none", "busybox", "sleep", "60")
    assert lone_user.ok("exec", "box", "id", "-u").strip() == "0"
    lone_user.ok("rm", "-f", "box")


@pytest.mark.parametrize("flags", [("-u", "33"), ("--group-add", "5")])
def test_without_subordinate_ids_there_is_nobody_else(
    lone_user: OrdinaryUser, flags: tuple[str, str]
) -> None:
    done = lone_user.fastdock("run", "--rm", "--network", "none", *flags, "busybox", "true")
    assert done.returncode == 125
    assert "/etc/subuid" in done.stderr


# --- the Python API ---


def test_a_users_program_runs_containers_and_stays_as_it_is(user: OrdinaryUser) -> None:
    done = user.python("""
import os, threading, fastdock
got = []
def start(): got.append(fastdock.run("busybox", ["id", "-u"], capture_output=True, text=True).stdout)
threads = [threading.Thread(target=start) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert got == ["0\\n"] * 8, got
assert fastdock.run("busybox", ["sh", "-c", "exit 3"]).returncode == 3
for wanted, call in ((FileNotFoundError, lambda: fastdock.run("busybox", ["none"])),
                     (fastdock.ImageNotFound, lambda: fastdock.run("none", ["x"], pull="never")),
                     (fastdock.TimeoutExpired, lambda: fastdock.run("busybox", ["sleep", "60"], timeout=0.1)),
                     (fastdock.SpecError, lambda: fastdock.Pool("busybox")),
                     (PermissionError, lambda: fastdock.run("busybox", ["true"], memory="64m"))):
    try: call()
    except wanted: pass
    else: raise AssertionError(wanted)
process = fastdock.Popen("busybox", ["cat"], stdin=fastdock.PIPE, stdout=fastdock.PIPE, text=True)
assert process.communicate("through")[0] == "through" and process.returncode == 0
process = fastdock.Popen("busybox", ["sleep", "60"], user="33")
process.kill()
assert process.wait() == -9
if os.fork() == 0:
    os._exit(fastdock.run("busybox", ["true"]).returncode)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
print(os.getuid())
""")
    assert (done.returncode, done.stdout.strip()) == (0, str(user.uid)), done.stderr


def test_containers_end_with_the_users_program(user: OrdinaryUser) -> None:
    code = 'import fastdock, os; it = fastdock.Popen("busybox", ["sleep", "61"]); print("ready", flush=True); os.read(0, 1)'
    head = f"import sys; sys.path.insert(0, {str(user.place / 'site')!r})\n"
    process = user.start(user.interpreter, "-c", head + code, stdout=subprocess.PIPE, stdin=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert "sleep 61" in user.processes().values()
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 10
    while "sleep 61" in user.processes().values() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "sleep 61" not in user.processes().values()


def test_enter_gives_everything_and_refuses_a_process_with_threads(user: OrdinaryUser) -> None:
    done = user.python("""
import os, threading, fastdock
from fastdock import rootless
stop = threading.Event()
thread = threading.Thread(target=stop.wait)
thread.start()
try: rootless.enter()
except fastdock.FastdockError as error: assert "before any thread" in str(error), error
else: raise AssertionError
try: fastdock.Engine().images
except fastdock.FastdockError as error: assert "rootless.enter()" in error.hint
else: raise AssertionError
stop.set()
thread.join()
rootless.enter()
rootless.enter()
engine = fastdock.Engine()
assert any(str(image).find("busybox") >= 0 for image in map(repr, engine.images.list()))
with fastdock.Container("busybox", ["sleep", "60"], network="none", engine=engine) as box:
    assert box.exec(["id", "-u"], capture_output=True, text=True).stdout == "0\\n"
print(os.getuid(), os.getcwd())
""")
    assert (done.returncode, done.stdout.split()) == (0, ["0", str(user.home)]), done.stderr


# --- the holder ---


def test_many_at_once_start_one_holder(user: OrdinaryUser) -> None:
    user.stop()
    starts = [
        user.start(*user.command, "run", "--rm", "--network", "none", "busybox", "true") for _ in range(8)
    ]
    assert [process.wait(60) for process in starts] == [0] * 8
    user.holder()


def test_a_killed_holder_is_replaced_and_containers_stay_reachable(user: OrdinaryUser) -> None:
    user.ok("run", "-d", "--name", "box", "--network", "none", "busybox", "sleep", "60")
    first = user.holder()
    os.kill(first, signal.SIGKILL)
    assert user.ok("exec", "box", "echo", "still").strip() == "still"
    assert user.holder() != first
    user.ok("rm", "-f", "box")


def test_a_holder_that_hangs_is_an_error_and_no_hang(user: OrdinaryUser) -> None:
    user.ok("run", "--rm", "--network", "none", "busybox", "true")
    holder = user.holder()
    os.kill(holder, signal.SIGSTOP)
    try:
        done = user.fastdock("ps")
        assert done.returncode == 125
        assert "does not answer" in done.stderr
    finally:
        os.kill(holder, signal.SIGCONT)


# --- networks ---


def _get(url: str) -> str:
    deadline = time.monotonic() + 10
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _free_port(kind: int = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("0.0.0.0", 0))
        return int(probe.getsockname()[1])


def _serve(user: OrdinaryUser, port: int | str, name: str = "web") -> None:
    user.ok("run", "-d", "--name", name, "-p", f"{port}:80", "host", "sh", "-c",
            f"cd /tmp && echo {name} >index.html && exec python3 -m http.server 80")  # fmt: skip


def test_a_published_port_is_reached_from_the_host(user: OrdinaryUser) -> None:
    port = _free_port()
    _serve(user, port)
    assert _get(f"http://127.0.0.1:{port}/") == "web\n"
    user.ok("restart", "-t", "0", "web")
    assert _get(f"http://127.0.0.1:{port}/") == "web\n"
    user.ok("rm", "-f", "web")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 5)


def test_a_published_port_is_reached_by_ipv6(user: OrdinaryUser) -> None:
    """The container has no IPv6 address; the holder listens on both."""
    port = _free_port()
    _serve(user, port)
    assert _get(f"http://[::1]:{port}/") == "web\n"
    assert f"[::]:{port}" in user.ok("port", "web")
    user.ok("rm", "-f", "web")


def test_a_port_published_on_the_ipv6_localhost(user: OrdinaryUser) -> None:
    port = _free_port()
    _serve(user, f"[::1]:{port}")
    assert _get(f"http://[::1]:{port}/") == "web\n"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 5)
    user.ok("rm", "-f", "web")


def test_a_replaced_holder_forwards_the_ports_again(user: OrdinaryUser) -> None:
    port = _free_port()
    _serve(user, port)
    assert _get(f"http://127.0.0.1:{port}/") == "web\n"
    os.kill(user.holder(), signal.SIGKILL)
    assert "web" in user.ok("ps")
    assert _get(f"http://127.0.0.1:{port}/") == "web\n"
    user.ok("rm", "-f", "web")


def test_udp_answers_come_from_the_address_that_was_asked(user: OrdinaryUser) -> None:
    port = _free_port(socket.SOCK_DGRAM)
    echo = ("import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 53)); print('up', flush=True)\n"
            "while True: data, who = s.recvfrom(65536); s.sendto(data.upper(), who)")  # fmt: skip
    user.ok("run", "-d", "--name", "echo", "-p", f"{port}:53/udp", "host", "python3", "-c", echo)
    deadline = time.monotonic() + 10
    while "up" not in user.ok("logs", "echo") and time.monotonic() < deadline:
        time.sleep(0.02)
    for address in ("127.0.0.1", "127.0.0.2"):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.settimeout(10)
            asking.connect((address, port))  # takes answers from there only
            asking.send(b"x" * 9000)
            assert asking.recv(65536) == b"X" * 9000
    user.ok("rm", "-f", "echo")


def test_a_port_below_1024_and_a_taken_one_say_why(user: OrdinaryUser) -> None:
    done = user.fastdock("run", "--rm", "-p", "80:80", "busybox", "true")
    assert done.returncode == 125
    assert "Permission denied" in done.stderr
    assert "ip_unprivileged_port_start" in done.stderr
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        # The first is free: it must be given back when the second is not.
        other = _free_port()
        done = user.fastdock("run", "--rm", "-p", f"{other}:80", "-p", f"{port}:81", "busybox", "true")
        assert done.returncode == 125
        assert f"cannot publish port {port}/tcp" in done.stderr
    assert user.leftovers() == []


@pytest.mark.parametrize("port", ["7777:80/sctp", "80/sctp"])
def test_sctp_is_refused_clearly(user: OrdinaryUser, port: str) -> None:
    done = user.fastdock("run", "--rm", "-p", port, "busybox", "true")
    assert done.returncode == 125
    assert (
        "/sctp: without root a process passes ports on (fastdock-rootless), TCP and UDP alone" in done.stderr
    )


@pytest.mark.parametrize("way", ["pasta", "slirp4netns"])
def test_who_asks_a_published_port_is_the_bridge(user: OrdinaryUser, way: str) -> None:
    """docs/rootless.md: whatever leads out, the holder passes ports on; the source address is not kept."""
    code = ("import socket; s = socket.create_server(('', 80))\n"
            "while True: c, who = s.accept(); c.sendall(who[0].encode()); c.close()")  # fmt: skip
    port = _free_port()
    user.stop()
    try:
        words = ("run", "-d", "--name", "shows", "-p", f"{port}:80", "host", "python3", "-c", code)
        user.ok(*words, env={"FASTDOCK_ROOTLESS_NETWORK": way})
        assert any(way in words for words in user.processes().values())
        deadline, seen = time.monotonic() + 10, b""
        while not seen and time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as asking:
                seen = asking.recv(100)
        gateway = "{{(index .IPAM.Config 0).Gateway}}"
        assert seen.decode() == user.ok("network", "inspect", "-f", gateway, "bridge").strip()
        user.ok("rm", "-f", "shows")
    finally:
        user.stop()


def test_containers_find_each_other_by_name(user: OrdinaryUser) -> None:
    user.ok("network", "create", "app")
    user.ok("run", "-d", "--name", "server", "--network", "app", "host", "sleep", "60")
    assert "server" in user.ok("run", "--rm", "--network", "app", "host", "getent", "hosts", "server")
    user.ok("rm", "-f", "server")
    user.ok("network", "rm", "app")


def test_without_a_way_out_networks_say_what_to_install(user: OrdinaryUser) -> None:
    user.stop()
    try:
        none = {"FASTDOCK_ROOTLESS_NETWORK": "none"}
        assert user.ok("run", "--rm", "--network", "none", "busybox", "echo", "alone", env=none) == "alone\n"
        done = user.fastdock("run", "--rm", "busybox", "true")
        assert done.returncode == 125
        assert "slirp4netns" in done.stderr
        here = os.readlink("/proc/self/ns/net")
        assert (
            user.ok("run", "--rm", "--network", "host", "busybox", "readlink", "/proc/self/ns/net").strip()
            == here
        )
    finally:
        user.stop()


# --- fastdock-oci ---


def test_oci_runs_a_rootless_bundle(user: OrdinaryUser) -> None:
    _oci_bundle(user, ["sh", "-c", "id -u; cat /proc/self/uid_map; ls /sys | wc -l"])
    done = user.run(user.place / "fastdock-oci", "run", "-b", "bundle", "one")
    assert done.returncode == 0, done.stderr
    uid, inside, outside, count, entries = done.stdout.split()
    assert (uid, inside, outside, count) == ("0", "0", str(user.uid), "1")
    assert int(entries) > 3


def test_oci_create_start_exec_kill_delete(user: OrdinaryUser) -> None:
    _oci_bundle(user, ["sleep", "60"])
    oci = user.place / "fastdock-oci"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    assert user.start(oci, "create", "-b", "bundle", "two", **quiet).wait(30) == 0
    assert json.loads(user.run(oci, "state", "two").stdout)["status"] == "created"
    assert user.run(oci, "start", "two").returncode == 0
    assert user.run(oci, "exec", "two", "id", "-u").stdout.strip() == "0"
    assert user.run(oci, "kill", "two", "KILL").returncode == 0
    assert user.run(oci, "delete", "--force", "two").returncode == 0
    assert json.loads(user.run(oci, "list", "--format", "json").stdout) in ([], None)


def test_oci_with_subordinate_ids(user: OrdinaryUser) -> None:
    first = next(int(line.split(":")[1]) for line in Path("/etc/subuid").read_text().splitlines()
                 if line.startswith(f"{user.name}:"))  # fmt: skip
    ids = [
        {"containerID": 0, "hostID": user.uid, "size": 1},
        {"containerID": 1, "hostID": first, "size": 1000},
    ]
    _oci_bundle(user, ["id", "-u"], {"uidMappings": ids, "gidMappings": [{**ids[0], "hostID": user.gid}, ids[1]]},
                {"uid": 33, "gid": 33})  # fmt: skip
    done = user.run(user.place / "fastdock-oci", "run", "-b", "bundle", "three")
    assert (done.returncode, done.stdout.strip()) == (0, "33"), done.stderr


def test_oci_without_a_user_namespace_is_refused(user: OrdinaryUser) -> None:
    _oci_bundle(user, ["true"])
    config = json.loads((user.home / "bundle/config.json").read_text())
    config["linux"]["namespaces"] = [each for each in config["linux"]["namespaces"] if each["type"] != "user"]
    del config["linux"]["uidMappings"], config["linux"]["gidMappings"]
    (user.home / "bundle/config.json").write_text(json.dumps(config))
    done = user.run(user.place / "fastdock-oci", "run", "-b", "bundle", "four")
    assert done.returncode == 1
    assert "user namespace" in done.stderr


def _oci_bundle(
    user: OrdinaryUser,
    args: list[str],
    linux: dict[str, object] | None = None,
    who: dict[str, int] | None = None,
) -> None:
    user.run("rm", "-rf", "bundle")
    user.run("mkdir", "-p", "bundle/rootfs")
    user.run("tar", "-C", "bundle/rootfs", "--no-same-owner", "-xf", str(user.place / "busybox.tar"))
    assert user.run(user.place / "fastdock-oci", "spec", "--rootless", "-b", "bundle").returncode == 0
    path = user.home / "bundle/config.json"
    config = json.loads(path.read_text())
    config["process"].update(terminal=False, args=args, **({"user": who} if who else {}))
    config["linux"].update(linux or {})
    path.write_text(json.dumps(config))

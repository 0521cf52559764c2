"""fastdock-oci: the life of a container, command by command."""

from __future__ import annotations

import array
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from oci_bundle import Bundle

pytestmark = pytest.mark.kernel


def wait_for_end(pid: int) -> None:
    """Returns when a process that is not our child has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    with open(descriptor) as pidfd:
        assert select.select([pidfd], [], [], 60)[0]


def test_a_container_in_the_foreground_can_be_changed(bundle: Bundle) -> None:
    """`run` keeps nobody waiting: pause, update and delete reach its container."""
    bundle.shell("sleep 1000")
    bundle.write()
    command = [bundle.runtime, "--root", str(bundle.root), "run", "--bundle", str(bundle.path), "c"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        deadline = time.monotonic() + 30
        while bundle.command("state", "c").returncode != 0 or bundle.state()["status"] != "running":
            assert time.monotonic() < deadline
        for words in (["pause", "c"], ["resume", "c"], ["update", "--memory", "50M", "c"]):
            assert bundle.command(*words).returncode == 0, words
        assert bundle.cgroup_file("memory/memory.limit_in_bytes", "memory.max") == str(50 << 20)
        assert bundle.command("delete", "--force", "c").returncode == 0
        assert process.wait(30) == 137
        assert process.stderr.read() == b""


def test_a_frozen_cgroup(bundle: Bundle) -> None:
    """What enters it would stop: refused, not waited for."""
    v1 = Path("/sys/fs/cgroup/freezer")
    directory = Path(str(v1 if v1.is_dir() else v1.parent) + bundle.cgroup)
    file, word = ("freezer.state", "FROZEN") if v1.is_dir() else ("cgroup.freeze", "1")
    directory.mkdir()
    (directory / file).write_text(word)
    try:
        done = bundle.run()
        assert done.returncode == 1
        assert "frozen" in done.stderr
    finally:
        for path in bundle.cgroups():
            Path(path).rmdir()


def test_pidfd_socket(bundle: Bundle, tmp_path: Path) -> None:
    """create and exec hand a pidfd to who listens."""
    path = str(tmp_path / "pidfd.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def received() -> tuple[bytes, int]:
            with listener.accept()[0] as connection:
                data, descriptors, _, _ = socket.recv_fds(connection, 64, 1)
                return data, descriptors[0]

        bundle.shell("sleep 1000")
        assert bundle.run_detached("c", "--pidfd-socket", path).returncode == 0
        word, container = received()
        assert word == b"standard"
        words = ["exec", "--detach", "--pidfd-socket", path, "c", "sleep", "1000"]
        subprocess.run(
            [bundle.runtime, "--root", str(bundle.root), *words], stdin=subprocess.DEVNULL, check=True
        )
        word, process = received()
        assert word == b"setns"
        assert bundle.command("ps", "c").stdout.count("sleep 1000") >= 2
        for descriptor in (process, container):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            os.close(descriptor)
    deadline = time.monotonic() + 30
    while bundle.state()["status"] != "stopped":
        assert time.monotonic() < deadline
    # One that nobody listens at is an error, and nothing is left.
    os.unlink(path)
    assert bundle.run_detached("d", "--pidfd-socket", path).returncode == 1
    assert not (bundle.root / "d").exists()


def test_a_terminals_newlines_in_the_foreground(bundle: Bundle) -> None:
    """As runc: what reads it gets no carriage returns; the caller's own terminal puts them in."""
    bundle.config["process"]["terminal"] = True
    bundle.shell("test -t 1 && echo one; echo two")
    assert bundle.run().stdout == "one\ntwo\n"
    bundle.config["process"]["terminal"] = False
    bundle.shell("sleep 1000")
    assert bundle.run_detached("d").returncode == 0
    assert bundle.command("exec", "--tty", "d", "echo", "three").stdout == "three\n"


def test_a_list_of_a_place_that_is_not_there(bundle: Bundle, tmp_path: Path) -> None:
    bundle.root = tmp_path / "nowhere"
    assert "nowhere" in bundle.command("list").stderr


@pytest.mark.parametrize("frozen", [False, True])
def test_a_cgroup_of_others(bundle: Bundle, frozen: bool) -> None:
    """One that holds processes is refused, and stays as it is."""
    bundle.shell("sleep 1000")
    assert bundle.run_detached().returncode == 0
    if frozen:
        assert bundle.command("pause", "c").returncode == 0
    done = bundle.run("d")
    assert done.returncode == 1
    assert "cgroup is not empty" in done.stderr
    assert bundle.state()["status"] == ("paused" if frozen else "running")


def test_run_gives_output_and_status(bundle: Bundle) -> None:
    bundle.shell("cat; echo out; echo err >&2; exit 7")
    done = bundle.run(stdin=None, input="in\n")
    assert (done.stdout, done.stderr, done.returncode) == ("in\nout\n", "err\n", 7)
    assert not (bundle.root / "c").exists()
    assert bundle.cgroups() == []


def test_run_of_a_killed_program(bundle: Bundle) -> None:
    """A program that ends by a signal gives 128 + its number."""
    bundle.shell("sh -c 'kill -9 $$'; exit $?")
    assert bundle.run().returncode == 137


def test_create_start_kill_delete(bundle: Bundle, tmp_path: Path) -> None:
    bundle.shell("echo started > /tmp/file; trap 'exit 3' TERM; echo ready; sleep 1000 & wait")
    read, write = os.pipe()
    done = bundle.create("c", "--pid-file", str(tmp_path / "pid"), stdout=write)
    os.close(write)
    assert done.returncode == 0, done.stderr
    state = bundle.state()
    assert state["status"] == "created"
    assert state["pid"] == int((tmp_path / "pid").read_text())
    assert (state["id"], state["bundle"], state["rootfs"]) == ("c", str(bundle.path), str(bundle.rootfs))
    assert not (bundle.rootfs / "tmp/file").exists(), "the program waits for start"
    assert bundle.command("start", "c").returncode == 0
    assert os.read(read, 100) == b"ready\n"
    os.close(read)
    assert bundle.state()["status"] == "running"
    again = bundle.command("start", "c")
    assert again.returncode == 1
    assert "already running" in again.stderr
    refused = bundle.command("delete", "c")
    assert refused.returncode == 1
    assert "not stopped" in refused.stderr
    assert bundle.command("kill", "c", "TERM").returncode == 0
    wait_for_end(state["pid"])
    assert bundle.state() | {"pid": 0, "status": "stopped"} == bundle.state()
    assert "container not running" in bundle.command("kill", "c", "KILL").stderr
    assert bundle.command("delete", "c").returncode == 0
    assert "does not exist" in bundle.command("state", "c").stderr
    assert bundle.cgroups() == []


def test_delete_of_a_created_container(bundle: Bundle) -> None:
    """Never started: delete ends it."""
    assert bundle.create().returncode == 0
    pid = bundle.state()["pid"]
    assert bundle.command("delete", "c").returncode == 0
    wait_for_end(pid)
    assert bundle.cgroups() == []


def test_the_created_process_survives_its_creator(bundle: Bundle) -> None:
    """The parent's memory goes with it: what the child needs is its own (environment, arguments, working directory)."""
    bundle.config["process"].update(cwd="/tmp", env=["PATH=/bin", "GREETING=" + "x" * 5000])
    bundle.shell("pwd > /tmp/result; echo ${#GREETING} >> /tmp/result")
    assert bundle.create().returncode == 0
    pid = bundle.state()["pid"]
    assert bundle.command("start", "c").returncode == 0
    wait_for_end(pid)
    assert (bundle.rootfs / "tmp/result").read_text() == "/tmp\n5000\n"


def test_two_of_one_name(bundle: Bundle) -> None:
    assert bundle.create().returncode == 0
    second = bundle.create()
    assert second.returncode == 1
    assert "exists" in second.stderr
    assert bundle.state()["status"] == "created", "the first is unharmed"


def test_errors_of_create_come_from_create(bundle: Bundle) -> None:
    """A missing program is create's error, in runc's words, and not an exit status after start."""
    bundle.config["process"]["args"] = ["nosuch"]
    done = bundle.create()
    assert done.returncode == 1
    assert 'exec: "nosuch": executable file not found in $PATH' in done.stderr
    bundle.config["process"]["args"] = ["/tmp"]
    assert "permission denied" in bundle.create().stderr
    assert not (bundle.root / "c").exists()


def test_exec_format_error_after_start(bundle: Bundle) -> None:
    """What only execve can find out goes to the container's standard error."""
    (bundle.rootfs / "bin/strange").write_bytes(b"\x7fELF nothing")
    (bundle.rootfs / "bin/strange").chmod(0o755)
    bundle.config["process"]["args"] = ["/bin/strange"]
    assert bundle.create().returncode == 0
    pid = bundle.state()["pid"]
    bundle.command("start", "c")
    wait_for_end(pid)
    assert (bundle.path.parent / "stderr").read_text() == "exec /bin/strange: Exec format error\n"


def test_exec(bundle: Bundle) -> None:
    bundle.shell("sleep 1000")
    assert bundle.run_detached().returncode == 0
    done = bundle.command(
        "exec", "--env", "A=b", "--cwd", "/tmp", "c", "sh", "-c", "echo $A $PWD $HOME $$; exit 9"
    )
    assert done.returncode == 9
    words = done.stdout.split()
    assert words[:3] == ["b", "/tmp", "/root"]
    assert int(words[3]) < 1000, "it is in the container's PID namespace"
    mine = bundle.command("exec", "c", "cat", "/proc/self/cgroup").stdout
    assert mine == bundle.command("exec", "c", "cat", "/proc/1/cgroup").stdout
    missing = bundle.command("exec", "c", "nosuch")
    assert missing.returncode == 255
    assert "executable file not found" in missing.stderr


def test_exec_of_a_process_file(bundle: Bundle, tmp_path: Path) -> None:
    bundle.shell("sleep 1000")
    assert bundle.run_detached().returncode == 0
    process = {
        "args": ["sh", "-c", "id -u; id -G; umask; pwd"],
        "cwd": "/home/app",
        "env": ["PATH=/bin"],
        "user": {"uid": 1000, "gid": 1000, "additionalGids": [7, 8], "umask": 0o27},
    }
    (tmp_path / "process.json").write_text(json.dumps(process))
    done = bundle.command("exec", "--process", str(tmp_path / "process.json"), "c")
    assert done.stdout.split() == ["1000", "1000", "7", "8", "0027", "/home/app"]


def test_detached_exec_writes_its_pid(bundle: Bundle, tmp_path: Path) -> None:
    bundle.shell("sleep 1000")
    assert bundle.run_detached().returncode == 0
    command = [
        bundle.runtime,
        "--root",
        str(bundle.root),
        "exec",
        "-d",
        "--pid-file",
        str(tmp_path / "pid"),
        "c",
    ]
    null = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    assert subprocess.run([*command, "sleep", "1000"], **null).returncode == 0
    pid = int((tmp_path / "pid").read_text())
    assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\0001000\0"
    listed = json.loads(bundle.command("ps", "--format", "json", "c").stdout)
    assert pid in listed
    assert str(pid) in bundle.command("ps", "c").stdout
    assert bundle.command("kill", "--all", "c", "KILL").returncode == 0
    wait_for_end(pid)


def test_pause_and_resume(bundle: Bundle) -> None:
    bundle.shell("sleep 1000")
    assert bundle.run_detached().returncode == 0
    assert bundle.command("pause", "c").returncode == 0
    assert bundle.state()["status"] == "paused"
    refused = bundle.command("exec", "c", "true")
    assert refused.returncode == 255
    assert "paused" in refused.stderr
    assert bundle.command("resume", "c").returncode == 0
    assert bundle.state()["status"] == "running"
    assert bundle.command("resume", "c").returncode == 1


def test_delete_of_a_paused_container(bundle: Bundle) -> None:
    bundle.shell("sleep 1000")
    assert bundle.run_detached().returncode == 0
    assert bundle.command("pause", "c").returncode == 0
    assert bundle.command("delete", "--force", "c").returncode == 0
    assert bundle.cgroups() == []


def test_force_delete_of_nothing(bundle: Bundle) -> None:
    assert bundle.command("delete", "--force", "never").returncode == 0
    assert bundle.command("delete", "never").returncode == 1


def test_list(bundle: Bundle) -> None:
    bundle.root.mkdir()
    assert bundle.command("list", "--format", "json").stdout == "null\n"
    assert bundle.create("one").returncode == 0
    assert bundle.command("list", "--quiet").stdout == "one\n"
    assert [entry["id"] for entry in json.loads(bundle.command("list", "-f", "json").stdout)] == ["one"]
    assert bundle.command("list").stdout.split()[:6] == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]


def test_update_and_events(bundle: Bundle, tmp_path: Path) -> None:
    bundle.config["linux"]["resources"] = {"memory": {"limit": 64 << 20}, "pids": {"limit": 50}}
    bundle.shell("sleep 1000")
    assert bundle.run_detached().returncode == 0
    assert bundle.cgroup_file("memory/memory.limit_in_bytes", "memory.max") == str(64 << 20)
    words = ["--memory", str(32 << 20), "--memory-swap", str(48 << 20), "--pids-limit", "40"]
    assert bundle.command("update", *words, "c").returncode == 0
    assert bundle.cgroup_file("memory/memory.limit_in_bytes", "memory.max") == str(32 << 20)
    assert bundle.cgroup_file("pids/pids.max", "pids.max") == "40"
    (tmp_path / "r.json").write_text(json.dumps({"pids": {"limit": 30}}))
    with (tmp_path / "r.json").open() as file:
        assert bundle.command("update", "--resources", "-", "c", stdin=file).returncode == 0
    assert bundle.cgroup_file("pids/pids.max", "pids.max") == "30"
    event = json.loads(bundle.command("events", "--stats", "c").stdout)
    assert (event["type"], event["id"]) == ("stats", "c")
    assert event["data"]["memory"]["usage"]["limit"] == 32 << 20
    assert event["data"]["pids"] == {"current": 1, "limit": 30}
    memory = event["data"]["memory"]
    assert memory["swap"]["limit"] == 48 << 20, "as runc: memory and swap"
    assert memory["swap"]["usage"] >= memory["usage"]["usage"] >= memory["kernel"]["usage"]
    assert bundle.command("update", "--memory", "much", "c").returncode == 1


def watches_memory(pid: int) -> bool:
    """Whether `events` has opened what it watches."""
    targets = set()
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            targets.add(os.readlink(file))
    return bool({"anon_inode:[eventfd]", "anon_inode:inotify"} & targets)


def test_an_out_of_memory_event(bundle: Bundle) -> None:
    """`events` tells of it while it happens."""
    bundle.config["linux"]["resources"] = {"memory": {"limit": 8 << 20, "swap": 8 << 20}}
    bundle.shell("sleep 1000")
    assert bundle.run_detached().returncode == 0
    command = [bundle.runtime, "--root", str(bundle.root), "events", "--interval", "1h", "c"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as events:
        assert events.stdout is not None
        while not watches_memory(events.pid):
            pass
        greedy = bundle.command("exec", "c", "dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1")
        assert greedy.returncode == 137
        assert json.loads(events.stdout.readline()) == {"type": "oom", "id": "c"}
        bundle.command("kill", "c", "KILL")
        assert events.wait() == 0


def receive_terminal(server: socket.socket) -> int:
    """The descriptor that comes over a console socket."""
    connection, _ = server.accept()
    with connection:
        data, control, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(4))
        assert data
        descriptors = array.array("i")
        descriptors.frombytes(control[0][2][:4])
        return descriptors[0]


def read_terminal(terminal: int) -> str:
    """All of it, to the end (EIO when the other side is closed)."""
    text = b""
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:
            return text.decode()
        if not part:
            return text.decode()
        text += part


def test_console_socket(bundle: Bundle, tmp_path: Path) -> None:
    """A terminal goes to who listens, for the first process and for exec; a long path of the socket is no obstacle."""
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    link = tmp_path / "s"
    link.symlink_to(deep)
    bundle.config["process"].update(terminal=True, consoleSize={"height": 33, "width": 99})
    bundle.shell("stty size; tty; test -c /dev/console && echo console; sleep 1000")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(link / "s"))
        server.listen()
        assert bundle.create("c", "--console-socket", str(deep / "s")).returncode == 0
        terminal = receive_terminal(server)
        assert bundle.command("start", "c").returncode == 0
        text = b""
        while b"console\r\n" not in text:
            text += os.read(terminal, 4096)
        assert text.decode().split() == ["33", "99", "/dev/pts/0", "console"]
        done = bundle.command("exec", "--detach", "--tty", "--console-socket", str(deep / "s"), "c", "tty")
        assert done.returncode == 0, done.stderr
        second = receive_terminal(server)
        assert read_terminal(second).strip() == "/dev/pts/1"
    os.close(terminal)
    os.close(second)


def test_a_terminal_needs_a_socket(bundle: Bundle) -> None:
    bundle.config["process"]["terminal"] = True
    assert "--console-socket" in bundle.create().stderr
    bundle.config["process"]["terminal"] = False
    assert "--console-socket" in bundle.create("c", "--console-socket", "/nowhere").stderr
    assert not (bundle.root / "c").exists()


def test_signals_are_forwarded(bundle: Bundle) -> None:
    bundle.shell("trap 'echo got; exit 5' USR1; echo ready; while :; do sleep 0.05; done")
    bundle.write()
    command = [bundle.runtime, "--root", str(bundle.root), "run", "--bundle", str(bundle.path), "c"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGUSR1)
        assert process.stdout.readline() == "got\n"
        assert process.wait() == 5


def test_preserved_descriptors(bundle: Bundle) -> None:
    bundle.shell("cat <&3; ls /proc/self/fd | wc -l")
    read, write = os.pipe()
    os.write(write, b"hello\n")
    os.close(write)
    bundle.write()
    descriptor = os.dup2(read, 3) if read != 3 else 3
    done = bundle.run("c", "--preserve-fds", "1", pass_fds=[descriptor])
    assert done.stdout == "hello\n5\n", "0, 1, 2, 3, and ls's own"
    assert bundle.run("c", "--preserve-fds", "90").returncode == 1


def test_the_log_is_runcs(bundle: Bundle, tmp_path: Path) -> None:
    log = tmp_path / "log"
    done = bundle.command("--log", str(log), "--log-format", "json", "state", "nosuch")
    assert done.returncode == 1
    entry = json.loads(log.read_text())
    assert (entry["level"], entry["msg"]) == ("error", "container nosuch does not exist")
    assert entry["time"].endswith("Z")


@pytest.mark.here
def test_what_is_written_of_a_container(bundle: Bundle) -> None:
    """Nothing half-written stays beside its files, and nothing at all after its end."""
    bundle.shell("sleep 1000")
    assert bundle.create().returncode == 0
    assert sorted(os.listdir(bundle.root / "c")) == ["config.json", "start.fifo", "state.json"]
    assert bundle.command("start", "c").returncode == 0
    assert sorted(os.listdir(bundle.root / "c")) == ["config.json", "state.json"]
    assert bundle.command("delete", "--force", "c").returncode == 0
    assert os.listdir(bundle.root) == []


@pytest.mark.here
def test_a_log_that_cannot_be_opened(bundle: Bundle, tmp_path: Path) -> None:
    """As runc: nothing is done without the log that was asked for; its help and version need none."""
    log = tmp_path / "nosuch" / "log"
    for words in (
        ["run", "--bundle", str(bundle.path), "c"],
        ["state", "nosuch"],
        ["exec", "c", "true"],
        ["nosuch"],
    ):
        bundle.write()
        done = bundle.command("--log", str(log), *words)
        assert (done.returncode, done.stdout) == (1, ""), words
        assert str(log) in done.stderr
        assert "No such file or directory" in done.stderr
    assert not bundle.root.exists()
    for word in ("--version", "--help"):
        assert bundle.command("--log", str(log), word).returncode == 0
    # One that can be is there, empty or not.
    assert bundle.command("--log", str(tmp_path / "log"), "features").returncode == 0
    assert (tmp_path / "log").read_text() == ""


@pytest.mark.here
@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "a b", "a\nb", "x" * 300])
def test_names_that_are_no_names(bundle: Bundle, name: str) -> None:
    done = bundle.run(name)
    assert done.returncode == 1
    assert "invalid container id" in done.stderr


@pytest.mark.parametrize("seccomp", [False, True])
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_signals_to_a_created_container(bundle: Bundle, name: str, seccomp: bool) -> None:
    """It ends as its program would, though it is the first process of a PID namespace."""
    if seccomp:
        calls = {"names": ["sched_yield"], "action": "SCMP_ACT_ERRNO"}
        bundle.config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [calls]}
    bundle.shell("sleep 1000")
    assert bundle.create().returncode == 0
    pidfd = os.pidfd_open(bundle.state()["pid"])
    signal.pidfd_send_signal(pidfd, getattr(signal, name))
    assert select.select([pidfd], [], [], 60)[0]
    os.close(pidfd)
    assert bundle.state()["status"] == "stopped"
    assert bundle.command("start", "c").returncode == 1
    assert bundle.command("delete", "c").returncode == 0


@pytest.mark.parametrize(
    "command",
    [
        "create",
        "delete",
        "events",
        "exec",
        "features",
        "kill",
        "list",
        "pause",
        "ps",
        "resume",
        "run",
        "spec",
        "start",
        "state",
        "update",
    ],
)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_of_a_command(bundle: Bundle, command: str, flag: str) -> None:
    done = bundle.command(command, flag)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert f" {command} [flags]" in done.stdout
    assert ("--bundle, -b" in done.stdout) is (command in ("create", "run", "spec"))


def test_exec_in_a_cgroup_below(bundle: Bundle) -> None:
    """`--cgroup path`, and on cgroup v1 for some controllers only."""
    bundle.shell("sleep 1000")
    assert bundle.run_detached().returncode == 0
    for place in bundle.cgroups():
        if "cpuset" not in place:  # on v1 nobody may enter a new one before it has processors
            (Path(place) / "below").mkdir()

    def cgroups(*flags: str) -> dict[str, str]:
        done = bundle.command("exec", *flags, "c", "cat", "/proc/self/cgroup")
        assert (done.returncode, done.stderr) == (0, ""), done
        return {line.split(":")[1]: line.split(":")[2] for line in done.stdout.splitlines()}

    try:
        assert set(cgroups("--cgroup", "below").values()) >= {"/below"}
        assert "/below" not in cgroups("--cgroup", "/").values()
        if Path("/sys/fs/cgroup/memory").is_dir():
            seen = cgroups("--cgroup", "memory:below", "--cgroup", "pids,freezer:/below")
            assert {name for name, path in seen.items() if path == "/below"} == {"memory", "pids", "freezer"}
        for word in ("..", "../x", "memory:..", "memory:../x", "nosuch:below", "absent", "pids:absent", ":x"):
            done = bundle.command("exec", "--cgroup", word, "c", "true")
            assert (done.returncode, bool(done.stderr)) == (255, True), (word, done)
    finally:
        bundle.command("kill", "c", "KILL")


def test_debug(bundle: Bundle, tmp_path: Path) -> None:
    """As runc: to --log, or without one to standard error; nothing without --debug."""
    bundle.write()
    run = ("run", "--bundle", str(bundle.path), "c")
    assert bundle.command("--log", str(tmp_path / "log"), *run).returncode == 0
    assert (tmp_path / "log").read_text() == ""
    words = ("--debug", "--log", str(tmp_path / "log"), "--log-format", "json")
    assert bundle.command(*words, *run).stderr == ""
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert {line["level"] for line in lines} == {"debug"}
    assert any(str(bundle.rootfs) in line["msg"] and bundle.cgroup in line["msg"] for line in lines)
    assert "level=debug" in bundle.command("--debug", *run).stderr


def test_a_state_of_another_version(bundle: Bundle) -> None:
    assert bundle.create().returncode == 0
    file = bundle.root / "c/state.json"
    good = file.read_text()
    for bad in (
        '{"ociVersion": "1.0.2", "id": "c", "init_process_pid": 1}',
        "{",
        "",
        '{"fastdockState": 999}',
    ):
        file.write_text(bad)
        done = bundle.command("state", "c")
        assert done.returncode == 1, bad
        assert "state.json" in done.stderr or "pid" in done.stderr
    file.write_text(good)
    assert bundle.state()["status"] == "created"


def test_a_number_that_became_another_process(bundle: Bundle) -> None:
    """The pid of a container that has ended may be somebody else's: it is not signalled."""
    assert bundle.create().returncode == 0
    state = json.loads((bundle.root / "c/state.json").read_text())
    real, started = state["pid"], state["startTime"]
    with subprocess.Popen(["sleep", "1000"]) as other:
        fields = Path(f"/proc/{other.pid}/stat").read_text().rpartition(")")[2].split()
        state.update(pid=other.pid, startTime=int(fields[19]) - 1)
        (bundle.root / "c/state.json").write_text(json.dumps(state))
        assert bundle.state()["status"] == "stopped"
        assert bundle.command("kill", "c", "KILL").returncode == 1
        assert other.poll() is None
        other.kill()
    state.update(pid=real, startTime=started)
    (bundle.root / "c/state.json").write_text(json.dumps(state))


@pytest.mark.here
def test_killed_at_any_moment(bundle: Bundle) -> None:
    """After a SIGKILL of `create`, `delete --force` removes everything, whatever was reached."""
    bundle.write()
    command = [bundle.runtime, "--root", str(bundle.root), "create", "--bundle", str(bundle.path), "k"]
    for microseconds in range(0, 6000, 400):
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        subprocess.run(["sleep", str(microseconds / 1e6)], check=True)
        process.kill()
        process.wait()
        assert bundle.command("delete", "--force", "k").returncode == 0
        assert not (bundle.root / "k").exists()

"""fastdock-oci beside runc: what runc 1.4.0's own tests (tests/integration) found different."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from oci_bundle import Bundle, wait_for_end, with_user_namespace

pytestmark = pytest.mark.kernel


def test_list_is_one_line(bundle: Bundle) -> None:
    """Read line by line by scripts: runc's list is not indented, its state is."""
    bundle.shell("sleep 1000")
    assert bundle.run_detached("one").returncode == 0
    text = bundle.command("list", "--format", "json").stdout
    assert text.count("\n") == 1
    (listed,) = json.loads(text)
    assert list(listed) == ["ociVersion", "id", "pid", "status", "bundle", "rootfs", "created", "owner"]
    assert bundle.command("state", "one").stdout.startswith('{\n  "ociVersion"')


def processes_in(bundle: Bundle) -> list[int]:
    directories = [path for path in bundle.cgroups() if (Path(path) / "cgroup.procs").exists()]
    return sorted(
        {int(pid) for path in directories for pid in (Path(path) / "cgroup.procs").read_text().split()}
    )


@pytest.mark.parametrize("first_has_ended", [False, True])
def test_kill_without_a_pid_namespace(bundle: Bundle, first_has_ended: bool) -> None:
    """Nothing ends the other processes with the first: KILL is for them all, as runc 1.4.0 has it."""
    bundle.config["linux"]["namespaces"].remove({"type": "pid"})
    bundle.shell("sleep 1000 & sleep 1000 & sleep 1000")
    assert bundle.run_detached("c").returncode == 0
    deadline = time.monotonic() + 30
    while len(processes_in(bundle)) < 3:
        assert time.monotonic() < deadline
    if first_has_ended:
        os.kill(bundle.state()["pid"], signal.SIGKILL)
        while bundle.state()["status"] != "stopped":
            assert time.monotonic() < deadline
        assert processes_in(bundle)
    assert bundle.command("kill", "c", "KILL").returncode == 0
    assert processes_in(bundle) == []
    done = bundle.command("kill", "c", "KILL")
    assert (done.returncode, "container not running" in done.stderr) == (1, True)


@pytest.mark.here
def test_delete_of_a_process_that_does_not_end(bundle: Bundle) -> None:
    """Frozen from another cgroup (v1's freezer: v2's lets it die), it outlives SIGKILL: the container stays."""
    bundle.config["process"]["args"] = ["/bin/sleep", "1000"]
    assert bundle.run_detached("c").returncode == 0
    pid = bundle.state()["pid"]
    freezer = Path(f"/sys/fs/cgroup/freezer/fastdock-oci-test-{os.getpid()}-frozen")
    freezer.mkdir()
    try:
        (freezer / "cgroup.procs").write_text(str(pid))
        (freezer / "freezer.state").write_text("FROZEN")
        done = bundle.command("delete", "--force", "c")
        assert (done.returncode, f"container init still running: process {pid}" in done.stderr) == (
            1,
            True,
        ), done
        assert bundle.state()["pid"] == pid
    finally:
        (freezer / "freezer.state").write_text("THAWED")
        wait_for_end(pid)
        freezer.rmdir()
    assert bundle.state()["status"] == "stopped"
    assert bundle.command("delete", "c").returncode == 0
    assert os.listdir(bundle.root) == []


@pytest.mark.parametrize(
    "kind", ["prestart", "createRuntime", "createContainer", "startContainer", "poststart"]
)
def test_the_hook_that_failed_is_named(bundle: Bundle, kind: str) -> None:
    """Its kind and its number: the same program may be many hooks."""
    bundle.config["hooks"] = {kind: [{"path": "/bin/true"}, {"path": "/bin/false"}]}
    done = bundle.run()
    assert done.returncode == 1
    assert f"error running {kind} hook #1: /bin/false failed with status 1" in done.stderr
    killed = {"path": "/bin/sh", "args": ["sh", "-c", "kill -SYS $$"]}
    bundle.config["hooks"] = {kind: [killed]}
    assert f"error running {kind} hook #0: /bin/sh failed with status 159 (signal: Bad system call)" in (
        bundle.run("d").stderr
    )


def test_no_processes_at_all(bundle: Bundle) -> None:
    """pids.limit 0 is the least that there is, 1: not "no limit", and not a container that cannot run."""
    bundle.config["linux"]["resources"] = {"pids": {"limit": 0}}
    bundle.config["process"]["args"] = ["/bin/sleep", "1000"]
    assert bundle.run_detached("c").returncode == 0
    assert bundle.cgroup_file("pids/pids.max", "pids.max") == "1"
    for given, wanted in (("20", "20"), ("0", "1"), ("-1", "max")):
        assert bundle.command("update", "--pids-limit", given, "c").returncode == 0
        assert bundle.cgroup_file("pids/pids.max", "pids.max") == wanted


def test_a_device_rules_superfluous_letter(bundle: Bundle) -> None:
    """runc leaves the letter out; what is not allowed stays so."""
    rules = [{"allow": False}, {"allow": False, "type": "c", "major": 1, "minor": 11, "access": "rwa"}]
    bundle.config["linux"]["resources"] = {"devices": rules}
    bundle.shell("echo good > /dev/null && echo written")
    assert bundle.run().stdout == "written\n"
    rules[1]["access"] = "a"
    assert bundle.run("d").returncode == 1


def test_destinations_on_the_host(bundle: Bundle, tmp_path: Path) -> None:
    """A destination that starts with the root file system's directory is inside, not made below itself."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source/file").write_text("seen\n")
    (bundle.rootfs / "inside").mkdir()
    bundle.config["mounts"].append(
        {
            "destination": f"{bundle.rootfs}/inside",
            "type": "bind",
            "source": str(tmp_path / "source"),
            "options": ["bind"],
        }
    )
    bundle.shell("cat /inside/file")
    assert bundle.run().stdout == "seen\n"
    assert sorted(path.name for path in (bundle.rootfs / "inside").iterdir()) == []
    assert not (bundle.rootfs / tmp_path.relative_to("/")).exists()


def figures_of(bundle: Bundle) -> dict[str, Any]:
    done = bundle.command("events", "--stats", "c")
    assert done.returncode == 0, done.stderr
    event = json.loads(done.stdout)
    assert (event["type"], event["id"]) == ("stats", "c")
    return dict(event["data"])


def test_all_figures_of_events(bundle: Bundle) -> None:
    """Every member that runc has (its types/events.go), with what the kernel says."""
    limit = 64 << 20
    bundle.config["linux"]["resources"] = {"memory": {"limit": limit}, "pids": {"limit": 30}}
    bundle.shell("dd if=/dev/zero of=/dev/null bs=1M count=200 2> /dev/null; sleep 1000")
    assert bundle.run_detached("c").returncode == 0
    data = figures_of(bundle)
    members = "cpu cpuset memory pids blkio hugetlb intel_rdt network_interfaces"
    assert sorted(data) == sorted(members.split())
    assert data["network_interfaces"] is None
    processors = sorted(os.sched_getaffinity(0))
    assert set(processors) <= set(data["cpuset"]["cpus"])
    assert data["cpuset"]["mems"][0] == 0
    memory = data["memory"]
    for counter in ("usage", "swap", "kernel", "kernelTCP"):
        assert sorted(memory[counter]) == ["failcnt", "limit", "max", "usage"], counter
    assert memory["usage"]["limit"] == limit
    assert 0 < memory["usage"]["usage"] <= memory["usage"]["max"] <= limit
    assert memory["kernel"]["usage"] > 0
    if Path("/sys/fs/cgroup/cpuacct").is_dir():
        usage = data["cpu"]["usage"]
        assert data["cpuset"]["sched_load_balance"] == 1
        assert len(usage["percpu"]) == len(usage["percpu_kernel"]) == len(usage["percpu_user"])
        assert 0 < usage["total"] <= sum(figures_of(bundle)["cpu"]["usage"]["percpu"])
        assert memory["kernel"]["max"] >= memory["kernel"]["usage"]
    elif Path("/proc/pressure/cpu").exists():
        for place in ("cpu", "memory", "blkio"):
            assert data[place]["psi"]["some"]["total"] >= 0


def test_help_is_shaped_as_runcs(bundle: Bundle) -> None:
    """`command --help` of every command, also of those that there is nothing behind."""
    commands = (
        "checkpoint create delete events exec features kill list pause ps restore resume run spec start"
    )
    for name in [*commands.split(), "state", "update"]:
        done = bundle.command(name, "--help")
        assert done.returncode == 0, name
        assert done.stdout.startswith(f"NAME:\n   fastdock-oci {name}"), name
    done = bundle.command("foo", "-h")
    assert done.returncode == 3
    assert "No help topic for 'foo'" in done.stderr


def test_the_flag_rootless(bundle: Bundle) -> None:
    """auto or a truth value; anything else is refused before anything is done."""
    for word in ("auto", "true", "false", "1"):
        command = [bundle.runtime, "--rootless", word, "--root", str(bundle.root), "state", "missing"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, "does not exist" in done.stderr) == (1, True)
    command = [bundle.runtime, "--rootless", "perhaps", "list"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "--rootless must be true, false or auto" in done.stderr) == (1, True)


def test_words_that_callers_look_for(bundle: Bundle, tmp_path: Path) -> None:
    """Of errors, in runc's words."""
    bundle.config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": str(tmp_path / "nobody.sock"),
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}],
    }
    assert "failed to connect with seccomp agent" in bundle.run().stderr
    bundle.config["linux"]["seccomp"]["syscalls"][0]["names"] = ["write"]
    assert "SCMP_ACT_NOTIFY cannot be used for the write syscall" in bundle.run("b").stderr
    del bundle.config["linux"]["seccomp"]
    bundle.config["linux"]["memoryPolicy"] = {}
    assert "invalid memory policy" in bundle.run("c").stderr
    del bundle.config["linux"]["memoryPolicy"]
    (bundle.rootfs / "bin/script").write_text("#!/no/interpreter\n")
    (bundle.rootfs / "bin/script").chmod(0o755)
    bundle.config["process"]["args"] = ["/bin/script"]
    assert "exec /bin/script: no such file or directory" in bundle.run("d").stderr
    bundle.shell("sleep 1000")
    assert bundle.run_detached("e").returncode == 0
    (bundle.rootfs / "etc/passwd").chmod(0o644)
    done = bundle.command("exec", "e", "/etc/passwd")
    assert (done.returncode, 'exec: "/etc/passwd": permission denied' in done.stderr) == (255, True)
    done = bundle.command("exec", "--unknown", "e", "true")
    assert (done.returncode, "--unknown" in done.stderr) == (1, True)
    done = bundle.command("exec", "--cgroup", "missing", "e", "true")
    assert (done.returncode, "cannot join the cgroup" in done.stderr) == (255, True)
    done = bundle.command("exec", "--cgroup", "..", "e", "true")
    assert (done.returncode, "bad sub cgroup path" in done.stderr) == (255, True)


@pytest.mark.parametrize(
    "keeps", [("user", "mount", "network"), ("user", "mount", "network", "pid", "ipc", "uts")]
)
def test_a_namespace_of_another_owner_than_the_joined_user_namespace(
    bundle: Bundle, tmp_path: Path, keeps: tuple[str, ...]
) -> None:
    """A network namespace of the host's beside somebody's user namespace: joined before the host's rights go."""
    with_user_namespace(bundle)
    bundle.shell("sleep 1000")
    assert bundle.run_detached("owner").returncode == 0
    (tmp_path / "other").mkdir()
    other = Bundle(tmp_path / "other")
    # It ends with its standard input, however this ends.
    command = ["unshare", "--net", "sh", "-c", "echo; read line"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as network:
        assert network.stdout is not None
        network.stdout.readline()
        with_user_namespace(other)
        linux = other.config["linux"]
        del linux["uidMappings"], linux["gidMappings"]
        places = {"user": bundle.state("owner")["pid"], "network": network.pid}
        files = {"user": "user", "network": "net"}
        linux["namespaces"] = [
            {"type": kind, "path": f"/proc/{places[kind]}/ns/{files[kind]}"}
            if kind in places
            else {"type": kind}
            for kind in keeps
        ]
        other.config["mounts"] = [entry for entry in other.config["mounts"] if entry["type"] == "tmpfs"]
        other.config["mounts"].append(
            {"destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"]}
        )
        linux["maskedPaths"] = linux["readonlyPaths"] = []
        other.config["process"]["args"] = ["/bin/sh", "-c", "sleep 1000"]
        assert other.run_detached().returncode == 0, (tmp_path / "other/stderr").read_text()
        pid = other.state()["pid"]
        for kind, file in files.items():
            assert os.readlink(f"/proc/{pid}/ns/{file}") == os.readlink(f"/proc/{places[kind]}/ns/{file}")
        done = other.command("exec", "c", "readlink", "/proc/self/ns/net")
        assert done.stdout.strip() == os.readlink(f"/proc/{network.pid}/ns/net"), done.stderr
    other.close()

"""fastdock-oci: config.json, field by field."""

from __future__ import annotations

import array
import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from oci_bundle import CAPABILITIES, Bundle, with_user_namespace

pytestmark = pytest.mark.kernel


def status_of(bundle: Bundle) -> dict[str, str]:
    """/proc/self/status of the container's program."""
    lines = bundle.output("cat /proc/self/status").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_user_groups_and_umask(bundle: Bundle) -> None:
    bundle.config["process"]["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [5, 6], "umask": 0o77}
    assert bundle.output("id -u; id -G; umask; echo $HOME").split() == [
        "1000",
        "1000",
        "5",
        "6",
        "0077",
        "/home/app",
    ]


def test_home_of_an_unknown_user(bundle: Bundle) -> None:
    bundle.config["process"]["user"] = {"uid": 4242, "gid": 4242}
    assert bundle.output("echo $HOME") == "/\n"
    bundle.config["process"]["env"].append("HOME=/own")
    assert bundle.output("echo $HOME") == "/own\n"


def test_capabilities(bundle: Bundle) -> None:
    sets = {"bounding": CAPABILITIES, "permitted": ["CAP_CHOWN", "CAP_KILL"], "effective": ["CAP_CHOWN"]}
    bundle.config["process"]["capabilities"] = sets | {"inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]}
    bundle.config["process"]["user"] = {"uid": 1000, "gid": 1000}
    status = status_of(bundle)
    # An ordinary user keeps across execve what is ambient.
    assert {name: int(status[name], 16) for name in ("CapPrm", "CapEff", "CapInh", "CapAmb")} == {
        "CapPrm": 1 << 5,
        "CapEff": 1 << 5,
        "CapInh": 1 << 5,
        "CapAmb": 1 << 5,
    }
    bundle.config["process"]["capabilities"] = {}
    bundle.config["process"]["user"] = {"uid": 0, "gid": 0}
    status = status_of(bundle)
    assert int(status["CapBnd"], 16) == int(status["CapEff"], 16) == 0


def test_an_unknown_capability_is_a_warning(bundle: Bundle, tmp_path: Path) -> None:
    bundle.config["process"]["capabilities"]["bounding"] = ["CAP_CHOWN", "CAP_FUTURE"]
    bundle.write()
    done = bundle.command(
        "--log", str(tmp_path / "log"), "--log-format", "json", "run", "--bundle", str(bundle.path), "c"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "log").read_text())["msg"] == "unknown capability ignored: CAP_FUTURE"


def test_process_attributes(bundle: Bundle) -> None:
    process = bundle.config["process"]
    process["noNewPrivileges"] = True
    process["oomScoreAdj"] = 500
    process["rlimits"] = [
        {"type": "RLIMIT_NOFILE", "soft": 77, "hard": 88},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
    ]
    process["scheduler"] = {"policy": "SCHED_BATCH", "nice": 7}
    process["ioPriority"] = {"class": "IOPRIO_CLASS_IDLE", "priority": 4}
    bundle.config["linux"]["personality"] = {"domain": "LINUX32"}
    bundle.config["hostname"], bundle.config["domainname"] = "inside", "example.org"
    bundle.config["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1", "kernel.shmmni": "111"}
    text = bundle.output(
        "grep NoNewPrivs /proc/self/status; cat /proc/self/oom_score_adj; ulimit -n; ulimit -Hn;"
        "cut -d' ' -f19 /proc/self/stat;"
        "hostname; cat /proc/sys/kernel/domainname;"
        "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmni; cat /proc/self/personality"
    )
    assert text.split() == [
        "NoNewPrivs:",
        "1",
        "500",
        "77",
        "88",
        "7",
        "inside",
        "example.org",
        "1",
        "111",
        "00000008",
    ]


def test_loopback_is_up(bundle: Bundle) -> None:
    assert "UP" in bundle.output("ip link show lo")


def test_root_read_only(bundle: Bundle) -> None:
    """Mount points that the image lacks are made all the same."""
    bundle.config["root"]["readonly"] = True
    bundle.config["mounts"].append({"destination": "/new/deep", "type": "tmpfs", "source": "t"})
    assert (
        bundle.output("touch /x 2>/dev/null || echo refused; touch /new/deep/x && echo written")
        == "refused\nwritten\n"
    )


def test_memory_policy(bundle: Bundle) -> None:
    """Of the first process and of what exec adds; the kernel's refusal names it."""
    show = "cut -d' ' -f2 /proc/self/numa_maps | head -1"
    policies = [
        ({"mode": "MPOL_BIND", "nodes": "0"}, "bind:0"),
        (
            {"mode": "MPOL_INTERLEAVE", "nodes": "0-0", "flags": ["MPOL_F_STATIC_NODES"]},
            "interleave=static:0",
        ),
        ({"mode": "MPOL_LOCAL"}, "local"),
        ({"mode": "MPOL_DEFAULT", "nodes": ""}, "default"),
    ]
    for policy, shown in policies:
        bundle.config["linux"]["memoryPolicy"] = policy
        assert bundle.output(show).strip() == shown
    bundle.config["linux"]["memoryPolicy"] = policies[0][0]
    bundle.shell("sleep 1000")
    assert bundle.run_detached().returncode == 0
    assert bundle.command("exec", "c", "sh", "-c", show).stdout == "bind:0\n"
    assert bundle.command("delete", "--force", "c").returncode == 0
    for nodes in ("1000", ""):
        bundle.config["linux"]["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": nodes}
        assert "memory policy" in bundle.refused()


def test_default_devices_and_links(bundle: Bundle) -> None:
    text = bundle.output(
        "stat -c '%n %a %t:%T' /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty;"
        "for l in fd stdin stdout stderr ptmx; do readlink /dev/$l; done; echo x > /dev/null"
    )
    assert text.splitlines() == [
        "/dev/null 666 1:3",
        "/dev/zero 666 1:5",
        "/dev/full 666 1:7",
        "/dev/random 666 1:8",
        "/dev/urandom 666 1:9",
        "/dev/tty 666 5:0",
        "/proc/self/fd",
        "/proc/self/fd/0",
        "/proc/self/fd/1",
        "/proc/self/fd/2",
        "pts/ptmx",
    ]


def test_devices(bundle: Bundle) -> None:
    linux = bundle.config["linux"]
    linux["devices"] = [
        {"path": "/dev/sub/one", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 3, "gid": 4},
        {"path": "/dev/pipe", "type": "p", "fileMode": 0o600},
        {"path": "/dev/secret", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666},
    ]
    linux["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    text = bundle.output(
        "stat -c '%F %a %u:%g' /dev/sub/one /dev/pipe; head -c 1 /dev/sub/one | wc -c;"
        "head -c 1 /dev/secret 2>&1 | grep -o 'not permitted'"
    )
    assert text.splitlines() == ["character special file 640 3:4", "fifo 600 0:0", "1", "not permitted"]


def test_masked_and_read_only_paths(bundle: Bundle) -> None:
    (bundle.rootfs / "etc/secret").write_text("secret")
    (bundle.rootfs / "etc/directory").mkdir()
    (bundle.rootfs / "etc/directory/file").write_text("secret")
    bundle.config["linux"]["maskedPaths"] += ["/etc/secret", "/etc/directory", "/nowhere"]
    bundle.config["linux"]["readonlyPaths"] += ["/etc", "/nowhere"]
    text = bundle.output("cat /etc/secret; ls /etc/directory; touch /etc/x 2>/dev/null || echo read-only")
    assert text == "read-only\n"


def test_user_namespace(bundle: Bundle) -> None:
    with_user_namespace(bundle)
    bundle.config["linux"]["resources"] = {"pids": {"limit": 100}}
    text = bundle.output(
        "id -u; cat /proc/self/uid_map; touch /tmp/made; echo > /dev/null && stat -c '%t:%T %u' /dev/null"
    )
    assert text.split() == ["0", "0", "1879048192", "65536", "1:3", "0"]
    assert (bundle.rootfs / "tmp/made").stat().st_uid == 1879048192
    bundle.shell("sleep 1000")
    assert bundle.run_detached().returncode == 0
    assert bundle.command("exec", "--user", "7:8", "c", "id", "-u").stdout == "7\n"
    assert bundle.command("exec", "c", "sh", "-c", "touch /tmp/by-exec && id -u").stdout == "0\n"
    assert (bundle.rootfs / "tmp/by-exec").stat().st_uid == 1879048192


def test_time_offsets(bundle: Bundle) -> None:
    bundle.config["linux"]["namespaces"].append({"type": "time"})
    bundle.config["linux"]["timeOffsets"] = {"boottime": {"secs": 1_000_000_000}}
    assert float(bundle.output("cat /proc/uptime").split()[0]) > 1_000_000_000


def test_joined_namespaces(bundle: Bundle, tmp_path: Path) -> None:
    """A second container in the first one's network, IPC and PID namespaces, as in a pod."""
    bundle.shell("sleep 1000")
    assert bundle.run_detached().returncode == 0
    pid = bundle.state()["pid"]
    (tmp_path / "other").mkdir()
    other = Bundle(tmp_path / "other")
    names = {"network": "net", "ipc": "ipc", "pid": "pid"}
    for entry in other.config["linux"]["namespaces"]:
        if entry["type"] in names:
            entry["path"] = f"/proc/{pid}/ns/{names[entry['type']]}"
    script = "for n in net ipc pid; do readlink /proc/self/ns/$n; done; cat /proc/1/cmdline"
    lines = other.output(script).split("\n")
    assert lines[:3] == [os.readlink(f"/proc/{pid}/ns/{name}") for name in ("net", "ipc", "pid")]
    assert "sleep" in lines[3]
    other.close()


def test_a_joined_user_namespace(bundle: Bundle, tmp_path: Path) -> None:
    """New namespaces beside a joined user namespace belong to it."""
    with_user_namespace(bundle)
    bundle.shell("sleep 1000")
    assert bundle.run_detached().returncode == 0
    pid = bundle.state()["pid"]
    (tmp_path / "other").mkdir()
    other = Bundle(tmp_path / "other")
    with_user_namespace(other)
    linux = other.config["linux"]
    linux["namespaces"][-1]["path"] = f"/proc/{pid}/ns/user"
    other.config["hostname"] = "inside"
    other.config["process"]["terminal"] = True  # its /dev/console is made by the namespace's root
    text = other.output("id -u; readlink /proc/self/ns/user; hostname; stat -c %u /dev /dev/console")
    assert text.split() == ["0", os.readlink(f"/proc/{pid}/ns/user"), "inside", "0", "0"]
    other.close()


def test_all_namespaces_of_another_container(bundle: Bundle, tmp_path: Path) -> None:
    """Beside a joined user namespace and PID namespace: the pid that is kept is the container's as the host
    counts, and no other process of the host is taken for it."""
    with_user_namespace(bundle)
    bundle.shell("sleep 1000; :")
    assert bundle.run_detached().returncode == 0
    pid = bundle.state()["pid"]
    (tmp_path / "other").mkdir()
    other = Bundle(tmp_path / "other")
    with_user_namespace(other)
    files = {"mount": None, "network": "net"}
    for namespace in other.config["linux"]["namespaces"]:
        if file := files.get(namespace["type"], namespace["type"]):
            namespace["path"] = f"/proc/{pid}/ns/{file}"
    del other.config["linux"]["uidMappings"], other.config["linux"]["gidMappings"]
    other.shell("sleep 999; :")
    assert other.run_detached().returncode == 0
    joined = other.state()["pid"]
    assert Path(f"/proc/{joined}/cmdline").read_text() == "/bin/sh\0-c\0sleep 999; :\0"
    for file in ("pid", "user", "net"):
        assert os.readlink(f"/proc/{joined}/ns/{file}") == os.readlink(f"/proc/{pid}/ns/{file}")
    in_exec = other.command("exec", "c", "sh", "-c", "cat /proc/self/uid_map; ls -d /proc/[0-9]* | wc -l")
    assert in_exec.stdout.split()[1] == "1879048192", in_exec
    assert int(in_exec.stdout.split()[3]) < 10
    assert other.command("delete", "--force", "c").returncode == 0
    other.shell("exit 5")
    assert other.run("d").returncode == 5
    other.close()


def test_limits(bundle: Bundle) -> None:
    bundle.config["linux"]["resources"] = {
        "memory": {"limit": 64 << 20, "reservation": 32 << 20},
        "cpu": {"shares": 512, "quota": 50000, "period": 100000, "cpus": "0"},
        "pids": {"limit": 20},
    }
    assert bundle.create().returncode == 0
    assert bundle.cgroup_file("memory/memory.limit_in_bytes", "memory.max") == str(64 << 20)
    assert bundle.cgroup_file("memory/memory.soft_limit_in_bytes", "memory.low") == str(32 << 20)
    assert bundle.cgroup_file("cpu/cpu.cfs_quota_us", "cpu.max").split()[0] == "50000"
    assert bundle.cgroup_file("cpuset/cpuset.cpus", "cpuset.cpus") == "0"
    assert bundle.cgroup_file("pids/pids.max", "pids.max") == "20"


def test_seccomp(bundle: Bundle) -> None:
    rules = [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95},
        {"names": ["sethostname"], "action": "SCMP_ACT_KILL_PROCESS"},
    ]
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "syscalls": rules,
    }
    bundle.config["linux"]["seccomp"] = profile
    for no_new_privileges in (False, True):
        bundle.config["process"]["noNewPrivileges"] = no_new_privileges
        text = bundle.output(
            "mkdir /x 2>&1; hostname new 2>/dev/null; echo $?; grep Seccomp: /proc/self/status"
        )
        assert "Operation not supported" in text
        assert text.split()[-3:] == ["159", "Seccomp:", "2"]
    bundle.shell("sleep 1000")
    assert bundle.run_detached().returncode == 0
    assert "not supported" in bundle.command("exec", "c", "mkdir", "/y").stderr, "exec has the filter too"


def test_seccomp_notify(bundle: Bundle, tmp_path: Path) -> None:
    """The listener and the state arrive before the program's first instruction; what it answers is what happens."""
    path = str(tmp_path / "agent")
    rules = [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]
    bundle.config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": rules,
        "listenerPath": path,
        "listenerMetadata": "about it",
    }
    bundle.config["process"]["noNewPrivileges"] = True
    bundle.shell("mkdir /x; echo $?; ls -d /x")
    bundle.write()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        command = [bundle.runtime, "--root", str(bundle.root), "run", "--bundle", str(bundle.path), "c"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            connection, _ = server.accept()
            with connection:
                data, control, _, _ = connection.recvmsg(65536, socket.CMSG_SPACE(4))
            state = json.loads(data)
            listener = array.array("i", control[0][2][:4])[0]
            refuse_one(listener)
            output, _ = process.communicate()
    os.close(listener)
    assert (state["metadata"], state["fds"], state["state"]["id"]) == ("about it", ["seccompFd"], "c")
    assert output == "1\n"


def refuse_one(listener: int) -> None:
    """Answers one notification with EPERM: seccomp_unotify(2)."""
    import fcntl
    import struct

    notification = bytearray(80)  # struct seccomp_notif
    fcntl.ioctl(listener, 0xC0502100, notification)
    identity = struct.unpack_from("Q", notification)[0]
    fcntl.ioctl(listener, 0xC0182101, bytearray(struct.pack("QqiI", identity, 0, -1, 0)))


def hook(directory: Path, name: str, script: str = "", **members: Any) -> dict[str, Any]:
    """A hook that notes its name, its state's status and where it runs."""
    file = directory / f"{name}.sh"
    status = """grep -o '"status": "[a-z]*"' | cut -d'"' -f4"""
    file.write_text(
        f"#!/bin/sh\necho {name} $({status}) $(readlink /proc/self/ns/mnt) $1 $V >> {directory}/log\n{script}\n"
    )
    file.chmod(0o755)
    return {
        "path": str(file),
        "args": [name, "argument"],
        "env": ["V=variable", "PATH=/bin:/usr/bin"],
    } | members


def test_hooks(bundle: Bundle, tmp_path: Path) -> None:
    names = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"]
    bundle.config["hooks"] = {name: [hook(tmp_path, name)] for name in names}
    inside = bundle.rootfs / "bin/inside"
    inside.write_text(
        "#!/bin/sh\ncat > /tmp/state; readlink /proc/self/ns/mnt > /tmp/where; id -u >> /tmp/where\n"
    )
    inside.chmod(0o755)
    bundle.config["hooks"]["startContainer"] = [{"path": "/bin/inside", "env": ["PATH=/bin"]}]
    bundle.config["process"]["user"] = {"uid": 0, "gid": 0}
    bundle.shell("test -s /tmp/state && sleep 1000")
    host = os.readlink("/proc/self/ns/mnt")
    assert bundle.create().returncode == 0
    mount_namespace = os.readlink(f"/proc/{bundle.state()['pid']}/ns/mnt")
    assert not (bundle.rootfs / "tmp/state").exists()
    assert bundle.command("start", "c").returncode == 0
    assert bundle.state()["status"] == "running"
    assert bundle.command("delete", "--force", "c").returncode == 0
    lines = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    assert [line[:3] for line in lines] == [
        ["prestart", "creating", host],
        ["createRuntime", "creating", host],
        ["createContainer", "creating", mount_namespace],
        ["poststart", "running", host],
        ["poststop", "stopped", host],
    ]
    assert all(line[3:] == ["argument", "variable"] for line in lines)
    assert json.loads((bundle.rootfs / "tmp/state").read_text())["status"] == "created"
    assert (bundle.rootfs / "tmp/where").read_text().split() == [mount_namespace, "0"]


def test_hooks_of_run(bundle: Bundle, tmp_path: Path) -> None:
    names = ["createRuntime", "poststart", "poststop"]
    bundle.config["hooks"] = {name: [hook(tmp_path, name)] for name in names}
    inside = bundle.rootfs / "bin/inside"
    inside.write_text("#!/bin/sh\necho ran > /tmp/inside\n")
    inside.chmod(0o755)
    bundle.config["hooks"]["startContainer"] = [{"path": "/bin/inside", "env": ["PATH=/bin"]}]
    assert bundle.output("cat /tmp/inside") == "ran\n"
    assert [line.split()[0] for line in (tmp_path / "log").read_text().splitlines()] == names


def test_a_hook_without_an_environment(bundle: Bundle, tmp_path: Path) -> None:
    """As runc: it has the runtime's, and inside the container the container's; createContainer starts in the root."""
    (bundle.rootfs / "bin/inside").write_text("#!/bin/sh\necho $OWN > /tmp/inside\n")
    (bundle.rootfs / "bin/inside").chmod(0o755)
    bundle.config["process"]["env"].append("OWN=container")
    shell = {"path": "/bin/sh", "args": ["sh", "-c", f"echo $OWN $PWD >> {tmp_path}/log"]}
    bundle.config["hooks"] = {
        "createRuntime": [shell],
        "createContainer": [shell],
        "startContainer": [{"path": "/bin/inside"}],
    }
    bundle.shell("cat /tmp/inside")
    done = bundle.run(env={**os.environ, "OWN": "runtime"})
    assert done.stdout == "container\n", done
    assert (tmp_path / "log").read_text().splitlines() == [
        f"runtime {bundle.path}",
        f"runtime {bundle.rootfs}",
    ]


@pytest.mark.parametrize(
    "when", ["prestart", "createRuntime", "createContainer", "startContainer", "poststart"]
)
def test_a_hook_that_fails(bundle: Bundle, tmp_path: Path, when: str) -> None:
    """The container is not made, what it left is removed, and poststop runs."""
    if when == "startContainer":
        (bundle.rootfs / "bin/bad").write_text("#!/bin/sh\necho why >&2; exit 3\n")
        (bundle.rootfs / "bin/bad").chmod(0o755)
        bad: dict[str, Any] = {"path": "/bin/bad", "env": ["PATH=/bin"]}
    else:
        bad = hook(tmp_path, "bad", "echo why >&2; exit 3")
    bundle.config["hooks"] = {when: [bad], "poststop": [hook(tmp_path, "poststop")]}
    error = bundle.refused()
    assert "failed with status 3: why" in error
    assert (tmp_path / "log").read_text().splitlines()[-1].startswith("poststop stopped")


def test_a_hook_that_does_not_end(bundle: Bundle, tmp_path: Path) -> None:
    bundle.config["hooks"] = {"createRuntime": [hook(tmp_path, "slow", "sleep 1000", timeout=1)]}
    assert "did not end within 1 s" in bundle.refused()


def test_masked_twice(bundle: Bundle) -> None:
    bundle.config["linux"]["maskedPaths"] = ["/srv", "/srv"]
    (bundle.rootfs / "srv").mkdir()
    assert bundle.output("grep -c ' /srv ' /proc/self/mountinfo") == "1\n"


@pytest.mark.here
def test_network_devices(bundle: Bundle) -> None:
    """A device of the host's moves in, with its addresses and a new name."""
    name = f"fdoci{os.getpid() % 100000}"
    subprocess.run(["ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}p"], check=True)
    try:
        subprocess.run(["ip", "address", "add", "192.0.2.7/24", "dev", name], check=True)
        bundle.config["linux"]["netDevices"] = {name: {"name": "inside0"}}
        text = bundle.output("ip address show inside0")
        assert "192.0.2.7/24" in text
        assert ",UP" in text
    finally:
        # The peer, too, goes with the namespace of the one that moved, but not at once.
        subprocess.run(["ip", "link", "delete", f"{name}p"], stderr=subprocess.DEVNULL)


def test_annotations_are_in_the_state(bundle: Bundle) -> None:
    bundle.config["annotations"] = {"org.example.key": 'value "quoted" ü'}
    assert bundle.create().returncode == 0
    assert bundle.state()["annotations"] == bundle.config["annotations"]


def test_no_pivot(bundle: Bundle) -> None:
    bundle.shell("ls /")
    done = bundle.run("c", "--no-pivot")
    assert done.returncode == 0, done.stderr
    assert "bin" in done.stdout.split()


@pytest.mark.parametrize("read_only", [False, True])
def test_a_missing_working_directory_is_made(bundle: Bundle, read_only: bool) -> None:
    """As runc and crun: containerd leaves an image's WORKDIR to the runtime.  `exec` makes none."""
    bundle.config["root"]["readonly"] = read_only
    bundle.config["process"]["cwd"] = "/no/where"
    assert bundle.output("pwd; stat -c '%u %a' .") == "/no/where\n0 755\n"
    bundle.shell("sleep 1000")
    assert bundle.run_detached().returncode == 0
    assert "/other" in bundle.command("exec", "--cwd", "/other", "c", "true").stderr


def test_the_last_of_two_variables_counts(bundle: Bundle) -> None:
    """getenv(3) would find the first."""
    bundle.config["process"]["env"] += ["A=first", "HOME=/tmp", "HOME=", "A=last"]
    assert bundle.output("env | grep -E '^(A|HOME)=' | sort") == "A=last\nHOME=/root\n"
    bundle.shell("sleep 1000")
    assert bundle.run_detached().returncode == 0
    done = bundle.command("exec", "--env", "A=mine", "--env", "PATH=/bin:/", "c", "env")
    assert [line for line in done.stdout.split() if line.startswith(("A=", "PATH="))] == [
        "A=mine",
        "PATH=/bin:/",
    ]


def test_the_callers_processors_are_not_the_containers(bundle: Bundle) -> None:
    """An engine with systemd's CPUAffinity= does not hand it down; execCPUAffinity is for exec alone."""
    every = sorted(os.sched_getaffinity(0))
    if len(every) < 2:
        pytest.skip("needs two processors")
    show = "grep Cpus_allowed_list /proc/self/status | cut -f2"
    bundle.config["process"]["execCPUAffinity"] = {"final": str(every[1])}
    os.sched_setaffinity(0, every[:1])
    try:
        with_one = bundle.output(show)
        bundle.shell("sleep 1000")
        assert bundle.run_detached("d").returncode == 0
        in_exec = bundle.command("exec", "d", "sh", "-c", show).stdout
    finally:
        os.sched_setaffinity(0, every)
    assert with_one.strip() != str(every[0])
    assert in_exec.strip() == str(every[1])


def test_a_device_with_a_trailing_slash(bundle: Bundle) -> None:
    bundle.config["linux"]["devices"] = [{"path": "/srv/own/", "type": "c", "major": 1, "minor": 3}]
    assert bundle.output("test -c /srv/own && echo there") == "there\n"


def test_unknown_members_are_ignored(bundle: Bundle) -> None:
    bundle.config["future"] = {"a": [1, 2, {"b": None}]}
    bundle.config["process"]["future"] = True
    assert bundle.output("echo fine") == "fine\n"


def test_features_and_spec(bundle: Bundle, tmp_path: Path) -> None:
    features = json.loads(bundle.command("features").stdout)
    assert features["ociVersionMax"].startswith("1.3")
    assert {"rro", "idmap", "tmpcopyup", "nosymfollow"} <= set(features["mountOptions"])
    assert "time" in features["linux"]["namespaces"]
    assert features["linux"]["intelRdt"]["enabled"] is False
    assert "MPOL_BIND" in features["linux"]["memoryPolicy"]["modes"]
    assert "MPOL_F_STATIC_NODES" in features["linux"]["memoryPolicy"]["flags"]
    for flags in ([], ["--rootless"]):
        (tmp_path / "new").mkdir(exist_ok=True)
        assert bundle.command("spec", "--bundle", str(tmp_path / "new"), *flags).returncode == 0
        config = json.loads((tmp_path / "new/config.json").read_text())
        assert ("uidMappings" in config["linux"]) is bool(flags)
        assert bundle.command("spec", "--bundle", str(tmp_path / "new")).returncode == 1
        (tmp_path / "new/config.json").unlink()


def test_checkpoint_is_refused(bundle: Bundle) -> None:
    done = bundle.command("checkpoint", "c")
    assert done.returncode == 1
    assert "checkpoint" in done.stderr

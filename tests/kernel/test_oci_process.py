"""fastdock-oci: what config.json says of the process: user, capabilities, limits, memory policy, seccomp."""

from __future__ import annotations

import array
import json
import os
import socket
import subprocess
from pathlib import Path

import pytest
from oci_bundle import CAPABILITIES, Bundle

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


def test_an_ambient_capability_that_cannot_be_is_a_warning(bundle: Bundle, tmp_path: Path) -> None:
    """It is named, and the others are raised (config.md; runc's capabilities.bats)."""
    bundle.config["process"]["capabilities"] |= {
        "inheritable": ["CAP_KILL"],
        "ambient": ["CAP_KILL", "CAP_CHOWN"],
    }
    bundle.shell("grep CapAmb /proc/self/status")
    bundle.write()
    done = bundle.command(
        "--log", str(tmp_path / "log"), "--log-format", "json", "run", "--bundle", str(bundle.path), "c"
    )
    assert int(done.stdout.split()[1], 16) == 1 << 5, done.stderr
    message = json.loads((tmp_path / "log").read_text())["msg"]
    assert message == "ambient capability ignored that is not permitted and inheritable: CAP_CHOWN"


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

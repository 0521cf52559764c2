"""Each option does inside the container what it says."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import leaks
import pytest

import fastdock
from fastdock import PIPE, Engine

pytestmark = pytest.mark.kernel


def sh(engine: Engine, script: str, **options: Any) -> str:
    """What a script prints, with its errors; whatever its code."""
    done = engine.run(
        "busybox", ["sh", "-c", script], stdout=PIPE, stderr=fastdock.STDOUT, text=True, **options
    )
    return str(done.stdout).rstrip("\n")


def attributes(engine: Engine, path: str, **options: Any) -> set[str]:
    """How a path is mounted: the words of mountinfo."""
    for line in sh(engine, "cat /proc/self/mountinfo", **options).splitlines():
        fields = line.split()
        if fields[4] == path:
            return set(fields[5].split(",")) | set(fields[-1].split(","))
    raise AssertionError(f"{path} is not mounted")


class TestFiles:
    def test_read_only(self, engine: Engine) -> None:
        assert "Read-only" in sh(engine, "touch /x", read_only=True)
        assert sh(engine, "touch /dev/shm/x /t/x && echo yes", read_only=True, tmpfs=["/t"]) == "yes"
        assert "Read-only" in sh(engine, "touch /x", read_only=True, storage="disk")

    def test_tmpfs(self, engine: Engine) -> None:
        words = attributes(engine, "/t", tmpfs={"/t": "size=1m,mode=700"})
        assert {"nosuid", "nodev", "noexec", "size=1024k", "mode=700"} <= words
        assert {"noexec", "nosuid", "nodev"} <= attributes(engine, "/t", tmpfs=["/t"])
        assert "noexec" not in attributes(engine, "/t", tmpfs=["/t:exec"])
        assert "ro" in attributes(engine, "/t", tmpfs=["/t:ro"])
        assert sh(engine, "stat -c %a /t", tmpfs=["/t"]) == "1777"
        assert attributes(engine, "/t", mounts=["type=tmpfs,target=/t,tmpfs-size=2m"]) >= {
            "size=2048k",
            "noexec",
        }

    def test_shm_size(self, engine: Engine) -> None:
        assert "size=65536k" in attributes(engine, "/dev/shm")
        assert "size=1024k" in attributes(engine, "/dev/shm", shm_size="1m")

    def test_volume_keeps_ids(self, engine: Engine, tmp_path: Path) -> None:
        """Root inside writes as root outside, and user 33 as 33, though their ids are others."""
        tmp_path.chmod(0o777)
        script = "touch /v/root; stat -c %u:%g /v/given"
        (tmp_path / "given").touch()
        os.chown(tmp_path / "given", 33, 34)
        assert sh(engine, script, volumes=[f"{tmp_path}:/v"]) == "33:34"
        assert sh(engine, "touch /v/web", volumes=[f"{tmp_path}:/v"], user="web") == ""
        assert (os.stat(tmp_path / "root").st_uid, os.stat(tmp_path / "web").st_uid) == (0, 33)
        assert os.stat(tmp_path / "web").st_gid == 34

    def test_volume_read_only(self, engine: Engine, tmp_path: Path) -> None:
        assert "Read-only" in sh(engine, "touch /v/x", volumes=[f"{tmp_path}:/v:ro"])
        assert "Read-only" in sh(engine, "touch /v/x", mounts=[f"type=bind,src={tmp_path},dst=/v,readonly"])
        assert os.listdir(tmp_path) == []

    def test_read_only_means_what_is_mounted_below_too(self, engine: Engine, submount: Path) -> None:
        assert "Read-only" in sh(engine, "touch /v/sub/x", volumes=[f"{submount}:/v:ro"])
        assert sh(engine, "touch /v/sub/x && echo yes", volumes=[f"{submount}:/v"]) == "yes"

    def test_not_recursive(self, engine: Engine, submount: Path) -> None:
        mount = f"type=bind,src={submount},dst=/v,bind-nonrecursive"
        assert sh(engine, "ls /v/sub", mounts=[mount]) == ""
        assert sh(engine, "ls /v/sub", volumes=[f"{submount}:/v"]) == "inside"

    @pytest.mark.parametrize("kind", ["rslave", "rprivate"])
    def test_propagation(self, engine: Engine, submount: Path, kind: str) -> None:
        """A mount that the host makes later shows up with rslave, and only then."""
        subprocess.run(["mount", "--make-shared", str(submount)], check=True)
        (submount / "late").mkdir()
        with engine.Popen("busybox", ["sh", "-c", "echo ready; read x; ls /v/late"], stdin=PIPE, stdout=PIPE, text=True,
                          volumes=[f"{submount}:/v:{kind}"]) as process:  # fmt: skip
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(submount / "late")], check=True)
            (submount / "late/new").touch()
            out, _ = process.communicate("\n")
        subprocess.run(["umount", str(submount / "late")], check=True)
        assert out == ("new\n" if kind == "rslave" else "")

    def test_a_file_as_volume(self, engine: Engine, tmp_path: Path) -> None:
        (tmp_path / "f").write_text("content")
        assert sh(engine, "cat /etc/f", volumes=[f"{tmp_path}/f:/etc/f"]) == "content"

    def test_storage(self, engine: Engine) -> None:
        """What is written goes to memory, or to the container's directory."""
        for storage in ("memory", "disk"):
            with engine.Popen("busybox", ["sh", "-c", "echo x > /mine; echo ready; cat"], stdin=PIPE, stdout=PIPE,
                              text=True, storage=storage) as process:  # type: ignore[arg-type]  # fmt: skip
                assert process.stdout is not None
                process.stdout.readline()
                on_disk = Path(engine.root, "containers", process.id, "upper/mine").exists()
                assert process.stdin is not None
                process.stdin.close()
            assert on_disk == (storage == "disk")

    def test_cwd_and_env(self, engine: Engine) -> None:
        assert sh(engine, "pwd", cwd="/var/www") == "/var/www"
        lines = sh(engine, "env", env={"A": "1 2", "PATH": "/bin", "EMPTY": ""}).splitlines()
        assert {"A=1 2", "PATH=/bin", "EMPTY=", "HOME=/root"} <= set(lines)
        lines = sh(engine, "env").splitlines()
        assert f"PATH={'/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'}" in lines
        assert {line.partition("=")[0] for line in lines} <= {"PATH", "HOME", "HOSTNAME", "PWD", "SHLVL"}
        assert sh(engine, "test $HOSTNAME = $(hostname) && echo same") == "same"
        assert sh(engine, "echo $HOSTNAME", hostname="box") == "box"
        assert sh(engine, "echo $HOSTNAME", env={"HOSTNAME": "mine"}) == "mine"

    def test_entrypoint(self, engine: Engine) -> None:
        done = engine.run("busybox", ["b"], entrypoint=["echo", "a"], stdout=PIPE)
        assert done.stdout == b"a b\n"


@pytest.fixture
def submount(tmp_path: Path) -> Iterator[Path]:
    """A directory, mounted, with something mounted below."""
    top = tmp_path / "top"
    top.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(top)], check=True)
    (top / "sub").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(top / "sub")], check=True)
    (top / "sub/inside").touch()
    yield top
    subprocess.run(["umount", "-R", str(top)], check=True)


class TestIdentity:
    def test_names(self, engine: Engine) -> None:
        assert (
            sh(engine, "hostname; cat /proc/sys/kernel/domainname", hostname="box", domainname="there")
            == "box\nthere"
        )

    @pytest.mark.parametrize(
        ("options", "wanted"),
        [
            ({}, "0:0:0"),
            ({"user": "web"}, "33:34:34 50"),
            ({"user": 33}, "33:34:34 50"),
            ({"user": "1234"}, "1234:0:0"),
            ({"user": "web:more"}, "33:51:51"),
            ({"user": "7:8"}, "7:8:8"),
            ({"user": "web", "group_add": ["more", 99]}, "33:34:34 50 51 99"),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("init", [False, True])
    def test_user(self, engine: Engine, options: dict[str, Any], wanted: str, init: bool) -> None:
        script = "grep -E '^(Uid|Gid|Groups):' /proc/self/status"
        status = dict(line.split(":", 1) for line in sh(engine, script, init=init, **options).splitlines())
        uids, gids = set(status["Uid"].split()), set(status["Gid"].split())
        assert len(uids) == len(gids) == 1  # real, effective, saved and file system ids
        assert f"{uids.pop()}:{gids.pop()}:{' '.join(status['Groups'].split())}" == wanted

    def test_home(self, engine: Engine) -> None:
        assert sh(engine, "echo $HOME", user="web") == "/var/www"
        assert sh(engine, "echo $HOME", user="1234") == "/"
        assert sh(engine, "echo $HOME", env={"HOME": "/mine"}) == "/mine"

    def test_userns_host(self, engine: Engine) -> None:
        assert (
            sh(engine, "cat /proc/self/uid_map", userns="host").split()
            == Path("/proc/self/uid_map").read_text().split()
        )
        assert sh(engine, "cat /proc/self/uid_map").split()[2] == "65536"

    @pytest.mark.parametrize("kind", ["pid", "ipc", "uts", "net"])
    def test_sharing_a_namespace(self, engine: Engine, kind: str) -> None:
        option = {"net": "network"}.get(kind, kind)
        mine = os.readlink(f"/proc/self/ns/{kind}")
        assert sh(engine, f"readlink /proc/self/ns/{kind}", **{option: "host"}) == mine
        assert sh(engine, f"readlink /proc/self/ns/{kind}") != mine

    def test_cgroup_namespace(self, engine: Engine) -> None:
        assert {line.split(":")[2] for line in sh(engine, "cat /proc/self/cgroup").splitlines()} == {"/"}
        assert "/fastdock" in sh(engine, "cat /proc/self/cgroup", cgroupns="host")


class TestRights:
    def test_capabilities(self, engine: Engine) -> None:
        def effective(**options: Any) -> int:
            return int(sh(engine, "grep CapEff /proc/self/status", **options).split()[1], 16)

        default = effective()
        assert effective(cap_drop=["ALL"]) == 0
        assert effective(cap_drop=["ALL"], cap_add=["NET_ADMIN"]) == 1 << 12
        assert effective(cap_add=["CAP_SYS_ADMIN"]) == default | 1 << 21
        assert effective(cap_drop=["chown"]) == default & ~1
        assert effective(cap_add=["ALL"]) & default == default
        assert effective(user="web") == 0

    def test_privileged(self, engine: Engine) -> None:
        """All that this machine's bounding set holds; seccomp, masks and read-only paths are gone."""
        bounding = next(
            line for line in Path("/proc/self/status").read_text().splitlines() if "CapBnd" in line
        )
        status = sh(engine, "cat /proc/self/status; ls /dev", privileged=True)
        assert f"CapEff:\t{bounding.split()[1]}" in status
        assert "Seccomp:\t0" in status
        assert "kmsg" in status.splitlines() or not os.path.exists("/dev/kmsg")
        assert sh(engine, "mount -t tmpfs tmpfs /tmp && echo yes", privileged=True) == "yes"
        assert "rw" in attributes(engine, "/sys", privileged=True)

    def test_no_new_privileges(self, engine: Engine) -> None:
        script = "grep NoNewPrivs /proc/self/status"
        assert sh(engine, script).split()[1] == "0"
        assert sh(engine, script, security_opt=["no-new-privileges"]).split()[1] == "1"
        assert (
            sh(engine, "grep Seccomp: /proc/self/status", security_opt=["no-new-privileges"]).split()[1]
            == "2"
        )

    def test_seccomp(self, engine: Engine, tmp_path: Path) -> None:
        assert (
            sh(engine, "grep Seccomp: /proc/self/status", security_opt=["seccomp=unconfined"]).split()[1]
            == "0"
        )
        profile = {"defaultAction": "SCMP_ACT_ALLOW",
                   "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]}  # fmt: skip
        (tmp_path / "profile.json").write_text(json.dumps(profile))
        out = sh(engine, "mkdir /x", security_opt=[f"seccomp={tmp_path}/profile.json"])
        assert "not supported" in out

    def test_masked_and_read_only_paths(self, engine: Engine) -> None:
        assert sh(engine, "cat /proc/keys /proc/timer_list /proc/interrupts") == ""
        assert sh(engine, "ls /sys/firmware") == ""
        assert "Read-only" in sh(engine, "echo 1 > /proc/sys/kernel/panic", userns="host")
        if os.path.exists("/proc/sysrq-trigger"):
            assert "Read-only" in sh(engine, "echo h > /proc/sysrq-trigger", userns="host")
        assert sh(engine, "wc -c < /proc/interrupts", security_opt=["systempaths=unconfined"]) != "0"

    def test_devices(self, engine: Engine) -> None:
        assert sh(engine, "ls /dev").split() == [
            "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout",
            "tty", "urandom", "zero"]  # fmt: skip
        for userns in ("", "host"):
            script = "head -c 3 /dev/mine | wc -c; echo x > /dev/null && echo yes"
            assert sh(engine, script, devices=["/dev/zero:/dev/mine"], userns=userns) == "3\nyes"

    def test_devices_that_were_not_given(self, engine: Engine) -> None:
        """A node can be made by host root, but not opened; in a user namespace not even made."""
        script = "mknod /x c 1 11 && cat /x"
        for options in ({}, {"userns": "host"}):
            assert "Operation not permitted" in sh(engine, script, **options)

    def test_sysctls(self, engine: Engine) -> None:
        sysctls = {
            "net.ipv4.ip_unprivileged_port_start": "80",
            "kernel.shm_rmid_forced": "1",
            "fs.mqueue.msg_max": "11",
        }
        script = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced /proc/sys/fs/mqueue/msg_max"
        assert sh(engine, script, sysctls=sysctls).split() == ["80", "1", "11"]
        assert (
            sh(
                engine,
                "cat /proc/sys/net/ipv4/conf/lo/forwarding",
                sysctls={"net/ipv4/conf/lo/forwarding": "1"},
            )
            == "1"
        )

    def test_ulimits(self, engine: Engine) -> None:
        script = "ulimit -n; ulimit -Hn; ulimit -c"
        assert sh(engine, script, ulimits={"nofile": (100, 200), "core": 0}).split() == ["100", "200", "0"]
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        assert int(sh(engine, "ulimit -Hn")) == hard

    def test_oom_score_adj(self, engine: Engine) -> None:
        """One that shares its caller's memory would share this with it (fs/proc/base.c, __set_oom_adj)."""
        before = Path("/proc/self/oom_score_adj").read_text()
        assert sh(engine, "cat /proc/self/oom_score_adj", oom_score_adj=500) == "500"
        assert Path("/proc/self/oom_score_adj").read_text() == before

    def test_oom_score_adj_of_a_kept_one_is_not_its_monitors(self, engine: Engine) -> None:
        container = engine.containers.create("busybox", ["sleep", "1000"], oom_score_adj=500, network="none")
        try:
            container.start()
            first = container.inspect()["State"]["Pid"]
            monitor = int(Path(f"/proc/{first}/stat").read_text().rpartition(")")[2].split()[1])
            assert Path(f"/proc/{first}/oom_score_adj").read_text() == "500\n"
            assert Path(f"/proc/{monitor}/oom_score_adj").read_text() != "500\n"
        finally:
            container.remove(force=True)


class TestLimits:
    def test_memory(self, engine: Engine) -> None:
        done = engine.run("busybox", ["sh", "-c", "x=$(yes | head -c 60000000); echo survived"], stdout=PIPE, memory="16m",
                          memory_swap="16m")  # fmt: skip
        assert b"survived" not in done.stdout
        assert done.returncode != 0
        assert done.usage.oom_killed
        assert done.usage.memory_peak is None or 8 << 20 <= done.usage.memory_peak <= 16 << 20

    def test_pids(self, engine: Engine) -> None:
        script = "for i in 1 2 3 4 5 6 7 8; do sleep 100 & done; echo all"
        assert "can't fork" in sh(engine, script, pids=5)
        assert sh(engine, script) == "all"

    def test_cpus(self, engine: Engine, cgroup_file: Any) -> None:
        assert cgroup_file({"cpus": 0.5}, "cpu/cpu.cfs_quota_us", "cpu.max") in ("50000", "50000 100000")
        assert cgroup_file({"cpu_shares": 512}, "cpu/cpu.shares", "cpu.weight") in ("512", "20")
        assert cgroup_file({"cpu_quota": 20000, "cpu_period": 50000}, "cpu/cpu.cfs_period_us", "cpu.max") in (
            "50000", "20000 50000")  # fmt: skip

    def test_cpuset(self, engine: Engine) -> None:
        last = max(os.sched_getaffinity(0))
        assert sh(engine, "grep Cpus_allowed_list /proc/self/status", cpuset_cpus=str(last)).split()[
            1
        ] == str(last)

    def test_memory_files(self, engine: Engine, cgroup_file: Any) -> None:
        assert cgroup_file({"memory": "64m"}, "memory/memory.limit_in_bytes", "memory.max") == str(64 << 20)
        assert cgroup_file({"memory": "64m", "memory_reservation": "32m"}, "memory/memory.soft_limit_in_bytes",
                           "memory.low") == str(32 << 20)  # fmt: skip

    def test_it_sees_its_own_limits(self, engine: Engine) -> None:
        """Language runtimes size their heaps by what they read there."""
        script = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null"
        assert sh(engine, script, memory="64m") == str(64 << 20)


@pytest.fixture
def cgroup_file(engine: Engine) -> Any:
    """Reads a file of a running container's cgroup, by its v1 name or its v2 name."""

    def read(options: dict[str, Any], v1: str, v2: str) -> str:
        with engine.Popen("busybox", ["cat"], stdin=PIPE, **options) as process:
            directories = leaks.cgroup_directories(f"{engine.cgroup_parent}/{process.id}")
            places = [path / name for path in directories for name in (v1.partition("/")[2], v2)]
            text = next(path.read_text() for path in places if path.exists())
            assert process.stdin is not None
            process.stdin.close()
        return text.strip()

    return read


class TestInit:
    def test_it_is_process_1_and_the_program_its_child(self, engine: Engine) -> None:
        assert sh(engine, "echo $$; cat /proc/1/comm", init=True).splitlines()[0] != "1"

    def test_it_reaps(self, engine: Engine) -> None:
        """Orphans become children of process 1: with the init none stays a zombie."""
        script = "(sleep 0 & ) ; while ps -o stat,comm | grep -q sleep; do :; done; echo gone"
        assert sh(engine, script, init=True).endswith("gone")

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
    def test_it_forwards_signals(self, engine: Engine, number: signal.Signals) -> None:
        name = number.name.removeprefix("SIG")
        script = f"trap 'echo got {name}; exit 7' {name}; echo ready; while :; do sleep 1000 & wait $!; done"
        with engine.Popen("busybox", ["sh", "-c", script], stdout=PIPE, text=True, init=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(number)
            assert process.stdout.readline() == f"got {name}\n"
            assert process.wait() == 7

    def test_codes_of_what_cannot_be_started(self, engine: Engine, tmp_path: Path) -> None:
        (tmp_path / "text").write_text("just words\n")
        (tmp_path / "lost").write_text("#!/no/such\n")
        for name in ("text", "lost"):
            (tmp_path / name).chmod(0o755)
        done = engine.run("busybox", ["/v/text"], init=True, volumes=[f"{tmp_path}:/v"], stderr=PIPE)
        assert done.returncode == 126
        assert (
            engine.run("busybox", ["/v/lost"], init=True, volumes=[f"{tmp_path}:/v"], stderr=PIPE).returncode
            == 127
        )

    def test_the_end_of_the_program_is_the_end(self, engine: Engine) -> None:
        done = engine.run("busybox", ["sh", "-c", "sleep 1000 & exit 3"], init=True)
        assert done.returncode == 3


def test_terminate_without_init_needs_a_handler(engine: Engine) -> None:
    """Process 1 ignores signals that it has no handler for (pid_namespaces(7)); kill() always works."""
    with engine.Popen("busybox", ["cat"], stdin=PIPE) as process:
        process.terminate()
        assert process.poll() is None
        process.kill()
        assert process.wait() == -signal.SIGKILL


def test_usage_says_nothing_of_oom_when_there_was_none(engine: Engine) -> None:
    assert not engine.run("busybox", ["true"], memory="64m").usage.oom_killed

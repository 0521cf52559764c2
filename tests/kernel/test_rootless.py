"""fastdock as an ordinary user: ids, the command line, where its state is, limits; also with one id alone."""

from __future__ import annotations

import json
import os
import subprocess
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

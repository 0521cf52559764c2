"""``fastdock.Pool``: containers that wait for their program."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastdock
from fastdock import Engine, Pool


@pytest.fixture
def pool(engine: Engine) -> Iterator[Pool]:
    with Pool("busybox", size=2, engine=engine, env={"GIVEN": "before", "KEPT": "1"}) as made:
        yield made


def test_runs_what_it_is_given(pool: Pool) -> None:
    script = "echo $GIVEN $KEPT $HOME $(hostname | cut -c1-12) $HOSTNAME; pwd; cat; echo problem >&2; exit 3"
    done = pool.run(
        ["sh", "-c", script],
        env={"GIVEN": "now"},
        cwd="/new/directory",
        input="words\n",
        capture_output=True,
        text=True,
    )
    first, directory, words = done.stdout.splitlines()
    given, kept, home, name, variable = first.split()
    assert (given, kept, home) == ("now", "1", "/root")
    assert name == variable
    assert (directory, words, done.stderr, done.returncode) == ("/new/directory", "words", "problem\n", 3)


def test_each_is_used_once(pool: Pool) -> None:
    for _ in range(5):
        done = pool.run(
            ["sh", "-c", "ls /tmp/mark; mkdir -p /tmp; touch /tmp/mark"], capture_output=True, text=True
        )
        assert done.stdout == ""
    ids = {process.id for process in (_ended(pool) for _ in range(4))}
    assert len(ids) == 4


def wait_for_end(pidfd: int) -> None:
    select.select([pidfd], [], [])


def _ended(pool: Pool) -> fastdock.Popen:
    process = pool.Popen(["true"])
    process.wait()
    return process


def test_a_filter_of_the_users_does_not_stop_the_start(engine: Engine, tmp_path: Path) -> None:
    """It is loaded last: what is left to do before the program may be forbidden to that."""
    profile = tmp_path / "profile.json"
    forbidden = ["recvmsg", "dup3", "fchown", "getcwd", "close_range"]
    rules = [{"names": forbidden, "action": "SCMP_ACT_ERRNO"}]
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}))
    with Pool("busybox", size=1, engine=engine, security_opt=[f"seccomp={profile}"]) as pool:
        done = pool.run(["sh", "-c", "mkdir /tmp/x; echo $?"], cwd="/tmp", capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout != ""


@pytest.mark.parametrize(
    "options", [{}, {"user": "1000"}, {"security_opt": ["no-new-privileges"]}, {"init": True}]
)
def test_is_like_any_other_container_with_options(engine: Engine, options: dict[str, object]) -> None:
    look = [
        "sh",
        "-c",
        "grep -E '^(Cap|Seccomp|NoNewPrivs|Uid|Groups)' /proc/self/status; cat /proc/1/comm; id",
    ]
    plain = engine.run("busybox", look, capture_output=True, text=True, **options)
    with Pool("busybox", size=1, engine=engine, **options) as pool:  # type: ignore[arg-type]
        assert pool.run(look, capture_output=True, text=True).stdout == plain.stdout


def test_is_like_any_other_container(engine: Engine, pool: Pool) -> None:
    """What a program can see of its descriptors, privileges, mounts and namespaces."""
    look = [
        "sh", "-c",
        "ls /proc/self/fd | wc -l; grep -E '^(Cap|Seccomp|NoNewPrivs|Uid|Gid|SigBlk|SigIgn)' /proc/self/status; "
        "sed 's/[gu]id=[0-9]*//g' /proc/mounts | grep -v upperdir | sort; cat /proc/1/comm; ls /sys/class/net; "
        "ps | wc -l; cat /proc/self/limits; readlink /proc/self/ns/pid | sed 's/[0-9]//g'; ulimit -a",
    ]  # fmt: skip
    environment = {"GIVEN": "before", "KEPT": "1"}
    plain = engine.run("busybox", look, env=environment, capture_output=True, text=True)
    pooled = pool.run(look, capture_output=True, text=True)
    assert pooled.stdout == plain.stdout
    assert "Seccomp:\t2" in pooled.stdout


def test_limits_and_usage(engine: Engine) -> None:
    with Pool("busybox", size=1, engine=engine, memory="16m") as pool:
        done = pool.run(["sh", "-c", "head -c 64m /dev/zero | tail"])
        assert done.usage.oom_killed
        assert pool.run(["true"]).usage.memory_peak is not None


def test_what_cannot_be_started_is_said_and_the_pool_goes_on(pool: Pool) -> None:
    with pytest.raises(FileNotFoundError, match="nothing-of-that-name"):
        pool.run(["nothing-of-that-name"])
    with pytest.raises(PermissionError):
        pool.run(["/etc"])
    with pytest.raises(fastdock.SpecError, match="memory"):
        pool.run(["true"], memory="1g")
    assert pool.run(["true"]).returncode == 0


def test_more_at_once_than_it_has(pool: Pool) -> None:
    codes: list[int] = []
    threads = [
        threading.Thread(target=lambda: codes.append(pool.run(["true"]).returncode)) for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [0] * 12


def test_one_that_was_killed_while_it_waited_is_passed_over(engine: Engine) -> None:
    with Pool("busybox", size=1, engine=engine) as pool:
        waiting = pool._ready[0].pid
        watched = os.pidfd_open(waiting)
        os.kill(waiting, signal.SIGKILL)
        wait_for_end(watched)
        os.close(watched)
        assert pool.run(["true"]).returncode == 0


def test_a_use_outlives_the_pool(engine: Engine) -> None:
    with Pool("busybox", size=1, engine=engine) as pool:
        process = pool.Popen(["cat"], stdin=fastdock.PIPE, stdout=fastdock.PIPE)
    assert process.communicate(b"still here")[0] == b"still here"
    assert process.returncode == 0
    with pytest.raises(fastdock.FastdockError, match="closed"):
        pool.run(["true"])


def test_with_a_network(engine: Engine) -> None:
    with Pool("busybox", size=2, engine=engine, network="bridge") as pool:
        done = [
            pool.run(["sh", "-c", "ip -4 -o addr show eth0"], capture_output=True, text=True)
            for _ in range(3)
        ]
    assert all(" inet " in each.stdout for each in done), done


# What differs between any two containers: addresses and numbers of devices, counters and clocks.
_LOOK_AT_NETWORK = r"""
cd /proc/sys/net && grep -r . . 2>/dev/null | grep -v -e stable_secret -e netdev_rss_key -e nf_conntrack_count -e random | sort
cd /proc/net && for name in tcp tcp6 udp udp6 raw raw6 unix packet netlink igmp; do echo == $name; wc -l < $name; done
ip rule; ip -6 rule; ip route show table all | sed -E 's/[0-9a-f.:]+(\/[0-9]+)?/N/g' | sort
ip -o link | sed -E 's/@if[0-9]+//; s/^[0-9]+//; s/([0-9a-f]{2}:){5}[0-9a-f]{2}/MAC/g; s/link-netnsid [0-9]+//'
ip -o addr | sed -E 's/^[0-9]+//; s/inet6? [^ ]+/ADDRESS/; s/brd [^ ]+//'
cat /etc/resolv.conf; wc -l < /etc/hosts
"""


def test_its_network_is_like_any_other(engine: Engine) -> None:
    look = ["sh", "-c", _LOOK_AT_NETWORK]
    plain = engine.run("busybox", look, network="bridge", publish=["80"], capture_output=True, text=True)
    with Pool("busybox", size=1, engine=engine, network="bridge", publish=["80"]) as pool:
        pooled = [pool.run(look, capture_output=True, text=True) for _ in range(2)]
    assert len(plain.stdout.splitlines()) > 300, plain.stdout
    assert [each.stdout for each in pooled] == [plain.stdout] * 2


@pytest.mark.parametrize(
    "options", [{"userns": "host"}, {"privileged": True}, {"network": "container:x"}, {"oom_score_adj": 5}]
)
def test_what_shares_more_with_its_caller_is_refused(engine: Engine, options: dict[str, object]) -> None:
    with pytest.raises(fastdock.FastdockError):
        Pool("busybox", engine=engine, **options)  # type: ignore[arg-type]


def test_a_size_of_nothing_is_refused(engine: Engine) -> None:
    with pytest.raises(fastdock.SpecError, match="at least one"):
        Pool("busybox", size=0, engine=engine)


OWNER = """
import sys, time, fastdock
engine = fastdock.Engine(sys.argv[1])
pool = fastdock.Pool("busybox", size=3, engine=engine)
print(*(container.pid for container in pool._ready), flush=True)
sys.stdin.read()
"""


def test_they_end_with_the_process(engine: Engine, session_root: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(session_root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        assert owner.stdout is not None
        pids = [int(word) for word in owner.stdout.readline().split()]
        watched = [os.pidfd_open(pid) for pid in pids]
        owner.kill()
    for pidfd in watched:
        wait_for_end(pidfd)
        os.close(pidfd)
    assert len(pids) == 3
    Engine(session_root).close()  # removes what the killed one left


def test_a_process_that_ends_leaves_nothing(engine: Engine, session_root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OWNER, str(session_root)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""


def test_awaited(engine: Engine) -> None:
    async def use() -> None:
        async with await fastdock.aio.Pool.start("busybox", size=2, engine=engine) as pool:
            done = await asyncio.gather(*(pool.run(["echo", str(n)], capture_output=True) for n in range(5)))
            assert [each.stdout for each in done] == [f"{n}\n".encode() for n in range(5)]
            process = await pool.Popen(["cat"], stdin=fastdock.PIPE, stdout=fastdock.PIPE)
            assert await process.communicate(b"x") == (b"x", None)

    asyncio.run(use())

"""Starts with a network, and what passes through it: fastdock beside Docker, in a network namespace of their own.

There nothing of the machine's firewall is touched, and both have the kernel's same paths.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, ClassVar

from .measure import Series, Subject, measure
from .peers.base import Missing, Peer, Running
from .peers.engines import Docker
from .peers.ours import Fastdock, FastdockShell
from .pooled import pooled
from .spawn import CommandFailed
from .suites import Comparison, Progress, at_once
from .workload import WORKLOADS, Workload

__all__ = ["network"]

_CLONE_NEWNET = 0x40000000
_GIGABIT = 1e9
_SECONDS = 2  # of each measurement of throughput
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def own_namespace() -> Iterator[None]:
    """The calling thread, and what it starts, in a new network namespace."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.unshare(_CLONE_NEWNET):
            raise Missing(f"no network namespace: {os.strerror(ctypes.get_errno())}")
        try:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            yield
        finally:
            if _libc.setns(home, _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "cannot leave the network namespace")
    finally:
        os.close(home)


class DockerBridge(Docker):
    """docker run --rm on its bridge with a published port."""

    name = "docker bridge"
    network = "bridge"
    daemon_options = ()
    more_options = ("--publish", "80")


class FastdockBridge(Fastdock):
    """``fastdock.run`` with the same."""

    name = "fastdock bridge"
    more_options: ClassVar[Mapping[str, Any]] = {"network": "bridge", "publish": ["80"]}


class FastdockShellBridge(FastdockShell):
    """``fastdock run --rm`` with the same, which is its default network."""

    name = "fastdock shell bridge"
    network_options = ("--publish", "80")


def network(
    scratch: Path,
    *,
    rounds: int = 20,
    starters: int = 16,
    running: int = 500,
    docker: bool = True,
    progress: Progress | None = None,
) -> Generator[Comparison, None, None]:
    """All figures of networks, each as it is done; Missing if there cannot be a network namespace.

    ``running``: containers that are there at once for the last of them; ``docker``: whether it takes part.
    """
    with ExitStack() as stack:
        stack.enter_context(own_namespace())
        peers: dict[str, Peer] = {}
        missing: dict[str, str] = {}
        ours = (Fastdock, FastdockBridge, FastdockShellBridge)
        for kind in (*ours, DockerBridge) if docker else ours:
            peer = kind(scratch / "network")
            try:
                stack.enter_context(peer.opened())
                peer.prepare(WORKLOADS["true"])
                peers[peer.name] = peer
            except Missing as reason:
                missing[peer.name] = str(reason)
        yield _start(peers, missing, rounds, progress)
        yield _at_once(peers, missing, starters, max(3, rounds // 5), progress)
        yield from _throughput(peers, missing, scratch, max(3, rounds // 5), progress)
        yield _many(peers, missing, running, progress)


def _start(
    peers: dict[str, Peer], missing: dict[str, str], rounds: int, progress: Progress | None
) -> Comparison:
    subjects = [Subject(peer.name, peer.run) for peer in peers.values()]
    with _pool_of_bridges(peers, 1) as pool:
        series = measure([*subjects, *pool], rounds=rounds, progress=progress)
    title = "start to end of `true` with a bridge, an address and a published port (`fastdock`: without a network)"
    method = f"{rounds} rounds in turn, 2 to warm up; {_POOL_METHOD.format(1)}"
    return Comparison(title, method, series, missing)


_POOL_METHOD = "the pool is of {}, full before each sample"


@contextmanager
def _pool_of_bridges(peers: dict[str, Peer], size: int) -> Iterator[list[Subject]]:
    """So many at once from a pool of so many; nobody where there is no such peer."""
    peer = peers.get(FastdockBridge.name)
    if not isinstance(peer, FastdockBridge):
        yield []
        return
    with pooled(peer, size) as pool:
        yield [Subject("fastdock pool bridge", lambda: pool.burst(size))]


def _at_once(
    peers: dict[str, Peer], missing: dict[str, str], starters: int, rounds: int, progress: Progress | None
) -> Comparison:
    def burst(peer: Peer) -> Callable[[], float]:
        return lambda: at_once(starters, starters, peer.run)

    subjects = [Subject(peer.name, burst(peer)) for peer in peers.values()]
    with _pool_of_bridges(peers, starters) as pool:
        series = measure([*subjects, *pool], rounds=rounds, warmup=1, progress=progress)
    method = f"{rounds} rounds in turn; until the last has ended; {_POOL_METHOD.format(starters)}"
    return Comparison(f"{starters} of them started at once", method, series, missing)


# --- throughput ---


def _throughput(
    peers: dict[str, Peer], missing: dict[str, str], scratch: Path, rounds: int, progress: Progress | None
) -> Iterator[Comparison]:
    titles = ("container to container", "through a published port, from the host")
    method = f"iperf3, one TCP connection for {_SECONDS} s, {rounds} rounds in turn; seconds per gigabit"
    try:
        workload = _iperf3(scratch / "iperf3")
    except Missing as reason:
        for title in titles:
            yield Comparison(title, method, {}, {"all": str(reason)})
        return
    lanes: dict[str, _Lane] = {}
    with ExitStack() as stack:
        for peer in (peers[name] for name in ("fastdock bridge", "docker bridge") if name in peers):
            try:
                lanes[peer.name] = stack.enter_context(_lane(peer, workload, scratch / "iperf3"))
            except (Missing, CommandFailed) as reason:
                missing = {**missing, peer.name: str(reason)}
        for title, which in zip(titles, ("inside", "published"), strict=True):
            subjects = [Subject(name, getattr(lane, which)) for name, lane in lanes.items()]
            series = measure(subjects, rounds=rounds, warmup=1, progress=progress)
            yield Comparison(title, method, series, missing)


def _iperf3(directory: Path) -> Workload:
    """A root file system with iperf3 and what it is linked with."""
    program = shutil.which("iperf3")
    if program is None:
        raise Missing("no iperf3 (apt-get install iperf3)")
    linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    for path in [program, *re.findall(r"(/\S+) \(0x", linked)]:
        target = directory / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    (directory / "tmp").mkdir(mode=0o1777, exist_ok=True)
    return Workload("iperf3", (program, "-s", "-p", "80"), b"", "iperf3")


class _Lane:
    """A server in one container, and two ways to it."""

    def __init__(self, client: Callable[[str], bytes], address: str, host: str, port: int) -> None:
        self._client, self._address, self._host, self._port = client, address, host, port

    def inside(self) -> float:
        return _seconds_per_gigabit(self._client(self._address))

    def published(self) -> float:
        program = shutil.which("iperf3")
        assert program is not None
        command = [program, "-c", self._host, "-p", str(self._port), "-t", str(_SECONDS), "-J"]
        return _seconds_per_gigabit(subprocess.run(command, capture_output=True, check=True).stdout)


def _seconds_per_gigabit(report: bytes) -> float:
    return _GIGABIT / float(json.loads(report)["end"]["sum_received"]["bits_per_second"])


@contextmanager
def _lane(peer: Peer, workload: Workload, rootfs: Path) -> Iterator[_Lane]:
    client = [workload.argv[0], "-p", "80", "-t", str(_SECONDS), "-J", "-c"]
    if isinstance(peer, Docker):
        yield from _docker_lane(peer, workload, rootfs, client)
    elif isinstance(peer, Fastdock):
        yield from _fastdock_lane(peer, workload, rootfs, client)


def _docker_lane(peer: Docker, workload: Workload, rootfs: Path, client: list[str]) -> Iterator[_Lane]:
    image = "fdbench/iperf3"
    with subprocess.Popen(["tar", "-C", str(rootfs), "-c", "."], stdout=subprocess.PIPE) as tar:
        subprocess.run(peer.command("import", "-", image), stdin=tar.stdout, check=True, capture_output=True)
    library = ["--env", f"LD_LIBRARY_PATH={os.environ.get('LD_LIBRARY_PATH', '')}"]
    run = peer.command("run", "--detach", *library, "--publish", "80", image, *workload.argv)
    server = subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip()
    try:
        shown = subprocess.run(peer.command("inspect", server), capture_output=True, check=True).stdout
        settings = json.loads(shown)[0]["NetworkSettings"]
        words = peer.command("run", "--rm", *library, image, *client)
        yield _Lane(
            lambda address: subprocess.run([*words, address], capture_output=True, check=True).stdout,
            settings["IPAddress"],
            settings["Gateway"],
            int(settings["Ports"]["80/tcp"][0]["HostPort"]),
        )
    finally:
        subprocess.run(peer.command("rm", "--force", server), capture_output=True, check=False)


def _fastdock_lane(peer: Fastdock, workload: Workload, rootfs: Path, client: list[str]) -> Iterator[_Lane]:
    from .peers.ours import import_workload

    engine: Any = peer.engine
    image = import_workload(engine, workload, rootfs)
    options = {"env": {"LD_LIBRARY_PATH": os.environ.get("LD_LIBRARY_PATH", "")}}
    server = engine.containers.create(image, list(workload.argv), publish=["80"], **options)
    try:
        server.start()
        settings = server.inspect()["NetworkSettings"]

        def ask(address: str) -> bytes:
            done = engine.run(image, [*client, address], capture_output=True, network="bridge", **options)
            return bytes(done.stdout)

        server.wait_for(port=80, timeout=30)
        port = int(settings["Ports"]["80/tcp"][0]["HostPort"])
        yield _Lane(ask, settings["IPAddress"], settings["Gateway"], port)
    finally:
        server.remove(force=True)


# --- many ---


def _many(
    peers: dict[str, Peer], missing: dict[str, str], count: int, progress: Progress | None
) -> Comparison:
    """The first and the last starts of so many containers on one network."""
    title, method = f"start of containers on one network that go on, up to {count}", "seconds until it runs"
    peer = peers.get("fastdock bridge")
    if peer is None:
        return Comparison(title, method, {}, missing)
    peer.prepare(WORKLOADS["sleep"])
    taken: list[float] = []
    running: list[Running] = []
    try:
        for number in range(count):
            if progress:
                progress(number, count, "containers on one network")
            begin = time.perf_counter()
            running.append(peer.start())
            taken.append(time.perf_counter() - begin)
    finally:
        for one in running:
            one.stop()
    edge = min(20, count // 2)
    parts = {f"the first {edge}": taken[:edge], f"the last {edge}": taken[-edge:]}
    series = {name: Series(name, dict(enumerate(values))) for name, values in parts.items()}
    return Comparison(title, method, series, {"docker": "only starts of fastdock are compared here"})

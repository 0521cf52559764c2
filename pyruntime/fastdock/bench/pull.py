"""Pull and unpack: one large layer from a registry on loopback, into an empty store."""

from __future__ import annotations

import contextlib
import io
import random
import shutil
import socket
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .measure import Subject, measure
from .peers import Missing
from .peers.base import find_program
from .peers.engines import Docker, Podman
from .peers.ours import Fastdock
from .spawn import CommandFailed, spawn
from .suites import Bench, Comparison, Progress
from .workload import WORKLOADS, rootfs_for

__all__ = ["large_archive", "pull", "registry"]

_FILES, _FILE_SIZE = 5_000, 12_000  # many small ones, as the layer of a language has them


def large_archive(rootfs: Path, target: Path, files: int = _FILES) -> Path:
    """A root file system and many files that compress to about a third, as one tar."""
    random_ = random.Random(1)
    words = [random_.randbytes(6).hex() for _ in range(4000)]
    with tarfile.open(target, "w") as tar:
        tar.add(rootfs, arcname=".")
        for number in range(files):
            data = " ".join(random_.choices(words, k=random_.randrange(_FILE_SIZE // 12))).encode()
            info = tarfile.TarInfo(f"data/{number % 97}/{number}.txt")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return target


@contextlib.contextmanager
def registry(directory: Path) -> Iterator[str]:
    """A registry of our own on loopback, its blobs below ``directory``; Missing if there is no program for it."""
    program = find_program("docker-registry")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    directory.mkdir(parents=True, exist_ok=True)
    configuration = directory / "config.yml"
    configuration.write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {directory}/data}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
    )
    with (directory / "log").open("wb") as log:
        server = subprocess.Popen(
            [program, "serve", str(configuration)], stdout=log, stderr=subprocess.STDOUT
        )
    try:
        _wait_for(port, server)
        yield f"127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while server.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise Missing("docker-registry does not start")


def _push(scratch: Path, archive: Path, name: str) -> None:
    """Pushes a tar as an image of one gzip layer, by fastdock itself; the store it needs is thrown away."""
    from fastdock import Engine

    with Engine(root=scratch / "pusher") as engine:
        with archive.open("rb") as tar:
            engine.images.import_tar(tar, name)
        engine.images.push(name)
    shutil.rmtree(scratch / "pusher", ignore_errors=True)


def _ours(scratch: Path, name: str) -> Callable[[], float]:
    from fastdock import Engine

    def run() -> float:
        root = scratch / "puller"
        with Engine(root=root) as engine:
            begin = time.perf_counter()
            engine.images.pull(name)
            seconds = time.perf_counter() - begin
        shutil.rmtree(root)
        return seconds

    return run


def _theirs(pull_command: list[str], remove_command: list[str]) -> Callable[[], float]:
    def run() -> float:
        seconds = spawn(pull_command, timeout=300)
        if subprocess.run(remove_command, capture_output=True, check=False).returncode:
            raise CommandFailed(f"{remove_command[-1]} cannot be removed")
        return seconds

    return run


def pull(bench: Bench, scratch: Path, *, rounds: int = 5, progress: Progress | None = None) -> Comparison:
    """Pull and unpack of one layer (about 37 MB, 5,000 files) until it can be started, by those that pull."""
    missing = dict(bench.missing)
    with registry(scratch / "registry") as host:
        name = f"{host}/fdbench/large:1"
        archive = large_archive(rootfs_for(WORKLOADS["true"], scratch), scratch / "large.tar")
        size = archive.stat().st_size
        _push(scratch, archive, name)
        subjects = []
        for peer in bench.peers.values():
            if type(peer) is Fastdock:
                subjects.append(Subject(peer.name, _ours(peer.scratch, name)))
            elif isinstance(peer, Docker):
                subjects.append(
                    Subject(peer.name, _theirs(peer.command("pull", name), peer.command("rmi", name)))
                )
            elif isinstance(peer, Podman):
                take = peer.command("pull", "--tls-verify=false", name)
                subjects.append(Subject(peer.name, _theirs(take, peer.command("rmi", name))))
        subjects.append(Subject("tar -xz", _untar(archive, scratch / "untar")))
        found = measure(subjects, rounds=rounds, warmup=1, progress=progress)
        archive.unlink()
    title = f"pull and unpack {size / 1e6:.0f} MB in {_FILES} files from loopback"
    return Comparison(title, f"{rounds} rounds in turn, 1 to warm up, empty store", found, missing)


def _untar(archive: Path, target: Path) -> Callable[[], float]:
    """What it would take without an image format: gunzip and tar of the same file."""
    packed = archive.with_suffix(".tar.gz")
    with packed.open("wb") as out:
        subprocess.run(["gzip", "-c", "-6", str(archive)], stdout=out, check=True)

    def run() -> float:
        target.mkdir()
        try:
            return spawn(["/usr/bin/tar", "-xzf", str(packed), "-C", str(target)], timeout=300)
        finally:
            shutil.rmtree(target)

    return run

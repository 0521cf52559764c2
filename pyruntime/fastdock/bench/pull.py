"""Pull and unpack: large layers from a registry on loopback, into an empty store; and what a commit costs.

Put the scratch directory on a tmpfs (``fastdock bench pull`` does), so that it is not the disk that is measured.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .layer_tree import FILES, SIZE, choose, write_layer
from .measure import Subject, measure
from .peers import Missing
from .peers.base import find_program
from .peers.engines import Docker, Podman
from .peers.ours import Fastdock
from .spawn import CommandFailed, spawn
from .suites import Bench, Comparison, Progress

__all__ = ["commit", "pull", "registry"]


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


def _load(engine: object, layers: Sequence[Path], name: str) -> None:
    """Makes an image of gzip layers: as they are, so that all pull the same bytes."""
    diff_ids = []
    for layer in layers:
        with layer.with_suffix("").open("rb") as plain:
            diff_ids.append("sha256:" + hashlib.file_digest(plain, "sha256").hexdigest())
    config = {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/usr/bin/true"]},
              "rootfs": {"type": "layers", "diff_ids": diff_ids}}  # fmt: skip
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": [layer.name for layer in layers]}]
    archive = layers[0].with_name("archive.tar")
    with tarfile.open(archive, "w") as tar:
        for member, document in (("config.json", config), ("manifest.json", manifest)):
            data = json.dumps(document).encode()
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for layer in layers:
            tar.add(layer, layer.name)
    engine.images.load(archive)  # type: ignore[attr-defined]
    archive.unlink()


def _layers(scratch: Path, files: int, size: int) -> tuple[Path, list[Path]]:
    """The same files as one layer and as ten."""
    paths = choose("/usr", files, size)
    if len(paths) < 10:
        raise Missing("/usr has too few files to make layers of")
    scratch.mkdir(parents=True, exist_ok=True)
    one = scratch / "one.tar.gz"
    write_layer(paths, one)
    ten = []
    # By size: ten layers of 90 MB.
    sizes = [os.lstat(path).st_size for path in paths]
    shares: list[list[str]] = [[] for _ in range(10)]
    done = 0
    for path, length in zip(paths, sizes, strict=True):
        shares[min(9, done * 10 // max(1, sum(sizes)))].append(path)
        done += length
    for number, share in enumerate(shares):
        if share:
            ten.append(scratch / f"ten-{number}.tar.gz")
            write_layer(share, ten[-1])
    return one, ten


_PROGRAM = """
import sys
from fastdock.cli import main
try:
    main(sys.argv[2:])
finally:
    with open("/proc/self/status") as status, open(sys.argv[1], "w") as peak:
        peak.write(status.read().partition("VmHWM:")[2].split()[0])
"""


class _Ours:
    """``fastdock pull``, a whole process; remembers the most memory that it took."""

    def __init__(self, root: Path, name: str) -> None:
        self._root, self._name = root, name
        self.peak = 0  # bytes

    def __call__(self) -> float:
        report = self._root.with_suffix(".peak")
        command = [
            sys.executable,
            "-c",
            _PROGRAM,
            str(report),
            "--root",
            str(self._root),
            "pull",
            "-q",
            self._name,
        ]
        try:
            seconds = spawn(command, timeout=300)
            self.peak = max(self.peak, int(report.read_text()) * 1024)
            return seconds
        finally:
            shutil.rmtree(self._root, ignore_errors=True)


def _theirs(pull_command: list[str], remove_command: list[str]) -> Callable[[], float]:
    def run() -> float:
        seconds = spawn(pull_command, timeout=300)
        if subprocess.run(remove_command, capture_output=True, check=False).returncode:
            raise CommandFailed(f"{remove_command[-1]} cannot be removed")
        return seconds

    return run


def _umoci(scratch: Path, name: str) -> Callable[[], float]:
    """``skopeo copy`` into an OCI layout, ``umoci unpack`` of that."""
    skopeo, umoci = find_program("skopeo"), find_program("umoci")

    def run() -> float:
        scratch.mkdir()
        try:
            layout = f"{scratch}/layout:1"
            copy = [skopeo, "copy", "--src-tls-verify=false", f"docker://{name}", f"oci:{layout}"]
            return spawn(copy, timeout=300) + spawn(
                [umoci, "unpack", "--image", layout, f"{scratch}/bundle"], timeout=300
            )
        finally:
            shutil.rmtree(scratch)

    return run


def _untar(packed: Path, target: Path) -> Callable[[], float]:
    """What it would take without an image format: gunzip and tar of the same file."""

    def run() -> float:
        target.mkdir()
        try:
            return spawn([find_program("tar"), "-xzf", str(packed), "-C", str(target)], timeout=300)
        finally:
            shutil.rmtree(target)

    return run


def pull(
    bench: Bench, scratch: Path, *, rounds: int = 3, files: int = FILES, size: int = SIZE,
    progress: Progress | None = None,
) -> Comparison:  # fmt: skip
    """Pull and unpack of one layer of about 900 MB, and of the same files in ten, until they can be started."""
    from fastdock import Engine

    missing = dict(bench.missing)
    work = scratch / "pull"
    one, ten = _layers(work, files, size)
    described = f"{one.with_suffix('').stat().st_size / 1e6:.0f} MB ({one.stat().st_size / 1e6:.0f} MB gzip)"
    with registry(work / "registry") as host:
        name, in_ten = f"{host}/fdbench/one:1", f"{host}/fdbench/ten:1"
        with Engine(root=work / "pusher") as engine:
            _load(engine, [one], name)
            _load(engine, ten, in_ten)
            engine.images.push(name)
            engine.images.push(in_ten)
        shutil.rmtree(work / "pusher", ignore_errors=True)
        for path in (*ten, *(layer.with_suffix("") for layer in (one, *ten))):
            path.unlink()
        ours = [_Ours(work / "puller", name), _Ours(work / "puller-ten", in_ten)]
        subjects = []
        for peer in bench.peers.values():
            if type(peer) is Fastdock:
                subjects += [Subject(peer.name, ours[0]), Subject(f"{peer.name}, ten layers", ours[1])]
            elif isinstance(peer, Docker):
                subjects.append(
                    Subject(peer.name, _theirs(peer.command("pull", name), peer.command("rmi", name)))
                )
            elif isinstance(peer, Podman):
                take = peer.command("pull", "--tls-verify=false", name)
                subjects.append(Subject(peer.name, _theirs(take, peer.command("rmi", name))))
        try:
            subjects.append(Subject("skopeo and umoci", _umoci(work / "umoci", name)))
        except Missing as reason:
            missing["skopeo and umoci"] = str(reason)
        subjects.append(Subject("tar -xz", _untar(one, work / "untar")))
        found = measure(subjects, rounds=rounds, warmup=1, progress=progress)
    shutil.rmtree(work)
    peaks = " and ".join(f"{one_.peak / 1e6:.0f}" for one_ in ours)
    method = f"{rounds} rounds in turn, 1 to warm up, empty stores; fastdock's peak memory {peaks} MB"
    return Comparison(f"pull and unpack {described}, {files} files, from loopback", method, found, missing)


def commit(bench: Bench, scratch: Path, *, rounds: int = 5, progress: Progress | None = None) -> Comparison:
    """Committing ten changed files of a container: on an image of about 1 GB, and on one of a few MB."""
    from fastdock import Engine

    work = scratch / "commit"
    work.mkdir(parents=True)
    large, small = work / "large.tar", work / "small.tar"
    paths = choose("/usr", FILES, SIZE)
    write_layer(paths, large)
    write_layer(paths[:100], small)
    changed = []
    for number in range(10):
        changed.append(work / f"changed-{number}")
        changed[-1].write_bytes(os.urandom(10_000))
    subjects = []
    with contextlib.ExitStack() as stack:
        for peer in bench.peers.values():
            for title, archive in (("1 GB", large), ("small", small)):
                if type(peer) is Fastdock:
                    engine = stack.enter_context(Engine(root=work / f"root-{title.replace(' ', '-')}"))
                    engine.images.import_tar(archive, "large:1")
                    run = _our_commit(engine, changed, stack)
                elif isinstance(peer, Docker):
                    run = _dockers_commit(peer, archive, changed, stack)
                else:
                    continue
                subjects.append(Subject(f"{peer.name}, {title}", run))
        found = measure(subjects, rounds=rounds, warmup=1, progress=progress)
    shutil.rmtree(work, ignore_errors=True)
    return Comparison(
        "commit of ten changed files", f"{rounds} rounds in turn, 1 to warm up", found, dict(bench.missing)
    )


def _our_commit(engine: object, changed: Sequence[Path], stack: contextlib.ExitStack) -> Callable[[], float]:
    container = engine.containers.create("large:1", ["/x"])  # type: ignore[attr-defined]
    stack.callback(lambda: container.remove(force=True))
    for path in changed:
        container.put(path, f"/usr/{path.name}")

    def run() -> float:
        begin = time.perf_counter()
        image = container.commit("changed:1")
        seconds = time.perf_counter() - begin
        image.remove(force=True)
        return seconds

    return run


def _dockers_commit(
    peer: Docker, archive: Path, changed: Sequence[Path], stack: contextlib.ExitStack
) -> Callable[[], float]:
    def docker(*words: str) -> str:
        return subprocess.run(peer.command(*words), capture_output=True, text=True, check=True).stdout.strip()

    image = docker("import", str(archive))
    container = docker("create", "--network", "none", image, "/x")
    stack.callback(lambda: (docker("rm", "-f", container), docker("rmi", "-f", image)))
    for path in changed:
        docker("cp", str(path), f"{container}:/usr/{path.name}")

    def run() -> float:
        seconds = spawn(peer.command("commit", container, "fdbench/changed:1"))
        docker("rmi", "fdbench/changed:1")
        return seconds

    return run

"""SIGKILL at any moment: the state is consistent, and the next pull goes on with what is there."""

import contextlib
import multiprocessing
import os
import random
import signal
import time

import pytest

from fastdock.image import Images
from fastdock.store import Store
from tests.system import make
from tests.system.servers import Proxy

pytestmark = pytest.mark.system
KILLS = 200


def pull(root, name):
    """In a process of its own: pulls, as a user would."""
    from fastdock.registry.credentials import CredentialStore
    from fastdock.registry.pull import Transfer
    from fastdock.registry.settings import Settings
    from tests.system.conftest import FAST

    transfer = Transfer(Settings({}, ()), CredentialStore(), FAST)
    Images(Store(root)).pull(name, transfer=transfer)


@pytest.fixture(scope="module")
def processes():
    """Makes processes that are ready at once: forked from one that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.system.test_kill", "fastdock.registry.pull", "fastdock._core"])
    return context


@pytest.mark.timeout(600)
def test_killed_pulls(registry, images, tmp_path, transfer, processes):
    """200 pulls are killed at random points; after each, whatever is visible is whole.  Then one succeeds."""
    seed = int(os.environ.get("FASTDOCK_SEED") or time.time())
    print(f"FASTDOCK_SEED={seed}")
    chance = random.Random(seed)
    root = tmp_path / "killed"
    names = []
    for number in range(4):  # they share nothing but their base
        name = f"{registry.host}/x{number}:1"
        make.layered(images, name, [200_000, 300_000 + number, 1_000_000], base_seed=number * 10)
        images.push(name, transfer=transfer())
        names.append(name)
    whole = _time_of_a_pull(processes, tmp_path / "timed", names[0])
    victim = Images(Store(root))
    done = 0
    for number in range(KILLS):
        name = names[number % len(names)]
        process = processes.Process(target=pull, args=(str(root), name))
        process.start()
        process.join(chance.uniform(0, whole * 1.3))
        if process.is_alive():
            with contextlib.suppress(ProcessLookupError):  # it ended in this moment
                os.kill(process.pid, signal.SIGKILL)
        process.join()
        done += process.exitcode == 0
        _assert_consistent(victim, names)
        if number % 8 == 7:  # begin again, so that there is always something to interrupt
            for image in victim.list():
                victim.remove(image.id, force=True)
            if number % 16 == 15:
                victim.prune()
    assert done < KILLS
    for name in names:
        victim.pull(name, transfer=transfer())
    victim.prune()
    assert victim.check() == []
    for name in names:
        assert make.tree(victim.get(name)) == make.tree(images.get(name))
    assert os.listdir(victim.store.layers.staging) == []


def _time_of_a_pull(processes, root, name):
    start = time.monotonic()
    process = processes.Process(target=pull, args=(str(root), name))
    process.start()
    process.join()
    assert process.exitcode == 0
    return time.monotonic() - start


def _assert_consistent(victim, names):
    """Nothing is wrong but leftovers; what has a name has all its files."""
    problems = [finding for finding in victim.check() if finding.kind != "leftover"]
    assert problems == []
    for image in victim.list():
        sizes = {path: len(content) for path, content in make.tree(image).items()}
        number = names.index(image.tags[0]) if image.tags else 0
        assert not image.tags or sizes == {"layer0": 200_000, "layer1": 300_000 + number, "layer2": 1_000_000}


def test_a_killed_pull_is_resumed(registry, images, tmp_path, transfer, processes):
    """However often it is killed, the bytes that arrived are not fetched again."""
    size = 48 << 20
    name = f"{registry.host}/x:1"
    make.image(images, name, {"noise": make.noise(size)})
    images.push(name, transfer=transfer())
    root = tmp_path / "killed"
    victim = Images(Store(root))
    kills = 0
    with Proxy(registry.port) as proxy:
        while not victim.list():
            process = processes.Process(target=pull, args=(str(root), f"{proxy.host}/x:1"))
            process.start()
            before = _partial(victim)
            while process.is_alive() and _partial(victim) < before + (8 << 20):
                process.join(0.001)
            if process.is_alive():
                os.kill(process.pid, signal.SIGKILL)
                kills += 1
            process.join()
            assert kills < 50
        # What was on its way at each kill is lost: the buffers of sockets, proxy and client.
        assert proxy.received < size + kills * (12 << 20)
        assert proxy.received < 3 * size
    assert victim.check() == []


def _partial(images):
    total = 0
    for entry in os.scandir(images.store.blobs.ingest):
        try:
            total += entry.stat().st_size
        except FileNotFoundError:
            continue
    return total


def test_many_processes_fetch_once(registry, images, tmp_path, transfer, processes):
    """Six processes pull two images that share layers: every byte is fetched once, unpacked once."""
    first = f"{registry.host}/x:1"
    second = f"{registry.host}/x:2"
    make.layered(images, first, [400_000] * 4)
    base = images.get(first)
    upper = tmp_path / "upper"
    upper.mkdir()
    (upper / "more").write_bytes(make.noise(300_000, 99))
    images.commit(upper, base.id, second)
    for name in (first, second):
        images.push(name, transfer=transfer())
    root = tmp_path / "together"
    Store(root)
    with Proxy(registry.port) as proxy:
        running = [
            processes.Process(target=pull, args=(str(root), f"{proxy.host}/x:{1 + number % 2}"))
            for number in range(6)
        ]
        for process in running:
            process.start()
        for process in running:
            process.join()
        assert [process.exitcode for process in running] == [0] * 6
        blobs = [line.rpartition("/")[2] for line in proxy.gets("blobs")]
    assert len(blobs) == len(set(blobs)) == 7  # five layers, two configurations
    together = Images(Store(root))
    assert together.check() == []
    assert len(os.listdir(together.store.layers.directory)) == 5


def test_removal_while_others_pull(registry, images, tmp_path, transfer, processes):
    """One removes what the others pull, over and over: a pull that says it is done is done."""
    name = f"{registry.host}/x:1"
    make.layered(images, name, [50_000] * 3)
    images.push(name, transfer=transfer())
    root = tmp_path / "contested"
    contested = Images(Store(root))
    for _ in range(10):
        running = [processes.Process(target=pull, args=(str(root), name)) for _ in range(3)]
        for process in running:
            process.start()
        while any(process.is_alive() for process in running):
            for image in contested.list():
                contested.remove(image.id, force=True)
            running[0].join(0.01)
        assert [process.exitcode for process in running] == [0] * 3
        assert [finding for finding in contested.check() if finding.kind != "leftover"] == []
    contested.pull(name, transfer=transfer())
    contested.prune()
    assert contested.check() == []


def churn(root, seed):
    """In a process of its own: makes, names, commits and removes images until it is killed."""
    import tempfile

    chance = random.Random(seed)
    images = Images(Store(root))
    while True:
        name = f"x{chance.randrange(3)}:1"
        made = make.image(
            images, name, {f"f{number}": make.noise(2000, number) for number in range(chance.randrange(20))}
        )
        with tempfile.TemporaryDirectory() as upper:
            os.chmod(upper, 0o755)
            with open(os.path.join(upper, "more"), "wb") as file:
                file.write(make.noise(1000, chance.randrange(5)))
            images.commit(upper, made.id, f"{name}-more")
        if chance.random() < 0.5:
            images.tag(name, "y:1")
        for image in images.list():
            if chance.random() < 0.4:
                images.remove(image.id, force=True)
        if chance.random() < 0.3:
            images.prune()


def test_killed_changes(tmp_path, processes):
    """Imports, commits, removals and prunes that are killed leave leftovers at most."""
    seed = int(os.environ.get("FASTDOCK_SEED") or time.time())
    print(f"FASTDOCK_SEED={seed}")
    chance = random.Random(seed)
    root = tmp_path / "churned"
    images = Images(Store(root))
    for number in range(40):
        process = processes.Process(target=churn, args=(str(root), seed + number))
        process.start()
        process.join(chance.uniform(0.02, 0.4))
        assert process.exitcode is None, "it should not have failed"
        process.kill()
        process.join()
        assert [finding for finding in images.check() if finding.kind != "leftover"] == []
    images.prune()
    assert images.check() == []
    assert os.listdir(images.store.layers.staging) == []

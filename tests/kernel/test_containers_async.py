"""fastdock.aio.Container: the same, awaited, and without a thread for each container."""

from __future__ import annotations

import asyncio
import threading

import pytest

from fastdock import PIPE, Conflict, Engine, TimeoutExpired, aio

pytestmark = pytest.mark.kernel


async def test_a_life(engine: Engine) -> None:
    async with await aio.Container.create("busybox", ["sleep", "1000"], engine=engine) as made:
        done = await made.exec(["cat"], input=b"in", capture_output=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"in", b"")
        await made.write_bytes("/tmp/x", b"1")
        assert await made.read_bytes("/tmp/x") == b"1"
        await made.pause()
        assert made.status == "paused"
        await made.unpause()
        assert await made.stop(0) == 137


async def test_many_wait_without_threads(engine: Engine) -> None:
    made = [await aio.Container.create("busybox", ["sleep", "1000"], engine=engine) for _ in range(5)]
    waits = [asyncio.ensure_future(each.wait()) for each in made]
    logs = [asyncio.ensure_future(_collect(each)) for each in made]
    await asyncio.sleep(0)
    before = threading.active_count()
    for each in made:
        await each.kill()
    assert await asyncio.gather(*waits) == [137] * 5
    assert await asyncio.gather(*logs) == [[]] * 5
    assert threading.active_count() <= before + 1
    for each in made:
        await each.remove()


async def test_restart_rename_inspect_top_diff(engine: Engine) -> None:
    async with await aio.Container.create(
        "busybox", ["sleep", "1000"], engine=engine, network="none"
    ) as made:
        await made.rename("twin")
        assert (made.name, (await made.inspect())["Name"]) == ("twin", "/twin")
        await made.write_bytes("/mark", b"")
        assert await made.diff() == [("A", "/mark")]
        assert [row[-1] for row in (await made.top())[1]] == ["sleep 1000"]
        before = made.state.pid
        await made.restart(0, signal="KILL")
        assert made.state.pid not in (0, before)
        actions = []
        async for event in made.events(since=0):
            actions.append(event["Action"])
            if event["Action"] == "restart":
                break
        assert actions[-3:] == ["stop", "start", "restart"]


async def _collect(made: aio.Container) -> list[bytes]:
    return [entry.data async for entry in made.logs(follow=True)]


async def test_timeouts(engine: Engine) -> None:
    async with await aio.Container.create("busybox", ["sleep", "1000"], engine=engine) as made:
        with pytest.raises(TimeoutExpired):
            await made.wait(0.01)
        with pytest.raises(TimeoutExpired):
            await made.exec(["sleep", "500"], timeout=0.1)
        done = await made.exec(["ps"], capture_output=True)
        assert b"sleep 500" not in done.stdout


async def test_wait_for_log_and_port(engine: Engine) -> None:
    script = "echo up; busybox nc -l -p 8080 127.0.0.1"
    async with await aio.Container.create("busybox", ["sh", "-c", script], engine=engine) as made:
        await made.wait_for(log="^up", timeout=60)
        await made.wait_for(port=8080, timeout=60)
        async for event in made.events(since=0):
            assert event["Action"] == "create"
            break


async def test_popen(engine: Engine) -> None:
    async with await aio.Container.create(
        "busybox", ["sleep", "1000"], engine=engine, network="none"
    ) as made:
        async with await made.popen(["cat"], stdin=PIPE, stdout=PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"a line\n")
            assert await process.stdout.readline() == b"a line\n"
            process.stdin.close()
            assert await process.wait() == 0
        process = await made.popen(["sleep", "1000"])
        process.terminate()
        assert (await process.wait(), process.returncode) == (-15, -15)
        both = await made.popen(["sh", "-c", "echo out; echo err >&2; exit 3"], stdout=PIPE, stderr=PIPE)
        assert (await both.communicate(), both.returncode) == ((b"out\n", b"err\n"), 3)
        with pytest.raises(FileNotFoundError):
            await made.popen(["/no/such/program"])


async def test_open(engine: Engine) -> None:
    async with await aio.Container.create(
        "busybox", ["sleep", "1000"], engine=engine, network="none"
    ) as made:
        async with await made.open("/tmp/lines", "w") as file:
            assert await file.write("one\ntwo\n") == 8
        async with await made.open("/tmp/lines") as file:
            assert [line async for line in file] == ["one\n", "two\n"]
            assert await file.seek(4) == 4
            assert await file.read() == "two\n"
        with pytest.raises(FileNotFoundError):
            await made.open("/no/such/file")
        assert await made.size() >= 8


async def test_volumes_and_networks(engine: Engine) -> None:
    volumes, networks = aio.Volumes(engine.volumes), aio.Networks(engine.networks)
    volume = await volumes.create("twin", labels={"l": "1"})
    network = await networks.create("twin", subnets=["198.18.77.0/24"])
    try:
        assert (await volumes.get("twin"), [each.name for each in await volumes.list()]) == (volume, ["twin"])
        assert network.id in {each.id for each in await networks.list()}
        made = await aio.Container.create("busybox", ["sleep", "1000"], engine=engine, volumes=["twin:/v"])
        async with made:
            assert await volumes.users("twin") == [made.id]
            await networks.connect("twin", made.id, ip="198.18.77.9")
            assert [*await networks.endpoints(network)] == [made.id]
            await networks.disconnect("twin", made.id)
            with pytest.raises(Conflict):
                await volumes.remove("twin")
    finally:
        await networks.remove("twin")
        await volumes.remove("twin")

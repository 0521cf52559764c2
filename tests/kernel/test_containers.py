"""Containers that outlive their caller: their life from create to rm."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from kept import SLEEP, container, output_of, shell, wait_until

from fastdock import (
    PIPE,
    Conflict,
    Container,
    ContainerNotFound,
    ContainerNotRunning,
    Engine,
    SpecError,
    TimeoutExpired,
)
from fastdock.containers import control

pytestmark = pytest.mark.kernel


class TestLife:
    def test_created_running_exited_removed(self, engine: Engine) -> None:
        made = engine.containers.create("busybox", shell("echo hello; exit 3"), name="life")
        assert made.status == "created"
        made.start()
        assert made.wait() == 3
        state = made.state
        assert (state.status, state.exit_code, state.pid) == ("exited", 3, 0)
        assert state.started_at < state.finished_at
        assert output_of(made) == b"hello\n"
        made.remove()
        with pytest.raises(ContainerNotFound):
            engine.containers.get("life")

    def test_is_no_child_of_its_starter(self, engine: Engine) -> None:
        with container(engine) as made:
            monitor = Path(f"/proc/{made.state.monitor}/status").read_text()
            assert f"PPid:\t{os.getpid()}\n" not in monitor
            assert f"PPid:\t{made.state.monitor}\n" in Path(f"/proc/{made.pid}/status").read_text()

    def test_starts_again_with_its_files(self, engine: Engine) -> None:
        with container(engine, shell("echo more >> /root/log; wc -l < /root/log")) as made:
            made.wait()
            made.start()
            made.wait()
            assert output_of(made) == b"1\n2\n"

    def test_found_by_name_id_and_prefix(self, engine: Engine) -> None:
        with container(engine, name="findme") as made:
            for reference in ("findme", "/findme", made.id, made.id[:12]):
                assert engine.containers.get(reference).id == made.id
            with pytest.raises(ContainerNotFound):
                engine.containers.get("")

    def test_name_is_taken(self, engine: Engine) -> None:
        with container(engine, name="taken") as made:
            with pytest.raises(Conflict, match=made.id):
                engine.containers.create("busybox", SLEEP, name="taken")
            made.rename("other")
            with container(engine, name="taken"):
                assert engine.containers.get("other").id == made.id

    def test_program_that_is_not_there(self, engine: Engine) -> None:
        made = engine.containers.create("busybox", ["nosuchprogram"])
        with pytest.raises(FileNotFoundError, match="no such program"):
            made.start()
        assert (made.status, made.state.exit_code) == ("created", 127)
        assert "no such program" in made.state.error
        made.remove()

    def test_stop_and_its_signal(self, engine: Engine) -> None:
        script = "trap 'echo got; exit 5' USR1; echo ready; while :; do sleep 0.05; done"
        with container(engine, shell(script), stop_signal="SIGUSR1") as made:
            made.wait_for(log="ready", timeout=60)
            assert made.stop() == 5
            assert output_of(made) == b"ready\ngot\n"
            assert made.stop() == 5  # nothing to do

    def test_stop_kills_after_its_time(self, engine: Engine) -> None:
        with container(engine) as made:  # process 1 gets no signal that it does not wait for
            assert made.stop(0.05) == 137

    def test_kill(self, engine: Engine) -> None:
        with container(engine) as made:
            with pytest.raises(SpecError):
                made.kill("SIGNONSENSE")
            made.kill()
            assert made.wait() == 137
            with pytest.raises(ContainerNotRunning):
                made.kill()

    def test_wait_has_a_timeout(self, engine: Engine) -> None:
        with container(engine) as made, pytest.raises(TimeoutExpired):
            made.wait(0.01)

    def test_remove_needs_force(self, engine: Engine) -> None:
        with container(engine) as made:
            with pytest.raises(Conflict, match="running"):
                made.remove()
            made.remove(force=True)
            assert not os.path.exists(made.directory)
            assert not os.path.exists(made.run_directory)

    def test_auto_remove(self, engine: Engine) -> None:
        made = engine.containers.create("busybox", ["true"], auto_remove=True, name="gone")
        connection = made.start(attach=control.ATTACH_OUTPUT)
        assert connection is not None
        with connection:
            connection.wait_for_end()
        assert not os.path.exists(made.directory)
        assert "gone" not in [each.name for each in engine.containers]
        engine.containers.create("busybox", ["true"], name="gone").remove()

    def test_context_manager(self, engine: Engine) -> None:
        with Container("busybox", SLEEP, engine=engine) as made:
            assert made.status == "running"
        with pytest.raises(ContainerNotFound):
            engine.containers.get(made.id)

    def test_pause(self, engine: Engine) -> None:
        with container(engine) as made:
            made.pause()
            assert made.status == "paused"
            with pytest.raises(Conflict):
                made.pause()
            with pytest.raises(ContainerNotRunning):
                made.exec(["true"])
            made.unpause()
            assert made.exec(["true"]).returncode == 0
            made.pause()
            assert made.stop(0) == 137

    def test_two_starts_at_once(self, engine: Engine) -> None:
        made = engine.containers.create("busybox", SLEEP)
        threads = [threading.Thread(target=made.start) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert made.status == "running"
        made.remove(force=True)

    def test_restart_policy_counts(self, engine: Engine) -> None:
        with container(engine, shell("echo run; exit 9"), restart="on-failure:2") as made:
            wait_until(made, lambda: made.status == "exited")
            assert made.state.restart_count == 2
            assert output_of(made) == b"run\nrun\nrun\n"

    def test_stop_ends_restarting(self, engine: Engine) -> None:
        with container(engine, ["false"], restart="always") as made:
            wait_until(made, lambda: made.status == "restarting")
            made.stop()
            assert made.status == "exited"

    def test_restart_policy_and_rm_contradict(self, engine: Engine) -> None:
        with pytest.raises(SpecError):
            engine.containers.create("busybox", SLEEP, restart="always", auto_remove=True)

    def test_oom(self, engine: Engine) -> None:
        eat = shell("x=a; while :; do x=$x$x; done")
        with container(engine, eat, memory="16m", memory_swap="16m") as made:
            assert made.wait() == 137
            assert made.state.oom_killed

    def test_prune(self, engine: Engine) -> None:
        with container(engine) as runs:
            done = engine.containers.create("busybox", ["true"])
            removed, _ = engine.containers.prune()
            assert done.id in removed
            assert runs.status == "running"


class TestHealth:
    def test_becomes_healthy_and_unhealthy(self, engine: Engine) -> None:
        options = {"health_cmd": "test -e /tmp/good", "health_interval": 0.05, "health_retries": 2}
        with container(engine, **options) as made:
            wait_until(made, lambda: (made.state.health or {}).get("status") == "unhealthy")
            made.write_bytes("/tmp/good", b"")
            made.wait_until_healthy(60)
            log = (made.state.health or {})["log"]
            assert log[-1]["ExitCode"] == 0
            assert len(log) <= 5

    def test_a_probe_has_the_events_of_an_exec(self, engine: Engine) -> None:
        """As docker events shows them, and the change of health after those of the probe that brought it."""
        options = {"health_cmd": "test -e /tmp/good", "health_interval": 0.05, "health_retries": 1}
        with container(engine, **options) as made:
            wait_until(made, lambda: (made.state.health or {}).get("status") == "unhealthy")
            made.write_bytes("/tmp/good", b"")
            made.wait_until_healthy(60)
            events = [*made.events(since=0, until=time.time())]
        probes: dict[str, list[Any]] = {}
        for event in events:
            attributes = event["Actor"]["Attributes"]
            if event["Action"].startswith("exec_"):
                probes.setdefault(attributes["execID"], []).append(
                    (event["Action"], attributes.get("exitCode"))
                )
        command = "/bin/sh -c test -e /tmp/good"
        assert next(iter(probes.values())) == [
            (f"exec_create: {command}", None),
            (f"exec_start: {command}", None),
            ("exec_die", "1"),
        ]
        assert ("exec_die", "0") in [ends for probe in probes.values() for ends in probe]
        actions = [event["Action"] for event in events]
        for health in ("unhealthy", "healthy"):
            assert actions[actions.index(f"health_status: {health}") - 1] == "exec_die"

    def test_timeout_kills_the_probe(self, engine: Engine) -> None:
        options = {
            "health_cmd": "sleep 500",
            "health_interval": 0.05,
            "health_timeout": 0.05,
            "health_retries": 1,
        }
        with container(engine, **options) as made:
            wait_until(made, lambda: (made.state.health or {}).get("status") == "unhealthy")
            assert "exceeded timeout" in (made.state.health or {})["log"][-1]["Output"]
            ends = [
                event for event in made.events(since=0, until=time.time()) if event["Action"] == "exec_die"
            ]
            assert ends[0]["Actor"]["Attributes"]["exitCode"] == "137"


class TestLimits:
    def test_update(self, engine: Engine) -> None:
        with container(engine, memory="64m") as made:
            made.update(memory="128m", pids=77)
            stats = made.stats()
            assert (stats["memory_limit"], stats["pids_limit"]) == (128 << 20, 77)
            made.update(memory="32m", memory_swap="32m")
            assert made.stats()["memory_limit"] == 32 << 20
            again = engine.containers.get(made.id)
            assert again.inspect()["HostConfig"]["Memory"] == 32 << 20
            made.stop(0)
            made.start()
            assert made.stats()["memory_limit"] == 32 << 20
            with pytest.raises(SpecError):
                made.update(image="x")

    def test_top(self, engine: Engine) -> None:
        with container(engine) as made:
            headings, rows = made.top()
            assert "PID" in headings
            assert [row[-1] for row in rows] == ["sleep 1000"]


class TestEvents:
    def test_a_life(self, engine: Engine) -> None:
        began = time.time()
        with container(engine, labels={"color": "blue"}) as made:
            made.pause()
            made.unpause()
            made.rename("renamed")
            made.stop(0)
        actions = [e["Action"] for e in made.events(since=began, until=time.time())]
        assert actions == ["create", "start", "pause", "unpause", "rename", "kill", "die", "stop", "destroy"]

    def test_followed_from_another_thread(self, engine: Engine) -> None:
        with container(engine) as made:
            events = made.events(since=time.time())
            thread = threading.Thread(target=made.kill)
            thread.start()
            assert next(events)["Action"] == "kill"
            assert next(events)["Action"] == "die"
            thread.join()


class TestInspect:
    def test_what_docker_says(self, engine: Engine) -> None:
        with container(
            engine, shell("sleep 1000"), name="inspected", env={"A": "b"}, restart="always"
        ) as made:
            document = made.inspect()
            assert document["Name"] == "/inspected"
            assert document["State"]["Running"] is True
            assert document["HostConfig"]["RestartPolicy"] == {"Name": "always", "MaximumRetryCount": 0}
            assert "A=b" in document["Config"]["Env"]
            assert document["Config"]["Cmd"] == ["sh", "-c", "sleep 1000"]
            json.dumps(document)

    def test_commit(self, engine: Engine) -> None:
        with container(engine) as made:
            made.write_bytes("/root/file", b"kept")
            image = made.commit("committed:1")
        done = engine.run("committed:1", ["cat", "/root/file"], stdout=PIPE)
        assert done.stdout == b"kept"
        image.remove(force=True)
        engine.close()

    def test_diff(self, engine: Engine) -> None:
        with container(engine) as made:
            made.exec(shell("touch /root/new; rm /etc/group"))
            assert set(made.diff()) >= {("A", "/root/new"), ("D", "/etc/group"), ("C", "/root")}

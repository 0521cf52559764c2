"""A container that another version of fastdock has started goes on under its own monitor."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from kept import SLEEP, container, shell

from fastdock import Conflict, Engine, KernelError, _core
from fastdock.containers import control
from fastdock.containers.control import Control

pytestmark = pytest.mark.kernel


@pytest.fixture
def another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process lays bytes out as the monitor's build does not; the rest of the protocol is for ever."""
    for name in ("update_bytes", "plan_bytes"):
        real = getattr(_core, name)
        monkeypatch.setattr(_core, name, lambda *a, real=real, **k: bytes(16) + real(*a, **k)[16:])


@pytest.mark.usefixtures("another_version")
def test_it_is_entered_watched_and_stopped(engine: Engine) -> None:
    script = "trap 'exit 3' TERM; echo on; while :; do sleep 0.1; done"
    with container(engine, shell(script), network="none") as made:
        made.wait_for(log="on")
        assert made.exec(["true"]).returncode == 0
        made.pause()
        made.unpause()
        from fastdock.containers.execution import detached

        assert detached(made, ["touch", "/detached"]) > 0
        made.rename("other")
        with pytest.raises(Conflict, match="another version"):
            made.update(memory="64m")
        assert made.inspect()["HostConfig"]["Memory"] == 0
        assert made.stop() == 3
        made.start()
        assert made.state.running


def test_what_a_monitor_does_not_know_it_refuses(engine: Engine) -> None:
    """A question of a version to come is an error for who asks, and nothing else."""
    with container(engine, network="none") as made:
        with Control.connect(made.run_directory, made.name) as connection:
            with pytest.raises(KernelError):
                connection.ask(63)
            assert connection.ask(control.ATTACH, 0) == 0
        assert made.state.running


def test_numbers_are_for_ever() -> None:
    """Of packets: monitors that run know these."""
    names = "ATTACH INPUT INPUT_END RESIZE SIGNAL STOP WAIT PAUSE RESUME UPDATE RENAME EXECUTE".split()  # noqa: SIM905
    assert [getattr(control, name) for name in names] == list(range(1, 13))
    answers = "STARTED DONE FAILED OUTPUT LOST EXITED".split()  # noqa: SIM905
    assert [getattr(control, name) for name in answers] == list(range(64, 70))


def test_states_and_documents_with_members_of_another_version(engine: Engine) -> None:
    """More than this version knows, and less."""
    made = engine.containers.create("busybox", SLEEP, network="none")
    try:
        _core.write_state(
            made.directory, json.dumps({"status": "exited", "exit_code": 4, "of_the_future": [1]}), False
        )
        assert (made.state.status, made.state.exit_code) == ("exited", 4)
        options = {**made.record.document["options"], "of_the_future": "x"}
        settings = {**made.record.document["settings"], "of_the_future": "x"}
        engine.containers.records.change(made.id, {"options": options, "settings": settings, "future": 1})
        found = engine.containers.get(made.id)
        found.start()
        assert found.exec(["true"]).returncode == 0
        assert os.path.isdir(found.run_directory)
    finally:
        made.remove(force=True)


def test_old_state_files_are_read(engine: Engine) -> None:
    """A monitor of another version may write fewer members, or more."""
    with container(engine) as made:
        made.stop(0)
        path = Path(made.directory, "state.json")
        document = json.loads(path.read_text())
        del document["restart_count"]
        document["from_the_future"] = 1
        path.write_text(json.dumps(document))
        assert made.state.exit_code == 137

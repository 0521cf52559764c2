"""ARCHITECTURE.md: everything that waits has an async twin in fastdock.aio."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest

import fastdock
from fastdock import aio
from fastdock.async_process import AsyncProcess
from fastdock.containers.execution import Execution
from fastdock.network import Networks
from fastdock.volumes import Volumes

# What never waits is the same in both worlds, and needs no twin.
NO_TWIN = {
    "Container": {"of": "Container(container) of aio does it"},
    "Popen": {"poll": "returncode has it: the event loop watches the end", "fileno": "the event loop watches it"},
    "Execution": {
        "poll": "returncode has it: the event loop watches the end", "fileno": "the event loop watches it",
        "take_terminal": "a descriptor, for whoever watches terminals",
    },
    "Pool": {},
    "Image": {},
    "Images": {"at": "Images(images) of aio does it"},
    "Networks": dict.fromkeys(
        ("plan", "want", "take", "attach", "attached", "started", "keep", "document", "detach", "suspend", "hold",
         "join", "rename"),
        "the engine's own, around a container's life",
    ),
    "Volumes": dict.fromkeys(("drop_unused", "resolve"), "the engine's own, around a container's life"),
}  # fmt: skip
# Methods that do the same at once: a signal is sent, nothing is waited for.
AT_ONCE = {"send_signal", "terminate", "kill"}
# The awaited face has asyncio's way for them.
OTHER_WAYS = {
    ("Container", "start"): {"attach", "terminal"},  # of the command line
    ("Popen", "wait"): {"timeout"},  # asyncio.wait_for
    ("Popen", "communicate"): {"timeout"},
    ("Execution", "wait"): {"timeout"},
    ("Execution", "communicate"): {"timeout"},
}


def public_methods(kind: type) -> Iterator[tuple[str, Any]]:
    for name, member in inspect.getmembers(kind):
        if not name.startswith("_") and callable(member):
            yield name, member


PAIRS = [
    (fastdock.Container, aio.Container), (fastdock.Popen, aio.Popen), (Execution, aio.Execution),
    (fastdock.Pool, aio.Pool), (fastdock.Image, aio.Image), (fastdock.Images, aio.Images), (Networks, aio.Networks), (Volumes, aio.Volumes),
]  # fmt: skip
PROCESSES = {"Popen", "Execution"}
CASES = [
    (sync.__name__, name, member, getattr(twin, name, None))
    for sync, twin in PAIRS
    for name, member in public_methods(sync)
    if name not in NO_TWIN[sync.__name__]
]


@pytest.mark.parametrize(
    ("kind", "name", "member", "twin"), CASES, ids=[f"{case[0]}.{case[1]}" for case in CASES]
)
def test_has_a_twin(kind: str, name: str, member: Any, twin: Any) -> None:
    assert twin is not None, f"fastdock.aio.{kind} lacks {name}"
    awaited = inspect.iscoroutinefunction(twin) or inspect.isasyncgenfunction(twin)
    assert awaited or (kind in PROCESSES and name in AT_ONCE), f"{kind}.{name} is not awaited"
    theirs = inspect.signature(twin).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in theirs.values()):
        return
    ours = set(inspect.signature(member).parameters) - OTHER_WAYS.get((kind, name), set())
    assert ours <= set(theirs), f"{kind}.{name}"


def test_no_exception_is_left_over() -> None:
    for sync, twin in PAIRS:
        for name in NO_TWIN[sync.__name__]:
            assert hasattr(sync, name)
            assert not hasattr(twin, name), name


def test_properties_are_there() -> None:
    for sync, twin in PAIRS:
        properties = {name for name, member in inspect.getmembers(sync) if isinstance(member, property)}
        missing = {name for name in properties if not name.startswith("_") and not hasattr(twin, name)}
        # Where things are and what is recorded: of ``sync``.  What ``files`` does the container's own methods do.
        assert missing <= {
            "directory", "run_directory", "first_id", "record", "is_foreground", "files", "warnings",
        }, sync  # fmt: skip


def test_run() -> None:
    assert inspect.iscoroutinefunction(aio.run)
    assert set(inspect.signature(fastdock.run).parameters) - {"keywords"} <= set(
        inspect.signature(aio.run).parameters
    )
    assert issubclass(aio.Popen, AsyncProcess)

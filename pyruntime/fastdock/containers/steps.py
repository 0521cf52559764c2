"""Generators that wait, for both worlds: they yield ``Wait`` where they would block, and go on when it is over.

``blocking`` drives one with select(2), ``awaiting`` with the event loop; so what follows a log or the events is
written once.
"""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import AsyncIterator, Generator, Iterator
from typing import NamedTuple, TypeVar

_T = TypeVar("_T")


class Wait(NamedTuple):
    """Until one of the descriptors is readable, or the time (seconds) is up."""

    descriptors: tuple[int, ...]
    timeout: float | None = None


Steps = Generator[_T | Wait, None, None]


def blocking(steps: Steps[_T]) -> Iterator[_T]:
    try:
        for step in steps:
            if isinstance(step, Wait):
                select.select(step.descriptors, [], [], step.timeout)
            else:
                yield step
    finally:
        steps.close()


async def awaiting(steps: Steps[_T]) -> AsyncIterator[_T]:
    try:
        for step in steps:
            if isinstance(step, Wait):
                await any_readable(step.descriptors, step.timeout)
            else:
                yield step
    finally:
        steps.close()


async def any_readable(descriptors: tuple[int, ...], timeout: float | None = None) -> None:
    """Until one of them can be read, or the time is up; cancelling is safe."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    # Copies: the loop must not watch a number that is closed and used again.
    copies = [os.dup(descriptor) for descriptor in descriptors]
    try:
        for copy in copies:
            loop.add_reader(copy, lambda: None if ready.done() else ready.set_result(None))
        await asyncio.wait([ready], timeout=timeout)
    finally:
        for copy in copies:
            loop.remove_reader(copy)
            os.close(copy)

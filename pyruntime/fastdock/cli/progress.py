"""Progress of transfers: bars where stderr is a terminal, plain lines elsewhere, nothing with ``--quiet``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from fastdock.registry.progress import Progress

Show = Callable[["Progress"], None]

MOVING = frozenset({"Downloading", "Pushing", "Loading layer", "Verifying"})


@contextmanager
def transfer_progress(quiet: bool) -> Iterator[Show]:
    """A callback for pulls and pushes."""
    if quiet:
        yield lambda _: None
    elif sys.stderr.isatty():
        with _Bars() as bars:
            yield bars.show
    else:
        yield _Lines().show


class _Lines:
    """One line whenever a layer's status changes (and none while its bytes move)."""

    def __init__(self) -> None:
        self._last: dict[str, str] = {}

    def show(self, step: Progress) -> None:
        if not step.id:
            click.echo(step.status)
        elif self._last.get(step.id) != step.status:
            self._last[step.id] = step.status
            click.echo(f"{step.id}: {step.status}")


class _Bars:
    """A line for each layer: status, bar, bytes, rate and time left."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        self._progress = Progress(
            TextColumn("{task.description}:"),
            TextColumn("{task.fields[status]:<16}"),
            BarColumn(bar_width=None),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> _Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, step: Progress) -> None:
        if not step.id:
            self._progress.console.print(step.status, markup=False, highlight=False)
            return
        if step.id not in self._tasks:
            self._tasks[step.id] = self._progress.add_task(
                step.id, total=step.total or None, status=step.status, start=False
            )
        task = self._tasks[step.id]
        if step.status in MOVING:
            self._progress.start_task(task)
            self._progress.update(task, completed=step.current, total=step.total or None, status=step.status)
        elif step.status.endswith(("complete", "exists", "Pushed")) or step.status.startswith("Mounted"):
            done = step.total or 1
            self._progress.update(task, completed=done, total=done, status=step.status)
        else:
            self._progress.update(task, status=step.status)

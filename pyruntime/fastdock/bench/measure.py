"""The method: subjects measured in turn, A B C A B C, so that a drifting machine hits all of them alike.

The result of a comparison is a ratio *within one round*; absolute times of a shared machine wander.
"""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

__all__ = ["Series", "Subject", "measure", "quartiles", "ratio", "timed", "why"]


@dataclass(frozen=True)
class Subject:
    """One thing to measure.

    ``run`` does it once.  It returns the seconds it measured itself, or None: then the call is timed from outside.
    ``every`` makes slow subjects (a VM) run only in each n-th round.
    """

    name: str
    run: Callable[[], float | None]
    every: int = 1


@dataclass
class Series:
    """The samples of one subject in seconds, by round; ``failure`` says why there are no more."""

    name: str
    samples: dict[int, float] = field(default_factory=dict)
    failure: str | None = None

    @property
    def values(self) -> list[float]:
        """The samples in the order they were taken."""
        return list(self.samples.values())

    @property
    def median(self) -> float:
        """The median in seconds."""
        return statistics.median(self.values)

    @property
    def spread(self) -> tuple[float, float]:
        """The first and third quartile in seconds."""
        low, _, high = quartiles(self.values)
        return low, high


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """First quartile, median, third quartile; of one value three times that value."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def ratio(subject: Series, base: Series) -> tuple[float, float, float]:
    """Quartiles of subject ÷ base, over the rounds that have both.

    Raises ValueError if no round has both.
    """
    common = [subject.samples[n] / base.samples[n] for n in subject.samples if n in base.samples]
    if not common:
        raise ValueError(f"no round has both {subject.name} and {base.name}")
    return quartiles(common)


def timed(run: Callable[[], float | None]) -> float:
    """The seconds that a run measured itself, or that it took."""
    begin = time.perf_counter()
    own = run()
    return time.perf_counter() - begin if own is None else own


def why(error: Exception) -> str:
    """An error in a line for a table."""
    if isinstance(error, subprocess.CalledProcessError):  # its own words are the whole command line
        said = error.stderr or b""
        said = said if isinstance(said, str) else said.decode(errors="replace")
        return f"{error.cmd[0]} ended with {error.returncode}: {' '.join(said.split())[-300:]}"
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def measure(
    subjects: Sequence[Subject],
    *,
    rounds: int,
    warmup: int = 2,
    spacing: float = 0.0,
    before: Callable[[], None] | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, Series]:
    """Runs all subjects in turn, ``rounds`` times, and returns their samples by name.

    Each round starts with another subject, so that nobody always follows the same neighbour.  ``warmup`` rounds are
    thrown away; ``spacing`` seconds pass before each sample; ``before`` (dropping caches, say) is not timed;
    ``progress`` gets (done, total, name).  A subject that raises is out, with the reason in its ``failure``.
    """
    result = {subject.name: Series(subject.name) for subject in subjects}
    if len(result) != len(subjects):
        raise ValueError("two subjects have one name")
    total = warmup + rounds
    for number in range(-warmup, rounds):
        turn = number % len(subjects) if subjects else 0
        for subject in [*subjects[turn:], *subjects[:turn]]:
            series = result[subject.name]
            # A slow subject warms up once and no more.
            due = number == -1 if number < 0 and subject.every > 1 else number % subject.every == 0
            if series.failure is not None or not due:
                continue
            if progress:
                progress(number + warmup, total, subject.name)
            if spacing:
                time.sleep(spacing)
            if before:
                before()
            try:
                seconds = timed(subject.run)
            except Exception as error:  # a peer may fail in any way: the others go on
                series.failure = why(error)
                continue
            if number >= 0:
                series.samples[number] = seconds
    if progress:
        progress(total, total, "")
    return result

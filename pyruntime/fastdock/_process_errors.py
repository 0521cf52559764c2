"""The two errors of a process that are also subprocess's, so that ``except`` clauses for those work."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from typing import AnyStr

from fastdock._errors import FastdockError


class TimeoutExpired(FastdockError, subprocess.TimeoutExpired):
    """The time was up; the whole container was killed.  ``output`` and ``stderr`` are what came until then."""

    def __init__(
        self,
        cmd: Sequence[str],
        timeout: float,
        output: AnyStr | None = None,
        stderr: AnyStr | None = None,
    ) -> None:
        subprocess.TimeoutExpired.__init__(self, cmd, timeout, output, stderr)
        self.message = f"{' '.join(cmd)} did not end within {timeout} seconds"

    __str__ = FastdockError.__str__


class CalledProcessError(FastdockError, subprocess.CalledProcessError):
    """A run with ``check=True`` ended with a non-zero code."""

    def __init__(
        self,
        returncode: int,
        cmd: Sequence[str],
        output: AnyStr | None = None,
        stderr: AnyStr | None = None,
    ) -> None:
        subprocess.CalledProcessError.__init__(self, returncode, cmd, output, stderr)
        self.message = f"{' '.join(cmd)} ended with code {returncode}"

    __str__ = FastdockError.__str__

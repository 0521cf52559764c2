"""The linters find nothing.  `tools/lint --fix` repairs most of what they find; clang-tidy is `tools/lint --tidy`."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import missing

REPOSITORY = Path(__file__).parents[2]
PYTHON = ["pyruntime", "tests", "bench", "tools"]


def lint(*command: str) -> None:
    program = shutil.which(command[0], path=f"{Path(sys.executable).parent}:/usr/bin:/usr/local/bin")
    if program is None:
        missing(f"no {command[0]} (tools/setup --test installs it)")
    done = subprocess.run([str(program), *command[1:]], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff() -> None:
    lint("ruff", "check", *PYTHON)


def test_format_of_python() -> None:
    lint("ruff", "format", "--check", *PYTHON)


@pytest.mark.timeout(900)  # the first run has no cache
def test_types() -> None:
    lint("mypy", "--strict", "pyruntime/fastdock")


def test_format_of_cpp() -> None:
    files = [str(path) for folder in ("csrc", "tests") for end in ("h", "cpp") for path in (REPOSITORY / folder).rglob(f"*.{end}")]
    lint("clang-format-19", "--dry-run", "--Werror", *files)

"""Programs and daemons of others, as the tests run them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest


def need(*programs: str) -> None:
    """Skips (or fails, where everything must work) without these."""
    for name in programs:
        if shutil.which(name) is None:
            reason = f"no {name}"
            pytest.fail(reason) if os.environ.get("FASTDOCK_MUST_WORK") else pytest.skip(reason)


def sh(*command: str, status: int | None = 0, **options: Any) -> str:
    """Runs it; its output, when its status is as expected."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL, **options
    )
    assert status is None or done.returncode == status, (command, done.returncode, done.stdout, done.stderr)
    return done.stdout


def wait_for_socket(path: Path, process: subprocess.Popen[bytes]) -> None:
    """Until a daemon answers on it."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, f"it ended with {process.returncode}"
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(str(path))
            except OSError:
                time.sleep(0.05)
                continue
            return
    pytest.fail(f"nothing listens at {path}")


def stopped(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

"""Engines of their own for the tests, with an image."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from rootless_fixtures import lone_session, lone_user, place_for_others, user, user_session

import fastdock
from support import busybox_tar

__all__ = ["lone_session", "lone_user", "place_for_others", "user", "user_session"]  # fixtures


@pytest.fixture(scope="session")
def session_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A state directory with the image ``busybox``; on a disk, where /tmp in a VM is a tmpfs."""
    base = Path("/scratch") if Path("/scratch").is_dir() else None
    root = (base / f"fastdock-{os.getpid()}") if base else tmp_path_factory.mktemp("state") / "root"
    with fastdock.Engine(root) as engine:
        engine.images.import_tar(io.BytesIO(busybox_tar()), "busybox")
    yield root
    with fastdock.Engine(root) as engine:
        engine.networks.take_down()
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def engine(session_root: Path) -> Iterator[fastdock.Engine]:
    """An engine with the image ``busybox``."""
    with fastdock.Engine(session_root) as engine:
        yield engine

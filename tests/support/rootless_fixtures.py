"""Fixtures of the rootless tests: a user with subordinate ids, and one without."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ordinary_user import OrdinaryUser, install_for_others

from support import busybox_tar


@pytest.fixture(scope="session")
def place_for_others() -> Iterator[Path]:
    place = install_for_others()
    (place / "busybox.tar").write_bytes(busybox_tar())
    (place / "busybox.tar").chmod(0o644)
    yield place
    shutil.rmtree(place)


@pytest.fixture(scope="session")
def user_session(place_for_others: Path) -> Iterator[OrdinaryUser]:
    with _made(f"fdt{os.getpid() % 100000}", place_for_others, ranges=True) as made:
        yield made


@pytest.fixture(scope="session")
def lone_session(place_for_others: Path) -> Iterator[OrdinaryUser]:
    with _made(f"fdl{os.getpid() % 100000}", place_for_others, ranges=False) as made:
        yield made


@contextmanager
def _made(name: str, place: Path, *, ranges: bool) -> Iterator[OrdinaryUser]:
    user = OrdinaryUser(name, place, ranges=ranges)
    try:
        user.ok("import", str(place / "busybox.tar"), "busybox")
        yield user
    finally:
        user.remove()


@pytest.fixture
def user(user_session: OrdinaryUser) -> Iterator[OrdinaryUser]:
    """A user with subordinate ids; after the test nothing is left of containers."""
    yield user_session
    _check(user_session)


@pytest.fixture
def lone_user(lone_session: OrdinaryUser) -> Iterator[OrdinaryUser]:
    """A user whose own id is the only one."""
    yield lone_session
    _check(lone_session)


def _check(user: OrdinaryUser) -> None:
    deadline = time.monotonic() + 10  # what was killed ends soon, and says to nobody when
    while user.leftovers() and time.monotonic() < deadline:
        time.sleep(0.01)
    left = user.leftovers()
    for word in user.fastdock("ps", "-aq").stdout.split():
        user.fastdock("rm", "-f", word)
    assert left == []

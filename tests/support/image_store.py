"""A store of images of the test's own, and what is in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fastdock.image import Images
from fastdock.store import Store


@pytest.fixture
def images(tmp_path: Path) -> Images:
    return Images(Store(tmp_path / "state"))


def files_of(images: Images) -> tuple[list[str], list[str]]:
    """What is in layers/ and blobs/."""
    return sorted(os.listdir(images.store.layers.directory)), sorted(images.store.blobs.digests())

"""A Debian image from the machine's package mirror."""

import os

import pytest

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]


def test_debian(images):
    """debootstrap's minbase, as an image that has nothing of this machine in it."""
    lines = []
    made = images.bootstrap("debian:bookworm", "debian:12", progress=lines.append)
    (root,) = made.record.layer_paths
    assert made.config["Cmd"] == ["bash"]
    assert os.path.exists(f"{root}/usr/bin/apt-get")
    assert os.listdir(f"{root}/var/lib/apt/lists") == []
    assert os.listdir(f"{root}/var/cache/apt/archives") in ([], ["partial"])
    assert os.path.getsize(f"{root}/etc/hostname") == 0
    assert lines
    assert images.check() == []

"""Platforms, and the entry of an index that suits one."""

import pytest

from fastdock._errors import ImageNotFound, SpecError
from fastdock.registry.platform import host_platform, parse_platform, select, show
from fastdock.store.manifest import OCI_MANIFEST, Descriptor, Platform


def entries(*platforms):
    return [
        Descriptor(OCI_MANIFEST, f"sha256:{number:064d}", 1, Platform(*platform.split("/")))
        for number, platform in enumerate(platforms)
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("linux/amd64", "linux/amd64"),
        ("amd64", "linux/amd64"),
        ("x86_64", "linux/amd64"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64/v8"),
        ("armhf", "linux/arm/v7"),
        ("windows/amd64", "windows/amd64"),
    ],
)
def test_names(text, shown):
    """Other people's names for architectures are understood."""
    assert show(parse_platform(text)) == shown


@pytest.mark.parametrize("text", ["", "a/b/c/d", "linux/", "linux/a b", "linux/\n"])
def test_no_platform(text):
    """Malformed platforms are refused."""
    with pytest.raises(SpecError):
        parse_platform(text)


@pytest.mark.parametrize(
    ("wanted", "has", "chosen"),
    [
        ("linux/amd64", ["linux/arm64", "linux/amd64"], 1),
        ("linux/arm64", ["linux/arm64/v8"], 0),
        ("linux/arm64/v8", ["linux/arm64"], 0),
        ("linux/arm/v7", ["linux/arm/v6", "linux/arm/v7"], 1),
        ("linux/arm/v7", ["linux/arm/v6", "linux/arm/v5"], 0),
        ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"], 1),
        ("linux/amd64", ["unknown/unknown", "windows/amd64", "linux/amd64"], 2),
    ],
)
def test_best_entry(wanted, has, chosen):
    """The exact platform, else the newest older variant."""
    assert select(entries(*has), parse_platform(wanted), "x").digest == f"sha256:{chosen:064d}"


def test_none_fits():
    """The error lists what there is."""
    with pytest.raises(ImageNotFound) as caught:
        select(entries("linux/arm64", "linux/arm/v6"), parse_platform("linux/amd64"), "busybox")
    assert "linux/arm/v6, linux/arm64" in caught.value.hint


def test_this_machine():
    """We are on Linux."""
    assert host_platform().os == "linux"

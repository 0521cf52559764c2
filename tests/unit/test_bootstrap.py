"""Base images of the machine's own."""

import os
import stat

import pytest

from fastdock import bootstrap
from fastdock._errors import SpecError
from fastdock.image import Images


@pytest.fixture
def images(tmp_path):
    return Images.at(tmp_path / "state")


def test_busybox(images, tmp_path, monkeypatch):
    """A whole small system: the program, a link for each applet, users; the same image each time."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    made = images.bootstrap("busybox")
    assert made.tags == ["busybox:latest"]
    assert made.config["Cmd"] == ["sh"]
    (root,) = made.record.layer_paths
    program = os.stat(f"{root}/bin/busybox")
    assert program.st_nlink > 200
    assert os.path.samestat(program, os.stat(f"{root}/bin/sh"))
    assert stat.S_IMODE(os.stat(f"{root}/tmp").st_mode) == 0o1777
    assert bootstrap.is_static(f"{root}/bin/busybox")
    assert Images.at(tmp_path / "other").bootstrap("busybox", "mine:1").id == made.id


@pytest.mark.parametrize("what", ["alpine", "debian:../x", "debian:UPPER", "busybox:1", "", "debian:a b"])
def test_unknown(images, what):
    """What it cannot make, it says so."""
    with pytest.raises(SpecError):
        images.bootstrap(what, "x")
    assert images.list() == []


def test_dynamic_programs_are_not_static():
    """A program that needs a loader is no base image."""
    assert not bootstrap.is_static("/bin/ls")
    assert not bootstrap.is_static("/etc/passwd")


SOURCES = """# comment
Types: deb deb-src
URIs: http://mirror.example/debian/
Suites: bookworm bookworm-updates
Components: main
Signed-By: /etc/passwd

Types: deb
URIs: https://security.example/debian-security
Suites: bookworm-security

Types: deb
Enabled: no
URIs: http://off.example/
Suites: trixie
"""


@pytest.mark.parametrize(
    ("files", "suite", "mirror"),
    [
        ({"sources.list.d/debian.sources": SOURCES}, "bookworm", "http://mirror.example/debian"),
        ({"sources.list.d/debian.sources": SOURCES}, "trixie", "http://mirror.example/debian"),
        ({"sources.list": "deb [arch=amd64] http://old.example/debian bookworm main\n"}, "bookworm", "http://old.example/debian"),
        ({"sources.list": "deb cdrom:[x]/ bookworm main\n# deb http://no.example/ bookworm main\n"}, "bookworm",
         "http://deb.debian.org/debian"),
        ({}, "bookworm", "http://deb.debian.org/debian"),
    ],
)  # fmt: skip
def test_mirror(tmp_path, files, suite, mirror):
    """The mirror is the one that apt uses, in both of its formats."""
    (tmp_path / "sources.list.d").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert bootstrap.mirror_of(suite, tmp_path)[0] == mirror


def test_keyring(tmp_path):
    """And so is the keyring."""
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d/debian.sources").write_text(SOURCES)
    assert bootstrap.mirror_of("bookworm", tmp_path)[1] == "/etc/passwd"

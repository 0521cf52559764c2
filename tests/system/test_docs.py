"""The documents' examples do what they say."""

from __future__ import annotations

import doctest
import io
import os
import re
from pathlib import Path

import pytest

from fastdock import Engine
from fastdock.cli import COMMANDS
from support import busybox_tar

ROOT = Path(__file__).parents[2]
PAGES = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "docs/python.md",
    "docs/networks.md",
    "docs/rootless.md",
]


@pytest.mark.system
@pytest.mark.parametrize("page", ["docs/python.md", "README.md"])
def test_examples(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with Engine(tmp_path / "root") as engine:  # a list of images in the documents shows just this one
        engine.images.import_tar(io.BytesIO(busybox_tar()), "busybox")
    monkeypatch.setenv("FASTDOCK_ROOT", str(tmp_path / "root"))
    failed, tried = doctest.testfile(
        str(ROOT / page),
        module_relative=False,
        optionflags=doctest.IGNORE_EXCEPTION_DETAIL | doctest.ELLIPSIS,
    )
    with Engine(tmp_path / "root") as engine:
        engine.networks.take_down()
    assert tried > 0
    assert failed == 0


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if "://" not in target:
            assert (ROOT / page).parent.joinpath(target).exists(), target


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_named_are_there(page: str) -> None:
    for name in re.findall(
        r"`((?:csrc|pyruntime|tests|tools|bench|docs)/[\w./]*)`", (ROOT / page).read_text()
    ):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("page", PAGES)
def test_commands_that_are_named_exist(page: str) -> None:
    for name in re.findall(r"^\$ (?:sudo )?fastdock ([a-z]+)", (ROOT / page).read_text(), re.MULTILINE):
        assert name in COMMANDS


@pytest.mark.parametrize("page", PAGES)
def test_tests_that_are_named_are_there(page: str) -> None:
    for file, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / page).read_text()):
        assert f"def {name}(" in (ROOT / file).read_text(), f"{file}::{name}"

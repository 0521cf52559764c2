"""The public names: what `__all__` says is there, and nothing else by accident."""

from __future__ import annotations

import inspect
import subprocess
import sys
import typing

import pytest

import fastdock
from fastdock.options import Options, RunOptions


def test_all_is_sorted_and_there() -> None:
    assert len(set(fastdock.__all__)) == len(fastdock.__all__)
    for name in fastdock.__all__:
        assert getattr(fastdock, name) is not None
    assert set(fastdock.__all__) <= set(dir(fastdock))


def test_star_import() -> None:
    names: dict[str, object] = {}
    exec("from fastdock import *", names)
    assert set(names) - {"__builtins__"} == set(fastdock.__all__)


def test_nothing_else_is_public() -> None:
    """In a fresh process: tests import submodules, which then are attributes."""
    program = "import fastdock; print(*[name for name in vars(fastdock) if not name.startswith('_')])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"annotations", "TYPE_CHECKING", "Any", "run"}


def test_unknown_names() -> None:
    with pytest.raises(AttributeError, match="no_such_thing"):
        fastdock.no_such_thing  # noqa: B018


@pytest.mark.parametrize("name", fastdock.__all__)
def test_documented(name: str) -> None:
    thing = getattr(fastdock, name)
    if inspect.isclass(thing) or inspect.isfunction(thing) or inspect.ismodule(thing):
        assert (thing.__doc__ or "").strip(), f"{name} has no docstring"


def test_the_typed_options_are_the_real_ones() -> None:
    """RunOptions is for type checkers, Options is what is checked: they must not drift apart."""
    typed = set(typing.get_type_hints(RunOptions))
    assert typed - {"volumes", "tmpfs"} == set(Options._fields) - {"tty"}

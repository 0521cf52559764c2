"""The exceptions: one tree, and OSErrors that `except` clauses know."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess

import pytest

import fastdock
from fastdock import _core, _errors


def test_one_tree() -> None:
    """Whatever fastdock raises is a FastdockError."""
    errors = [getattr(fastdock, name) for name in fastdock.__all__ if isinstance(getattr(fastdock, name), type)]
    errors = [kind for kind in errors if issubclass(kind, BaseException)]
    assert len(errors) == 14
    assert all(issubclass(kind, fastdock.FastdockError) for kind in errors)
    assert issubclass(fastdock.ImageNotFound, fastdock.NotFound)
    assert issubclass(fastdock.ContainerNotFound, fastdock.NotFound)


def test_builtin_relatives() -> None:
    assert issubclass(fastdock.KernelError, OSError)
    assert issubclass(fastdock.SpecError, ValueError)
    assert issubclass(fastdock.TimeoutExpired, subprocess.TimeoutExpired)
    assert issubclass(fastdock.CalledProcessError, subprocess.CalledProcessError)


@pytest.mark.parametrize(
    ("number", "builtin"),
    [
        (errno.EPERM, PermissionError), (errno.EACCES, PermissionError), (errno.ENOENT, FileNotFoundError),
        (errno.EEXIST, FileExistsError), (errno.ENOTDIR, NotADirectoryError), (errno.EISDIR, IsADirectoryError),
        (errno.EPIPE, BrokenPipeError), (errno.ESRCH, ProcessLookupError), (errno.ECHILD, ChildProcessError),
        (errno.EINTR, InterruptedError), (errno.EAGAIN, BlockingIOError), (errno.ETIMEDOUT, TimeoutError),
        (errno.ECONNREFUSED, ConnectionRefusedError), (errno.ENOSPC, OSError), (errno.EINVAL, OSError),
    ],
)  # fmt: skip
def test_the_builtin_that_fits(number: int, builtin: type[OSError]) -> None:
    """`except FileNotFoundError` catches what it should, with all that is known."""
    error = _errors._from_core(number, "open", "/x", "make it", "cannot open /x")
    assert isinstance(error, builtin)
    assert isinstance(error, fastdock.KernelError)
    assert type(error).__mro__.count(OSError) == 1
    assert (error.errno, error.operation, error.path, error.hint) == (number, "open", "/x", "make it")
    assert str(error) == "cannot open /x"
    assert error.strerror == os.strerror(number)
    assert error.filename == "/x"


def test_every_errno_has_one() -> None:
    for number in range(1, 134):
        assert type(OSError(number, "")) in (OSError, *type(_errors._from_core(number, "", "", "", "")).__mro__)


def test_raised_by_the_core() -> None:
    with pytest.raises(fastdock.KernelError) as caught:
        _core.capability_set(["CAP_NO_SUCH"])
    assert caught.value.operation


@pytest.mark.parametrize(
    "error",
    [
        fastdock.SpecError("no", hint="yes"),
        _errors._from_core(2, "open", "/x", "make it", "cannot open /x"),
        _errors._from_core(28, "write", "/x", "", "cannot write /x"),
        fastdock.TimeoutExpired(["x"], 1.0, output=b"so far"),
        fastdock.CalledProcessError(3, ["x"], b"out"),
    ],
)
def test_errors_travel_between_processes(error: fastdock.FastdockError) -> None:
    """concurrent.futures and multiprocessing pickle what a worker raises."""
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)

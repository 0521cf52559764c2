"""fastdock: the container engine that you can ``pip install``.

::

    done = fastdock.run("python:3.12", ["python", "-c", "print(6*7)"], capture_output=True, text=True)
    with fastdock.Popen("host", ["cat"], stdin=fastdock.PIPE, stdout=fastdock.PIPE) as process: ...
    engine = fastdock.Engine(root="/srv/fastdock")

Everything is imported when it is first used: ``import fastdock`` itself costs next to nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False  # see _light
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Unpack

    from fastdock import aio as aio
    from fastdock._errors import (
        BuildError,
        Conflict,
        ContainerNotFound,
        ContainerNotRunning,
        FastdockError,
        ImageError,
        ImageNotFound,
        KernelError,
        LimitError,
        NotFound,
        RegistryError,
        SpecError,
    )
    from fastdock._process_errors import CalledProcessError, TimeoutExpired
    from fastdock.containers import Container
    from fastdock.engine import Engine
    from fastdock.image import Image, Images
    from fastdock.options import RunOptions
    from fastdock.pool import Pool
    from fastdock.process import DEVNULL, PIPE, STDOUT, CompletedProcess, Popen, Usage

__version__ = "0.1.0"

_ERRORS = (
    "BuildError", "Conflict", "ContainerNotFound", "ContainerNotRunning", "FastdockError", "ImageError",
    "ImageNotFound", "KernelError", "LimitError", "NotFound", "RegistryError", "SpecError",
)  # fmt: skip
_HOME = {
    **dict.fromkeys(_ERRORS, "fastdock._errors"),
    **dict.fromkeys(("CalledProcessError", "TimeoutExpired"), "fastdock._process_errors"),
    **dict.fromkeys(("DEVNULL", "PIPE", "STDOUT", "CompletedProcess", "Popen", "Usage"), "fastdock.process"),
    **dict.fromkeys(("Image", "Images"), "fastdock.image"),
    "Container": "fastdock.containers",
    "Pool": "fastdock.pool",
    "Engine": "fastdock.engine",
}

__all__ = [
    "DEVNULL",
    "PIPE",
    "STDOUT",
    "BuildError",
    "CalledProcessError",
    "CompletedProcess",
    "Conflict",
    "Container",
    "ContainerNotFound",
    "ContainerNotRunning",
    "Engine",
    "FastdockError",
    "Image",
    "ImageError",
    "ImageNotFound",
    "Images",
    "KernelError",
    "LimitError",
    "NotFound",
    "Pool",
    "Popen",
    "RegistryError",
    "SpecError",
    "TimeoutExpired",
    "Usage",
    "aio",
    "run",
]


def run(
    image: str | Sequence[str] | None = None,
    args: Sequence[str] | str | None = None,
    *,
    stdin: Any = None,
    input: Any = None,
    stdout: Any = None,
    stderr: Any = None,
    capture_output: bool = False,
    text: bool | None = None,
    encoding: str | None = None,
    errors: str | None = None,
    timeout: float | None = None,
    check: bool = False,
    **options: Unpack[RunOptions],
) -> CompletedProcess:
    """Runs a command in a new container, waits for its end, and removes the container.

    ``image`` is an image's name, or, as a list, a command for the image ``host``.  The other arguments are
    those of :func:`subprocess.run`, with ``cwd`` and ``env`` in the container, and the options of
    :class:`fastdock.options.RunOptions`.  With ``timeout`` (seconds) the whole container is killed.

    Raises TimeoutExpired (with the output until then), CalledProcessError (``check``), ImageNotFound,
    SpecError, LimitError, or KernelError with what could not be done, on what, why, and what to do.
    """
    from fastdock.engine import default_engine

    return default_engine().run(
        image, args, stdin=stdin, input=input, stdout=stdout, stderr=stderr, capture_output=capture_output,
        text=text, encoding=encoding, errors=errors, timeout=timeout, check=check, **options,
    )  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME and name != "aio":  # also asked for each part of the package that is imported
        raise AttributeError(f"module 'fastdock' has no attribute {name!r}")
    from importlib import import_module

    if name == "aio":
        return import_module("fastdock.aio")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""The exceptions of fastdock, one tree.

::

    FastdockError(message, *, errno, operation, path, hint)
    ├── KernelError            also an OSError, and its subclass where one fits the errno
    ├── NotFound
    │   ├── ImageNotFound
    │   └── ContainerNotFound
    ├── Conflict               a name is taken, or the thing is in use
    ├── ContainerNotRunning
    ├── LimitError             a resource limit that is malformed or that the kernel refuses
    ├── SpecError              contradictory or malformed options
    ├── ImageError             an archive, manifest or configuration that cannot be used
    ├── RegistryError          what a registry said, or that it did not answer
    ├── BuildError
    ├── TimeoutExpired         also a subprocess.TimeoutExpired
    └── CalledProcessError     also a subprocess.CalledProcessError
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # see _light
if TYPE_CHECKING:
    from typing import Any


class FastdockError(Exception):
    """Something that fastdock could not do: what was tried, on what, why, and what to do."""

    errno: Any = 0
    operation: str = ""
    path: str = ""
    hint: str = ""

    def __init__(
        self, message: str = "", *, errno: int = 0, operation: str = "", path: str = "", hint: str = ""
    ) -> None:
        super().__init__(message)
        self.message = message
        self.errno, self.operation, self.path, self.hint = errno, operation, path, hint

    def __str__(self) -> str:
        return self.message


class KernelError(FastdockError, OSError):
    """A system call failed.

    Raised as the subclass that is also the fitting built-in (``PermissionError``, ``FileNotFoundError``,
    …), so that ``except`` clauses for those work.
    """

    def __init__(
        self, message: str = "", *, errno: int = 0, operation: str = "", path: str = "", hint: str = ""
    ) -> None:
        OSError.__init__(self, errno, message, path or None)
        self.message = message
        self.errno, self.operation, self.path, self.hint = errno, operation, path, hint
        self.strerror = os.strerror(errno) if errno else message

    def __reduce__(self) -> tuple[Any, ...]:
        # OSError's own would give the arguments of OSError; and the subclasses have no name to be found by.
        return _from_core, (self.errno, self.operation, self.path, self.hint, self.message)


class NotFound(FastdockError):
    """No such image, container, network or volume."""


class ImageNotFound(NotFound):
    """No such image here (and, for a pull, none at the registry)."""


class ContainerNotFound(NotFound):
    """No such container."""


class Conflict(FastdockError):
    """The name is taken, or the thing is in use."""


class ContainerNotRunning(FastdockError):
    """The container has ended or has not started."""


class LimitError(FastdockError):
    """A resource limit that is malformed, or that the kernel refuses."""


class SpecError(FastdockError, ValueError):
    """Malformed or contradictory options."""


class ImageError(FastdockError):
    """An archive, manifest or configuration that cannot be used."""


class RegistryError(FastdockError):
    """What a registry answered, or that it did not answer."""


class BuildError(FastdockError):
    """A build failed."""


_KERNEL_ERRORS: dict[type[OSError], type[KernelError]] = {}
"""One subclass of KernelError for each built-in OSError subclass that was met."""


def _from_core(number: int, operation: str, path: str, hint: str, message: str) -> KernelError:
    """The exception for an Error of the C++ core (csrc/base/error.h)."""
    base = type(OSError(number, ""))  # the one that OSError itself picks
    kind = KernelError
    if base is not OSError:
        kind = _KERNEL_ERRORS.get(base) or _KERNEL_ERRORS.setdefault(
            base, type(f"Kernel{base.__name__}", (KernelError, base), {})
        )
    return kind(message, errno=number, operation=operation, path=path, hint=hint)


def _image_error_from_core(number: int, operation: str, path: str, hint: str, message: str) -> ImageError:
    """The exception for an Error of the C++ core that is about an archive."""
    return ImageError(message, errno=number, operation=operation, path=path, hint=hint)


def __getattr__(name: str) -> type[FastdockError]:
    """TimeoutExpired and CalledProcessError, which need subprocess: 5 ms to import, for the rare case."""
    if name in ("TimeoutExpired", "CalledProcessError"):
        from fastdock import _process_errors

        kind: type[FastdockError] = getattr(_process_errors, name)
        return kind
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Containers that outlive their caller: their records, their monitors, and everything that is done with them."""

from __future__ import annotations

TYPE_CHECKING = False  # see _light

if TYPE_CHECKING:
    from fastdock.containers.container import Container
    from fastdock.containers.manager import Containers

__all__ = ["Container", "Containers"]


def __getattr__(name: str) -> object:
    """Imports them when they are asked for: who only lists containers needs but one."""
    if name == "Container":
        from fastdock.containers.container import Container

        return Container
    if name == "Containers":
        from fastdock.containers.manager import Containers

        return Containers
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

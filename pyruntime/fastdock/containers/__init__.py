"""Containers that outlive their caller: their records, their monitors, and everything that is done with them."""

from fastdock.containers.container import Container
from fastdock.containers.manager import Containers

__all__ = ["Container", "Containers"]

"""``typing.NamedTuple`` and ``TypedDict`` without ``typing``, for the modules on the path of ``fastdock run``.

Importing ``typing`` costs 6 ms of processor time there, and it compiles every annotation of such a class
besides (5 ms for ``options``).  Type checkers see the real ones.  In the same modules ``TYPE_CHECKING = False``
stands for ``typing.TYPE_CHECKING``: type checkers take the name, not the value.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple
    from typing import TypedDict as TypedDict
else:
    from collections import namedtuple

    class _Fields(type):
        """Makes a class with annotations a named tuple, as ``typing.NamedTupleMeta`` does."""

        def __new__(mcs, name, bases, namespace):
            if not bases:
                return super().__new__(mcs, name, bases, namespace)
            fields = namespace.get("__annotations__", {})
            defaults = [namespace[field] for field in fields if field in namespace]
            made = namedtuple(name, fields, defaults=defaults, module=namespace["__module__"])
            for key, value in namespace.items():
                if key not in fields and key not in ("__dict__", "__weakref__", "__module__", "__qualname__"):
                    setattr(made, key, value)
            return made

    class NamedTuple(metaclass=_Fields):
        """As ``typing.NamedTuple``."""

    class TypedDict(dict):
        """As ``typing.TypedDict``; nothing is checked when a program runs."""

        def __init_subclass__(cls, total=True):
            pass

"""Stand-ins for parts of the standard library that take long to import, for what is on the path of ``fastdock run``.

Python itself takes 11 ms to start.  Beside it ``re`` takes 5 (with the enumerations, and 0.3 for each pattern that
is compiled), ``typing`` 6 (and 5 for the annotations of ``options``), and ``collections.namedtuple`` 2 to compile
its constructors: so these are here.  Type checkers see the real ones.  In the same modules ``TYPE_CHECKING = False``
stands for ``typing.TYPE_CHECKING``: type checkers take the name, not the value.
"""

from __future__ import annotations

from _operator import itemgetter  # operator itself is a module in Python

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    import sqlite3 as sqlite3
    from typing import Any
    from typing import NamedTuple as NamedTuple
    from typing import TypedDict as TypedDict
else:
    import _sqlite3 as sqlite3  # noqa: F401  # sqlite3 itself adds converters of dates: 3 ms

    class _Fields(type):
        """Makes a class with annotations a named tuple, as ``typing.NamedTupleMeta`` does."""

        def __new__(mcs, name, bases, namespace):
            if not bases:
                return super().__new__(mcs, name, bases, namespace)
            fields = tuple(namespace.get("__annotations__", ()))
            made = {key: value for key, value in namespace.items() if key not in ("__dict__", "__weakref__")}
            made["_field_defaults"] = {field: namespace[field] for field in fields if field in namespace}
            made |= {field: property(itemgetter(index)) for index, field in enumerate(fields)}
            made["__slots__"] = ()
            made["_fields"] = made["__match_args__"] = fields
            return type(name, (_Named,), made)

    class _Named(tuple):
        """What ``collections.namedtuple`` gives a class."""

        __slots__ = ()
        _fields = ()
        _field_defaults: dict = {}  # noqa: RUF012

        def __new__(cls, *values, **named):
            if named or len(values) != len(cls._fields):
                values = cls._complete(values, named)
            return tuple.__new__(cls, values)

        @classmethod
        def _complete(cls, values, named):
            defaults, left = cls._field_defaults, dict(named)
            try:
                values += tuple(
                    [
                        left.pop(field) if field in left else defaults[field]
                        for field in cls._fields[len(values) :]
                    ]
                )
            except KeyError:
                left = named  # one is missing
            if left or len(values) != len(cls._fields):
                raise TypeError(
                    f"{cls.__name__}: {len(values)} values and {sorted(named)} are not its fields {cls._fields}"
                )
            return values

        def _asdict(self):
            return dict(zip(self._fields, self, strict=True))

        def _replace(self, **named):
            return type(self)(**{**self._asdict(), **named})

        def __repr__(self):
            items = ", ".join(f"{name}={value!r}" for name, value in self._asdict().items())
            return f"{type(self).__name__}({items})"

        def __getnewargs__(self):
            return tuple(self)

    class NamedTuple(metaclass=_Fields):
        """As ``typing.NamedTuple``."""

    class TypedDict(dict):
        """As ``typing.TypedDict``; nothing is checked when a program runs."""

        def __init_subclass__(cls, total=True):
            pass


class Pattern:
    """A regular expression that is compiled when it is first asked: ``re.compile`` with that much less at import."""

    __slots__ = ("_compiled", "_flags", "_text")

    def __init__(self, text: str, flags: str = "") -> None:
        """``flags``: letters as in ``(?ai)``."""
        self._text, self._flags = text, flags
        self._compiled: re.Pattern[str] | None = None

    def __getattr__(self, name: str) -> Any:
        """What a compiled pattern has."""
        return getattr(self.compiled, name)

    @property
    def compiled(self) -> re.Pattern[str]:
        if self._compiled is None:
            import re

            self._compiled = re.compile(f"(?{self._flags}:{self._text})" if self._flags else self._text)
        return self._compiled

    def fullmatch(self, text: str) -> re.Match[str] | None:
        """Of the whole text, or None."""
        return self.compiled.fullmatch(text)

"""Commands that do without click, which takes a quarter of the time of ``ps`` or ``exec`` to import.

Such a command is a :class:`Plain`.  Its flags are read by ``cli.direct`` where they are plainly written, and by
the click command that ``cli.plain_command`` makes of it for everything else: help, mistakes, rare spellings.
"""

from __future__ import annotations

import sys

from fastdock._errors import FastdockError
from fastdock._light import NamedTuple
from fastdock.cli.errors import describe

TYPE_CHECKING = False  # see cli.direct
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any


DETACH_KEYS = "ctrl-p,ctrl-q"
"""Docker's keys that detach from a container."""


class Flag:
    """One flag of the command line: its names, and the settings that ``click.option`` takes."""

    __slots__ = ("names", "settings")

    def __init__(self, *names: str, **settings: Any) -> None:
        self.names = names
        self.settings = settings

    @property
    def parameter(self) -> str:
        """What its value is called: the first long name, as an identifier (click's rule)."""
        name = next((name for name in self.names if name.startswith("--")), self.names[0])
        return name.partition("/")[0].lstrip("-").replace("-", "_")

    @property
    def is_switch(self) -> bool:
        return "is_flag" in self.settings

    @property
    def multiple(self) -> bool:
        return "multiple" in self.settings

    @property
    def type(self) -> type:
        kind: type = self.settings.get("type", str)
        return kind

    @property
    def default(self) -> Any:
        """Its value where it is not given."""
        missing = () if self.multiple else False if self.is_switch else None
        return self.settings.get("default", missing)


def option(*names: str, **settings: Any) -> Flag:
    return Flag(*names, **settings)


def several(*names: str, **settings: Any) -> Flag:
    return Flag(*names, multiple=True, **settings)


def report(error: Exception) -> int:
    """Says on stderr what went wrong; the exit code."""
    text = describe(error) if isinstance(error, FastdockError) else str(error)
    print(f"Error: {text}", file=sys.stderr)
    return 1


class Plain(NamedTuple):
    """A command of the command line."""

    help: str
    flags: Sequence[Flag]
    arguments: tuple[str, ...]
    """Names of the words that are no flags.  A ``*`` behind the last: any number; a ``+``: at least one."""
    run: Callable[[str | None, tuple[str, ...], dict[str, Any]], int]
    """(state directory or None, words, values by flag) -> exit code."""
    report: Callable[[Exception], int] = report
    """What it says of a FastdockError or TypeError; its exit code."""

    @property
    def interspersed(self) -> bool:
        """Whether flags may follow words: not where these are a command with flags of its own."""
        return not any(name.startswith("command") for name in self.arguments)

    def takes(self, number: int) -> bool:
        """Whether so many words are right."""
        last = self.arguments[-1][-1:] if self.arguments else ""
        if last not in ("*", "+"):
            return number == len(self.arguments)
        return number >= len(self.arguments) - (last == "*")

"""Reads a command's flags without click, which takes 24 ms of 66 to import: three times what Python itself needs.

It reads their plain forms to the same values; for everything else (help, mistakes, rare spellings) :func:`parse`
gives None, and click takes over.  A property test holds the two equal.
"""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing costs 15 ms of processor time, with what it imports itself
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from fastdock.cli.plain import Flag, Plain


class _NotPlain(Exception):
    """Only click understands this."""


def parse(arguments: Sequence[str], command: Plain) -> tuple[tuple[str, ...], dict[str, Any]] | None:
    """(words, values by flag), as click would give them; None for what only click understands."""
    known = {name: flag for flag in command.flags for name in flag.names}
    values = {flag.parameter: flag.default for flag in command.flags}
    words: list[str] = []
    rest = iter(arguments)
    try:
        for word in rest:
            if word.startswith("-"):
                _read_option(word, rest, known, values)
                continue
            words.append(word)
            if not command.interspersed:
                words.extend(rest)
    except (_NotPlain, ValueError):
        return None
    return (tuple(words), values) if command.takes(len(words)) else None


def _read_option(word: str, rest: Iterator[str], known: dict[str, Flag], values: dict[str, Any]) -> None:
    """One word of options, and the next where that is its value."""
    if not word.startswith("--") and len(word) > 2:  # -it: switches only, since -eA=b has its value inside
        for letter in word[1:]:
            flag = known.get("-" + letter)
            if flag is None or not flag.is_switch:
                raise _NotPlain
            values[flag.parameter] = True
        return
    name, equals, value = word.partition("=")
    flag = known.get(name)
    if flag is None or (flag.is_switch and equals):
        raise _NotPlain
    if flag.is_switch:
        values[flag.parameter] = True
        return
    text = value if equals else next(rest, None)
    if text is None:
        raise _NotPlain
    converted = flag.type(text)
    values[flag.parameter] = (*values[flag.parameter], converted) if flag.multiple else converted

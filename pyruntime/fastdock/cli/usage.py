"""What ``fastdock --help`` says.  Without click, which would take half of its time."""

from __future__ import annotations

from fastdock.cli import COMMANDS

_OPTIONS = {
    "--root DIRECTORY": "State directory [/var/lib/fastdock].",
    "-D, --debug": "Show tracebacks.",
    "-v, --version": "Show the version and exit.",
    "-h, --help": "Show this message and exit.",
}


def usage() -> str:
    """In click's form, as the help of each command is."""
    commands = {name: text for name, (_, text) in COMMANDS.items()}
    parts = (
        "Usage: fastdock [OPTIONS] COMMAND [ARGS]...",
        "  fastdock: containers in single-digit milliseconds.",
        "Options:\n" + _table(_OPTIONS),
        "Commands:\n" + _table(commands),
    )
    return "\n\n".join(parts)


def _table(rows: dict[str, str]) -> str:
    width = max(map(len, rows))
    return "\n".join(f"  {name:{width}}  {text}" for name, text in rows.items())

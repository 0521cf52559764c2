"""Changes to an image's configuration, as Dockerfile instructions: ``--change 'CMD ["sh"]'``.

For import and commit: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL, STOPSIGNAL, USER, VOLUME,
WORKDIR.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Sequence
from typing import Any

from fastdock._errors import SpecError

Config = dict[str, Any]

_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_NANOSECONDS = {"ns": 1, "us": 1e3, "µs": 1e3, "ms": 1e6, "s": 1e9, "m": 6e10, "h": 3.6e12}
DEFAULT_SHELL = ["/bin/sh", "-c"]


def apply_changes(config: Config, changes: Sequence[str]) -> Config:
    """A copy of ``config`` (an image's ``config`` member) with the instructions applied in order."""
    changed = dict(config)
    for change in changes:
        name, _, rest = change.strip().partition(" ")
        instruction = _INSTRUCTIONS.get(name.upper())
        if instruction is None:
            raise SpecError(f"{name!r} is not a change", hint=f"known: {', '.join(sorted(_INSTRUCTIONS))}")
        instruction(changed, rest.strip())
    return changed


def words(text: str) -> list[str]:
    """Splits at blanks as a Dockerfile does: quotes and backslashes protect."""
    result: list[str] = []
    word, quote, inside, position = "", "", False, 0
    while position < len(text):
        character = text[position]
        if character == "\\" and quote != "'" and position + 1 < len(text):
            position += 1
            word, inside = word + text[position], True
        elif quote:
            if character == quote:
                quote = ""
            else:
                word += character
        elif character in "'\"":
            quote, inside = character, True
        elif character.isspace():
            if inside:
                result.append(word)
            word, inside = "", False
        else:
            word, inside = word + character, True
        position += 1
    if quote:
        raise SpecError(f"unterminated quote in {text!r}")
    return [*result, word] if inside else result


def json_list(text: str) -> list[str] | None:
    """The strings of an exec form (``["a", "b"]``), or None if it is none."""
    if not text.startswith("["):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, list) and all(isinstance(item, str) for item in value) else None


def _command(key: str) -> Callable[[Config, str], None]:
    def change(config: Config, text: str) -> None:
        exec_form = json_list(text)
        if exec_form is None:
            exec_form = [*(config.get("Shell") or DEFAULT_SHELL), text] if text else []
        config[key] = exec_form
        if key == "Entrypoint":  # as a Dockerfile's ENTRYPOINT does away with the base image's CMD
            config.pop("Cmd", None)

    return change


def _pairs(text: str, what: str) -> list[tuple[str, str]]:
    parts = words(text)
    if parts and "=" not in parts[0]:  # the old form: NAME the whole rest
        name, _, value = text.partition(" ")
        return [(name, value.strip())]
    pairs = [part.partition("=") for part in parts]
    if not pairs or any(not name or not equals for name, equals, _ in pairs):
        raise SpecError(f"{what} {text!r}: NAME=VALUE is wanted")
    return [(name, value) for name, _, value in pairs]


def _env(config: Config, text: str) -> None:
    environment = dict(item.partition("=")[::2] for item in config.get("Env") or [])
    environment.update(_pairs(text, "ENV"))
    config["Env"] = [f"{name}={value}" for name, value in environment.items()]


def _label(config: Config, text: str) -> None:
    config["Labels"] = {**(config.get("Labels") or {}), **dict(_pairs(text, "LABEL"))}


def _expose(config: Config, text: str) -> None:
    ports = dict(config.get("ExposedPorts") or {})
    for word in words(text):
        match = _PORT.fullmatch(word)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not match or not 0 < first <= last < 65536:
            raise SpecError(f"EXPOSE {word}: a port (1-65535), a range, /tcp, /udp or /sctp is wanted")
        for port in range(first, last + 1):
            ports[f"{port}/{(match[3] or 'tcp').lower()}"] = {}
    config["ExposedPorts"] = ports


def _volume(config: Config, text: str) -> None:
    names = json_list(text) or words(text)
    if not names:
        raise SpecError("VOLUME needs a path")
    config["Volumes"] = {**(config.get("Volumes") or {}), **{name: {} for name in names}}


def _workdir(config: Config, text: str) -> None:
    if not text:
        raise SpecError("WORKDIR needs a path")
    config["WorkingDir"] = posixpath.normpath(posixpath.join("/", config.get("WorkingDir") or "/", text))


def _text(key: str) -> Callable[[Config, str], None]:
    def change(config: Config, text: str) -> None:
        if not text:
            raise SpecError(f"{key.upper()} needs a value")
        config[key] = text

    return change


def _onbuild(config: Config, text: str) -> None:
    if not text or text.split()[0].upper() in ("ONBUILD", "FROM", "MAINTAINER"):
        raise SpecError(f"ONBUILD {text!r} is not allowed")
    config["OnBuild"] = [*(config.get("OnBuild") or []), text]


def _shell(config: Config, text: str) -> None:
    shell = json_list(text)
    if not shell:
        raise SpecError('SHELL needs the form ["program", "argument"]')
    config["Shell"] = shell


def _healthcheck(config: Config, text: str) -> None:
    check: dict[str, Any] = {}
    keys = {"interval": "Interval", "timeout": "Timeout", "start-period": "StartPeriod",
            "start-interval": "StartInterval", "retries": "Retries"}  # fmt: skip
    while match := re.match(r"--([a-z-]+)=(\S+)\s*", text):
        if match[1] not in keys:
            raise SpecError(f"HEALTHCHECK has no option --{match[1]}")
        check[keys[match[1]]] = int(match[2]) if match[1] == "retries" else duration(match[2])
        text = text[match.end() :]
    kind, _, command = text.partition(" ")
    if kind.upper() == "NONE" and not command and not check:
        config["Healthcheck"] = {"Test": ["NONE"]}
        return
    command = command.strip()
    if kind.upper() != "CMD" or not command:
        raise SpecError("HEALTHCHECK needs CMD and a command, or NONE")
    exec_form = json_list(command)
    config["Healthcheck"] = {"Test": ["CMD", *exec_form] if exec_form else ["CMD-SHELL", command], **check}


def duration(text: str) -> int:
    """Go's durations (``1m30s``), in nanoseconds; SpecError where it is none."""
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise SpecError(f"{text!r} is not a duration", hint="for example 30s or 1m30s")
    return round(sum(float(number) * _NANOSECONDS[unit] for number, unit in parts))


_INSTRUCTIONS: dict[str, Callable[[Config, str], None]] = {
    "CMD": _command("Cmd"),
    "ENTRYPOINT": _command("Entrypoint"),
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "ONBUILD": _onbuild,
    "SHELL": _shell,
    "STOPSIGNAL": _text("StopSignal"),
    "USER": _text("User"),
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}

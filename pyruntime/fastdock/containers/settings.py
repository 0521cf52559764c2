"""What a kept container has beside the options of a run: restart policy, log, health check, terminal …"""

from __future__ import annotations

from fastdock._errors import SpecError
from fastdock._light import NamedTuple, Pattern
from fastdock.mount_options import DeviceOption, MountOption
from fastdock.options import Options
from fastdock.sizes import parse_size

TYPE_CHECKING = False  # see _light
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

RESTART_POLICIES = ("no", "on-failure", "always", "unless-stopped")
LOG_DRIVERS = ("json-file", "local", "none")
_REAL_TIME = Pattern(r"SIGRTM(IN|AX)(?:([+-])(\d+))?")
_DURATION = Pattern(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


class HealthOptions(NamedTuple):
    """Docker's HEALTHCHECK; times are seconds."""

    test: tuple[str, ...] = ()
    """``("CMD", program, …)``, ``("CMD-SHELL", text)`` or ``("NONE",)``."""
    interval: float = 30.0
    timeout: float = 30.0
    start_period: float = 0.0
    start_interval: float = 5.0
    retries: int = 3


class Settings(NamedTuple):
    """Checked; with one form for each."""

    restart: str = "no"
    restart_maximum: int = 0
    log_driver: str = "json-file"
    log_options: tuple[tuple[str, str], ...] = ()
    health: HealthOptions | None = None
    stop_timeout: float = 10.0
    """Seconds from the stop signal to SIGKILL; negative: no SIGKILL."""
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    auto_remove: bool = False


class LogSettings(NamedTuple):
    maximum_size: int
    """Bytes of a file; 0: no rotation."""
    maximum_files: int
    compress: bool


def parse_restart(text: str) -> tuple[str, int]:
    """``no``, ``on-failure[:n]``, ``always``, ``unless-stopped``.  SpecError."""
    name, colon, count = text.partition(":")
    if name not in RESTART_POLICIES or (colon and (name != "on-failure" or not count.isdigit())):
        raise SpecError(f"restart policy {text!r}: no, on-failure[:N], always or unless-stopped")
    return name, int(count) if colon else 0


def parse_duration(value: str | float) -> float:
    """Seconds from Go's text (``1m30s``, ``500ms``) or a number of seconds.  SpecError."""
    if isinstance(value, int | float):
        return float(value)
    if value == "0":
        return 0.0
    parts = _DURATION.findall(value)
    if not parts or "".join(number + unit for number, unit in parts) != value:
        raise SpecError(f"duration {value!r}: write for example 30s, 1m30s or 500ms")
    return float(sum(float(number) * _UNITS[unit] for number, unit in parts))


def log_settings(driver: str, options: Mapping[str, str]) -> LogSettings:
    """Docker's ``--log-opt``: max-size, max-file, compress.  SpecError for others."""
    local = driver == "local"
    size, files, compress = (20 << 20, 5, True) if local else (10 << 20, 3, False)
    for name, value in options.items():
        if name == "max-size":
            size = 0 if value == "-1" else parse_size(value, "max-size")
        elif name == "max-file":
            if not value.isdigit() or int(value) < 1:
                raise SpecError(f"log option max-file: {value!r} is not a number above 0")
            files = int(value)
        elif name == "compress":
            compress = value == "true"
        elif name not in ("mode", "max-buffer-size", "labels", "env", "tag", "labels-regex", "env-regex"):
            raise SpecError(f"unknown log option {name!r} for the {driver} log driver")
    return LogSettings(size, files, compress)


def parse_signal(text: str | int) -> int:
    """``SIGTERM``, ``term``, ``15``.  SpecError."""
    word = str(text).upper()
    if word.isdigit() and 1 <= int(word) <= 64:
        return int(word)
    name = word if word.startswith("SIG") else "SIG" + word
    import signal

    if match := _REAL_TIME.fullmatch(name):
        base = signal.SIGRTMIN if match[1] == "IN" else signal.SIGRTMAX
        return int(base) + (int(match[3]) * (1 if match[2] == "+" else -1) if match[3] else 0)
    try:
        return int(signal.Signals[name])
    except KeyError:
        raise SpecError(f"invalid signal: {text}") from None


def health_from(given: Mapping[str, Any], image: Mapping[str, Any] | None) -> HealthOptions | None:
    """The user's ``health_*`` over the image's HEALTHCHECK; None where there is no check."""
    if given.get("no_healthcheck"):
        return None
    image = image or {}
    test: Sequence[str] = image.get("Test") or ()
    command = given.get("health_cmd")
    if command:
        test = ("CMD-SHELL", command) if isinstance(command, str) else ("CMD", *command)
    if not test or test[0] == "NONE":
        return None

    def time_of(name: str, key: str, default: float) -> float:
        if given.get(name) is not None:
            return parse_duration(given[name]) or default
        return (image.get(key) or 0) / 1e9 or default  # the image has nanoseconds

    default = HealthOptions()
    return HealthOptions(
        tuple(test),
        time_of("health_interval", "Interval", default.interval),
        time_of("health_timeout", "Timeout", default.timeout),
        time_of("health_start_period", "StartPeriod", default.start_period),
        time_of("health_start_interval", "StartInterval", default.start_interval),
        int(given.get("health_retries") or image.get("Retries") or default.retries),
    )


_SETTINGS = frozenset(
    (
        "restart", "log_driver", "log_opt", "stop_timeout", "tty", "open_stdin", "stdin_once", "auto_remove",
        "health_cmd", "health_interval", "health_timeout", "health_start_period", "health_start_interval",
        "health_retries", "no_healthcheck",
    )
)  # fmt: skip


def split_settings(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is for :func:`settings_from`, and what is for ``options_from``."""
    settings = {name: value for name, value in given.items() if name in _SETTINGS}
    return settings, {name: value for name, value in given.items() if name not in _SETTINGS}


def settings_from(given: Mapping[str, Any], image_health: Mapping[str, Any] | None) -> Settings:
    """Checked settings.  SpecError."""
    restart, maximum = parse_restart(given.get("restart") or "no")
    driver = given.get("log_driver") or "json-file"
    if driver not in LOG_DRIVERS:
        raise SpecError(f"log driver {driver!r}: {', '.join(LOG_DRIVERS)}")
    log_options = dict(given.get("log_opt") or {})
    log_settings(driver, log_options)
    if given.get("auto_remove") and restart != "no":
        raise SpecError("conflicting options: cannot specify both --restart and --rm")
    timeout = given.get("stop_timeout")
    return Settings(
        restart, maximum, driver, tuple(log_options.items()), health_from(given, image_health),
        10.0 if timeout is None else float(timeout), bool(given.get("tty")), bool(given.get("open_stdin")),
        bool(given.get("stdin_once")), bool(given.get("auto_remove")),
    )  # fmt: skip


def load_options(stored: Mapping[str, Any]) -> Options:
    values = {name: _tuples(value) for name, value in stored.items() if name in Options._fields}
    values["mounts"] = tuple(MountOption(*item) for item in values.get("mounts", ()))
    values["devices"] = tuple(DeviceOption(*item) for item in values.get("devices", ()))
    return Options(**values)


def load_settings(stored: Mapping[str, Any]) -> Settings:
    values = {name: _tuples(value) for name, value in stored.items() if name in Settings._fields}
    if values.get("health"):
        values["health"] = HealthOptions(*values["health"])
    return Settings(**values)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value

"""What a user may ask of a container, checked: the keyword arguments of ``run``, ``Popen`` and ``Container``.

Everything is a plain, hashable value here.  ``planning.py`` turns it, with an image, into a ``LaunchPlan``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from fastdock._errors import LimitError, SpecError
from fastdock._light import NamedTuple, Pattern, TypedDict
from fastdock.mount_options import (
    DeviceOption,
    MountOption,
    absolute,
    parse_device,
    parse_mount,
    parse_tmpfs,
    parse_volume,
)
from fastdock.sizes import Size, parse_size, parse_swap

TYPE_CHECKING = False  # see _light
if TYPE_CHECKING:
    from typing import Any, Literal

MINIMUM_MEMORY = 6 * 1024 * 1024
"""Docker's minimum: with less, no process starts."""

DEFAULT_NETWORK = "bridge"
"""Of ``fastdock run``, ``create`` and ``Container``, as with Docker; ``fastdock.run`` and ``Popen`` have "none"."""

_NAME = Pattern(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_ULIMIT = Pattern(r"([a-z]+)=(-1|unlimited|[0-9]{1,20})(?::(-1|unlimited|[0-9]{1,20}))?")
_HOSTNAME = Pattern(r"[a-zA-Z0-9]([a-zA-Z0-9._-]{0,62}[a-zA-Z0-9])?")
_SIGNAL_NUMBER = Pattern(r"RTM(?:IN(?:\+[0-9]{1,2})?|AX(?:-[0-9]{1,2})?)|[1-9]|[1-5][0-9]|6[0-4]", "a")


class RunOptions(TypedDict, total=False):
    """The keyword arguments that describe a container, for type checkers.

    They have the names and the meaning of ``docker run``'s flags.  Sizes are bytes or Docker's text, times
    are seconds.
    """

    name: str
    hostname: str
    domainname: str
    user: str | int
    group_add: Sequence[str | int]
    env: Mapping[str, str]
    cwd: str
    entrypoint: str | Sequence[str]
    memory: Size
    memory_swap: Size
    memory_reservation: Size
    memory_swappiness: int
    oom_kill_disable: bool
    cpus: float | str
    cpu_shares: int
    cpu_period: int
    cpu_quota: int
    cpuset_cpus: str
    cpuset_mems: str
    pids: int
    blkio_weight: int
    network: str | Sequence[str]
    ip: str
    ip6: str
    mac_address: str
    network_alias: Sequence[str]
    publish: Sequence[str]
    publish_all: bool
    expose: Sequence[str]
    dns: Sequence[str]
    dns_search: Sequence[str]
    dns_option: Sequence[str]
    add_host: Sequence[str]
    link: Sequence[str]
    egress: str | Sequence[str]
    volumes: Sequence[str] | Mapping[str, str]
    mounts: Sequence[str | Mapping[str, Any]]
    tmpfs: Sequence[str] | Mapping[str, str]
    read_only: bool
    shm_size: Size
    cap_add: Sequence[str]
    cap_drop: Sequence[str]
    security_opt: Sequence[str]
    privileged: bool
    userns: str
    pid: str
    ipc: str
    uts: str
    cgroupns: str
    ulimits: Mapping[str, int | tuple[int, int] | str] | Sequence[str]
    devices: Sequence[str]
    sysctls: Mapping[str, str]
    labels: Mapping[str, str]
    init: bool
    oom_score_adj: int
    stop_signal: str | int
    storage: Literal["memory", "disk"]
    pull: str
    platform: str


def absolute_or_empty(path: str) -> str:
    """A working directory; "" is none given.  SpecError unless it is absolute."""
    return absolute(path, "working directory") if path else ""


def parse_ulimit(text: str) -> tuple[str, int, int]:
    """``nofile=1024:2048`` or ``nofile=1024``; -1 or ``unlimited`` for no limit."""
    match = _ULIMIT.fullmatch(text)
    if match is None:
        raise SpecError(f"ulimit {text!r}: write NAME=SOFT[:HARD], as in nofile=1024:2048")
    name, soft, hard = match[1], match[2], match[3] or match[2]
    numbers = [-1 if word == "unlimited" else int(word) for word in (soft, hard)]
    if max(numbers) >= 2**64 - 1:
        raise SpecError(f"ulimit {text!r}: more than 64 bits hold; write unlimited")
    if numbers[1] != -1 and (numbers[0] == -1 or numbers[0] > numbers[1]):
        raise SpecError(f"ulimit {text!r}: the soft limit is above the hard limit")
    return name, numbers[0], numbers[1]


def check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise SpecError(f"invalid container name {name!r}: letters, digits, and after the first also _ . -")
    return name


def check_hostname(name: str) -> str:
    if not _HOSTNAME.fullmatch(name):
        raise SpecError(f"invalid host name {name!r}: at most 64 letters, digits, dots and dashes")
    return name


def check_domainname(name: str) -> str:
    if not name.isprintable() or len(name.encode()) > 64:
        raise SpecError(f"invalid domain name {name!r}: at most 64 printable characters")
    return name


def check_user(user: Any) -> str:
    if not str(user).isprintable():
        raise SpecError(f"invalid user {str(user)!r}: write NAME, NUMBER, NAME:GROUP or NUMBER:NUMBER")
    return str(user)


def check_signal(value: Any) -> str:
    """``TERM``, ``SIGTERM``, ``15``, ``RTMIN+3``: the same text, if it is a signal."""
    import signal

    name = str(value).upper().removeprefix("SIG")
    if not (f"SIG{name}" in signal.Signals.__members__ or _SIGNAL_NUMBER.fullmatch(name)):
        raise SpecError(f"stop_signal: {value!r} is no signal")
    return str(value)


class Options(NamedTuple):
    """Options, checked and with one form for each: what ``planning.plan_of`` reads."""

    name: str = ""
    hostname: str = ""
    domainname: str = ""
    user: str = ""
    group_add: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    cwd: str = ""
    entrypoint: tuple[str, ...] | None = None
    memory: int | None = None
    memory_swap: int | None = None
    memory_reservation: int | None = None
    memory_swappiness: int | None = None
    oom_kill_disable: bool = False
    cpus: float | None = None
    cpu_shares: int | None = None
    cpu_period: int | None = None
    cpu_quota: int | None = None
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids: int | None = None
    blkio_weight: int | None = None
    # none, host, container:ID, or networks with commas between them; a network is its name, and what is
    # special in it after semicolons: "app;alias=db;ip=10.0.0.5"
    network: str = "none"
    ip: str = ""
    ip6: str = ""
    mac_address: str = ""
    network_alias: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()
    publish_all: bool = False
    expose: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_option: tuple[str, ...] = ()
    add_host: tuple[str, ...] = ()
    link: tuple[str, ...] = ()  # NAME[:ALIAS], on the first network
    egress: str = "allow"
    mounts: tuple[MountOption, ...] = ()
    read_only: bool = False
    shm_size: int = 64 << 20
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    security_opt: tuple[str, ...] = ()
    privileged: bool = False
    userns: str = ""
    pid: str = ""
    ipc: str = ""
    uts: str = ""
    cgroupns: str = ""
    ulimits: tuple[tuple[str, int, int], ...] = ()
    devices: tuple[DeviceOption, ...] = ()
    sysctls: tuple[tuple[str, str], ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    init: bool = False
    oom_score_adj: int | None = None
    stop_signal: str = ""
    storage: str = ""
    pull: str = "missing"
    platform: str = ""
    tty: bool = False


_FIELDS = frozenset(Options._fields) | {"volumes", "tmpfs"}


def _list(value: Any, what: str) -> Sequence[Any]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise SpecError(f"{what}: a list is wanted, not {value!r}")
    return value


def _texts(value: Any, what: str) -> tuple[str, ...]:
    return tuple(str(item) for item in _list(value, what))


def _pairs(value: Any, what: str) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, Mapping):
        raise SpecError(f"{what}: a mapping of names to values is wanted, not {value!r}")
    return tuple((str(key), str(content)) for key, content in value.items())


def _environment(value: Any) -> tuple[tuple[str, str], ...]:
    pairs = _pairs(value, "env")
    for name, content in pairs:
        if not name or "=" in name or "\0" in f"{name}{content}":
            raise SpecError(f"environment variable {name!r}: a name has no '=' and nothing has a NUL")
    return pairs


def _mount_list(given: dict[str, Any]) -> tuple[MountOption, ...]:
    wanted = _list(given.pop("mounts", None) or (), "mounts")
    mounts = [mount if isinstance(mount, MountOption) else parse_mount(mount) for mount in wanted]
    volumes = given.pop("volumes", None) or ()
    if isinstance(volumes, Mapping):
        volumes = [f"{source}:{target}" for source, target in volumes.items()]
    mounts += [parse_volume(text) for text in _texts(volumes, "volumes")]
    tmpfs = given.pop("tmpfs", None) or ()
    if isinstance(tmpfs, Mapping):
        tmpfs = [f"{target}:{words}" if words else target for target, words in tmpfs.items()]
    mounts += [parse_tmpfs(text) for text in _texts(tmpfs, "tmpfs")]
    targets = [mount.target for mount in mounts]
    for target in targets:
        if targets.count(target) > 1:
            raise SpecError(f"two mounts at {target}")
    return tuple(sorted(mounts, key=lambda mount: mount.target.count("/")))


def _ulimits(value: Any) -> tuple[tuple[str, int, int], ...]:
    if not isinstance(value, Mapping):
        return tuple(parse_ulimit(text) for text in _texts(value, "ulimits"))
    pairs = (
        (name, ":".join(map(str, pair)) if isinstance(pair, tuple) else pair) for name, pair in value.items()
    )
    return tuple(parse_ulimit(f"{name}={pair}") for name, pair in pairs)


def _network(text: str) -> str:
    """A network, or Docker's long form: ``name=app,alias=db,ip=10.0.0.5``.  In the form of ``Options.network``."""
    if "=" in text:
        from fastdock.network_options import long_form

        return long_form(text)
    if not text or "," in text or ";" in text:
        raise SpecError(f"network {text!r}: the name of a network, or name=NAME,…")
    return "bridge" if text == "default" else text


_CONVERTERS: dict[str, Any] = {
    "env": _environment,
    "ulimits": _ulimits,
    "user": check_user,
    "stop_signal": check_signal,
    "shm_size": lambda value: parse_size(value, "shm_size"),
    "memory": lambda value: parse_size(value, "memory"),
    "memory_reservation": lambda value: parse_size(value, "memory_reservation"),
    "memory_swap": parse_swap,
    "entrypoint": lambda value: (value,) if isinstance(value, str) else _texts(value, "entrypoint"),
    "group_add": lambda value: _texts(value, "group_add"),
    "cap_add": lambda value: _texts(value, "cap_add"),
    "cap_drop": lambda value: _texts(value, "cap_drop"),
    "security_opt": lambda value: _texts(value, "security_opt"),
    "devices": lambda value: tuple(
        device if isinstance(device, DeviceOption) else parse_device(str(device))
        for device in _list(value, "devices")
    ),
    "sysctls": lambda value: _pairs(value, "sysctls"),
    "labels": lambda value: _pairs(value, "labels"),
    "domainname": check_domainname,
    "name": lambda value: check_name(value) if value else "",
    "network": lambda value: ",".join(
        map(_network, [value] if isinstance(value, str) else _texts(value, "network"))
    ),
    "network_alias": lambda value: _texts(value, "network_alias"),
    "publish": lambda value: _texts(value, "publish"),
    "expose": lambda value: _texts(value, "expose"),
    "dns": lambda value: _texts(value, "dns"),
    "dns_search": lambda value: _texts(value, "dns_search"),
    "dns_option": lambda value: _texts(value, "dns_option"),
    "add_host": lambda value: _texts(value, "add_host"),
    "link": lambda value: _texts(value, "link"),
    "egress": lambda value: value if isinstance(value, str) else ",".join(_texts(value, "egress")),
    "hostname": lambda value: check_hostname(value) if value else "",
    "cwd": lambda value: absolute(str(value), "working directory") if value else "",
}


def options_from(given: Mapping[str, Any], *, network: str = "none") -> Options:
    """Checked options; ``network`` is the one of who names none.

    Raises SpecError or LimitError for what is malformed or contradicts itself.
    """
    values = {"network": network, **{key: value for key, value in given.items() if value is not None}}
    if unknown := values.keys() - _FIELDS:
        raise TypeError(f"unknown option {sorted(unknown)[0]!r}")
    mounts = _mount_list(values)
    for key, convert in _CONVERTERS.items():
        if key in values:
            values[key] = convert(values[key])
    if "cpus" in values:
        values["cpus"] = _cpus(values["cpus"])
    options = Options(**values, mounts=mounts)
    _check(options)
    return options


def _cpus(value: Any) -> float:
    try:
        cpus = float(value)
    except ValueError:
        raise LimitError(f"cpus: {value!r} is not a number") from None
    available = os.cpu_count() or 1
    if not 0.01 <= cpus <= available:
        raise LimitError(f"cpus: {value} is not between 0.01 and {available}, the processors of this machine")
    return cpus


def _check(options: Options) -> None:
    if options.memory is not None and 0 < options.memory < MINIMUM_MEMORY:
        raise LimitError(f"memory: {options.memory} bytes is less than a process needs; the minimum is 6m")
    if options.memory_swap is not None and options.memory_swap >= 0:
        if options.memory is None:
            raise SpecError("memory_swap is memory and swap together, and needs memory")
        if options.memory_swap < options.memory:
            raise SpecError("memory_swap is memory and swap together, and cannot be less than memory")
    if options.memory and options.memory_reservation and options.memory_reservation > options.memory:
        raise SpecError("memory_reservation cannot be more than memory")
    if options.cpus is not None and (options.cpu_quota is not None or options.cpu_period is not None):
        raise SpecError("cpus contradicts cpu_quota and cpu_period: give one or the other")
    if options.storage not in ("", "memory", "disk"):
        raise SpecError(f"storage: {options.storage!r} is neither memory nor disk")
    if options.network == "none" and (options.publish or options.publish_all):
        raise SpecError("ports are published from a network, and network none is not one: take bridge")
    if options.network.startswith("container:") or any((
        options.ip, options.ip6, options.mac_address, options.network_alias, options.dns, options.dns_search,
        options.link,
    )):  # fmt: skip
        from fastdock.network_options import check

        check(options)
    if options.userns not in ("", "host", "private"):
        raise SpecError(f"userns: {options.userns!r} is neither host nor private")
    if options.userns == "private" and options.privileged:
        raise SpecError("privileged uses the host's user ids: it contradicts userns=private")
    if options.pull not in ("missing", "always", "never"):
        raise SpecError(f"pull: {options.pull!r} is none of missing, always and never")
    if options.oom_score_adj is not None and not -1000 <= options.oom_score_adj <= 1000:
        raise LimitError(f"oom_score_adj: {options.oom_score_adj} is not between -1000 and 1000")
    if options.pids is not None and options.pids < -1:
        raise LimitError(f"pids: {options.pids} is negative; -1 is without limit")


def dump(value: Any) -> dict[str, Any]:
    """What differs from the defaults, for JSON; so a later version's new fields have their defaults."""
    return {name: item for name, item in value._asdict().items() if item != value._field_defaults.get(name)}

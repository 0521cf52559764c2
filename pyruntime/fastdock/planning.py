"""From an image and options to a ``LaunchPlan``: Docker's defaults, in one place.

The sets below are those of Docker (moby, ``oci/defaults.go`` and ``oci/caps``), which images are written for.
"""

from __future__ import annotations

import os
import resource

from fastdock import _core
from fastdock._errors import SpecError
from fastdock._light import NamedTuple
from fastdock.options import Options
from fastdock.planned_mounts import NODEV, RDONLY, device_of, devices_of, system_mounts, user_mount
from fastdock.store.paths import is_rootless

_SIGKILL = 9  # signal(7); the module signal takes 3 ms to import

NAMESPACES = ("user", "mount", "pid", "net", "uts", "ipc", "cgroup")
ALL_CAPABILITIES = (1 << 41) - 1
DEFAULT_PIDS = 32768
"""A bound on fork bombs that no honest program reaches: the kernel's old default of pid_max."""

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_MASKED = (
    "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
    "/sys/devices/virtual/powercap",
)  # fmt: skip
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_LINKS = (
    ("/proc/self/fd", "/dev/fd"), ("/proc/self/fd/0", "/dev/stdin"), ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"), ("pts/ptmx", "/dev/ptmx"), ("/proc/kcore", "/dev/core"),
)  # fmt: skip
_RLIMITS = {
    name.removeprefix("RLIMIT_").lower(): getattr(resource, name)
    for name in dir(resource)
    if name.startswith("RLIMIT_") and name != "RLIMIT_OFILE"
}
# Namespaced sysctls, by the namespace that must be the container's own (moby, opts.ValidateSysctl).
_SYSCTLS = {"net.": "net", "fs.mqueue.": "ipc", "kernel.msg": "ipc", "kernel.sem": "ipc", "kernel.shm": "ipc"}


class Base(NamedTuple):
    """What a container starts from: an image's layers and configuration."""

    layers: tuple[str, ...]
    overlays: tuple[tuple[str, tuple[str, ...]], ...] = ()  # further ones: (destination, layers)
    environment: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    user: str = ""
    cwd: str = ""
    stop_signal: str = ""
    volumes: tuple[str, ...] = ()
    exposed: tuple[str, ...] = ()
    """Ports, as ``80/tcp``."""
    i386: bool = False


class Planned(NamedTuple):
    """A plan to copy for each container, and what belongs beside it."""

    plan: _core.LaunchPlan
    limits: _core.Limits
    own_ids: bool
    command: tuple[str, ...]
    """The image's command, when the user gives none; without the entrypoint."""
    entrypoint: tuple[str, ...]
    in_memory: bool
    options: Options
    exposed: tuple[str, ...]
    """The image's ports, for ``publish_all``."""
    source: str = ""
    """Exactly which image it is of: its id, or the key of a built-in one."""


def has_files(options: Options) -> bool:
    """Whether a throw-away container gets /etc/hosts and the like of its own."""
    asked = options.dns or options.dns_search or options.dns_option or options.add_host
    return options.network != "none" or bool(asked)


def plan_of(base: Base, options: Options, *, seccomp_cache: str) -> Planned:
    """Builds the plan.  Raises SpecError for what contradicts itself or is unknown."""
    own_ids = has_own_ids(options)
    plan = _core.LaunchPlan(
        environment=environment(base, options),
        working_directory=options.cwd or base.cwd or "/",
        create_working_directory=True,
        hostname=options.hostname,
        domainname=options.domainname,
        init=options.init,
        parent_death_signal=_SIGKILL,
    )
    plan.set_user(options.user or base.user or "0", list(options.group_add))
    _add_namespaces(plan, options, own_ids)
    _add_root(plan, base, options, own_ids)
    _add_security(plan, base, options, own_ids, seccomp_cache)
    _add_process_limits(plan, options)
    plan.set_sysctls(_sysctls(options))
    if options.oom_score_adj is not None:
        plan.oom_score_adjustment = options.oom_score_adj
    entrypoint = base.entrypoint if options.entrypoint is None else options.entrypoint
    # Docker: another entrypoint drops the image's command.
    command = base.command if options.entrypoint is None else ()
    in_memory = options.storage == "memory" or (options.storage == "" and options.memory is None)
    return Planned(
        plan,
        limits_of(options, own_ids),
        own_ids,
        command,
        entrypoint,
        in_memory and _core.memory_holds_upper(),
        options,
        base.exposed,
    )


def has_own_ids(options: Options) -> bool:
    """Whether it gets a user namespace: by default, unless it shares what belongs to the host's.

    Without root it never does: its ids are those of its user's namespace (docs/rootless.md).
    """
    if is_rootless():
        if options.userns == "private":
            raise SpecError(
                "userns=private needs root: without it all containers of a user share that user's namespace"
            )
        return False
    if options.userns:
        return options.userns == "private"
    return not (options.privileged or options.pid == "host" or options.network == "host")


def environment(base: Base, options: Options) -> list[str]:
    """The image's variables, then the user's; PATH always, TERM with a terminal.

    HOSTNAME too, except where the container's id will be its name.
    """
    variables = {"PATH": DEFAULT_PATH}
    if options.hostname or options.uts == "host":
        variables["HOSTNAME"] = options.hostname or os.uname().nodename
    for item in base.environment:
        name, equals, value = item.partition("=")
        if equals:
            variables[name] = value
    if options.tty:
        variables["TERM"] = "xterm"
    if options.cpus is not None and options.cpus != int(options.cpus):
        # The container's nproc is the host's; these two ask nobody else for a fraction of a processor.
        whole = str(max(1, int(options.cpus)))
        variables.setdefault("GOMAXPROCS", whole)
        variables.setdefault("PYTHON_CPU_COUNT", whole)
    variables.update(options.env)
    return [f"{name}={value}" for name, value in variables.items()]


def _add_namespaces(plan: _core.LaunchPlan, options: Options, own_ids: bool) -> None:
    given = {"pid": options.pid, "ipc": options.ipc, "uts": options.uts, "cgroup": options.cgroupns}
    for name in NAMESPACES:
        host = given.get(name) == "host" or (name == "net" and options.network == "host")
        if name == "user":
            host = not own_ids
        plan.set_namespace(name, "host" if host else "new")
    if options.uts == "host" and options.hostname:
        raise SpecError("hostname contradicts uts=host")
    plan.raise_loopback = options.network != "host"
    for name, value in given.items():
        if value not in ("", "host", "private", "shareable", "none"):
            raise SpecError(f"{name}: {value!r} is neither host nor private")


def _add_root(plan: _core.LaunchPlan, base: Base, options: Options, own_ids: bool) -> None:
    # userxattr: in a user namespace overlayfs may not write trusted.* (Documentation/filesystems/overlayfs).
    # volatile: without it each unmount syncs the disk (PERFORMANCE.md); the container is thrown away anyway.
    words = "userxattr,volatile" if own_ids or is_rootless() else "volatile"
    flags = (RDONLY if options.read_only else 0) | (NODEV if own_ids else 0)
    plan.root = _core.Mount(
        type="overlay", source="overlay", destination="/", layers=list(base.layers), options=words,
        attributes_set=flags,
    )  # fmt: skip
    mounts = [
        _core.Mount(
            type="overlay",
            source="overlay",
            destination=at,
            layers=list(layers),
            options=words,
            attributes_set=flags,
        )
        for at, layers in base.overlays
    ]
    mounts += system_mounts(options, own_ids)
    mounts += [user_mount(mount, own_ids) for mount in options.mounts]
    plan.mounts = mounts
    plan.devices = devices_of(options, own_ids)
    plan.set_links(list(_LINKS))
    if not options.privileged and "systempaths=unconfined" not in options.security_opt:
        plan.masked_paths = list(_MASKED)
        plan.read_only_paths = list(_READ_ONLY)


def capabilities_of(options: Options) -> int:
    """Docker's 14, all of them with privileged; plus cap_add, minus cap_drop, of which ALL comes first."""
    if options.privileged:
        return ALL_CAPABILITIES
    added, dropped = [name.upper() for name in options.cap_add], [name.upper() for name in options.cap_drop]
    capabilities = 0 if "ALL" in dropped else int(_core.DEFAULT_CAPABILITIES)
    try:
        if "ALL" in added:
            capabilities = ALL_CAPABILITIES
        capabilities |= _core.capability_set([name for name in added if name != "ALL"])
        return capabilities & ~_core.capability_set([name for name in dropped if name != "ALL"])
    except OSError as error:
        raise SpecError(f"unknown capability {getattr(error, 'path', '')!r}") from None


def has_own_filter(options: Options) -> bool:
    """Whether the seccomp filter is fastdock's own, not one of the user's."""
    return not any(option.startswith("seccomp") for option in options.security_opt)


def _add_security(
    plan: _core.LaunchPlan, base: Base, options: Options, own_ids: bool, seccomp_cache: str
) -> None:
    capabilities = capabilities_of(options)
    # The inheritable set stays empty (CVE-2022-24769).
    plan.set_capabilities(capabilities, capabilities, capabilities)
    profile = ""
    for option in options.security_opt:
        key, _, value = option.replace(":", "=", 1).partition("=")
        if key == "no-new-privileges":
            plan.no_new_privileges = value in ("", "true")
        elif key == "seccomp":
            profile = value
        elif key == "apparmor":
            plan.apparmor_profile = "" if value == "unconfined" else value
        elif key == "label":
            plan.selinux_label = "" if value == "disable" else value
        elif option != "systempaths=unconfined":
            raise SpecError(f"security_opt: unknown option {option!r}")
    if options.privileged or profile == "unconfined":
        return
    if profile:
        plan.set_seccomp(_profile_program(profile, capabilities))
    else:
        plan.set_seccomp(_core.default_seccomp(capabilities, base.i386, seccomp_cache))


def _profile_program(path: str, capabilities: int) -> bytes:
    import json

    try:
        with open(path, encoding="utf-8") as file:
            profile = json.load(file)
    except (OSError, ValueError) as error:
        raise SpecError(f"seccomp profile {path}: {error}") from None
    program, _ = _core.compile_seccomp(profile, capabilities)
    return program


def _add_process_limits(plan: _core.LaunchPlan, options: Options) -> None:
    for name, soft, hard in options.ulimits:
        if name not in _RLIMITS:
            raise SpecError(f"ulimit {name!r} is unknown; known are {', '.join(sorted(_RLIMITS))}")
        plan.add_limit(_RLIMITS[name], soft & (2**64 - 1), hard & (2**64 - 1))


def _sysctls(options: Options) -> list[tuple[str, str]]:
    borrowed = options.network == "host" or options.network.startswith("container:")
    shared = {"net": borrowed, "ipc": options.ipc == "host"}
    for name, _ in options.sysctls:
        kind = next(
            (kind for prefix, kind in _SYSCTLS.items() if name.replace("/", ".").startswith(prefix)), None
        )
        # Dots and slashes change places on the way to a path (sysctl.d(5)), so both spellings of ".." are out.
        if kind is None or "" in name.replace("/", ".").split(".") or "\0" in name:
            raise SpecError(
                f"sysctl {name!r} belongs to no namespace of a container: it would change the host's"
            )
        if shared[kind]:
            raise SpecError(
                f"sysctl {name!r} would change the host's: the container shares its {kind} namespace"
            )
    if (
        borrowed
        or options.network == "none"
        or not any(name.startswith("net") for name, _ in options.sysctls)
    ):
        return list(options.sysctls)
    from fastdock.network_options import device_sysctls

    later = {name for name, _, _ in device_sysctls(options.sysctls)}  # with the devices: endpoint.py
    return [pair for pair in options.sysctls if pair[0] not in later]


def limits_of(options: Options, own_ids: bool) -> _core.Limits:
    """The cgroup limits; see Docker's resource constraints for the meanings."""
    period = options.cpu_period if options.cpu_period is not None else 100_000
    quota = round(options.cpus * period) if options.cpus is not None else options.cpu_quota
    swap = options.memory_swap
    if options.memory is not None and swap is None:
        swap = options.memory * 2  # Docker: as much swap as memory
    given = {
        "memory": options.memory, "memory_swap": swap, "memory_reservation": options.memory_reservation,
        "memory_swappiness": options.memory_swappiness, "oom_kill_disable": options.oom_kill_disable or None,
        "cpu_shares": options.cpu_shares, "cpu_quota": quota,
        "cpu_period": period if quota is not None or options.cpu_period is not None else None,
        "cpuset_cpus": options.cpuset_cpus or None, "cpuset_mems": options.cpuset_mems or None,
        "pids": _pids(options), "blkio_weight": options.blkio_weight,
    }  # fmt: skip
    limits = _core.Limits(**{key: value for key, value in given.items() if value is not None})
    # In a user namespace nodes of other devices cannot be made, so no list of allowed ones is needed.
    if not own_ids and not options.privileged and not is_rootless():
        limits.devices = _device_rules(options)
    return limits


def _pids(options: Options) -> int | None:
    if options.pids is None:
        return DEFAULT_PIDS if not is_rootless() or _may_limit("pids") else None
    return -1 if options.pids <= 0 else options.pids


def _may_limit(controller: str) -> bool:
    """Whether this user may make cgroups with this controller (cgroups(7), "Delegation")."""
    return any(
        controller in hierarchy["controllers"] and hierarchy["base"] is not None
        for hierarchy in _core.cgroup_info()["hierarchies"]
    )


def _device_rules(options: Options) -> list[_core.DeviceRule]:
    """Docker's: nothing but making nodes, the usual devices, terminals, and those that were asked for."""
    usual = [("c", 1, 3), ("c", 1, 5), ("c", 1, 7), ("c", 1, 8), ("c", 1, 9), ("c", 5, 0), ("c", 5, 1), ("c", 5, 2),
             ("c", 136, None)]  # fmt: skip
    rules = [_core.DeviceRule(type="a", access="rwm", allow=False)]
    rules += [_core.DeviceRule(type=kind, access="m", allow=True) for kind in "cb"]
    rules += [
        _core.DeviceRule(type=kind, major=major, minor=minor, allow=True) for kind, major, minor in usual
    ]
    for device in options.devices:
        made = device_of(device, own_ids=False)
        rules.append(
            _core.DeviceRule(
                type=made.kind, major=made.major, minor=made.minor, access=device.access, allow=True
            )
        )
    return rules

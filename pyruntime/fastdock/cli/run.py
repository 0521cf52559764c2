"""``fastdock run`` in the foreground: its flags, what they mean, and how it ends.

This module is free of click: see ``cli.plain``.
"""

from __future__ import annotations

import os
import sys

from fastdock._errors import FastdockError, KernelError, SpecError
from fastdock.cli.errors import describe
from fastdock.cli.plain import DETACH_KEYS, Plain, option, several

TYPE_CHECKING = False  # see cli.direct
if TYPE_CHECKING:
    from typing import Any

# docker run's exit codes of its own
FAILED, NOT_EXECUTABLE, NOT_FOUND = 125, 126, 127


def exit_code_of(error: Exception) -> int:
    """127: no such program; 126: it cannot be executed; 125: everything else."""
    if not isinstance(error, KernelError):
        return FAILED
    if error.operation == "execute":
        return (
            NOT_FOUND
            if isinstance(error, FileNotFoundError) and "interpreter" not in error.hint
            else NOT_EXECUTABLE
        )
    return NOT_EXECUTABLE if error.operation.startswith("change the working") else FAILED


def report(error: Exception) -> int:
    """Says on stderr what went wrong; the exit code."""
    text = describe(error) if isinstance(error, FastdockError) else str(error)
    print(f"fastdock: {text}", file=sys.stderr)
    return exit_code_of(error)


FLAGS = [
    option("-i", "--interactive", is_flag=True, help="Keep standard input open."),
    option("-t", "--tty", is_flag=True, help="Give it a terminal."),
    several("-e", "--env", help="Set an environment variable (NAME=VALUE, or NAME from here)."),
    several("--env-file", help="Read environment variables from a file."),
    option("-w", "--workdir", help="Working directory."),
    option("-u", "--user", help="User: name or number[:group]."),
    several("--group-add", help="Add a group."),
    several("-v", "--volume", help="Bind mount or volume: SOURCE:TARGET[:ro]."),
    several("--mount", help="Mount: type=bind,source=…,target=…[,readonly]."),
    several("--tmpfs", help="Mount a tmpfs: PATH[:OPTIONS]."),
    option("-m", "--memory", help="Memory limit (64m, 1g)."),
    option("--memory-swap", help="Memory and swap together; -1: no limit."),
    option("--memory-reservation", help="Soft memory limit."),
    option("--memory-swappiness", type=int, help="0 to 100."),
    option("--oom-kill-disable", is_flag=True, default=None, help="Do not kill at the memory limit (cgroup v1)."),
    option("--cpus", help="Processors (1.5)."),
    option("-c", "--cpu-shares", type=int, help="Relative weight."),
    option("--cpu-period", type=int, help="Microseconds."),
    option("--cpu-quota", type=int, help="Microseconds in each period."),
    option("--cpuset-cpus", help="Processors it may use (0-2,7)."),
    option("--cpuset-mems", help="Memory nodes it may use."),
    option("--pids-limit", type=int, help="Most processes; -1: no limit."),
    option("--blkio-weight", type=int, help="10 to 1000."),
    option("--read-only", is_flag=True, default=None, help="Mount the root file system read-only."),
    several("--cap-add", help="Add a capability, or ALL."),
    several("--cap-drop", help="Drop a capability, or ALL."),
    several("--security-opt", help="seccomp=FILE|unconfined, no-new-privileges, apparmor=PROFILE."),
    option("--privileged", is_flag=True, default=None, help="All capabilities and devices, host user ids."),
    option("--userns", help="host: no user namespace."),
    option("--pid", help="host: the host's processes."),
    option("--ipc", help="host, private or none."),
    option("--uts", help="host: the host's name."),
    option("--cgroupns", help="host or private."),
    several("--network", "--net", help="bridge (default), none, host, container:ID or the name of a network."),
    several("-p", "--publish", help="Publish a port: [HOST:][HOST_PORT:]PORT[/PROTOCOL]."),
    option("-P", "--publish-all", is_flag=True, default=None, help="Publish all exposed ports."),
    several("--expose", help="Expose a port: PORT[/PROTOCOL]."),
    option("--ip", help="IPv4 address."),
    option("--ip6", help="IPv6 address."),
    option("--mac-address", help="Ethernet address."),
    several("--network-alias", "--net-alias", help="Another name on its networks."),
    several("--link", help="Another container, and what it is called here: NAME[:ALIAS]."),
    several("--dns", help="DNS server."),
    several("--dns-search", help="DNS search domain."),
    several("--dns-option", "--dns-opt", help="DNS option."),
    several("--add-host", help="NAME:ADDRESS for /etc/hosts; host-gateway is the host."),
    option("--egress", help="Where it may go: allow, deny, or prefixes and domains (10.0.0.0/8,example.org)."),
    several("--ulimit", help="NAME=SOFT[:HARD]."),
    option("--entrypoint", help="Overwrite the image's entrypoint."),
    option("--init", is_flag=True, default=None, help="Run an init that reaps processes and forwards signals."),
    several("--device", help="Add a device: HOST[:CONTAINER][:rwm]."),
    several("--sysctl", help="NAME=VALUE."),
    option("--shm-size", help="Size of /dev/shm (64m)."),
    option("-h", "--hostname", help="Host name."),
    option("--domainname", help="NIS domain name."),
    option("--name", help="Name of the container."),
    several("-l", "--label", help="NAME=VALUE."),
    several("--label-file", help="Read labels from a file."),
    option("--rm", is_flag=True, help="Remove the container when it ends."),
    option("--cidfile", help="Write the container's id to a file."),
    option("--oom-score-adj", type=int, help="-1000 to 1000."),
    option("--stop-signal", help="Signal that asks it to stop."),
    option("--sig-proxy/--no-sig-proxy", is_flag=True, default=True, help="Pass signals on to it."),
    option("--pull", help="missing, always or never."),
    option("--platform", help="OS/ARCHITECTURE[/VARIANT] of the image."),
    option("--storage", help="Where it writes: memory or disk."),
    option("-d", "--detach", is_flag=True, help="Run in the background and print the id."),
    several("-a", "--attach", help="Attach to stdin, stdout or stderr."),
    option("--detach-keys", default=DETACH_KEYS, help="Keys that detach from the container."),
    option("--restart", help="no, on-failure[:N], always or unless-stopped."),
    option("--stop-timeout", type=int, help="Seconds from the stop signal to SIGKILL."),
    option("--log-driver", help="json-file, local or none."),
    several("--log-opt", help="max-size=10m, max-file=3, compress=true."),
    option("--health-cmd", help="Command that checks its health."),
    option("--health-interval", help="Time between checks (30s)."),
    option("--health-timeout", help="Longest time of a check (30s)."),
    option("--health-start-period", help="Time in which failures do not count."),
    option("--health-start-interval", help="Time between checks in the start period."),
    option("--health-retries", type=int, help="Failures in a row that make it unhealthy (3)."),
    option("--no-healthcheck", is_flag=True, default=None, help="No health check, whatever the image says."),
]  # fmt: skip

# flag: option of fastdock.options
_SAME = (
    "user", "group_add", "memory", "memory_swap", "memory_reservation", "memory_swappiness", "oom_kill_disable",
    "cpus", "cpu_shares", "cpu_period", "cpu_quota", "cpuset_cpus", "cpuset_mems", "blkio_weight", "read_only",
    "cap_add", "cap_drop", "security_opt", "privileged", "userns", "pid", "ipc", "uts", "cgroupns", "network",
    "publish", "publish_all", "expose", "ip", "ip6", "mac_address", "network_alias", "dns", "dns_search",
    "dns_option", "add_host", "link", "egress",
    "init", "shm_size", "hostname", "domainname", "name", "oom_score_adj", "stop_signal", "pull", "platform",
    "tmpfs", "storage",
)  # fmt: skip
_RENAMED = {"workdir": "cwd", "pids_limit": "pids", "volume": "volumes", "mount": "mounts", "ulimit": "ulimits",
            "device": "devices"}  # fmt: skip


def options_of(flags: dict[str, Any]) -> dict[str, Any]:
    """The engine's options for the command line's flags; only those that were given."""
    options = {name: flags[name] for name in _SAME}
    options.update({new: flags[old] for old, new in _RENAMED.items()})
    options["env"] = {**_from_files(flags["env_file"], os.environ), **_pairs(flags["env"], os.environ)}
    options["labels"] = {**_from_files(flags["label_file"], {}), **_pairs(flags["label"], {})}
    options["sysctls"] = _pairs(flags["sysctl"], {})
    if flags["entrypoint"] is not None:
        options["entrypoint"] = [flags["entrypoint"]] if flags["entrypoint"] else []
    return {name: value for name, value in options.items() if value not in (None, (), {})}


def _pairs(items: tuple[str, ...], inherited: Any) -> dict[str, str]:
    """NAME=VALUE; a NAME alone has its value from ``inherited``, or is left out if it is not there."""
    pairs = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not name:
            raise SpecError(f"{item!r}: write NAME=VALUE")
        if equals:
            pairs[name] = value
        elif name in inherited:
            pairs[name] = inherited[name]
        elif inherited is not os.environ:
            pairs[name] = ""
    return pairs


def _from_files(paths: tuple[str, ...], inherited: Any) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for path in paths:
        try:
            with open(path, encoding="utf-8") as file:
                lines = [line.lstrip() for line in file.read().splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise SpecError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
        pairs.update(_pairs(tuple(line for line in lines if line and not line.startswith("#")), inherited))
    return pairs


KEPT_SETTINGS = (
    "restart", "log_driver", "stop_timeout", "health_cmd", "health_interval", "health_timeout", "health_start_period",
    "health_start_interval", "health_retries", "no_healthcheck",
)  # fmt: skip


def is_kept(flags: dict[str, Any]) -> bool:
    """Whether the container needs a record: what is thrown away at its end and has no name needs none."""
    if not flags["rm"] or flags["detach"] or flags["name"]:
        return True
    if any(flags[name] not in (None, (), False) for name in (*KEPT_SETTINGS, "log_opt", "attach")):
        return True
    mounts = [
        *flags["volume"],
        *(m for m in flags["mount"] if "type=bind" not in m and "type=tmpfs" not in m),
    ]
    return any(not text.startswith(("/", ".", "~")) or ":" not in text for text in mounts)


def check_cidfile(path: str | None) -> None:
    """SpecError when it is there."""
    from fastdock._errors import SpecError

    if path and os.path.exists(path):
        raise SpecError(f"container ID file found: {path}; remove it or choose another")


def run(root: str | None, image: str, command: tuple[str, ...], flags: dict[str, Any]) -> int:
    """Runs it, below the state directory ``root``; its exit code."""
    from fastdock.engine import Engine

    if flags["tty"] and not sys.stdin.isatty() and flags["interactive"] and not flags["detach"]:
        raise SpecError("the input device is not a TTY: leave out -t, or run it in a terminal")
    check_cidfile(flags["cidfile"])
    for stream in flags["attach"]:
        if stream.lower() not in ("stdin", "stdout", "stderr"):
            raise SpecError(f"cannot attach to {stream!r}: valid streams are STDIN, STDOUT and STDERR")
    if flags["detach_keys"] != DETACH_KEYS:
        from fastdock.cli.keys import parse_keys

        parse_keys(flags["detach_keys"])
    options = options_of(flags)
    if "host" in flags["network"] and (flags["publish"] or flags["publish_all"]):
        print(
            "fastdock: warning: published ports are discarded when using the host's network", file=sys.stderr
        )
    engine = Engine(root)
    try:
        if is_kept(flags):
            from fastdock.cli import kept

            return kept.run(engine, image, command, options, flags)
        from fastdock.cli.foreground import Foreground
        from fastdock.options import DEFAULT_NETWORK

        options.setdefault("network", DEFAULT_NETWORK)
        foreground = Foreground(
            engine, tty=flags["tty"], interactive=flags["interactive"], proxy=flags["sig_proxy"]
        )
        return foreground.run(image, command, options, cidfile=flags["cidfile"])
    finally:
        engine.leave()


def create(root: str | None, image: str, command: tuple[str, ...], flags: dict[str, Any]) -> str:
    """Creates it, without starting it; its id."""
    from fastdock.cli import kept
    from fastdock.engine import Engine

    check_cidfile(flags["cidfile"])
    return kept.create(Engine(root), image, command, options_of(flags), flags).id


def _run(root: str | None, words: tuple[str, ...], flags: dict[str, Any]) -> int:
    return run(root, words[0], words[1:], flags)


def _create(root: str | None, words: tuple[str, ...], flags: dict[str, Any]) -> int:
    print(create(root, words[0], words[1:], flags))
    return 0


RUN = Plain("Create and run a new container from an image.", FLAGS, ("image", "command*"), _run, report)
CREATE = Plain("Create a new container, without starting it.", FLAGS, ("image", "command*"), _create)

"""What ``docker inspect`` and ``docker ps`` say of a container."""

from __future__ import annotations

import os
import time

from fastdock.containers.creation import origin_of
from fastdock.containers.networking import requested_document, settings_document
from fastdock.containers.records import Record
from fastdock.containers.settings import load_options, load_settings
from fastdock.containers.state import State

TYPE_CHECKING = False  # see _light
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from fastdock.containers.manager import Containers
    from fastdock.mount_options import DeviceOption, MountOption


# Members of HostConfig that have one value here, as Docker writes it: programs and templates expect them.
_NOT_HERE: dict[str, Any] = {
    "BlkioDeviceReadBps": [], "BlkioDeviceReadIOps": [], "BlkioDeviceWriteBps": [], "BlkioDeviceWriteIOps": [],
    "BlkioWeightDevice": [], "Cgroup": "", "CgroupParent": "", "ConsoleSize": [0, 0], "ContainerIDFile": "",
    "CpuCount": 0, "CpuPercent": 0, "CpuRealtimePeriod": 0, "CpuRealtimeRuntime": 0, "DeviceCgroupRules": None,
    "DeviceRequests": None, "IOMaximumBandwidth": 0, "IOMaximumIOps": 0, "Isolation": "", "KernelMemory": 0,
    "KernelMemoryTCP": 0, "VolumeDriver": "", "VolumesFrom": None,
}  # fmt: skip


def rfc3339(seconds: float) -> str:
    whole = int(seconds)
    fraction = f"{seconds - whole:.9f}"[1:].rstrip("0").rstrip(".")
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + fraction + "Z"


def inspect(containers: Containers, record: Record, state: State) -> dict[str, Any]:
    """Docker's document, with what this engine has."""
    options = load_options(record.document["options"])
    settings = load_settings(record.document["settings"])
    directory = os.path.join(containers.directory, record.id)
    command = record.command
    named = record.document["arguments"]
    origin = origin_of(containers, record)
    return {
        "Id": record.id,
        "Created": rfc3339(record.created),
        "Path": command[0],
        "Args": command[1:],
        "State": state_document(state),
        "Image": record.image_id,
        "ResolvConfPath": "",
        "HostnamePath": "",
        "HostsPath": "",
        "LogPath": containers.log_path(record.id) if settings.log_driver != "none" else "",
        "Name": "/" + record.name,
        "RestartCount": state.restart_count,
        "Driver": "overlayfs",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": None,
        "HostConfig": _host_config(containers, record, options, settings),
        "GraphDriver": {
            "Name": "overlayfs",
            "Data": {
                "LowerDir": ":".join(reversed(origin.base.layers)),
                "UpperDir": os.path.join(directory, "upper"),
                "WorkDir": os.path.join(directory, "work"),
            },
        },
        "Mounts": [mount_document(mount, record) for mount in options.mounts],
        "Config": _config(record, options, settings, origin, command, named),
        "NetworkSettings": settings_document(containers, record),
    }


def state_document(state: State) -> dict[str, Any]:
    document: dict[str, Any] = {
        "Status": state.status,
        "Running": state.running,
        "Paused": state.status == "paused",
        "Restarting": state.status == "restarting",
        "OOMKilled": state.oom_killed,
        "Dead": False,
        "Pid": state.pid,
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": state.started_at,
        "FinishedAt": state.finished_at,
    }
    if state.health is not None:
        document["Health"] = {
            "Status": state.health["status"],
            "FailingStreak": state.health["failing_streak"],
            "Log": state.health["log"],
        }
    return document


def _volume_of(mount: MountOption, record: Record) -> str:
    volumes = record.document.get("volumes") or []
    return next((name for name in volumes if mount.source.endswith(f"/volumes/{name}/_data")), "")


def mount_document(mount: MountOption, record: Record) -> dict[str, Any]:
    name = _volume_of(mount, record)
    document = {
        "Type": "volume" if name else mount.type,
        "Source": mount.source,
        "Destination": mount.target,
        "Mode": "ro" if mount.read_only else "",
        "RW": not mount.read_only,
        "Propagation": mount.propagation or ("" if name or mount.type == "tmpfs" else "rprivate"),
    }
    return {"Type": "volume", "Name": name, "Driver": "local", **document} if name else document


def _config(
    record: Record, options: Any, settings: Any, origin: Any, command: list[str], named: int
) -> dict[str, Any]:
    from fastdock.planning import environment

    config: dict[str, Any] = {
        "Hostname": options.hostname or record.id[:12],
        "Domainname": options.domainname,
        "User": options.user or origin.base.user,
        "AttachStdin": False,
        "AttachStdout": False,
        "AttachStderr": False,
        **_exposed(origin, options),
        "Tty": settings.tty,
        "OpenStdin": settings.open_stdin,
        "StdinOnce": settings.stdin_once,
        "Env": environment(origin.base, options),
        "Cmd": command[len(command) - named :],
        "Image": record.image,
        "Volumes": {path: {} for path in origin.base.volumes} or None,
        "WorkingDir": options.cwd or origin.base.cwd,
        "Entrypoint": command[: len(command) - named] or None,
        "Labels": record.labels,
        "StopSignal": options.stop_signal or origin.base.stop_signal or "SIGTERM",
        "OnBuild": None,
    }
    if settings.stop_timeout != int(settings.stop_timeout):
        config["StopTimeout"] = settings.stop_timeout
    else:
        config["StopTimeout"] = int(settings.stop_timeout)
    if settings.health is not None:
        health = settings.health
        config["Healthcheck"] = {
            "Test": list(health.test),
            "Interval": round(health.interval * 1e9),
            "Timeout": round(health.timeout * 1e9),
            "StartPeriod": round(health.start_period * 1e9),
            "StartInterval": round(health.start_interval * 1e9),
            "Retries": health.retries,
        }
    return config


def _exposed(origin: Any, options: Any) -> dict[str, Any]:
    """The ports that the image and the user name, where there are any."""
    named: dict[str, Any] = {port if "/" in port else f"{port}/tcp": {} for port in origin.base.exposed}
    if options.expose or options.publish:
        from fastdock.network.ports import parse_port

        specs = [spec for text in (*options.expose, *options.publish) for spec in parse_port(text)]
        named.update({f"{spec.container_port}/{spec.protocol}": {} for spec in specs})
    return {"ExposedPorts": dict(sorted(named.items()))} if named else {}


def _device(device: DeviceOption) -> dict[str, str]:
    return {
        "PathOnHost": device.host,
        "PathInContainer": device.container,
        "CgroupPermissions": device.access,
    }


def _binds(record: Record, mounts: Sequence[MountOption]) -> list[str]:
    """As the user wrote them with -v: volumes by name, and none of the anonymous ones."""
    binds = []
    for mount in mounts:
        volume = _volume_of(mount, record)
        anonymous = len(volume) == 64 and set(volume) <= set("0123456789abcdef")  # Volumes.create
        if mount.type == "bind" and not anonymous:
            binds.append(f"{volume or mount.source}:{mount.target}" + (":ro" if mount.read_only else ""))
    return binds


def _host_config(containers: Containers, record: Record, options: Any, settings: Any) -> dict[str, Any]:
    return {
        **_NOT_HERE,
        "Devices": [_device(device) for device in options.devices],
        "Dns": list(options.dns),
        "DnsOptions": list(options.dns_option),
        "DnsSearch": list(options.dns_search),
        "ExtraHosts": list(options.add_host) or None,
        "PublishAllPorts": options.publish_all,
        "Binds": _binds(record, options.mounts) or None,
        "LogConfig": {"Type": settings.log_driver, "Config": dict(settings.log_options)},
        **requested_document(containers, options, record.name),
        "RestartPolicy": {"Name": settings.restart, "MaximumRetryCount": settings.restart_maximum},
        "AutoRemove": settings.auto_remove,
        "CapAdd": list(options.cap_add) or None,
        "CapDrop": list(options.cap_drop) or None,
        "CgroupnsMode": options.cgroupns or "private",
        "GroupAdd": list(options.group_add) or None,
        "IpcMode": options.ipc or "private",
        "OomScoreAdj": options.oom_score_adj or 0,
        "PidMode": options.pid,
        "Privileged": options.privileged,
        "ReadonlyRootfs": options.read_only,
        "SecurityOpt": list(options.security_opt) or None,
        "UTSMode": options.uts,
        "UsernsMode": options.userns,
        "ShmSize": options.shm_size,
        "Runtime": "fastdock",
        "CpuShares": options.cpu_shares or 0,
        "Memory": options.memory or 0,
        "NanoCpus": round((options.cpus or 0) * 1e9),
        "CpuPeriod": options.cpu_period or 0,
        "CpuQuota": options.cpu_quota or 0,
        "CpusetCpus": options.cpuset_cpus,
        "CpusetMems": options.cpuset_mems,
        "MemoryReservation": options.memory_reservation or 0,
        "MemorySwap": options.memory_swap if options.memory_swap is not None else 2 * (options.memory or 0),
        "MemorySwappiness": options.memory_swappiness,
        "OomKillDisable": options.oom_kill_disable,
        "PidsLimit": options.pids,
        "BlkioWeight": options.blkio_weight or 0,
        "Init": options.init or None,
        "Sysctls": dict(options.sysctls) or None,
        "Ulimits": [{"Name": name, "Soft": soft, "Hard": hard} for name, soft, hard in options.ulimits]
        or None,
    }

"""What is mounted in a container beside its root, and its devices."""

from __future__ import annotations

import os

from fastdock import _core
from fastdock._errors import SpecError
from fastdock.mount_options import DeviceOption, MountOption
from fastdock.options import Options
from fastdock.store.paths import is_rootless

# mount_setattr(2)
RDONLY, NOSUID, NODEV, NOEXEC = 1, 2, 4, 8
# mount(2)
_PROPAGATION = {"private": 1 << 18, "slave": 1 << 19, "shared": 1 << 20}

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")


def system_mounts(options: Options, own_ids: bool) -> list[_core.Mount]:
    """/proc, /dev, /sys and what is mounted below them."""
    usual = NOSUID | NODEV | NOEXEC
    shared_memory = f"mode=1777,size={options.shm_size}"
    system = RDONLY if not options.privileged else 0
    mounts = [
        _core.Mount(type="proc", source="proc", destination="/proc", attributes_set=usual),
        _core.Mount(
            type="tmpfs", source="tmpfs", destination="/dev", attributes_set=NOSUID, options="mode=755,size=65536k"
        ),
        _core.Mount(
            type="devpts", source="devpts", destination="/dev/pts", attributes_set=NOSUID | NOEXEC,
            options="newinstance,ptmxmode=0666,mode=0620" + (",gid=5" if _has_group_of_terminals() else ""),
        ),
    ]  # fmt: skip
    if (own_ids or is_rootless()) and (options.network == "host" or options.network.startswith("container:")):
        # A user namespace may mount sysfs only for its own network namespace (sysfs_init_fs_context).
        mounts.append(
            _core.Mount(
                type="bind", source="/sys", destination="/sys", recursive=True, recursive_set=RDONLY | usual
            )
        )
    else:
        mounts.append(
            _core.Mount(type="sysfs", source="sysfs", destination="/sys", attributes_set=usual | system)
        )
        mounts += _host_cgroup_view() if options.cgroupns == "host" else _cgroup_view(system)
    if options.ipc == "host":
        # The host's own: a user namespace may mount them only for its own IPC namespace (mqueue_init_fs_context).
        for path in filter(os.path.ismount, ("/dev/mqueue", "/dev/shm")):
            mounts.append(_core.Mount(type="bind", source=path, destination=path))
        return mounts
    mounts.append(
        _core.Mount(type="mqueue", source="mqueue", destination="/dev/mqueue", attributes_set=usual)
    )
    if options.ipc != "none":
        mounts.append(
            _core.Mount(
                type="tmpfs",
                source="shm",
                destination="/dev/shm",
                attributes_set=usual,
                options=shared_memory,
            )
        )
    return mounts


def _has_group_of_terminals() -> bool:
    """Whether group 5 (tty) is a group here: not where a user has its own id alone."""
    if not is_rootless():
        return True
    with open("/proc/self/gid_map", encoding="ascii") as file:
        ranges = [tuple(map(int, line.split())) for line in file]
    return any(first <= 5 < first + count for first, _, count in ranges)


def _host_cgroup_view() -> list[_core.Mount]:
    """cgroupns=host: what the host sees, read-only; cgroup file systems cannot be mounted from inside then."""
    usual = NOSUID | NODEV | NOEXEC
    return [
        _core.Mount(
            type="bind",
            source="/sys/fs/cgroup",
            destination="/sys/fs/cgroup",
            recursive=True,
            recursive_set=RDONLY | usual,
        )
    ]


def _cgroup_view(system: int) -> list[_core.Mount]:
    """The container's own cgroup, read-only: v2, or the v1 memory controller where runtimes look for limits."""
    usual = NOSUID | NODEV | NOEXEC | system
    if _core.cgroup_info()["version"] == 2:
        return [
            _core.Mount(type="cgroup2", source="cgroup", destination="/sys/fs/cgroup", attributes_set=usual)
        ]
    mounts = [
        _core.Mount(
            type="tmpfs",
            source="tmpfs",
            destination="/sys/fs/cgroup",
            options="mode=755",
            attributes_set=usual,
        )
    ]
    mounts += [
        _core.Mount(
            type="cgroup", source="cgroup", destination=f"/sys/fs/cgroup/{'/'.join(h['controllers'])}",
            options=",".join(h["controllers"]), attributes_set=usual,
        )
        for h in _core.cgroup_info()["hierarchies"]
        if h["version"] == 1 and set(h["controllers"]) & {"memory", "cpu", "pids"}
    ]  # fmt: skip
    return mounts


def user_mount(mount: MountOption, own_ids: bool) -> _core.Mount:
    """A bind mount or tmpfs of the user's.  SpecError."""
    if mount.type == "tmpfs":
        return _tmpfs(mount)
    if mount.type == "volume":
        raise SpecError(
            f"volume {mount.source or mount.target}: a named volume needs a container that is kept"
        )
    if not os.path.exists(mount.source) and mount.create_source:
        try:
            os.makedirs(mount.source, exist_ok=True)  # as Docker does for -v
        except OSError as error:
            raise SpecError(f"volume {mount.source}: cannot make this directory: {error.strerror}") from None
    recursive = mount.propagation.startswith("r") or not mount.propagation
    made = _core.Mount(
        type="bind", source=mount.source, destination=mount.target, recursive=mount.recursive, map_ids=own_ids,
        propagation=_PROPAGATION[mount.propagation.removeprefix("r")] if mount.propagation else 0,
    )  # fmt: skip
    if mount.read_only:
        if recursive:
            made.recursive_set = RDONLY
        else:
            made.attributes_set = RDONLY
    return made


def _tmpfs(mount: MountOption) -> _core.Mount:
    words = {"nosuid": NOSUID, "nodev": NODEV, "noexec": NOEXEC, "ro": RDONLY}
    # moby, daemon/oci_linux.go, withMounts: these unless the user says otherwise
    flags, rest = NOSUID | NODEV | NOEXEC | (RDONLY if mount.read_only else 0), []
    for word in filter(None, mount.options.split(",")):
        if word in words:
            flags |= words[word]
        elif word in ("rw", "suid", "dev", "exec"):
            flags &= ~{"rw": RDONLY, "suid": NOSUID, "dev": NODEV, "exec": NOEXEC}[word]
        else:
            rest.append(word)
    if not any(word.startswith("mode=") for word in rest):
        rest.append("mode=1777")
    return _core.Mount(
        type="tmpfs", source="tmpfs", destination=mount.target, options=",".join(rest), attributes_set=flags
    )


def devices_of(options: Options, own_ids: bool) -> list[_core.Device]:
    """Docker's six devices and the user's.  SpecError."""
    devices = [device_of(DeviceOption(f"/dev/{name}", f"/dev/{name}"), own_ids) for name in _DEVICES]
    if options.privileged:
        devices += [device_of(DeviceOption(path, path), own_ids) for path in _host_devices()]
    return devices + [device_of(device, own_ids) for device in options.devices]


def _host_devices() -> list[str]:
    names = [name for name in sorted(os.listdir("/dev")) if name not in (*_DEVICES, "console", "ptmx")]
    paths = [f"/dev/{name}" for name in names]
    return [path for path in paths if os.path.exists(path) and _is_device(path)]


def _is_device(path: str) -> bool:
    mode = os.lstat(path).st_mode & 0o170000
    return mode in (0o020000, 0o060000)


def device_of(device: DeviceOption, own_ids: bool) -> _core.Device:
    """A device of the host's.  SpecError: it is none."""
    try:
        status = os.stat(device.host)
    except OSError as error:
        raise SpecError(f"device {device.host}: {error.strerror}") from None
    kind = {0o020000: "c", 0o060000: "b"}.get(status.st_mode & 0o170000)
    if kind is None:
        raise SpecError(f"device {device.host}: this is not a device")
    return _core.Device(
        path=device.container, kind=kind, major=os.major(status.st_rdev), minor=os.minor(status.st_rdev),
        mode=status.st_mode & 0o777, host_path=device.host if own_ids or is_rootless() else "",
    )  # fmt: skip

"""What the C++ core offers.  Sizes are bytes; paths and names are str (surrogateescape for odd bytes).

Every function may raise ``KernelError`` (a system call failed); those that read archives raise
``ImageError`` for damaged or unsafe ones.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypedDict

from typing_extensions import Buffer

# --- errors (csrc/base) ---

StrPath = str | os.PathLike[str]

def operations() -> list[str]:
    """The text of each operation that an error can name."""

# --- layers (csrc/layer) ---

class LayerResult:
    """A layer that went through."""

    @property
    def digest(self) -> str:
        """``sha256:…`` of the bytes as transferred."""
    @property
    def diff_id(self) -> str:
        """``sha256:…`` of the tar."""
    @property
    def compressed_size(self) -> int: ...
    @property
    def size(self) -> int:
        """Of the tar."""
    @property
    def entries(self) -> int:
        """Files, links, directories and whiteouts in the tar."""
    @property
    def skipped_attributes(self) -> int:
        """Extended attributes that the file system does not take."""
    @property
    def repairs(self) -> bytes:
        """What only the layers below can complete; keep it for ``repair_layers``."""

class LayerWriter:
    """One layer, unpacked into an empty directory as its bytes arrive.

    gzip (any number of members), zstd (any number of frames) and plain tar are told apart by the first bytes.
    After an error the directory holds what was made until then, and the caller removes it.
    """

    def __init__(
        self,
        destination: StrPath,
        *,
        max_entries: int = ...,
        max_size: int = ...,
        max_name: int = ...,
        max_xattr: int = ...,
    ) -> None: ...
    def write(self, data: Buffer) -> None:
        """Takes the next compressed bytes; waits while unpacking is behind (without the GIL)."""
    def finish(self) -> LayerResult:
        """Waits until everything is unpacked."""
    def abort(self) -> None:
        """Stops, from any thread; the directory is left to the caller."""

def apply_layer(
    source_fd: int,
    destination: StrPath,
    *,
    max_entries: int = ...,
    max_size: int = ...,
    max_name: int = ...,
    max_xattr: int = ...,
) -> LayerResult:
    """Unpacks all that can be read from a descriptor."""

def repair_layers(layers: Sequence[tuple[StrPath, bytes]], destination: StrPath) -> int:
    """What a lone layer cannot know: hard links into lower layers, attributes of directories it does not list.

    ``layers`` are (path, ``LayerResult.repairs``) from the bottom to the top of one image.  Fills
    ``destination``, an empty directory, to be stacked above all of them (kept by chain ID), and returns how
    many files that took; 0: nothing is needed, and the directory is to be left out.
    """

def write_diff(
    upper: StrPath, output_fd: int, *, uid_offset: int = 0, gid_offset: int = 0, compression: str = "none"
) -> LayerResult:
    """Writes an overlay's upper directory as an OCI layer, the same bytes for the same files.

    Offsets are taken from owners (the first ids of the container's user namespace).  ``compression`` is none,
    gzip or zstd.
    """

def write_directory_diff(
    before: StrPath,
    after: StrPath,
    output_fd: int,
    *,
    uid_offset: int = 0,
    gid_offset: int = 0,
    compression: str = "none",
) -> LayerResult:
    """Writes the layer that turns the tree ``before`` into the tree ``after``."""

def write_tar(
    directory: StrPath, output_fd: int, *, uid_offset: int = 0, gid_offset: int = 0, compression: str = "none"
) -> LayerResult:
    """Writes a whole directory, without what is mounted in it."""

def recompress(source_fd: int, output_fd: int, compression: str) -> LayerResult:
    """Writes the same tar (gzip, zstd or plain) in another compression: none, gzip or zstd.

    The result's digests and sizes are those of what was written; ``entries`` is 0.
    """

def changes(upper: StrPath, lower: Sequence[StrPath]) -> list[tuple[str, str]]:
    """What an upper directory changes in the layers below (bottom to top): ("A" | "C" | "D", "/path")."""

# --- seccomp and capabilities (csrc/launch) ---

DEFAULT_CAPABILITIES: int
"""The 14 capabilities that Docker gives a container, as a set."""

def default_seccomp(capabilities: int, i386: bool = False, cache: str = "") -> bytes:
    """The BPF program (struct sock_filter[]) of fastdock's own profile.

    :param capabilities: the container's bounding set; some system calls come with a capability.
    :param i386: let 32-bit programs run as well.
    :param cache: a directory of this user alone (0700) where compiled programs are kept; "" compiles anew.
    :raises KernelError: libseccomp or the kernel refuses.
    """

def compile_seccomp(profile: dict[str, object], capabilities: int) -> tuple[bytes, int]:
    """The BPF program of a profile in Docker's or the OCI specification's JSON, and seccomp(2)'s flags for it.

    Docker's ``includes``, ``excludes``, ``archMap`` and ``minKernel`` are honoured for this machine and
    ``capabilities``.  Unknown system calls are skipped, as in runc.

    :raises KernelError: EINVAL, with what is malformed or contradictory in ``path``.
    """

def capability_set(names: list[str]) -> int:
    """The set of the names, with or without ``CAP_``, in any case; ``ALL`` is all of them.

    :raises KernelError: EINVAL, with the unknown name in ``path``.
    """

def capability_names(capabilities: int) -> list[str]:
    """``["CAP_CHOWN", …]``, by number."""

def bounding_set() -> int:
    """What this process may pass on at most."""

def last_capability() -> int:
    """The highest capability that this kernel knows."""

# --- cgroups (csrc/cgroup) ---

class DeviceRule:
    """One rule about devices: type "c", "b" or "a" (both), numbers (None: any), access of "rwm"."""

    type: str
    major: int | None
    minor: int | None
    access: str
    allow: bool
    def __init__(
        self,
        type: str = "a",
        major: int | None = None,
        minor: int | None = None,
        access: str = "rwm",
        allow: bool = False,
    ) -> None: ...

class Limits:
    """What a cgroup may use.  None (or an empty list) leaves a value as it is; -1 is "no limit"."""

    memory: int | None  # bytes
    memory_swap: int | None  # bytes of memory and swap together
    memory_reservation: int | None  # bytes
    kernel_memory: int | None  # bytes; old v1 kernels
    kernel_memory_tcp: int | None  # bytes; v1
    memory_swappiness: int | None  # 0 to 100; v1
    oom_kill_disable: bool | None  # v1
    cpu_shares: int | None  # 2 to 262144
    cpu_quota: int | None  # microseconds per period
    cpu_period: int | None  # microseconds
    cpu_burst: int | None  # microseconds
    cpu_idle: int | None  # 0 or 1
    cpu_rt_runtime: int | None  # microseconds; v1
    cpu_rt_period: int | None  # microseconds; v1
    cpuset_cpus: str | None  # "0-2,7"
    cpuset_mems: str | None
    pids: int | None
    blkio_weight: int | None  # 10 to 1000
    # (major, minor, weight), (major, minor, bytes or operations per second; 0 lifts the limit)
    blkio_weight_device: Sequence[tuple[int, int, int]]
    blkio_read_bps: Sequence[tuple[int, int, int]]
    blkio_write_bps: Sequence[tuple[int, int, int]]
    blkio_read_iops: Sequence[tuple[int, int, int]]
    blkio_write_iops: Sequence[tuple[int, int, int]]
    hugetlb: Mapping[str, int]  # page size ("2MB") -> bytes
    rdma: Sequence[tuple[str, int | None, int | None]]  # device, handles, objects
    network_class: int | None  # v1
    network_priorities: Mapping[str, int]  # interface -> priority; v1
    devices: Sequence[DeviceRule]  # in order; the last that matches decides
    unified: Mapping[str, str]  # file -> value; v2
    def __init__(self, **limits: object) -> None:
        """Raises AttributeError for a name that is none of these, TypeError for a value of another type."""

class CgroupUsage(TypedDict):
    cpu_ns: int
    memory_peak: int | None  # bytes; None: the kernel does not say (v2 before 5.19)
    oom_kills: int

class PressureLine(TypedDict):
    avg10: float  # percent
    avg60: float
    avg300: float
    total_us: int

class Pressure(TypedDict):
    some: PressureLine
    full: PressureLine

class DeviceIo(TypedDict):
    major: int
    minor: int
    read_bytes: int
    write_bytes: int
    reads: int
    writes: int

class HugetlbUse(TypedDict):
    page_size: str
    current: int  # bytes
    limit: int | None
    failures: int

class CgroupStatistics(CgroupUsage):
    cpu_user_ns: int
    cpu_system_ns: int
    periods: int
    throttled_periods: int
    throttled_ns: int
    memory_current: int  # bytes, as all of memory
    memory_limit: int | None
    memory_anon: int
    memory_cache: int
    memory_inactive_file: int
    memory_kernel: int
    swap_current: int
    swap_limit: int | None  # swap alone, on v1 too
    memory_limit_hits: int
    memory_stat: dict[str, int]  # the whole of memory.stat
    pids_current: int
    pids_limit: int | None
    io: list[DeviceIo]
    hugetlb: list[HugetlbUse]
    cpu_pressure: Pressure | None
    memory_pressure: Pressure | None
    io_pressure: Pressure | None

class Cgroup:
    """One container's cgroup in every hierarchy that it needs.  A name, not a resource: it stays until
    remove(), and any process can open() it by its path."""

    @staticmethod
    def create(
        path: str, limits: Limits = ..., *, all_controllers: bool = False, unified: bool = True
    ) -> Cgroup:
        """Makes it; what fails leaves nothing.  A path with a leading "/" starts at the mount points."""
    @staticmethod
    def open(path: str) -> Cgroup:
        """Raises FileNotFoundError."""
    @property
    def path(self) -> str: ...
    @property
    def is_nowhere(self) -> bool:
        """No cgroup may be created here (no privilege): joining does nothing and nothing is counted."""
    @property
    def warnings(self) -> list[str]:
        """What create() or update() could not do and did not fail for."""
    def directories(self) -> dict[str, str]:
        """Controller -> directory; "" for v2."""
    def join_descriptors(self) -> tuple[int, int, list[int]]:
        """(v2 directory for CLONE_INTO_CGROUP, v2 cgroup.procs, v1 tasks files); the caller closes them."""
    def add(self, pid: int) -> None: ...
    def update(self, limits: Limits) -> None:
        """All of the limits or none.  EBUSY: more memory is in use."""
    def make_freezable(self) -> None:
        """Makes what freeze() needs, if it is not there (cgroup v1)."""
    def freeze(self, frozen: bool = True) -> None: ...
    def is_frozen(self) -> bool: ...
    def kill(self, timeout: float = 10.0) -> None:
        """Kills until no process is left.  Raises TimeoutError after so many seconds."""
    def processes(self) -> list[int]: ...
    def usage(self) -> CgroupUsage: ...
    def statistics(self) -> CgroupStatistics: ...
    def watch_oom(self) -> int:
        """A descriptor that is readable when memory ran out; the caller closes it."""
    def remove(self, timeout: float = 2.0) -> None:
        """Waits so many seconds for processes that are dying; EBUSY: some live on."""

class CgroupHierarchy(TypedDict):
    version: int
    controllers: list[str]
    name: str
    mount_point: str
    base: str | None  # where fastdock's cgroups go; None: nowhere, no privilege

class CgroupInfo(TypedDict):
    version: int
    hybrid: bool
    hierarchies: list[CgroupHierarchy]

def cgroup_info() -> CgroupInfo:
    """The cgroup hierarchies of this machine, as fastdock sees them."""

# --- without root (csrc/rootless) ---

def rootless_enter(run_directory: StrPath, program: StrPath, network: bool = True) -> tuple[int, str, str]:
    """Enters the namespaces of this user: the holder's process, pasta or slirp4netns or "", and why there is none."""

def rootless_ask(run_directory: StrPath, request: str) -> str:
    """One request to the holder that runs (csrc/rootless/protocol.h)."""

# --- launching (csrc/launch) ---

class Mount:
    """One mount below the root, or the root itself: csrc/rootfs/mount.h."""

    type: str
    source: str
    destination: str
    options: str
    attributes_set: int
    attributes_clear: int
    recursive_set: int
    recursive_clear: int
    propagation: int
    recursive: bool
    map_ids: bool
    layers: list[str]
    directory: str
    in_memory: bool

    def __init__(self, **values: object) -> None: ...
    def copy(self) -> Mount: ...

class Device:
    """A device node in the container; with ``host_path`` bound from the host instead of made."""

    path: str
    kind: str
    major: int
    minor: int
    mode: int
    uid: int
    gid: int
    host_path: str

    def __init__(self, **values: object) -> None: ...
    def copy(self) -> Device: ...

class LaunchPlan:
    """Everything that decides how a process starts: csrc/launch/plan.h."""

    argv: list[str]
    environment: list[str]
    working_directory: str
    create_working_directory: bool
    root: Mount | None
    attach_point: str
    mounts: list[Mount]
    devices: list[Device]
    masked_paths: list[str]
    read_only_paths: list[str]
    hostname: str
    domainname: str
    raise_loopback: bool
    no_new_privileges: bool
    oom_score_adjustment: int | None
    stdio: Sequence[int]
    apparmor_profile: str
    selinux_label: str
    init: bool
    new_session: bool
    parent_death_signal: int

    def __init__(self, **values: object) -> None: ...
    def copy(self) -> LaunchPlan: ...
    def to_bytes(self) -> bytes:
        """The plan for another process of this very build."""
    def set_user(self, name: str, groups: list[str] = ...) -> None: ...
    def set_umask(self, mask: int) -> None: ...
    def set_namespace(self, name: str, mode: str, path: str = "") -> None:
        """``mode``: host, new or join (``path``: /proc/PID/ns/NAME)."""
    def set_id_maps(self, uids: list[tuple[int, int, int]], gids: list[tuple[int, int, int]]) -> None:
        """Each range as (inside, outside, count)."""
    def set_clock_offset(self, clock: int, seconds: int, nanoseconds: int) -> None: ...
    def set_links(self, links: list[tuple[str, str]]) -> None:
        """Each as (target, path)."""
    def set_sysctls(self, sysctls: list[tuple[str, str]]) -> None: ...
    def set_capabilities(
        self, bounding: int, effective: int, permitted: int, inheritable: int = 0, ambient: int = 0
    ) -> None: ...
    def set_seccomp(self, program: bytes) -> None: ...
    def add_limit(self, resource: int, soft: int, hard: int) -> None: ...
    def set_terminal(self, rows: int, columns: int) -> None: ...

class Session:
    """The containers that this process owns: csrc/launch/session.h."""

    @staticmethod
    def current(state: str, run: str, cgroup_parent: str) -> Session: ...
    def new_id(self) -> str:
        """For ``Container.start``."""
    @staticmethod
    def remove_abandoned(state: str, run: str, cgroup_parent: str) -> int:
        """Removes what dead sessions left; returns how many there were."""

class Container:
    """A container from its start to its end: csrc/launch/container.h."""

    @staticmethod
    def start(
        session: Session,
        plan: LaunchPlan,
        *,
        limits: Limits = ...,
        own_ids: bool = True,
        in_memory: bool = True,
        keep_memory: bool = False,
        outlive_thread: bool = True,
        id: str = "",
        network: Callable[[int], net.AttachPlan] | None = None,
        network_of: str = "",
        held: bool = False,
        held_in_filter: bool = False,
    ) -> Container:
        """``network`` is called with the process's id while that prepares its mounts, and says what it is
        attached to before it executes; ``id`` is ``Session.new_id()``'s.

        ``network_of``: a network namespace's file (``/proc/PID/ns/net``) that the container is born in.

        ``outlive_thread`` False: it is killed when the calling thread ends, and starts 20 us sooner.

        ``held``: all but the execve, which ``begin`` does; the plan's command is not used.  ``held_in_filter``:
        the seccomp filter, which allows what is left to do, is loaded before.
        """
    def begin(
        self, argv: Sequence[str], environment: Sequence[str], working_directory: str, stdio: Sequence[int]
    ) -> None:
        """Starts the program of a held one.  ``environment``: NAME=value, beside the plan's or in place of them;
        ``working_directory`` "": the plan's."""
    @property
    def id(self) -> str: ...
    @property
    def pid(self) -> int: ...
    @property
    def pidfd(self) -> int:
        """Readable when it has ended; stays the container's."""
    @property
    def memory(self) -> int:
        """With ``keep_memory``: the directory with the root's ``upper``, where that is in memory, or -1."""
    def take_terminal(self) -> int:
        """The descriptor of the terminal's other side; the caller's to close."""
    @property
    def warnings(self) -> list[str]: ...
    def wait(self, timeout_ms: int = -1) -> tuple[int, int] | None:
        """(the exit code as a shell gives it, the signal or 0); None when the time is up."""
    def kill(self, signal: int) -> None: ...
    def finish(self) -> tuple[int, int | None, int]:
        """(processor time in ns, peak memory in bytes, processes killed for memory); removes everything."""

def release_kept() -> None:
    """Closes what is kept for further starts: id ranges, layers' mounts, user namespaces."""

def keep_for_ever(value: object) -> None:
    """What would be done when this object goes is not done: the process ends with it."""

def exit(status: int) -> NoReturn:
    """exit(3): ends the process with what C++ does at its end, and without what Python does."""

def parse_json(text: str) -> Any:
    """``json.loads``.  ValueError for what is no JSON (RFC 8259: neither NaN nor lone surrogates)."""

def dump_json(value: object) -> str:
    """``json.dumps`` without blanks, of None, bool, int, float, str, list, tuple and dict.

    TypeError for other types; ValueError for NaN and infinity; UnicodeEncodeError for lone surrogates.
    """

def memory_holds_upper() -> bool:
    """Whether a tmpfs can hold an overlay's upper directory here (Linux 6.6)."""

# --- kept containers (csrc/monitor) ---

IDS_PER_RANGE: int

class MonitorRequest:
    """One container, as its monitor is told: csrc/monitor/request.h."""

    attributes: list[tuple[str, str]]
    files: list[tuple[str, str]]  # (name, text): in the run directory, for binds
    stop_signal: int
    stop_timeout: int  # milliseconds; -1: for ever
    open_stdin: bool
    stdin_once: bool
    remove: bool
    ids: int
    network_of: str  # a file of another's network namespace, in which it is born
    def __init__(
        self, state: str, run: str, cgroup_parent: str, id: str, plan: LaunchPlan, limits: Limits
    ) -> None: ...
    def set_network(self, plan: net.AttachPlan) -> None:
        """Attached at each start, detached at each end."""
    def set_restart(self, name: str, maximum: int) -> None: ...
    def set_log(
        self, driver: str, path: str, maximum_size: int, maximum_files: int, compress: bool
    ) -> None: ...
    def set_health(
        self,
        probe: LaunchPlan,
        *,
        interval: int,
        timeout: int,
        start_period: int,
        start_interval: int,
        retries: int,
    ) -> None:
        """Times are milliseconds."""

def start_monitor(request: MonitorRequest, attached: int = 0) -> tuple[int, list[str], int]:
    """Starts the container; (pid, warnings, descriptor of a control connection, the caller's to close)."""

class Exec:
    """A further process in a running container: csrc/monitor/exec.h."""

    @staticmethod
    def start(
        state: str,
        run: str,
        cgroup_parent: str,
        id: str,
        plan: LaunchPlan,
        target: int,
        own_group: bool = False,
    ) -> Exec: ...
    @property
    def pid(self) -> int: ...
    @property
    def pidfd(self) -> int: ...
    def take_terminal(self) -> int: ...
    def wait(self, timeout_ms: int = -1) -> tuple[int, int] | None:
        """(code, signal) once, or None when the time is up."""
    def kill(self, signal: int) -> None: ...
    def kill_all(self) -> None: ...
    def remove_group(self) -> None: ...

def exec_plan(plan: LaunchPlan) -> LaunchPlan:
    """A plan for further processes in a container that was started by this one."""

def plan_bytes(plan: LaunchPlan) -> bytes: ...
def update_bytes(limits: Limits, restart: str | None = None, maximum: int = 0) -> bytes: ...
def network_update_bytes(network: net.AttachPlan) -> bytes:
    """What a container with a monitor is attached to from its next start on."""

def reserve_ids(state: str, run: str, id: str) -> int:
    """A range of 65,536 ids for a container that is kept: its number."""

def first_id(number: int) -> int: ...
def repair(state: str, run: str, cgroup_parent: str) -> list[str]:
    """Ends what monitors that were killed left; the containers' ids."""

def remove_cgroup(state: str, run: str, cgroup_parent: str, id: str) -> None: ...
def take_run_directory(state: str, run: str, id: str) -> int:
    """A container's run directory, made and locked: the descriptor of it, the caller's to close."""

def live_states(run: str) -> dict[str, bytes]:
    """What each monitor says of its container now: JSON by id (containers/state.py)."""

def write_state(directory: str, json: str, sync: bool) -> None: ...
def append_event(
    directory: str, type: str, action: str, id: str, attributes: Sequence[tuple[str, str]]
) -> None: ...
def watch_files(paths: list[str]) -> int:
    """A descriptor (inotify) that becomes readable when one of the files or directories changes."""

def error_of(number: int, operation: int, hint: int, path: str) -> None:
    """Raises the exception for an error that a monitor reported."""

def open_in_root(root: int, path: str, flags: int, mode: int = 0) -> int:
    """Opens a path as if the directory ``root`` were "/": no link leads out of it.  openat2(2)."""

def remove_tree(path: str) -> None:
    """rm -rf; never follows a link.  A missing path is success."""

def open_view(layers: list[str], directory: str = "", first_id: int = -1) -> int:
    """A detached mount of a container's files that does not run: csrc/rootfs/view.h."""

def connect_in(pid: int, port: int) -> int:
    """A connection to 127.0.0.1:port in the process's network namespace; -1 if there is none."""

def own_files_as(uid: int, gid: int) -> None:
    """From now on what this thread creates belongs to these ids: csrc/monitor/connect.h."""

# --- networks (csrc/net) ---

class net:  # noqa: N801
    """The submodule ``fastdock._core.net`` (a stub file cannot nest modules).  Addresses are text.

    Everything works on the network namespace of the calling thread.
    """

    class Scope:
        """Whose firewall tables: the engine's root decides."""

        def __init__(self, table: str = "fastdock", port_prefix: str = "fdv") -> None: ...
        @property
        def table(self) -> str: ...
        @property
        def port_prefix(self) -> str: ...

    class FirewallRules:
        """Elements of the firewall's sets: of one network or container, or all there are."""

        relay_port: int  # where fastdock-relay listens; 0: it does not run

        def add_bridge(
            self, name: str, *, internal: bool = False, masquerade: bool = True, icc: bool = True
        ) -> None: ...
        def add_sender(self, port: str, mac: str, addresses: list[str]) -> None: ...
        def add_port(
            self,
            protocol: int,
            host: str,
            host_port: int,
            container: str,
            container_port: int,
            relayed: bool = False,
        ) -> None: ...
        def add_egress(self, source: str, allowed: list[str]) -> None: ...

    class AttachPlan:
        """What a container gets: devices, addresses, firewall elements, names."""

        firewall: net.FirewallRules
        sysctls: list[tuple[str, str]]  # of its devices: (path below /proc/sys, value); set as a whole
        resolver_socket: str
        resolver_record: str
        def __init__(self, scope: net.Scope) -> None: ...
        def add_bridge_endpoint(
            self,
            bridge: str,
            host_name: str,
            name: str,
            mac: str,
            addresses: list[str],
            gateways: list[str],
            *,
            mtu: int = 0,
            isolated: bool = False,
        ) -> None: ...
        def add_macvlan_endpoint(
            self,
            parent: str,
            name: str,
            mac: str,
            addresses: list[str],
            gateways: list[str],
            *,
            mtu: int = 0,
            mode: int = 0,
        ) -> None: ...

    @staticmethod
    def rebuild_firewall(scope: net.Scope, rules: net.FirewallRules) -> None:
        """Makes both tables anew, with exactly these elements, in one transaction."""
    @staticmethod
    def firewall_is_current(scope: net.Scope) -> bool:
        """Whether both tables are there and of this version."""
    @staticmethod
    def add_rules(scope: net.Scope, rules: net.FirewallRules) -> None:
        """Adds elements; ENOENT when the tables are gone."""
    @staticmethod
    def remove_rules(scope: net.Scope, rules: net.FirewallRules) -> None:
        """Removes elements; those already gone are success."""
    @staticmethod
    def replace_rules(scope: net.Scope, gone: net.FirewallRules, now: net.FirewallRules) -> None:
        """Removes elements and adds others, at once."""
    @staticmethod
    def allow_destination(scope: net.Scope, source: str, destination: str, seconds: int) -> None:
        """Lets a container with an egress policy reach one address for some seconds."""
    @staticmethod
    def remove_firewall(scope: net.Scope) -> None:
        """Removes both tables."""
    @staticmethod
    def ensure_bridge(name: str, addresses: list[str], mac: str = "", mtu: int = 0) -> int:
        """Creates a bridge or brings it into this state; its interface index."""
    @staticmethod
    def find_link(name: str) -> int:
        """A device's index; ENODEV when there is none."""
    @staticmethod
    def ensure_vlan(name: str, parent: str, number: int) -> None:
        """The device of a VLAN on another device, unless it is there."""
    @staticmethod
    def remove_link(name: str) -> None:
        """Removes a device; a missing one is success."""
    @staticmethod
    def used_prefixes() -> list[str]:
        """Prefixes that this machine has routes to."""
    @staticmethod
    def attach(plan: net.AttachPlan, namespace_fd: int, process: int = -1) -> None:
        """Gives the network namespace its networks; on failure nothing is left behind.

        ``process`` is a pidfd: when it ends, the resolver forgets the container.
        """
    @staticmethod
    def attach_process(plan: net.AttachPlan, pid: int) -> None:
        """attach() to the namespace of a process."""
    @staticmethod
    def add_default_routes(pid: int, device: str, gateways: Sequence[str]) -> None:
        """Default routes of a running container through a device that it has."""
    @staticmethod
    def attach_loopback(namespace_fd: int) -> None:
        """Only the loopback device."""
    @staticmethod
    def detach(plan: net.AttachPlan) -> None:
        """Undoes attach(); good at any time, and twice."""
    @staticmethod
    def release(plan: net.AttachPlan) -> None:
        """The same for a container that has ended: its devices end by themselves."""
    @staticmethod
    def register_container(resolver: str, record: str) -> None:
        """Replaces the record of a container that the resolver knows."""
    @staticmethod
    def reconnect_resolver(plan: net.AttachPlan, pid: int) -> None:
        """Gives a running container to a resolver that was started after it."""
    @staticmethod
    def unregister_container(resolver: str, id: str) -> None:
        """Makes the resolver forget a container."""
    @staticmethod
    def list_registered(resolver: str) -> str:
        """The ids that the resolver knows, a line each."""

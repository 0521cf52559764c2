"""Real processes under fastdock's default seccomp program: what is refused, and what works."""

from __future__ import annotations

import errno
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fastdock import _core

pytestmark = pytest.mark.kernel

# Loads the program in the file argv[1] for itself, then runs the rest of argv.
LOADER = """
import ctypes, os, sys
program = open(sys.argv[1], "rb").read()
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
filter = Program(len(program) // 8, program)
if libc.syscall(317, 1, 0, ctypes.byref(filter)) != 0:  # seccomp(SECCOMP_SET_MODE_FILTER)
    sys.exit(f"seccomp: {os.strerror(ctypes.get_errno())}")
os.execvp(sys.argv[2], sys.argv[2:])
"""

# Makes the system calls of the JSON in argv[1], and prints what each answered: a number, or -errno.
CALLER = """
import ctypes, json, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
answers = []
for number, *arguments in json.loads(sys.argv[1]):
    ctypes.set_errno(0)
    answer = libc.syscall(ctypes.c_long(number), *[ctypes.c_ulong(a) for a in arguments])
    answers.append(answer if answer != -1 else -ctypes.get_errno())
print(json.dumps(answers))
"""

Runner = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def under_filter(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """Runs a command under the default program for some capabilities (Docker's, unless told otherwise)."""
    directory = tmp_path_factory.mktemp("seccomp")

    def run(
        *command: str,
        capabilities: int = _core.DEFAULT_CAPABILITIES,
        i386: bool = False,
        timeout: float = 240,
        **options: object,
    ) -> subprocess.CompletedProcess[str]:
        file = directory / f"{capabilities:x}-{i386}"
        if not file.exists():
            file.write_bytes(_core.default_seccomp(capabilities, i386))
        return subprocess.run(  # type: ignore[call-overload, no-any-return]
            [sys.executable, "-c", LOADER, str(file), *command],
            capture_output=True,
            text=True,
            timeout=timeout,
            **options,
        )

    return run


def answers(under_filter: Runner, calls: list[list[int]], **options: object) -> list[int]:
    done = under_filter(sys.executable, "-c", CALLER, json.dumps(calls), **options)
    assert done.returncode == 0, done.stderr
    result: list[int] = json.loads(done.stdout)
    return result


# Numbers of x86-64; every call has arguments with which it fails in another way, or harmlessly works, when it
# is let through.
REFUSED = {
    "mount": [165, 0, 0, 0, 0, 0],
    "umount2": [166, 0, 0],
    "pivot_root": [155, 0, 0],
    "swapon": [167, 0, 0],
    "swapoff": [168, 0],
    "reboot": [169, 0, 0, 0, 0],
    "sethostname": [170, 0, 0],
    "init_module": [175, 0, 0, 0],
    "delete_module": [176, 0, 0],
    "finit_module": [313, 1 << 31, 0, 0],
    "quotactl": [179, 0, 0, 0, 0],
    "iopl": [172, 0],
    "ioperm": [173, 0, 0, 0],
    "kexec_load": [246, 0, 0, 0, 0],
    "kexec_file_load": [320, 0, 0, 0, 0, 0],
    "unshare": [272, 0x10000000],
    "setns": [308, 1 << 31, 0],
    "clone into a user namespace": [56, 0x10000011, 0, 0, 0, 0],
    "bpf": [321, 0, 0, 0],
    "perf_event_open": [298, 0, 0, 0, 0, 0],
    "add_key": [248, 0, 0, 0, 0, 0],
    "request_key": [249, 0, 0, 0, 0],
    "keyctl": [250, 0, 0, 0, 0, 0],
    "userfaultfd": [323, 0],
    "io_uring_setup": [425, 0, 0],
    "io_uring_enter": [426, 0, 0, 0, 0, 0, 0],
    "io_uring_register": [427, 0, 0, 0, 0],
    "open_by_handle_at": [304, 0, 0, 0],
    "open_tree": [428, 0, 0, 0],
    "move_mount": [429, 0, 0, 0, 0, 0],
    "fsopen": [430, 0, 0],
    "fsconfig": [431, 0, 0, 0, 0, 0],
    "fsmount": [432, 0, 0, 0],
    "fspick": [433, 0, 0, 0],
    "mount_setattr": [442, 0, 0, 0, 0, 0],
    "open_tree_attr": [467, 0, 0, 0, 0, 0],
    "acct": [163, 0],
    "settimeofday": [164, 0, 0],
    "clock_settime": [227, 0, 0],
    "syslog": [103, 10, 0, 0],
    "vhangup": [153],
    "fanotify_init": [300, 0, 0],
    "personality READ_IMPLIES_EXEC": [135, 0x0400000],
    "socket AF_VSOCK": [41, 40, 1, 0],
    "socket AF_VSOCK with a high bit": [41, 40 | 1 << 32, 1, 0],
    "set_mempolicy": [238, 99, 0, 0],
}

NOT_THERE = {
    "clone3": [435, 0, 0],
    "_sysctl": [156, 0],
    "uselib": [134, 0],
    "create_module": [174, 0, 0],
    "lookup_dcookie": [212, 0, 0, 0],
    "sysfs": [139, 3],
    "newer than fastdock": [499],
    "x32 getpid": [0x40000000 + 39],
    "x32 execve": [0x40000000 + 520, 0, 0, 0],
}


def test_calls_that_reach_out_of_the_container_are_refused(under_filter: Runner) -> None:
    """As root, with every capability held: the filter alone refuses."""
    got = dict(zip(REFUSED, answers(under_filter, list(REFUSED.values())), strict=True))
    assert {name: answer for name, answer in got.items() if answer != -errno.EPERM} == {}


def test_obsolete_and_foreign_calls_do_not_exist(under_filter: Runner) -> None:
    got = dict(zip(NOT_THERE, answers(under_filter, list(NOT_THERE.values())), strict=True))
    assert {name: answer for name, answer in got.items() if answer != -errno.ENOSYS} == {}


def test_the_kernels_crypto_is_not_reachable(under_filter: Runner) -> None:
    """CVE-2026-31431: AF_ALG; programs see a kernel without it."""
    calls = [[41, 38 | high, 5, 0] for high in (0, 1 << 32, 1 << 63)]
    assert answers(under_filter, calls) == [-errno.EAFNOSUPPORT] * 3


def test_a_capability_opens_its_calls(under_filter: Runner) -> None:
    capabilities = _core.capability_set(["SYS_ADMIN", "SYS_TIME", "SYS_CHROOT"])
    # EFAULT, EINVAL: the kernel itself looked at the arguments.
    calls = [REFUSED["mount"], REFUSED["fsopen"], [227, 999, 0], [435, 0, 0], [161, 0]]
    got = answers(under_filter, calls, capabilities=capabilities)
    assert not {-errno.EPERM, -errno.ENOSYS} & set(got)


@pytest.mark.parametrize("request_number", [0x5412, 0x541C], ids=["TIOCSTI", "TIOCLINUX"])
@pytest.mark.parametrize("high", [0, 1 << 32, 0xFFFFFFFF << 32])
def test_nothing_is_typed_into_the_callers_terminal(
    under_filter: Runner, request_number: int, high: int
) -> None:
    """CVE-2017-5226, CVE-2019-10063: the kernel looks at the request's low 32 bits only."""
    master, slave = pty.openpty()
    try:
        call = [16, 0, request_number | high, 0]
        done = under_filter(sys.executable, "-c", CALLER, json.dumps([call]), stdin=slave)
        assert json.loads(done.stdout) == [-errno.EPERM]
    finally:
        os.close(master)
        os.close(slave)


# mov eax, 20 (getpid of i386); int 0x80; ret
INT_80 = """
import ctypes, mmap
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(b"\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3")
call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
import os
print(call(), os.getpid())
"""


def test_32_bit_calls_are_refused_unless_asked_for(under_filter: Runner) -> None:
    """The door that a filter for x86-64 numbers alone leaves open: int 0x80 has other numbers."""
    answer, _ = under_filter(sys.executable, "-c", INT_80).stdout.split()
    assert int(answer) == -errno.ENOSYS
    answer, pid = under_filter(sys.executable, "-c", INT_80, i386=True).stdout.split()
    assert answer == pid


def test_harmless_calls_work(under_filter: Runner) -> None:
    calls = [
        [39],  # getpid
        [135, 0xFFFFFFFF],  # personality: ask
        [135, 0x40000],  # ADDR_NO_RANDOMIZE
        [135, 0],
        [41, 1, 1, 0],  # socket AF_UNIX
        [41, 2, 2, 0],  # socket AF_INET
        [319, 0, 0],  # memfd_create: EFAULT
        [451, 1 << 31, 0, 0, 0],  # cachestat: EBADF
        [462, 0, 0, 0],  # mseal of nothing
        [290, 0, 0],  # eventfd2
    ]
    # Older kernels lack some of them; the filter must not make a difference.
    free = subprocess.run([sys.executable, "-c", CALLER, json.dumps(calls)], capture_output=True, check=True)
    assert answers(under_filter, calls)[1:] == json.loads(free.stdout)[1:]


def test_threads_processes_and_pools_work(under_filter: Runner) -> None:
    """glibc falls back from clone3 to clone for threads, fork, posix_spawn."""
    program = """
import concurrent.futures, multiprocessing, subprocess, threading
thread = threading.Thread(target=lambda: None); thread.start(); thread.join()
with concurrent.futures.ProcessPoolExecutor(2) as pool: assert list(pool.map(abs, [-1, -2])) == [1, 2]
assert subprocess.run(["true"]).returncode == 0
lock = multiprocessing.Lock()
with lock: print("fine")
"""
    done = under_filter(sys.executable, "-c", program)
    assert (done.stdout, done.stderr) == ("fine\n", "")


def test_debuggers_work(under_filter: Runner) -> None:
    done = under_filter("strace", "-f", "-e", "trace=execve", "sh", "-c", "true; /bin/true")
    assert done.returncode == 0
    assert "execve" in done.stderr


def test_the_program_is_the_same_each_time(tmp_path: Path) -> None:
    """From the cache, and compiled anew."""
    cache = str(tmp_path / "cache")
    first = _core.default_seccomp(_core.DEFAULT_CAPABILITIES, cache=cache)
    assert _core.default_seccomp(_core.DEFAULT_CAPABILITIES, cache=cache) == first
    assert _core.default_seccomp(_core.DEFAULT_CAPABILITIES) == first
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_profile_of_ones_own_is_obeyed(under_filter: Runner, tmp_path: Path) -> None:
    profile: dict[str, object] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            {"names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EXDEV},
            {
                "names": ["lseek", "mseal"],
                "action": "SCMP_ACT_ERRNO",
                "args": [{"index": 0, "value": 77, "op": "SCMP_CMP_EQ"}],
            },
        ],
    }
    program, flags = _core.compile_seccomp(profile, 0)
    assert flags == 4  # SPEC_ALLOW, as runc without a list of flags
    file = tmp_path / "program"
    file.write_bytes(program)
    calls = [[110], [8, 77, 0, 0], [8, 78, 0, 0], [462, 77, 0, 0]]
    done = subprocess.run(
        [sys.executable, "-c", LOADER, str(file), sys.executable, "-c", CALLER, json.dumps(calls)],
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout) == [-errno.EXDEV, -errno.EPERM, -errno.EBADF, -errno.EPERM]

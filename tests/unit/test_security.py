"""Seccomp profiles in Docker's and OCI's JSON, and capability names: what is taken and what is refused."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdock import _core
from fastdock._errors import KernelError

ALLOW = 0x7FFF0000
EPERM = 0x00050001
ENOSYS = 0x00050026
READ, LSEEK, CHROOT = 0, 8, 161


def run(program: bytes, number: int, *arguments: int, arch: int = 0xC000003E) -> int:
    """What the kernel's interpreter would answer."""
    code = list(struct.iter_unpack("<HBBI", program))
    data = struct.pack("<iIQ6Q", number, arch, 0, *arguments, *[0] * (6 - len(arguments)))
    a = at = 0
    while True:
        operation, yes, no, k = code[at]
        match operation:
            case 0x20:
                (a,) = struct.unpack_from("<I", data, k)
            case 0x54:
                a &= k
            case 0x06:
                return int(k)
            case 0x05:
                at += k
            case _:
                at += yes if {0x15: a == k, 0x25: a > k, 0x35: a >= k, 0x45: a & k != 0}[operation] else no
        at += 1


def compile_rules(*rules: dict[str, Any], capabilities: int = 0, **profile: Any) -> bytes:
    program, _ = _core.compile_seccomp(
        {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": list(rules), **profile}, capabilities
    )
    return program


def allow(*names: str, **more: Any) -> dict[str, Any]:
    return {"names": list(names), "action": "SCMP_ACT_ALLOW", **more}


def test_includes_and_excludes() -> None:
    chroot = _core.capability_set(["SYS_CHROOT"])
    with_capability = allow("chroot", includes={"caps": ["CAP_SYS_CHROOT"]})
    without = allow("lseek", excludes={"caps": ["CAP_SYS_CHROOT"]})
    for capabilities, answers in ((chroot, (ALLOW, EPERM)), (0, (EPERM, ALLOW))):
        program = compile_rules(with_capability, without, allow("openat2"), capabilities=capabilities)
        assert (run(program, CHROOT), run(program, LSEEK)) == answers


@pytest.mark.parametrize(
    ("condition", "applies"),
    [
        ({"includes": {"minKernel": "4.8"}}, True),
        ({"includes": {"minKernel": "99.0"}}, False),
        ({"excludes": {"minKernel": "99.0"}}, True),
        ({"excludes": {"minKernel": "4.8"}}, False),
        ({"includes": {"arches": ["amd64", "arm64"]}}, True),
        ({"includes": {"arches": ["s390x"]}}, False),
        ({"excludes": {"arches": ["s390x"]}}, True),
        ({"excludes": {"arches": ["amd64"]}}, False),
        ({"includes": {"arches": ["amd64"], "caps": ["CAP_SYS_BOOT"]}}, False),
        ({"includes": None, "excludes": {}}, True),
    ],
)
def test_conditions_of_a_rule(condition: dict[str, Any], applies: bool) -> None:
    program = compile_rules(allow("read", **condition), allow("write"))
    assert run(program, READ) == (ALLOW if applies else EPERM)


def test_arch_map_takes_this_machines_entry() -> None:
    program = compile_rules(
        allow("read"),
        archMap=[
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
            {"architecture": "SCMP_ARCH_RISCV64", "subArchitectures": None},
        ],
    )
    assert run(program, READ) == ALLOW
    assert run(program, 3, arch=0x40000003) == ALLOW
    assert run(program, 63, arch=0xC00000B7) == 0, "arm64 is killed"


def test_older_spelling_of_one_name() -> None:
    program = compile_rules({"name": "read", "action": "SCMP_ACT_ALLOW", "args": None})
    assert run(program, READ) == ALLOW


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"defaultAction": "SCMP_ACT_MAYBE"}, "unknown action SCMP_ACT_MAYBE"),
        ({"defaultAction": None}, "no defaultAction"),
        ({"defaultAction": 5}, "defaultAction is not a string"),
        ({"defaultErrnoRet": -1}, "defaultErrnoRet is out of range"),
        ({"defaultErrnoRet": True}, "defaultErrnoRet is not a number"),
        ({"defaultErrnoRet": 5000}, "the default action"),
        ({"architectures": ["SCMP_ARCH_Z80"]}, "unknown architecture SCMP_ARCH_Z80"),
        ({"architectures": ["SCMP_ARCH_X86"], "archMap": [{}]}, "both architectures and archMap"),
        ({"flags": ["SECCOMP_FILTER_FLAG_NONE"]}, "unknown flag SECCOMP_FILTER_FLAG_NONE"),
        ({"syscalls": {}}, "syscalls is not a list"),
        ({"syscalls": [5]}, "a rule is not an object"),
        ({"syscalls": [{"action": "SCMP_ACT_ALLOW"}]}, "a rule without names"),
        ({"syscalls": [allow(5)]}, "a name is not a string"),  # type: ignore[arg-type]
        ({"syscalls": [allow("read", errnoRet=5)]}, "read"),
        ({"syscalls": [allow("read", args=[{"index": 6, "op": "SCMP_CMP_EQ"}])]}, "index is out of range"),
        (
            {"syscalls": [allow("read", args=[{"index": 0, "value": 1 << 64, "op": "SCMP_CMP_EQ"}])]},
            "value is out of range",
        ),
        ({"syscalls": [allow("read", args=[{"index": 0, "op": "=="}])]}, "unknown operator =="),
        ({"syscalls": [allow("read", includes={"minKernel": "new"})]}, "minKernel new"),
        ({"syscalls": [{"names": ["write"], "action": "SCMP_ACT_NOTIFY"}]}, "SCMP_ACT_NOTIFY for write"),
    ],
)
def test_malformed_profiles_are_refused_by_name(change: dict[str, Any], what: str) -> None:
    with pytest.raises(KernelError) as caught:
        _core.compile_seccomp({"defaultAction": "SCMP_ACT_ERRNO", **change}, 0)
    assert caught.value.path == what


def test_flags() -> None:
    def flags(**profile: Any) -> int:
        return _core.compile_seccomp({"defaultAction": "SCMP_ACT_ERRNO", **profile}, 0)[1]

    assert flags() == 4
    assert flags(flags=[]) == 0
    assert flags(flags=["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"]) == 2
    notify = [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]
    assert flags(flags=["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"], syscalls=notify) == 8 | 32


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=4), children, max_size=3)
    ),
    max_leaves=6,
)


@given(
    st.fixed_dictionaries(
        {"defaultAction": st.sampled_from(["SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW"]) | json_values},
        optional={
            "syscalls": st.lists(
                st.fixed_dictionaries(
                    {},
                    optional={
                        "names": st.lists(
                            st.sampled_from(["read", "mseal", "bogus"]) | json_values, max_size=2
                        ),
                        "action": st.sampled_from(["SCMP_ACT_ALLOW", "SCMP_ACT_KILL"]) | json_values,
                        "args": st.lists(json_values, max_size=2) | json_values,
                        "includes": json_values,
                        "excludes": json_values,
                        "errnoRet": json_values,
                    },
                ),
                max_size=3,
            )
            | json_values,
            "archMap": json_values,
            "flags": json_values,
            "defaultErrnoRet": json_values,
        },
    )
)
def test_any_json_is_a_program_or_a_clear_error(profile: dict[str, object]) -> None:
    program = b""
    error: KernelError | None = None
    try:
        program, _ = _core.compile_seccomp(profile, 0)
    except KernelError as caught:
        error = caught
    if error is None:
        assert run(program, READ) >= 0
    else:
        assert error.operation == "compile the seccomp profile"
        assert error.path


def test_capability_names() -> None:
    assert _core.capability_names(_core.DEFAULT_CAPABILITIES)[0] == "CAP_CHOWN"
    assert len(_core.capability_names(_core.DEFAULT_CAPABILITIES)) == 14
    assert _core.capability_set(["sys_admin"]) == 1 << 21
    assert _core.capability_set(["ALL"]) == (1 << 41) - 1
    assert _core.bounding_set() & ~_core.capability_set(["all"]) == 0
    assert 37 <= _core.last_capability() < 64
    with pytest.raises(KernelError) as caught:
        _core.capability_set(["CHOWN", "CAP_NONSENSE"])
    assert caught.value.path == "CAP_NONSENSE"


def test_the_default_profile_refuses_and_allows() -> None:
    program = _core.default_seccomp(_core.DEFAULT_CAPABILITIES)
    assert run(program, READ) == ALLOW
    assert run(program, CHROOT) == ALLOW
    assert run(program, 165) == EPERM, "mount"
    assert run(program, 435) == ENOSYS, "clone3"
    assert run(program, 16, 0, 1 << 32 | 0x5412) == EPERM, "TIOCSTI"

"""``fastdock info`` and ``fastdock version``."""

from __future__ import annotations

import json
import os
import platform
import sys
from typing import Any, NamedTuple

import click

from fastdock import __version__, _core
from fastdock.cli.common import Command


class Finding(NamedTuple):
    """One thing that a machine has or lacks."""

    name: str
    present: bool
    detail: str
    advice: str = ""
    """What to do where it is missing."""


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return None


def _release() -> tuple[int, int]:
    words = platform.release().split("-")[0].split(".")
    return int(words[0]), int(words[1])


def findings() -> list[Finding]:
    """What this kernel and machine offer, and what is missing, each with what to do about it."""
    return [
        _root(),
        *_kernel(),
        *_user_namespaces(),
        *_cgroups(),
        *(_rootless() if os.geteuid() != 0 else ()),
        *_file_systems(),
        _seccomp(),
        *_security_modules(),
    ]


def _root() -> Finding:
    return Finding("root", os.geteuid() == 0, f"uid {os.geteuid()}",
                   "works without it: what differs is below, and in docs/rootless.md")  # fmt: skip


def _kernel() -> list[Finding]:
    have, text = _release(), platform.release()
    return [
        Finding("kernel", have >= (5, 19), text, "Linux 5.19 or later is needed: overlayfs on id-mapped layers"),
        Finding(
            "overlay layers by descriptor", have >= (6, 15), text,
            "works without it, a little slower (Linux 6.15)",
        ),
        Finding("memory for what containers write", _core.memory_holds_upper(), text,
                "works without it, on disk (Linux 6.6 gives tmpfs the attributes that overlayfs needs)"),
    ]  # fmt: skip


def _user_namespaces() -> list[Finding]:
    most = _read("/proc/sys/user/max_user_namespaces")
    apparmor = _read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
    clone = _read("/proc/sys/kernel/unprivileged_userns_clone")
    return [
        Finding("user namespaces", os.path.exists("/proc/self/ns/user") and most != "0", f"at most {most}",
                "sysctl user.max_user_namespaces=15000; until then use --userns=host"),
        Finding("user namespaces for all users", apparmor != "1" and clone != "0",
                "unrestricted" if apparmor != "1" and clone != "0" else "restricted to root",
                "only for use without root: sysctl kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu 24.04), "
                "kernel.unprivileged_userns_clone=1 (Debian)"),
    ]  # fmt: skip


def _cgroups() -> list[Finding]:
    info = _core.cgroup_info()
    found: list[Finding] = [
        Finding("cgroup version", True, f"{info['version']}{' (hybrid)' if info['hybrid'] else ''}")
    ]
    have = {name for hierarchy in info["hierarchies"] for name in hierarchy["controllers"]}
    ours = {name for each in info["hierarchies"] if each["base"] is not None for name in each["controllers"]}
    io = "io" if info["version"] == 2 else "blkio"
    for name in ("memory", "cpu", "pids", "cpuset", io, "hugetlb"):
        advice = (
            f"limits of {name} are refused; boot with cgroup_enable={name}, or delegate it to this cgroup"
        )
        if name in have - ours:
            advice = f"limits of {name} are refused: on cgroup v2, systemd-run --user --scope -p Delegate=yes"
        detail = "available" if name in ours else "not this user's" if name in have else "absent"
        found.append(Finding(f"cgroup {name}", name in ours, detail, advice))
    return found


def _rootless() -> list[Finding]:
    """What an ordinary user's containers need beside the kernel."""
    import pwd
    import shutil

    try:
        name = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        name = str(os.geteuid())
    ranges = [_ranges(file, name) for file in ("/etc/subuid", "/etc/subgid")]
    mappers = [program for program in ("newuidmap", "newgidmap") if shutil.which(program)]
    ways = [program for program in ("pasta", "slirp4netns") if shutil.which(program)]
    return [
        Finding("subordinate ids", min(ranges) > 0, f"{min(ranges)} in /etc/subuid and /etc/subgid",
                f"one id alone without: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}"),
        Finding("programs that map ids", len(mappers) == 2, ", ".join(mappers) or "absent",
                "one id alone without: apt-get install uidmap"),
        Finding("networks without root", bool(ways), ", ".join(ways) or "absent",
                "only --network none and host without: apt-get install slirp4netns (or passt)"),
    ]  # fmt: skip


def _ranges(file: str, name: str) -> int:
    """How many ids the user has there: lines of ``NAME-OR-UID:FIRST:COUNT``, subuid(5)."""
    fields = [line.split(":") for line in (_read(file) or "").splitlines()]
    counts = [each[2] for each in fields if len(each) == 3 and each[0] in (name, str(os.geteuid()))]
    return sum(int(count) for count in counts if count.isdecimal())


def _file_systems() -> list[Finding]:
    known = {line.split()[-1] for line in (_read("/proc/filesystems") or "").splitlines()}
    return [
        Finding(name, name in known, "in /proc/filesystems", f"modprobe {name}")
        for name in ("overlay", "tmpfs", "mqueue")
    ]  # fmt: skip


def _seccomp() -> Finding:
    actions = _read("/proc/sys/kernel/seccomp/actions_avail")
    return Finding(
        "seccomp", actions is not None, actions or "absent", "the kernel needs CONFIG_SECCOMP_FILTER"
    )


def _security_modules() -> list[Finding]:
    modules = (_read("/sys/kernel/security/lsm") or "").split(",")
    return [
        Finding(name, name in modules, "active" if name in modules else "not active", "optional")
        for name in ("apparmor", "selinux")
    ]


def as_document() -> dict[str, Any]:
    return {
        "Version": __version__,
        "KernelVersion": platform.release(),
        "Architecture": platform.machine(),
        "CgroupVersion": str(_core.cgroup_info()["version"]),
        "Features": {item.name: {"Present": item.present, "Detail": item.detail} for item in findings()},
    }


@click.command("info", cls=Command)
@click.option("--format", "-f", "form", help="'json' or a Go template.")
@click.pass_context
def info_command(context: click.Context, form: str | None) -> None:
    """What this kernel and machine offer, and what is missing."""
    if form == "json":
        click.echo(json.dumps(as_document()))
        return
    if form:
        from fastdock.cli.template import Template

        click.echo(Template(form).render(as_document()))
        return
    click.echo(f"fastdock {__version__} on Linux {platform.release()} ({platform.machine()})")
    for item in findings():
        click.echo(f" {'yes' if item.present else ' no'}  {item.name}: {item.detail}")
        if not item.present and item.advice:
            click.echo(f"      -> {item.advice}")


@click.command("version", cls=Command)
@click.option("--format", "-f", "form", help="'json' or a Go template.")
def version_command(form: str | None) -> None:
    """Show the version."""
    document = {"Version": __version__, "Python": platform.python_version(), "Kernel": platform.release()}
    if form == "json":
        click.echo(json.dumps(document))
    elif form:
        from fastdock.cli.template import Template

        click.echo(Template(form).render(document))
    else:
        click.echo(f"fastdock {__version__}\nPython {sys.version.split()[0]}\nLinux {platform.release()}")

"""Virtual machines: the same program as the only one above a Linux kernel of its own."""

from __future__ import annotations

import glob
import os
import re
import select
import shlex
import signal
import subprocess
import time
from pathlib import Path

from ..spawn import CommandFailed, spawn
from ..workload import WORKLOADS, Workload
from .base import Missing, Peer, Running, find_program, first_line

__all__ = ["CloudHypervisor", "Firecracker", "MicrovmEmulated", "MicrovmKvm", "Q35Emulated", "Q35Kvm"]

_BOOT_LIMIT = 25.0  # seconds: on some machines KVM is there and a stock kernel hangs in it
_EMULATED_LIMIT = 90.0  # seconds: software emulation on a busy machine
_INIT = """#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox ifconfig lo 127.0.0.1 up
export PATH=/bin:/usr/bin
/bin/busybox grep -E '^Mem(Total|Free):' /proc/meminfo
{command}
/bin/busybox reboot -f
"""


def _archive(root: Path, init: str, target: Path) -> None:
    """An initramfs of the root file system and an /init (newc format, kernel's buffer-format.rst)."""
    entries: list[tuple[str, int, bytes, tuple[int, int]]] = []
    for path in sorted(root.rglob("*")):
        name, mode = str(path.relative_to(root)), path.lstat().st_mode
        if path.is_symlink():
            entries.append((name, mode, os.readlink(path).encode(), (0, 0)))
        elif path.is_dir() or path.is_file():
            entries.append((name, mode, b"" if path.is_dir() else path.read_bytes(), (0, 0)))
    entries += [
        ("dev/console", 0o20600, b"", (5, 1)),
        ("init", 0o100755, init.encode(), (0, 0)),
        ("TRAILER!!!", 0, b"", (0, 0)),
    ]
    with target.open("wb") as out:
        for number, (name, mode, data, device) in enumerate(entries):
            raw = name.encode() + b"\0"
            fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(raw), 0)
            out.write(
                b"070701" + b"".join(b"%08x" % v for v in fields) + raw + b"\0" * (-(110 + len(raw)) % 4)
            )
            out.write(data + b"\0" * (-len(data) % 4))


def _kernel() -> str:
    kernels = sorted(glob.glob("/boot/vmlinuz-*"))
    if not kernels:
        raise Missing("no kernel in /boot: apt-get install linux-image-cloud-amd64")
    return kernels[-1]


class _Qemu(Peer):
    kind = "vm"
    every = 5
    machine = ""
    memory = 256  # MiB
    accelerator = ""

    def open(self) -> str:
        self._program, self._kernel = find_program("qemu-system-x86_64"), _kernel()
        version = f"{first_line(self._program, '--version')}, kernel {Path(self._kernel).name.removeprefix('vmlinuz-')}"
        if self.accelerator == "kvm" and not os.access("/dev/kvm", os.R_OK | os.W_OK):
            raise Missing("no /dev/kvm")
        # On some machines KVM is there, and a stock kernel does not come up in it.
        try:
            self.prepare(WORKLOADS["hello"])
            self.run()
        except CommandFailed as error:
            raise Missing(" ".join(str(error).split())[:200]) from error
        return f"{version}, accelerator {self.accelerator}"

    def prepare(self, workload: Workload) -> None:
        self._initrd, self._expect = self.scratch / f"{workload.name}.cpio", workload.expect
        _archive(self.rootfs(workload), _INIT.format(command=shlex.join(workload.inside())), self._initrd)

    def _argv(self) -> list[str]:
        # vmrun's lesson: TCG's time stamp counter is the host's; a guest that calibrates it on a busy host may hang.
        timing = (
            f" no_timer_check tsc=reliable tsc_early_khz={_tsc_khz()}" if self.accelerator == "tcg" else ""
        )
        cpu = "max" if self.accelerator == "tcg" else "host"
        return [
            self._program,
            "-M",
            self.machine,
            "-accel",
            self.accelerator,
            "-cpu",
            cpu,
            "-m",
            f"{self.memory}M",
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
            "-kernel",
            self._kernel,
            "-initrd",
            str(self._initrd),
            "-append",
            f"console=ttyS0 quiet panic=-1 reboot=t mitigations=off{timing}",
            "-serial",
            "stdio",
        ]

    def run(self) -> float | None:
        return spawn(self._argv(), expect=self._expect, timeout=self._limit)

    def start(self) -> Running:
        return _Booted(self._argv(), self.memory << 20, self._limit)

    @property
    def _limit(self) -> float:
        return _BOOT_LIMIT if self.accelerator == "kvm" else _EMULATED_LIMIT

    def keeper_pids(self) -> list[int]:
        return [pid for booted in _Booted.alive for pid in booted.pids()]


class _Booted(Running):
    alive: list[_Booted] = []  # noqa: RUF012  all that run now: a VM's process is what the "engine" keeps

    def __init__(self, argv: list[str], memory: int, limit: float) -> None:
        """``memory``: bytes that the machine has; ``limit``: seconds until it must be up."""
        self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        _Booted.alive.append(self)
        try:
            self._guest = memory - self._free(time.monotonic() + limit)
        except Missing:
            self.stop()
            raise

    def _free(self, until: float) -> int:
        """Bytes that its kernel calls free, which it says just before the program."""
        assert self._process.stdout is not None
        text = b""
        while not (found := re.search(rb"MemFree: +(\d+) kB", text)):
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, until - time.monotonic()))
            data = os.read(self._process.stdout.fileno(), 4096) if ready else b""
            if not data:
                raise Missing(f"the VM did not come up: {text[-200:].decode(errors='replace')}")
            text += data
        return int(found[1]) * 1024

    def pids(self) -> list[int]:
        return [self._process.pid]

    def own_pids(self) -> list[int]:
        return []

    def guest_bytes(self) -> int:
        return self._guest

    def stop(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        _Booted.alive.remove(self)


def _tsc_khz() -> int:
    """The time stamp counter's rate, as this kernel found it, or from the processor's nominal rate."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("cpu MHz"):
            return int(float(line.partition(":")[2]) * 1000)
    return 2_000_000


class _Microvm(_Qemu):
    machine = "microvm,x-option-roms=off,acpi=off"


class _Q35(_Qemu):
    machine = "q35"


class MicrovmKvm(_Microvm):
    name, accelerator, isolation = "QEMU microvm KVM", "kvm", "a VM"


class MicrovmEmulated(_Microvm):
    name, accelerator, isolation = "QEMU microvm emulated", "tcg", "a VM, software emulation"


class Q35Kvm(_Q35):
    name, accelerator, isolation = "QEMU q35 KVM", "kvm", "a VM"


class Q35Emulated(_Q35):
    name, accelerator, isolation = "QEMU q35 emulated", "tcg", "a VM, software emulation"


class Firecracker(Peer):
    """Firecracker, when its binary and KVM are here."""

    name, kind, isolation, every = "firecracker", "vm", "a VM (KVM only)", 5

    def open(self) -> str:
        program = find_program("firecracker")
        if not os.access("/dev/kvm", os.R_OK | os.W_OK):
            raise Missing("no /dev/kvm")
        image = os.environ.get("FASTDOCK_VMLINUX")
        if not image:
            raise Missing("FASTDOCK_VMLINUX does not name an uncompressed kernel")
        self._program, self._image = program, image
        return first_line(program, "--version")

    def prepare(self, workload: Workload) -> None:
        import json

        initrd, self._expect = self.scratch / f"{workload.name}.cpio", workload.expect
        _archive(self.rootfs(workload), _INIT.format(command=shlex.join(workload.inside())), initrd)
        self._config = self.scratch / f"{workload.name}.json"
        self._config.write_text(
            json.dumps(
                {
                    "boot-source": {
                        "kernel_image_path": self._image,
                        "initrd_path": str(initrd),
                        "boot_args": "console=ttyS0 quiet reboot=k panic=-1",
                    },
                    "drives": [],
                    "machine-config": {"vcpu_count": 1, "mem_size_mib": 256},
                }
            )
        )

    def run(self) -> float | None:
        return spawn(
            [self._program, "--no-api", "--config-file", str(self._config)],
            expect=self._expect,
            timeout=_BOOT_LIMIT,
        )


class CloudHypervisor(Firecracker):
    """Cloud Hypervisor, when its binary and KVM are here."""

    name = "cloud-hypervisor"

    def open(self) -> str:
        program = find_program("cloud-hypervisor")
        if not os.access("/dev/kvm", os.R_OK | os.W_OK):
            raise Missing("no /dev/kvm")
        self._program, self._image = program, os.environ.get("FASTDOCK_VMLINUX") or _kernel()
        return first_line(program, "--version")

    def prepare(self, workload: Workload) -> None:
        self._initrd, self._expect = self.scratch / f"{workload.name}.cpio", workload.expect
        _archive(self.rootfs(workload), _INIT.format(command=shlex.join(workload.inside())), self._initrd)

    def run(self) -> float | None:
        return spawn(
            [
                self._program,
                "--kernel",
                self._image,
                "--initramfs",
                str(self._initrd),
                "--memory",
                "size=256M",
                "--cpus",
                "boot=1",
                "--console",
                "off",
                "--serial",
                "tty",
                "--cmdline",
                "console=ttyS0 quiet reboot=k panic=-1",
            ],
            expect=self._expect,
            timeout=_BOOT_LIMIT,
        )

"""What is run everywhere: the same programs from the same root file system."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

__all__ = ["WORKLOADS", "NoProgram", "Workload", "busybox_rootfs", "python_rootfs", "rootfs_for"]

_APPLETS = (
    "true",
    "sh",
    "ls",
    "cat",
    "mount",
    "id",
    "echo",
    "sleep",
    "httpd",
    "wget",
    "kill",
    "mkdir",
    "ifconfig",
)
_WEB = (
    "httpd -f -p 127.0.0.1:8099 -h {root}/www & server=$!; "
    "until wget -q -O - http://127.0.0.1:8099/ 2>/dev/null; do :; done; kill $server"
)


class NoProgram(Exception):
    """This machine lacks a program that is to be run everywhere."""


@dataclass(frozen=True)
class Workload:
    """A program of a root file system, and what it prints.

    ``{root}`` in an argument is the root's path as the program sees it: empty inside, the directory for a bare process.
    """

    name: str
    argv: tuple[str, ...]
    expect: bytes
    image: str

    def inside(self) -> list[str]:
        """The arguments for a program whose root is the image."""
        return [word.format(root="") for word in self.argv]

    def outside(self, rootfs: Path) -> list[str]:
        """The arguments for a bare process on the host, with the image's own program."""
        program, *rest = self.argv
        if self.image == "python":
            return ["/usr/bin/python3", *rest]
        return [
            f"{rootfs}/bin/busybox",
            program.rsplit("/", 1)[-1],
            *(word.format(root=rootfs) for word in rest),
        ]


WORKLOADS = {
    "true": Workload("true", ("/bin/true",), b"", "busybox"),
    "hello": Workload("hello", ("/bin/echo", "hello"), b"hello", "busybox"),
    "python": Workload(
        "python", ("/usr/bin/python3", "-c", "import json; print(json.dumps('hello'))"), b'"hello"', "python"
    ),
    "web": Workload("web", ("/bin/sh", "-c", _WEB), b"first answer", "busybox"),
    "sleep": Workload("sleep", ("/bin/sleep", "100000"), b"", "busybox"),
}


def _skeleton(root: Path) -> None:
    for name in ("bin", "dev", "proc", "sys", "etc", "tmp", "run", "www", "usr/bin", "var/tmp"):
        (root / name).mkdir(parents=True, exist_ok=True)
    root.chmod(0o755)
    (root / "www/index.html").write_text("first answer\n")
    (root / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")


def _busybox() -> Path:
    """A statically linked busybox; NoProgram says which package has one."""
    for candidate in ("/usr/bin/busybox", "/bin/busybox"):
        # A static program names no interpreter; ldd says so with a status of 1.
        if (
            Path(candidate).exists()
            and subprocess.run(["ldd", candidate], capture_output=True, check=False).returncode
        ):
            return Path(candidate)
    raise NoProgram("no static busybox: apt-get install busybox-static")


def busybox_rootfs(root: Path) -> Path:
    """A root file system of one static busybox and its links, made at ``root`` if it is not there."""
    if not (root / "bin/busybox").exists():
        _skeleton(root)
        shutil.copy(_busybox(), root / "bin/busybox")
        for name in _APPLETS:
            (root / "bin" / name).symlink_to("busybox")
    return root


def _libraries(program: str) -> set[str]:
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return {word for line in listed.splitlines() for word in line.split() if word.startswith("/")}


def python_rootfs(root: Path) -> Path:
    """As busybox_rootfs, with this system's /usr/bin/python3, its libraries and standard library (about 30 MB).

    NoProgram if the system has no /usr/bin/python3.
    """
    if (root / "usr/bin/python3").exists():
        return root
    interpreter = Path("/usr/bin/python3").resolve()
    if not interpreter.exists():
        raise NoProgram("no /usr/bin/python3: apt-get install python3")
    busybox_rootfs(root)
    library = Path("/usr/lib") / interpreter.name
    shutil.copytree(
        library,
        root / str(library).lstrip("/"),
        symlinks=True,
        dirs_exist_ok=True,
        ignore=shutil.ignore_patterns("__pycache__", "test", "config-*", "ensurepip", "idlelib", "tkinter"),
    )
    for path in {str(interpreter), *_libraries(str(interpreter))}:
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(os.path.realpath(path), target)
    (root / "usr/bin/python3").unlink(missing_ok=True)
    (root / "usr/bin/python3").symlink_to(interpreter.name)
    # Compiled here once: otherwise each start on a read-only root would compile json again.
    subprocess.run(
        [str(interpreter), "-m", "compileall", "-q", "-s", str(root), "-p", "/", str(root) + str(library)],
        check=False,
        capture_output=True,
    )
    return root


def rootfs_for(workload: Workload, scratch: Path) -> Path:
    """The root file system of a workload, made below ``scratch`` once."""
    make = {"busybox": busybox_rootfs, "python": python_rootfs}[workload.image]
    root = scratch / f"rootfs-{workload.image}"
    root.mkdir(parents=True, exist_ok=True)
    return make(root)

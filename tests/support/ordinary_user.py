"""Ordinary users of this machine for the tests of rootless mode, with a fastdock that they can read."""

from __future__ import annotations

import importlib.metadata
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fastdock


def install_for_others() -> Path:
    """A copy of the installed package and what it needs, where everybody may read it; the caller removes it."""
    place = Path(tempfile.mkdtemp(prefix="fastdock-for-users-", dir="/var/tmp"))
    shutil.copytree(Path(fastdock.__file__).parent, place / "site/fastdock")
    wanted, done = ["fastdock"], set[str]()
    while wanted:
        name = wanted.pop()
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # for other machines or Pythons than this
        done.add(name)
        needs = (need for need in distribution.requires or () if "extra ==" not in need)
        wanted += {match[0] for need in needs if (match := re.match(r"[\w.-]+", need))} - done
        if name != "fastdock":
            for file in distribution.files or ():
                source, target = Path(str(distribution.locate_file(file))), place / "site" / file
                if ".." not in Path(file).parts and source.is_file() and not target.exists():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(source, target)
    oci = Path(sys.executable).with_name("fastdock-oci")
    if oci.exists():
        shutil.copy(oci, place / "fastdock-oci")
    subprocess.run(["chmod", "-R", "a+rX", str(place)], check=True)
    return place


def interpreter_for_others(place: Path) -> str:
    """A Python of this one's version that everybody may execute; a copy, where this one is in somebody's home."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for path in (os.path.realpath(sys.executable), f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        try:
            done = subprocess.run([path, "-c", "import sqlite3"], user=65534, group=65534, extra_groups=[], cwd="/",
                                  capture_output=True, check=False)  # fmt: skip
        except OSError:
            continue
        if done.returncode == 0:
            return path
    left_out = shutil.ignore_patterns("site-packages", "test", "__pycache__", "*.a")
    shutil.copytree(sys.base_prefix, place / "python", ignore=left_out, symlinks=True)
    subprocess.run(["chmod", "-R", "a+rX", str(place / "python")], check=True)
    return str(place / "python/bin" / version)


class OrdinaryUser:
    """A user of this machine, made for a test session and removed with it."""

    def __init__(self, name: str, place: Path, *, ranges: bool) -> None:
        """``ranges``: with subordinate ids (useradd gives them)."""
        self.name, self.place = name, place
        self.interpreter = interpreter_for_others(place)
        subprocess.run(["useradd", "--create-home", name], check=True, capture_output=True)
        if not ranges:
            for file in ("/etc/subuid", "/etc/subgid"):
                lines = Path(file).read_text().splitlines(keepends=True)
                Path(file).write_text("".join(line for line in lines if not line.startswith(f"{name}:")))
        account = pwd.getpwnam(name)
        self.uid, self.gid, self.home = account.pw_uid, account.pw_gid, Path(account.pw_dir)
        self.runtime = Path(tempfile.mkdtemp(prefix="fd-run-", dir="/var/tmp"))
        os.chown(self.runtime, self.uid, self.gid)
        self.environment = {
            "HOME": str(self.home),
            "PATH": "/usr/bin:/bin",
            "XDG_RUNTIME_DIR": str(self.runtime),
            "LANG": "C.UTF-8",
        }
        self.data = self.home / ".local/share"
        if Path("/scratch").is_dir():  # in the VM the home directory cannot hold an overlay's upper directory
            self.data = Path("/scratch") / name
            self.data.mkdir()
            os.chown(self.data, self.uid, self.gid)
            self.environment["XDG_DATA_HOME"] = str(self.data)

    @property
    def run_directory(self) -> Path:
        return self.runtime / "fastdock"

    def start(
        self, *command: str | Path, env: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[str]:
        """A process of this user."""
        return subprocess.Popen(
            [str(word) for word in command],
            **{
                "user": self.uid,
                "group": self.gid,
                "extra_groups": [],
                "cwd": self.home,
                "text": True,
                "stdin": subprocess.DEVNULL,
                "env": {**self.environment, **(env or {})},
                **options,
            },
        )

    def run(
        self, *command: str | Path, timeout: float = 120, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        process = self.start(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
        out, err = process.communicate(timeout=timeout)
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    @property
    def command(self) -> list[str]:
        """The command line, as the native launcher starts it."""
        return [self.interpreter, "-I", "-S", str(self.place / "site/fastdock/_start.py")]

    def fastdock(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return self.run(*self.command, *words, **options)

    def ok(self, *words: str, **options: Any) -> str:
        """What the command prints; it must succeed."""
        done = self.fastdock(*words, **options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def python(self, code: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """A program of the user's with ``fastdock`` on its path; warnings are errors."""
        head = f"import sys; sys.path.insert(0, {str(self.place / 'site')!r})\n"
        return self.run(self.interpreter, "-W", "error", "-c", head + code, **options)

    def processes(self) -> dict[int, str]:
        """pid -> command line, of all processes with this user's ids."""
        found = {}
        for entry in filter(str.isdecimal, os.listdir("/proc")):
            try:
                if os.stat(f"/proc/{entry}").st_uid == self.uid or self._is_subordinate(entry):
                    words = Path(f"/proc/{entry}/cmdline").read_bytes()
                    if words:  # not one that is dead and not yet reaped
                        found[int(entry)] = words.replace(b"\0", b" ").decode(errors="replace").strip()
            except (FileNotFoundError, ProcessLookupError):
                continue
        return found

    def _is_subordinate(self, entry: str) -> bool:
        status = Path(f"/proc/{entry}/status").read_text()
        uid = int(status.partition("Uid:\t")[2].split()[0])
        return uid == self.uid or any(first <= uid < first + count for first, count in self._ranges())

    def _ranges(self) -> Iterator[tuple[int, int]]:
        for line in Path("/etc/subuid").read_text().splitlines():
            name, first, count = line.split(":")
            if name == self.name:
                yield int(first), int(count)

    def holder(self) -> int:
        """The process that holds the namespaces; AssertionError: none, or several."""
        (pid,) = (pid for pid, words in self.processes().items() if "fastdock-rootless" in words)
        return pid

    def leftovers(self) -> list[str]:
        """What containers could leave behind: processes, directories, the host's ports."""
        kept = ("fastdock-rootless", "pasta", "slirp4netns", "fastdock-dns")
        left = [words for words in self.processes().values() if not any(name in words for name in kept)]
        for directory in (self.data / "fastdock/containers", self.run_directory / "containers"):
            left += map(str, directory.glob("*"))
        return left + self._ports()

    def _ports(self) -> list[str]:
        """Sockets of the holder that are bound on the host."""
        holders = [pid for pid, words in self.processes().items() if "fastdock-rootless" in words]
        inodes = set[str]()
        for pid in holders:
            for fd in Path(f"/proc/{pid}/fd").iterdir():
                inodes.add(os.readlink(fd))
        found = []
        for table in ("tcp", "tcp6", "udp", "udp6"):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if f"socket:[{fields[9]}]" in inodes:
                    found.append(f"{table} port {int(fields[1].rpartition(':')[2], 16)}")
        return found

    def stop(self) -> None:
        """Ends the holder and all that is left."""
        self.python("from fastdock import rootless; rootless.stop()")
        deadline = time.monotonic() + 10
        while (left := self.processes()) and time.monotonic() < deadline:
            for pid in left:
                with _gone_already():
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)

    def remove(self) -> None:
        self.stop()
        for directory in (self.runtime, self.data):
            shutil.rmtree(directory, ignore_errors=True)
        subprocess.run(["userdel", "--remove", "--force", self.name], check=False, capture_output=True)


@contextmanager
def _gone_already() -> Iterator[None]:
    try:
        yield
    except ProcessLookupError:
        pass

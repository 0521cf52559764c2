"""Base images of this machine's own, where there is no registry: its static busybox, or Debian from its mirror."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from fastdock import assemble
from fastdock._errors import ImageError, SpecError
from fastdock.registry.platform import host_platform
from fastdock.store import ImageRecord, Store
from fastdock.store.ingest import add_layer, piped

APT = Path("/etc/apt")
_SUITE = re.compile(r"[a-z][a-z0-9-]{1,40}")
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DEFAULT_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

Tell = Callable[[str], None]


def bootstrap(store: Store, what: str, name: str | None, progress: Tell | None = None) -> ImageRecord:
    """Makes the image; SpecError for an unknown ``what``, ImageError where the machine lacks what it takes."""
    tell = progress or (lambda _: None)
    kind, _, suite = what.partition(":")
    if kind == "busybox" and not suite:
        return _make(store, name, _busybox, '["sh"]', "busybox of this machine", tell)
    if kind == "debian" and (not suite or _SUITE.fullmatch(suite)):
        suite = suite or host_suite()
        mirror, keyring = mirror_of(suite)

        def fill(root: Path, tell: Tell) -> None:
            _debian(root, suite, mirror, keyring, tell)

        return _make(store, name, fill, '["bash"]', f"debootstrap --variant=minbase {suite} {mirror}", tell)
    raise SpecError(f"cannot bootstrap {what!r}", hint="busybox or debian[:suite]")


def _make(
    store: Store, name: str | None, fill: Callable[[Path, Tell], None], command: str, how: str, tell: Tell
) -> ImageRecord:
    from fastdock import _core

    platform = host_platform()
    with store.writing():
        root = Path(store.layers.stage())
        try:
            fill(root, tell)
            tell("Packing the layer")
            with piped(lambda fd: _core.write_tar(str(root), fd)) as chunks:
                descriptor, diff_id = add_layer(store, chunks)
        finally:
            shutil.rmtree(root)
        document = {
            "architecture": platform.architecture,
            "os": platform.os,
            "config": {"Env": [_PATH], "Cmd": [command.strip('[]"')]},
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        }
        return assemble.add(store, document, [descriptor], name, assemble.Step(created_by=how))


# -- busybox -----------------------------------------------------------------------------------------------

_BUSYBOX_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\n"
    "nobody:x:65534:65534:nobody:/home:/bin/false\n",
    "etc/group": "root:x:0:\ndaemon:x:1:\ntty:x:5:\nusers:x:100:\nnogroup:x:65534:\n",
    "etc/shadow": "root:*:::::::\ndaemon:*:::::::\nnobody:*:::::::\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
    "etc/profile": 'export PS1="\\u@\\h:\\w\\$ "\n',
}
_BUSYBOX_DIRECTORIES = {
    "bin": 0o755, "dev": 0o755, "etc": 0o755, "home": 0o755, "proc": 0o755, "root": 0o700, "run": 0o755,
    "sbin": 0o755, "sys": 0o755, "tmp": 0o1777, "usr": 0o755, "usr/bin": 0o755, "usr/sbin": 0o755,
    "var": 0o755, "var/spool": 0o755, "var/tmp": 0o1777, "var/www": 0o755,
}  # fmt: skip


def _busybox(root: Path, tell: Tell) -> None:
    program = find_busybox()
    listed = subprocess.run([program, "--list-full"], capture_output=True, text=True, check=True).stdout
    applets = sorted(
        {line for line in listed.split() if re.fullmatch(r"[\w./+\[-]+", line) and ".." not in line}
    )
    for name, mode in _BUSYBOX_DIRECTORIES.items():
        (root / name).mkdir()
        (root / name).chmod(mode)
    shutil.copyfile(program, root / "bin/busybox")
    (root / "bin/busybox").chmod(0o755)
    for applet in applets:
        link = root / applet
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.hardlink_to(root / "bin/busybox")
    for name, text in _BUSYBOX_FILES.items():
        (root / name).write_text(text)
        (root / name).chmod(0o640 if name == "etc/shadow" else 0o644)
    _same_times(root)
    tell(f"{program}: {len(applets)} applets")


def find_busybox() -> str:
    """This machine's statically linked busybox; ImageError if it has none."""
    for program in (shutil.which("busybox"), "/bin/busybox", "/usr/lib/busybox/busybox"):
        if program and os.path.exists(program) and is_static(program):
            return program
    raise ImageError("this machine has no static busybox", hint="apt-get install busybox-static")


def is_static(program: str) -> bool:
    """Whether an ELF file asks for no interpreter (elf(5): no PT_INTERP among the program headers)."""
    data = Path(program).read_bytes()[:4096]
    if data[:5] != b"\x7fELF\x02":
        return False
    offset = int.from_bytes(data[32:40], "little")
    size, count = (int.from_bytes(data[at : at + 2], "little") for at in (54, 56))
    headers = (data[offset + size * number :][:4] for number in range(count))
    return all(int.from_bytes(header, "little") != 3 for header in headers)


def _same_times(root: Path) -> None:
    """The same files give the same layer: no time of today in it."""
    for directory, names, files in os.walk(root, topdown=False):
        for name in (*names, *files):
            os.utime(os.path.join(directory, name), (0, 0), follow_symlinks=False)
    os.utime(root, (0, 0))


# -- Debian ------------------------------------------------------------------------------------------------


def _debian(root: Path, suite: str, mirror: str, keyring: str, tell: Tell) -> None:
    program = shutil.which("debootstrap")
    if program is None:
        raise ImageError("debootstrap is not installed", hint="apt-get install debootstrap")
    if os.geteuid() != 0:
        raise ImageError("debootstrap needs root", hint="run it as root, or pull an image")
    command = [program, "--variant=minbase", "--merged-usr"]
    if keyring:
        command.append(f"--keyring={keyring}")
    tell(f"debootstrap {suite} from {mirror}")
    with subprocess.Popen(
        [*command, suite, str(root), mirror], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        lines = [""]
        for line in process.stdout:
            lines = [*lines[-20:], line.rstrip()]
            tell(line.rstrip())
    if process.returncode != 0:
        raise ImageError(f"debootstrap of {suite} from {mirror} failed: {lines[-1]}")
    _slim(root, suite, mirror)


def _slim(root: Path, suite: str, mirror: str) -> None:
    """Leaves out what an image should not have: downloaded packages, lists, logs, this machine's names."""
    for pattern in ("var/cache/apt/archives/*.deb", "var/cache/apt/*.bin", "var/lib/apt/lists/*", "var/log/*.log",
                    "var/log/apt/*", "debootstrap", "var/cache/ldconfig/aux-cache"):  # fmt: skip
        for path in root.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    for name in ("etc/hostname", "etc/resolv.conf"):
        (root / name).unlink(missing_ok=True)
        (root / name).touch(mode=0o644)
    (root / "etc/apt/sources.list").write_text(f"deb {mirror} {suite} main\n")
    (root / "etc/apt/apt.conf.d/docker-clean").write_text('APT::Keep-Downloaded-Packages "false";\n')
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")  # services do not start while packages are being installed
    policy.chmod(0o755)


def host_suite() -> str:
    """This machine's own Debian release; ImageError where it is none."""
    text = Path("/etc/os-release").read_text()
    match = re.search(r'^VERSION_CODENAME="?([a-z0-9-]+)"?$', text, re.MULTILINE)
    if not match or not re.search(r"^ID=\"?debian\"?$", text, re.MULTILINE):
        raise ImageError("this machine is no Debian", hint="name a suite: debian:bookworm")
    return match[1]


def mirror_of(suite: str, apt: Path = APT) -> tuple[str, str]:
    """(the package mirror, its keyring) that this machine's apt uses, for ``suite`` if it has that."""
    found = [*_one_line_sources(apt), *_deb822_sources(apt)]
    fitting = [entry for entry in found if suite in entry[1]] or [
        entry for entry in found if any("security" not in name and "updates" not in name for name in entry[1])
    ]
    if not fitting:
        return "http://deb.debian.org/debian", _DEFAULT_KEYRING if os.path.exists(_DEFAULT_KEYRING) else ""
    uri, _, keyring = fitting[0]
    keyring = keyring or _DEFAULT_KEYRING
    return uri, keyring if os.path.exists(keyring) else ""


Source = tuple[str, list[str], str]  # URI, suites, keyring


def _one_line_sources(apt: Path) -> list[Source]:
    """sources.list(5): ``deb [option=value …] uri suite component…``"""
    sources: list[Source] = []
    for path in (apt / "sources.list", *sorted((apt / "sources.list.d").glob("*.list"))):
        for line in path.read_text().splitlines() if path.exists() else ():
            match = re.match(r"\s*deb\s+(?:\[([^\]]*)\]\s+)?(https?://\S+)\s+(\S+)\s", line + " ")
            if match:
                key = re.search(r"signed-by=(/\S+)", match[1] or "")
                sources.append((match[2].rstrip("/"), [match[3]], key[1] if key else ""))
    return sources


def _deb822_sources(apt: Path) -> list[Source]:
    """The stanzas of ``*.sources`` files."""
    sources: list[Source] = []
    for path in sorted((apt / "sources.list.d").glob("*.sources")):
        for stanza in re.split(r"\n\s*\n", path.read_text()):
            lines = [line for line in stanza.splitlines() if not line.startswith("#")]
            fields = {
                key.lower(): value.strip() for key, colon, value in (x.partition(":") for x in lines) if colon
            }
            if fields.get("enabled", "yes").lower() in ("no", "false", "0"):
                continue
            if "deb" not in fields.get("types", "deb").split():
                continue
            keyring = fields.get("signed-by", "")
            for uri in fields.get("uris", "").split():
                if uri.startswith(("http://", "https://")):
                    key = keyring if keyring.startswith("/") else ""
                    sources.append((uri.rstrip("/"), fields.get("suites", "").split(), key))
    return sources

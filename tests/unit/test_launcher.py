"""The native launcher: it finds the Python and the package that belong to it, and lets nobody else's code in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import fastdock

LAUNCHER = Path(sysconfig.get_path("scripts")) / "fastdock"
PACKAGE = Path(fastdock.__file__).parent
VERSION = f"python{sys.version_info[0]}.{sys.version_info[1]}"
ANSWER = f"fastdock {fastdock.__version__}\n"


def start(launcher: Path, *arguments: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {"PATH": "/usr/bin:/bin", **env}
    return subprocess.run([launcher, *arguments], env=clean, cwd=cwd, capture_output=True, text=True, timeout=60)


def install(prefix: Path, packages: str, script: str) -> Path:
    """The launcher, the script beside it and the package, as an installation scheme places them."""
    (prefix / "bin").mkdir(parents=True)
    shutil.copy(LAUNCHER, prefix / "bin" / "fastdock")
    if script:
        (prefix / "bin" / "fastdock-python").write_text(script)
    (prefix / packages).mkdir(parents=True, exist_ok=True)
    (prefix / packages / "fastdock").symlink_to(PACKAGE)
    return prefix / "bin" / "fastdock"


PLAIN = f"#!{sys.executable}\nimport sys\n"
LONG = f"#!/bin/sh\n'''exec' \"{sys.executable}\" \"$0\" \"$@\"\n' '''\nimport sys\n"
LONG_BARE = f"#!/bin/sh\n'''exec' {sys.executable} \"$0\" \"$@\"\n' '''\nimport sys\n"


def test_installed() -> None:
    assert start(LAUNCHER, "--version").stdout == ANSWER
    assert start(LAUNCHER, "run", "--nonsense").returncode == 125


def test_static() -> None:
    """auditwheel replaces a dynamic executable by a Python script."""
    assert b"\x7fELF" == LAUNCHER.read_bytes()[:4]
    assert "INTERP" not in subprocess.run(["readelf", "-lW", LAUNCHER], capture_output=True, text=True).stdout


@pytest.mark.parametrize("script", [PLAIN, LONG, LONG_BARE])
@pytest.mark.parametrize(
    "packages", [f"lib/{VERSION}/site-packages", f"lib/{VERSION}/dist-packages", f"lib64/{VERSION}/site-packages",
                 "lib/python3/dist-packages", "."]
)  # fmt: skip
def test_schemes(tmp_path: Path, packages: str, script: str) -> None:
    """click is not beside the package there: it is found by `site`, as the interpreter itself would."""
    launcher = install(tmp_path / "a prefix", packages, script)
    done = start(launcher, "--version")
    assert (done.stdout, done.stderr) == (ANSWER, "")


def test_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "docker").symlink_to(LAUNCHER)
    assert start(tmp_path / "docker", "--version").stdout == ANSWER


def test_moved(tmp_path: Path) -> None:
    """The script still names where the environment was; its interpreter lies beside."""
    launcher = install(tmp_path, f"lib/{VERSION}/site-packages", "#!/gone/bin/python3\n")
    python = tmp_path / "bin" / "python3"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    assert start(launcher, "--version").stdout == ANSWER


@pytest.mark.parametrize("script", ["", "#!/gone/bin/python3\n", "no script", "#!\n", "#!/bin/sh\n", "#!/bin/sh\n'''exec' \"\n"])
def test_no_interpreter(tmp_path: Path, script: str) -> None:
    launcher = install(tmp_path, f"lib/{VERSION}/site-packages", script)
    done = start(launcher, "--version")
    assert done.returncode == 125
    assert done.stderr.count("\n") == 1
    assert "FASTDOCK_PYTHON" in done.stderr


def test_chosen_interpreter(tmp_path: Path) -> None:
    launcher = install(tmp_path, ".", "")
    assert start(launcher, "--version", FASTDOCK_PYTHON=sys.executable).stdout == ANSWER
    done = start(launcher, "--version", FASTDOCK_PYTHON="/gone/python3")
    assert (done.returncode, done.stderr.count("\n")) == (125, 1)
    assert "/gone/python3" in done.stderr


@pytest.mark.parametrize("chosen", ["", sys.executable])
def test_nothing_comes_from_the_current_directory_or_the_environment(tmp_path: Path, chosen: str) -> None:
    for name in ("click", "typing", "json", "fastdock", "sitecustomize", "usercustomize", "site", "os", "re"):
        (tmp_path / f"{name}.py").write_text("open('/proc/self/fd/2', 'w').write('HOSTILE')\n")
    hostile = {"PYTHONPATH": str(tmp_path), "PYTHONSTARTUP": str(tmp_path / "click.py"), "PYTHONHOME": str(tmp_path),
               "PYTHONUSERBASE": str(tmp_path), "HOME": str(tmp_path)}  # fmt: skip
    if chosen:
        hostile["FASTDOCK_PYTHON"] = chosen
    for arguments in (["--version"], ["version"], ["run", "--help"]):
        done = start(LAUNCHER, *arguments, cwd=tmp_path, **hostile)
        assert (done.returncode, done.stderr) == (0, "")


def test_descriptors_and_status_are_the_callers(tmp_path: Path) -> None:
    read, write = os.pipe()
    subprocess.run([LAUNCHER, "--version"], stdout=write, check=True)
    os.close(write)
    with open(read) as file:
        assert file.read() == ANSWER

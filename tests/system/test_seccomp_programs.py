"""Programs that run under Docker's default profile run under fastdock's: language runtimes, a database, gdb.

Each runs on the host's files with nothing but the filter for Docker's capabilities (and no_new_privs).  A
program that is not installed here is skipped, and says so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from glob import glob
from pathlib import Path

import pytest

from fastdock import _core

pytestmark = pytest.mark.system

# As in tests/kernel/test_seccomp.py.
LOADER = """
import ctypes, os, sys
program = open(sys.argv[1], "rb").read()
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(38, 1, 0, 0, 0)
filter = Program(len(program) // 8, program)
if libc.syscall(317, 1, 0, ctypes.byref(filter)) != 0:
    sys.exit(f"seccomp: {os.strerror(ctypes.get_errno())}")
os.execvp(sys.argv[2], sys.argv[2:])
"""


def run(tmp_path: Path, *command: str, **options: object) -> str:
    """The output of a command under the default program."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    file = tmp_path / "program"
    file.write_bytes(_core.default_seccomp(_core.DEFAULT_CAPABILITIES))
    done = subprocess.run(  # type: ignore[call-overload]
        [sys.executable, "-c", LOADER, str(file), *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=tmp_path,
        **options,
    )
    assert done.returncode == 0, done.stdout
    return str(done.stdout)


def test_node(tmp_path: Path) -> None:
    """V8 with its threads, worker threads, the file system's thread pool, sockets."""
    script = """
const { Worker } = require('worker_threads');
const fs = require('fs'), net = require('net');
const server = net.createServer(socket => socket.end('pong')).listen(0, '127.0.0.1', () => {
  net.connect(server.address().port, '127.0.0.1').on('data', data => {
    new Worker("require('worker_threads').parentPort.postMessage(6 * 7)", { eval: true })
      .on('message', answer => console.log(data + ' ' + answer + ' ' + fs.readdirSync('/proc/self').length))
      .on('exit', () => server.close());
  });
});
"""
    assert run(tmp_path, "node", "-e", script).startswith("pong 42 ")


def test_go(tmp_path: Path) -> None:
    """Compiler, linker and a program with goroutines on many threads."""
    source = tmp_path / "main.go"
    source.write_text(
        'package main\nimport ("fmt"; "os/exec"; "sync")\nfunc main() {\n'
        "  var group sync.WaitGroup\n"
        "  for i := 0; i < 100; i++ { group.Add(1); go func() { defer group.Done() }() }\n"
        '  group.Wait()\n  out, err := exec.Command("echo", "child").Output()\n'
        "  fmt.Print(string(out), err)\n}\n"
    )
    environment = {**os.environ, "GOCACHE": str(tmp_path / "cache"), "GOTOOLCHAIN": "local"}
    assert run(tmp_path, "go", "run", str(source), env=environment) == "child\n<nil>"


def test_java(tmp_path: Path) -> None:
    """The JIT, the garbage collector's threads, a child process."""
    source = tmp_path / "Hello.java"
    source.write_text(
        "import java.util.stream.*;\n"
        "public class Hello { public static void main(String[] a) throws Exception {\n"
        '  new ProcessBuilder("true").start().waitFor();\n'
        "  System.out.println(IntStream.range(0, 1000).parallel().sum());\n} }\n"
    )
    assert run(tmp_path, "java", str(source)).endswith("499500\n")


def test_rust(tmp_path: Path) -> None:
    source = tmp_path / "main.rs"
    source.write_text(
        'fn main() { println!("{}", std::thread::spawn(|| 42).join().unwrap());\n'
        '  assert!(std::process::Command::new("true").status().unwrap().success()); }\n'
    )
    run(tmp_path, "rustc", "-o", str(tmp_path / "main"), str(source))
    assert run(tmp_path, str(tmp_path / "main")) == "42\n"


def test_gdb(tmp_path: Path) -> None:
    """Starts, stops and reads a process; switches address randomization off."""
    done = run(
        tmp_path,
        "gdb",
        "-q",
        "-batch",
        "-ex",
        "starti",
        "-ex",
        "info registers rip",
        "-ex",
        "kill",
        "/bin/true",
    )
    assert "rip" in done
    assert "Operation not permitted" not in done


def test_postgres(tmp_path: Path) -> None:
    """A cluster is made, serves SQL from shared memory, and stops."""
    # Debian keeps the server's programs off the PATH.
    found = [path for path in (shutil.which("postgres"), *glob("/usr/lib/postgresql/*/bin/postgres")) if path]
    if not found:
        pytest.skip("postgres is not installed")
    programs = Path(found[0]).resolve().parent
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if parent.owner() != "root" or parent == Path("/tmp"):
            break
        parent.chmod(parent.stat().st_mode | 0o011)
    data = tmp_path / "data"
    data.mkdir()
    shutil.chown(data, "nobody")
    script = f"""
set -e
{programs}/initdb -D {data}/db -A trust >{data}/log
{programs}/pg_ctl -D {data}/db -o "-k {data} -c listen_addresses=''" -l {data}/log -w start >/dev/null
psql -h {data} -d postgres -Atc "select sum(i) from generate_series(1, 1000) i"
{programs}/pg_ctl -D {data}/db -m fast -w stop >/dev/null
"""
    assert run(tmp_path, "runuser", "-u", "nobody", "--", "bash", "-c", script) == "500500\n"


def test_shell_tools(tmp_path: Path) -> None:
    """Archives with extended attributes, sparse copies, locks, timers."""
    script = """
set -e
mkdir a && echo text >a/file && cp -a a b && tar --xattrs -cf a.tar a && tar -xf a.tar -C b
truncate -s 1M sparse && cp --sparse=always sparse copy
flock lock true && timeout 5 true && nice true && ionice true && chrt -o 0 true
setsid true && stdbuf -o0 true && find . -newer a/file >/dev/null && chattr +d a/file || true
echo fine
"""
    assert run(tmp_path, "bash", "-c", script).endswith("fine\n")

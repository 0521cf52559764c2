"""``fastdock`` as a command: its flags, its exit codes, its streams and its terminal, as a shell sees them."""

from __future__ import annotations

import fcntl
import gzip
import io
import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastdock
from support import add_file, add_link, busybox_tar, must_work

pytestmark = pytest.mark.system

FASTDOCK = [sys.executable, "-m", "fastdock"]


@pytest.fixture(autouse=True)
def _needs_root() -> None:
    if os.geteuid() != 0:
        pytest.fail("needs root") if must_work() else pytest.skip("needs root")


@pytest.fixture
def root(session_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state directory that the commands use, with the image busybox."""
    monkeypatch.setenv("FASTDOCK_ROOT", str(session_root))
    return session_root


def command(*words: str, input: bytes | None = None, **options: object) -> subprocess.CompletedProcess[bytes]:
    stdin = {} if input is not None else {"stdin": subprocess.DEVNULL}
    return subprocess.run([*FASTDOCK, *words], input=input, capture_output=True, **stdin, **options)  # type: ignore[call-overload,no-any-return]


def run(*words: str, input: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return command("run", "--rm", *words, input=input)


def error_of(done: subprocess.CompletedProcess[bytes], code: int) -> str:
    """The one line that a failed command says."""
    text = done.stderr.decode()
    assert done.returncode == code, text
    assert "Traceback" not in text
    lines = [line for line in text.splitlines() if line and not line.startswith(("Usage:", "Try "))]
    assert len(lines) == 1, text
    return lines[0]


@pytest.mark.usefixtures("root")
class TestExitCodes:
    @pytest.mark.parametrize("code", [0, 1, 42, 125, 255])
    def test_the_program_s(self, code: int) -> None:
        assert run("busybox", "sh", "-c", f"exit {code}").returncode == code

    @pytest.mark.parametrize("name", ["KILL", "TERM", "SEGV"])
    def test_signals(self, name: str) -> None:
        number = signal.Signals[f"SIG{name}"]
        done = run("--init", "busybox", "sh", "-c", f"kill -{name} $$")
        assert done.returncode == 128 + number

    @pytest.mark.parametrize(
        ("words", "code", "message"),
        [
            (["busybox", "no-such"], 127, "no such program"),
            (["busybox", "/etc/passwd"], 126, "may not be executed"),
            (["busybox", "/etc"], 126, "directory"),
            (["-w", "/etc/passwd", "busybox", "true"], 126, "working directory"),
            (["no-such-image-here", "true"], 125, "no-such-image-here"),
            (["--memory", "lots", "busybox", "true"], 125, "not a size"),
            (["--memory", "1m", "busybox", "true"], 125, "minimum is 6m"),
            (["--memory", "64m", "--memory-swap", "1m", "busybox", "true"], 125, "memory_swap"),
            (["--cpus", "1000000", "busybox", "true"], 125, "processors"),
            (["--user", "no-body", "busybox", "true"], 125, "no such user"),
            (["--group-add", "no-body", "busybox", "true"], 125, "no such group"),
            (["--cap-add", "FLY", "busybox", "true"], 125, "capability"),
            (["-v", "a:b:c:d", "busybox", "true"], 125, "SOURCE:TARGET"),
            (["-v", "/a:b", "busybox", "true"], 125, "absolute"),
            (["--mount", "type=bind,source=/no/such,target=/x", "busybox", "true"], 125, "does not exist"),
            (["--tmpfs", "x", "busybox", "true"], 125, "absolute"),
            (["--device", "/dev/no-such", "busybox", "true"], 125, "/dev/no-such"),
            (["--ulimit", "nofile", "busybox", "true"], 125, "NAME=SOFT"),
            (["--sysctl", "kernel.panic=1", "busybox", "true"], 125, "sysctl"),
            (["--security-opt", "seccomp=/no/such", "busybox", "true"], 125, "/no/such"),
            (["--network", "no-such-network", "busybox", "true"], 125, "network"),
            (["--name", "-", "busybox", "true"], 125, "name"),
            (["--env-file", "/no/such", "busybox", "true"], 125, "/no/such"),
            (["--env", "=x", "busybox", "true"], 125, "NAME=VALUE"),
            (["--privileged", "--userns", "private", "busybox", "true"], 125, "contradicts"),
            (["--userns", "keep-id", "busybox", "true"], 125, "userns"),
            (["--pids-limit", "many", "busybox", "true"], 125, "pids-limit"),
            (["--no-such-flag", "busybox", "true"], 125, "no-such-flag"),
            (["-it", "busybox", "true"], 125, "not a TTY"),
            (["--oom-score-adj", "5000", "busybox", "true"], 125, "oom_score_adj"),
            (["--pull", "never", "nowhere", "true"], 125, "nowhere"),
            (["busybox"], 125, "no command"),
            ([], 1, "IMAGE"),  # as `docker run`, which prints its usage
        ],
    )  # fmt: skip
    def test_its_own_failures(self, words: list[str], code: int, message: str) -> None:
        if words and words[0] == "no-such-image-here":
            words = ["--pull", "never", *words]
        assert message.lower() in error_of(run(*words), code).lower()

    def test_unknown_command(self) -> None:
        assert "'dance' is not a fastdock command" in error_of(command("dance"), 1)


@pytest.mark.usefixtures("root")
class TestStreams:
    def test_separate(self) -> None:
        done = run("busybox", "sh", "-c", "echo out; echo err >&2")
        assert (done.stdout, done.stderr) == (b"out\n", b"err\n")

    def test_piped_input_needs_i(self) -> None:
        data = os.urandom(300_000)
        assert run("-i", "busybox", "cat", input=data).stdout == data
        assert run("busybox", "cat", input=data).stdout == b""

    def test_to_a_regular_file(self, tmp_path: Path) -> None:
        """Also through /dev/stdout, which images log to, and at the file's end if it was opened so."""
        path = tmp_path / "log"
        path.write_text("before\n")
        with path.open("ab") as file:
            words = ["run", "--rm", "-u", "web", "busybox", "sh", "-c", "echo one; echo two > /dev/stdout"]
            assert subprocess.run([*FASTDOCK, *words], stdout=file, stdin=subprocess.DEVNULL).returncode == 0
        assert path.read_text() == "before\none\ntwo\n"

    def test_a_reader_that_goes_away(self) -> None:
        """`fastdock run … yes | head -1` ends."""
        program = subprocess.Popen([*FASTDOCK, "run", "--rm", "busybox", "yes"], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)  # fmt: skip
        assert program.stdout is not None
        assert program.stdout.read(4) == b"y\ny\n"
        program.stdout.close()
        assert program.wait(120) != 0


@pytest.mark.usefixtures("root")
class TestFlags:
    def test_environment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FROM_HERE", "here")
        monkeypatch.delenv("NOT_HERE", raising=False)
        file = tmp_path / "env"
        file.write_text("# comment\n\nFILE=from file\nBOTH=file\nFROM_HERE\nNOT_HERE\n")
        done = run(
            "--env-file", str(file), "-e", "BOTH=flag", "-e", "FROM_HERE", "-e", "NOT_HERE", "busybox", "env"
        )
        lines = done.stdout.decode().splitlines()
        assert {"FILE=from file", "BOTH=flag", "FROM_HERE=here"} <= set(lines)
        assert not [line for line in lines if line.startswith("NOT_HERE")]

    def test_options_after_the_command_are_the_command_s(self) -> None:
        assert run("busybox", "echo", "--rm", "-e", "x").stdout == b"--rm -e x\n"

    def test_cidfile(self, tmp_path: Path) -> None:
        path = tmp_path / "cid"
        assert run("--cidfile", str(path), "busybox", "true").returncode == 0
        assert re.fullmatch("[0-9a-f]{64}", path.read_text())
        assert "ID file found" in error_of(run("--cidfile", str(path), "busybox", "true"), 125)

    def test_most_at_once(self, tmp_path: Path) -> None:
        script = "hostname; id -u; pwd; ulimit -n; cat /v/f; grep -c ' /t tmpfs' /proc/mounts; cat /proc/self/oom_score_adj; echo $A"
        tmp_path.chmod(0o755)
        (tmp_path / "f").write_text("volume\n")
        done = run("--hostname", "box", "-u", "web", "-w", "/var/www", "--ulimit", "nofile=77", "-v", f"{tmp_path}:/v:ro",
                   "--tmpfs", "/t:size=1m", "--oom-score-adj", "77", "-e", "A=1", "--memory", "64m", "--cpus", "0.5",
                   "--pids-limit", "20", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--network", "none",
                   "--shm-size", "1m", "--init", "--label", "a=b", "--name", "most", "--stop-signal", "INT", "--read-only",
                   "--sysctl", "net.ipv4.ip_forward=1", "--device", "/dev/zero:/dev/mine:r", "--group-add", "more",
                   "--entrypoint", "sh", "busybox", "-c", script)  # fmt: skip
        assert done.stderr == b""
        assert done.stdout.decode().split() == ["box", "33", "/var/www", "77", "volume", "1", "77", "1"]

    def test_signals_are_forwarded(self) -> None:
        script = "trap 'echo got it; exit 9' TERM; echo ready; while :; do sleep 1000 & wait $!; done"
        program = subprocess.Popen([*FASTDOCK, "run", "--rm", "busybox", "sh", "-c", script], stdout=subprocess.PIPE,
                                   stdin=subprocess.DEVNULL, text=True)  # fmt: skip
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        program.terminate()
        assert program.stdout.read() == "got it\n"
        assert program.wait() == 9
        program.stdout.close()

    def test_a_signal_that_comes_before_the_start_has_returned_is_forwarded(self) -> None:
        """Its first act is to ask the command, its parent, to end."""
        script = "trap 'echo got it; exit 9' TERM; kill -TERM $PPID; while :; do sleep 1000 & wait $!; done"
        for network in ("bridge", "none"):
            flags = ("--pid", "host", "--userns", "host", "--network", network)
            done = run(*flags, "busybox", "sh", "-c", script)
            assert (done.stdout, done.returncode) == (b"got it\n", 9)

    def test_killed_with_everything(self, root: Path) -> None:
        """SIGKILL of the command leaves no process."""
        program = subprocess.Popen([*FASTDOCK, "run", "--rm", "busybox", "sh", "-c", "echo ready; exec sleep 1000"],
                                   stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)  # fmt: skip
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        program.kill()
        program.wait()
        assert program.stdout.read() == ""  # everybody who held the other end is gone
        program.stdout.close()
        fastdock.Engine(root).close()
        assert os.listdir(root / "containers") == []


class Terminal:
    """A command on a pseudo-terminal of ours."""

    def __init__(self, *words: str, rows: int = 30, columns: int = 90) -> None:
        self.ours, self.theirs = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self.theirs)
        self.process = subprocess.Popen([*FASTDOCK, *words], stdin=self.theirs, stdout=self.theirs, stderr=self.theirs,
                                        start_new_session=True)  # fmt: skip
        self.seen = b""

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def expect(self, pattern: bytes) -> re.Match[bytes]:
        """Waits for this output; at most a minute, after which something is wrong."""
        while not (match := re.search(pattern, self.seen)):
            ready = select.select([self.ours], [], [], 60)[0]
            assert ready, f"{pattern!r} did not come: {self.seen!r}"
            self.seen += os.read(self.ours, 65536)
        self.seen = self.seen[match.end() :]
        return match

    def type(self, text: bytes) -> None:
        os.write(self.ours, text)

    def end(self) -> int:
        code = self.process.wait(60)
        assert termios.tcgetattr(self.theirs) == self.before, "the terminal's modes were not restored"
        return code


@pytest.fixture
def terminal() -> Iterator[type[Terminal]]:
    made: list[Terminal] = []

    class Kept(Terminal):
        def __init__(self, *words: str, **size: int) -> None:
            super().__init__(*words, **size)
            made.append(self)

    yield Kept
    for each in made:
        if each.process.poll() is None:
            each.process.kill()
            each.process.wait()
        os.close(each.ours)
        os.close(each.theirs)


@pytest.mark.usefixtures("root")
class TestTerminal:
    def test_a_shell(self, terminal: type[Terminal]) -> None:
        shell = terminal("run", "--rm", "-it", "-e", "PS1=prompt:", "busybox", "sh")
        shell.expect(b"prompt:")
        shell.type(b"tty; stty size; echo $TERM\r")
        shell.expect(rb"/dev/(console|pts/0)\r\n30 90\r\nxterm\r\n")
        shell.type(b"echo $((6*7)); exit 5\r")
        shell.expect(b"42\r\n")
        assert shell.end() == 5

    def test_resize(self, terminal: type[Terminal]) -> None:
        script = "trap 'stty size' WINCH; echo ready; while :; do sleep 1000 & wait $!; done"
        shell = terminal("run", "--rm", "-it", "busybox", "sh", "-c", script)
        shell.expect(b"ready\r\n")
        shell.resize(50, 120)
        shell.process.send_signal(signal.SIGWINCH)
        shell.expect(b"50 120\r\n")
        shell.type(b"\x1c")  # Ctrl-\: the container's business, not ours
        shell.process.kill()
        shell.process.wait()

    def test_ctrl_c_goes_to_the_program(self, terminal: type[Terminal]) -> None:
        shell = terminal(
            "run",
            "--rm",
            "-it",
            "busybox",
            "sh",
            "-c",
            "trap 'echo interrupted; exit 3' INT; echo ready; read x",
        )
        shell.expect(b"ready\r\n")
        shell.type(b"\x03")
        shell.expect(b"interrupted\r\n")
        assert shell.end() == 3

    def test_end_of_file(self, terminal: type[Terminal]) -> None:
        shell = terminal("run", "--rm", "-it", "busybox", "cat")
        shell.type(b"line\r")
        shell.expect(b"line\r\nline\r\n")
        shell.type(b"\x04")
        assert shell.end() == 0

    def test_output_only(self) -> None:
        """-t without -i, into a pipe: the program has a terminal, so lines end with \\r\\n."""
        assert run("-t", "busybox", "tty").stdout in (b"/dev/console\r\n", b"/dev/pts/0\r\n")

    def test_a_full_screen_editor(self, terminal: type[Terminal], root: Path) -> None:
        """vim (or busybox vi, which every machine has here) draws, edits and writes."""
        buffer = io.BytesIO(busybox_tar())
        with tarfile.open(fileobj=buffer, mode="a") as tar:
            add_link(tar, "bin/vi", "busybox")
        with fastdock.Engine(root) as engine:
            engine.images.import_tar(io.BytesIO(buffer.getvalue()), "editor")
        vim = shutil.which("vim")
        image, program = ("host", "vim -u NONE") if vim and vim.startswith("/usr/bin") else ("editor", "vi")
        shell = terminal("run", "--rm", "-it", image, "sh", "-c", f"{program} /tmp/f; cat /tmp/f; exit 4")
        shell.expect(b"/tmp/f")
        if image == "editor":  # busybox vi throws away what is typed before it has drawn
            for text, answer in (
                (b"i", b"I /tmp/f"),
                (b"hello from the editor", b"editor"),
                (b"\x1b", b"Modified"),
            ):
                shell.type(text)
                shell.expect(answer)
            shell.type(b":wq\r")
        else:
            shell.type(b"ihello from the editor\x1b:wq\r")
        shell.expect(b"hello from the editor\r\n")
        assert shell.end() == 4


def tar_of(*entries: tuple[str, bytes, str]) -> bytes:
    """(name, type, link target or content)"""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, kind, text in entries:
            if kind == tarfile.REGTYPE:
                add_file(tar, name, text)
                continue
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.devmajor, entry.devminor = kind, text, 1, 3
            tar.addfile(entry)
    return buffer.getvalue()


class TestImport:
    @pytest.fixture(autouse=True)
    def _own_root(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FASTDOCK_ROOT", str(tmp_path / "state"))
        self.root = tmp_path / "state"

    @pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
    @pytest.mark.parametrize("way", ["file", "pipe"])
    def test_and_run(self, tmp_path: Path, compression: str, way: str) -> None:
        data = busybox_tar()
        if compression == "gzip":
            data = gzip.compress(data)
        elif compression == "zstd":
            data = subprocess.run(["zstd", "-q"], input=data, capture_output=True, check=True).stdout
        if way == "file":
            (tmp_path / "x.tar").write_bytes(data)
            done = command("import", str(tmp_path / "x.tar"), "me/bb:1")
        else:
            done = command("import", "-", "me/bb:1", input=data)
        assert done.returncode == 0, done.stderr
        done = run("me/bb:1", "echo", "yes")
        assert (done.stdout, done.stderr) == (b"yes\n", b"")
        assert b"me/bb" in command("images").stdout
        assert command("rmi", "me/bb:1").returncode == 0
        assert b"me/bb" not in command("images").stdout
        assert os.listdir(self.root / "layers") == []

    def test_an_entry_below_a_link_stays_inside(self) -> None:
        """As with Docker it goes where the link leads with the image's root as "/", not the host's."""
        buffer = io.BytesIO(busybox_tar())
        with tarfile.open(fileobj=buffer, mode="a") as tar:
            add_link(tar, "link", "/tmp")
            add_file(tar, "link/fastdock-evil", "x")
        assert command("import", "-", "linked", input=buffer.getvalue()).returncode == 0
        assert not os.path.exists("/tmp/fastdock-evil")
        assert run("linked", "cat", "/tmp/fastdock-evil").stdout == b"x"

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (tar_of(("../evil", tarfile.REGTYPE, "x")), "../evil"),
            (tar_of(("a/../../evil", tarfile.REGTYPE, "x")), "evil"),
            (tar_of(("a", tarfile.SYMTYPE, "b"), ("b", tarfile.SYMTYPE, "a"), ("a/evil", tarfile.REGTYPE, "x")), "a"),
            (tar_of(("shadow", tarfile.LNKTYPE, "/etc/shadow")), "shadow"),
            (tar_of(("shadow", tarfile.LNKTYPE, "../../../etc/shadow")), "shadow"),
            (busybox_tar()[:100_000], "archive"),
            (b"no tar at all" * 1000, "archive"),
            (gzip.compress(busybox_tar())[:50_000], ""),
            (b"", ""),
        ],
    )  # fmt: skip
    def test_bad_archives(self, data: bytes, message: str) -> None:
        """One clear line, and nothing is kept."""
        line = error_of(command("import", "-", "evil", input=data), 1)
        assert message in line
        assert b"evil" not in command("images").stdout
        assert os.listdir(self.root / "layers") == []
        assert not Path("/tmp/evil").exists()

    def test_absolute_names_land_inside(self) -> None:
        """As with tar(1) itself: the leading slash goes."""
        data = tar_of((f"/tmp/fastdock-absolute-{os.getpid()}", tarfile.REGTYPE, "x"))
        assert command("import", "-", "inside", input=data).returncode == 0
        assert not Path(f"/tmp/fastdock-absolute-{os.getpid()}").exists()

    def test_missing_file_and_bad_name(self, tmp_path: Path) -> None:
        assert "/no/such.tar" in error_of(command("import", "/no/such.tar", "x"), 1)
        (tmp_path / "x.tar").write_bytes(busybox_tar())
        assert "UPPER" in error_of(command("import", str(tmp_path / "x.tar"), "UPPER CASE"), 1)

    def test_rmi_of_what_is_not_there(self) -> None:
        assert "nothing-here" in error_of(command("rmi", "nothing-here"), 1)


@pytest.mark.usefixtures("root")
class TestAbout:
    def test_info(self) -> None:
        done = command("info")
        assert done.returncode == 0
        for word in (b"kernel", b"cgroup version", b"user namespaces", b"overlay", b"seccomp"):
            assert word in done.stdout
        document = json.loads(command("info", "--format", "json").stdout)
        assert document["CgroupVersion"] in ("1", "2")
        assert (
            command("info", "--format", "{{.CgroupVersion}}").stdout.decode().strip()
            == document["CgroupVersion"]
        )

    def test_version(self) -> None:
        assert fastdock.__version__.encode() in command("version").stdout
        assert command("--version").stdout == f"fastdock {fastdock.__version__}\n".encode()
        assert json.loads(command("version", "--format", "json").stdout)["Version"] == fastdock.__version__

    def test_help(self) -> None:
        done = command("--help")
        assert done.returncode == 0
        for name in (b"run", b"images", b"import", b"rmi", b"info", b"version"):
            assert re.search(rb"^  %s " % name, done.stdout, re.MULTILINE)
        assert b"--memory" in command("run", "--help").stdout

    def test_what_is_missing_is_said_with_advice(self) -> None:
        lines = command("info").stdout.decode().splitlines()
        for number, line in enumerate(lines):
            if line.startswith("  no "):
                assert "->" in lines[number + 1]

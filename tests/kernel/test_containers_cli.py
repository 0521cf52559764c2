"""The commands of containers as their users type them: words, columns, exit codes."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
from pathlib import Path

import pytest

from fastdock import Engine

pytestmark = pytest.mark.kernel


class Shell:
    """``fastdock`` in a process of its own, with the engine's root."""

    def __init__(self, root: str) -> None:
        self._environment = {**os.environ, "FASTDOCK_ROOT": root, "TZ": "UTC"}

    def __call__(self, *words: str, code: int = 0, input: str | None = None) -> str:
        done = subprocess.run(
            self.command(*words),
            env=self._environment,
            capture_output=True,
            text=True,
            input=input,
            check=False,
        )
        assert done.returncode == code, (words, done.stdout, done.stderr)
        self.errors = done.stderr
        return done.stdout

    @staticmethod
    def command(*words: str) -> list[str]:
        return [sys.executable, "-m", "fastdock", *words]

    def in_terminal(self, *words: str) -> tuple[subprocess.Popen[bytes], int]:
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            self.command(*words), env=self._environment, stdin=theirs, stdout=theirs, stderr=theirs,
            start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        return process, ours


@pytest.fixture
def shell(engine: Engine) -> Shell:
    return Shell(engine.root)


def read_until(descriptor: int, wanted: bytes) -> bytes:
    seen = b""
    while wanted not in seen:
        assert select.select([descriptor], [], [], 60)[0], seen
        seen += os.read(descriptor, 4096)
    return seen


def test_a_day_with_containers(shell: Shell) -> None:
    container_id = shell("run", "-d", "--name", "day", "-l", "a=b", "busybox", "sleep", "1000").strip()
    assert len(container_id) == 64
    rows = shell("ps", "--format", "{{.ID}} {{.Image}} {{.Command}} {{.Names}} {{.State}} {{.Labels}}")
    assert rows == f'{container_id[:12]} busybox "sleep 1000" day running a=b\n'
    assert shell("ps").startswith("CONTAINER ID   IMAGE")
    assert shell("exec", "-i", "day", "cat", input="typed") == "typed"
    shell("exec", "day", "sh", "-c", "exit 9", code=9)
    shell("exec", "day", "nosuchprogram", code=127)
    shell("exec", "day", "/tmp", code=126)
    assert "sleep 1000" in shell("top", "day")
    assert shell("pause", "day") == "day\n"
    assert "(Paused)" in shell("ps", "--format", "{{.Status}}")
    shell("unpause", "day")
    assert shell("stop", "-t", "0", "day") == "day\n"
    assert shell("wait", "day") == "137\n"
    assert shell("ps", "-q") == ""
    assert shell("ps", "-aq", "--no-trunc").strip() == container_id
    shell("rename", "day", "night")
    shell("start", "night")
    shell("rm", "night", code=1)
    assert "force" in shell.errors
    assert shell("rm", "-f", "night") == "night\n"
    shell("rm", "night", code=1)
    shell("rm", "-f", "night")


def test_run_in_the_foreground_is_kept(shell: Shell) -> None:
    assert (
        shell("run", "--name", "fore", "busybox", "sh", "-c", "echo out; echo err >&2; exit 4", code=4)
        == "out\n"
    )
    assert shell.errors == "err\n"
    assert shell("logs", "fore") == "out\n"
    assert shell("start", "-a", "fore", code=4) == "out\n"
    assert shell("logs", "--tail", "1", "fore") + shell.errors in ("out\nerr\n", "out\n", "err\n")
    assert shell("run", "-i", "--rm", "--name", "fore2", "busybox", "cat", input="x") == "x"
    shell("run", "--name", "fore", "busybox", "true", code=125)
    assert "already in use" in shell.errors
    shell("run", "--name", "fore3", "busybox", "nosuchprogram", code=127)
    shell("rm", "fore", "fore3")


def test_inspect_filters_and_prune(shell: Shell) -> None:
    shell("create", "--name", "made", "-l", "kind=x", "--restart", "always", "-m", "64m", "busybox", "true")
    (document,) = json.loads(shell("inspect", "made"))
    assert document["State"]["Status"] == "created"
    assert shell("inspect", "-f", "{{.HostConfig.Memory}} {{json .HostConfig.RestartPolicy}}", "made") == (
        '67108864 {"Name":"always","MaximumRetryCount":0}\n'
    )
    for wanted in (
        "name=mad",
        "label=kind=x",
        "label=kind",
        "status=created",
        "ancestor=busybox",
        f"id={document['Id'][:5]}",
    ):
        assert shell("ps", "-a", "--filter", wanted, "--format", "{{.Names}}") == "made\n", wanted
    for other in ("name=zzz", "label=kind=y", "status=running", "ancestor=host"):
        assert shell("ps", "-a", "--filter", other, "-q") == "", other
    shell("ps", "--filter", "nonsense=1", code=1)
    shell("inspect", "nothing", code=1)
    assert "Deleted Containers:" in shell("container", "prune", "-f")
    assert shell("container", "ls", "-aq") == ""


def test_cp(shell: Shell, tmp_path: Path) -> None:
    shell("create", "--name", "copied", "busybox", "true")
    (tmp_path / "file").write_text("content")
    shell("cp", str(tmp_path / "file"), "copied:/root/renamed")
    shell("cp", "copied:/root/renamed", str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == "content"
    archive = subprocess.run(
        Shell.command("cp", "copied:/etc", "-"), env=shell._environment, capture_output=True, check=True
    ).stdout
    subprocess.run(
        Shell.command("cp", "-", "copied:/tmp"),
        env=shell._environment,
        input=archive,
        check=True,
        capture_output=True,
    )
    shell("cp", "copied:/tmp/etc/passwd", str(tmp_path / "passwd"))
    shell("cp", "copied:/none", str(tmp_path), code=1)
    shell("cp", "a:/x", "b:/y", code=1)
    shell("rm", "copied")


def test_events_stats_diff_port(shell: Shell) -> None:
    shell("run", "-d", "--name", "seen", "busybox", "sleep", "1000")
    shell("exec", "seen", "touch", "/root/new")
    assert "A /root/new" in shell("diff", "seen")
    row = json.loads(shell("stats", "--no-stream", "--format", "json", "seen"))
    assert row["Name"] == "seen"
    assert int(row["PIDs"]) >= 1
    assert shell("port", "seen") == ""
    assert shell("update", "--memory", "64m", "seen") == "seen\n"
    assert shell("inspect", "-f", "{{.HostConfig.Memory}}", "seen") == "67108864\n"
    shell("rm", "-f", "seen")
    past = ("events", "--since", "1h", "--until", "0s", "--filter", "container=seen", "--format")
    lines = shell(*past, "{{.Action}}").splitlines()
    of_exec = ["exec_create: touch /root/new", "exec_start: touch /root/new", "exec_die"]
    assert lines == ["create", "start", *of_exec, "update", "kill", "die", "stop", "destroy"]
    ended = shell(*past, "{{.Action}} {{.Actor.Attributes.exitCode}}", "--filter", "event=exec_die")
    assert ended == "exec_die 0\n"
    assert shell(*past, "{{.Action}}", "--filter", "event=exec_create") == of_exec[0] + "\n"


def test_volumes(shell: Shell) -> None:
    assert shell("volume", "create", "--label", "a=b", "cli-volume") == "cli-volume\n"
    shell("run", "--rm", "-v", "cli-volume:/data", "busybox", "sh", "-c", "echo x > /data/y")
    assert shell("run", "--rm", "-v", "cli-volume:/data:ro", "busybox", "cat", "/data/y") == "x\n"
    assert "cli-volume" in shell("volume", "ls", "--filter", "label=a=b")
    assert shell("volume", "inspect", "-f", "{{.Driver}}", "cli-volume") == "local\n"
    assert shell("volume", "rm", "cli-volume") == "cli-volume\n"
    shell("volume", "rm", "cli-volume", code=1)
    shell("volume", "prune", "-f")


def test_terminal_attach_and_detach_keys(shell: Shell) -> None:
    shell("run", "-dit", "--name", "term", "busybox", "sh")
    process, terminal = shell.in_terminal("attach", "term")
    os.write(terminal, b"echo $((40+2)); tty\n")
    read_until(terminal, b"42\r\n/dev/pts/0")
    os.write(terminal, b"\x10\x11")
    read_until(terminal, b"read escape sequence")
    assert process.wait(60) == 1  # docker attach's
    os.close(terminal)
    assert shell("ps", "--format", "{{.Names}}") == "term\n"
    process, terminal = shell.in_terminal("exec", "-it", "term", "sh")
    os.write(terminal, b"tty; exit 6\n")
    read_until(terminal, b"/dev/pts/1")
    assert process.wait(60) == 6
    os.close(terminal)
    shell("rm", "-f", "term")


def test_signals_are_passed_on(shell: Shell, engine: Engine) -> None:
    script = "trap 'echo got; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    process = subprocess.Popen(
        Shell.command("run", "--name", "proxied", "busybox", "sh", "-c", script), env=shell._environment,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.terminate()
    assert process.wait(60) == 3
    assert process.stdout.read() == b"got\n"
    process.stdout.close()
    shell("rm", "proxied")


def test_detached_from_and_attached_again(shell: Shell) -> None:
    """The input of a terminal does not end with the one who typed."""
    process, terminal = shell.in_terminal("run", "-it", "--name", "again", "busybox", "sh")
    os.write(terminal, b"echo $((20+1))\n")
    read_until(terminal, b"21\r\n")
    os.write(terminal, b"\x10\x11")
    assert process.wait(60) == 0
    os.close(terminal)
    process, terminal = shell.in_terminal("attach", "again")
    os.write(terminal, b"echo $((40+2)); exit 7\n")
    read_until(terminal, b"42\r\n")
    assert process.wait(60) == 7
    os.close(terminal)
    shell("rm", "again")


def test_logs_in_a_terminal_are_in_order(shell: Shell) -> None:
    script = "for i in 1 2 3; do echo out$i; sleep 0.05; echo err$i >&2; sleep 0.05; done"
    shell("run", "-d", "--name", "ordered", "busybox", "sh", "-c", script)
    shell("wait", "ordered")
    for words in (["-t"], ["--tail", "6"], ["-f"]):
        done = subprocess.run(
            Shell.command("logs", *words, "ordered"), env=shell._environment, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, check=True,
        )  # fmt: skip
        said = [line.split()[-1] for line in done.stdout.splitlines()]
        assert said == ["out1", "err1", "out2", "err2", "out3", "err3"], words
    shell("rm", "ordered")


def test_formats(shell: Shell) -> None:
    shell("volume", "create", "--label", "a=b", "rows")
    words = ("--label", "kind=test", "-v", "rows:/data", "busybox", "sh", "-c", "sleep 1000")
    shell("run", "-d", "--network", "none", "--name", "rows", *words)
    row = json.loads(shell("ps", "--format", "{{json .}}"))
    assert row == json.loads(shell("ps", "-s", "--format", "json"))
    assert row["Names"] == "rows"
    assert row["Labels"] == "kind=test"
    assert row["Command"] == "\"sh -c 'sleep 1000'\""
    assert json.loads(shell("volume", "ls", "--format", "{{json .}}"))["Name"] == "rows"
    assert json.loads(shell("inspect", "-f", "{{json .}}", "rows"))["Name"] == "/rows"
    assert "(virtual " in shell("ps", "-s", "--format", "{{.Size}}")
    missing = "{{.Config.Labels.kind}} {{.Config.Labels.none}} {{.NetworkSettings.IPPrefixLen}} {{.HostConfig.Devices}}"
    assert shell("inspect", "-f", missing, "rows") == "test <no value> 0 []\n"
    shell("inspect", "-f", "{{.Nope}}", "rows", code=1)
    shell("rm", "-f", "rows")
    actions = "{{.Action}} {{.Actor.Attributes.exitCode}}"
    assert "start <no value>\n" in shell(
        "events", "--since", "1h", "--until", "0s", "-f", "type=container", "--format", actions
    )
    shell("volume", "rm", "rows")


def test_diff_has_no_mount_points(shell: Shell, engine: Engine, tmp_path: Path) -> None:
    """An image without /proc, /sys and /dev gets them from us, not from its container."""
    directory = tmp_path / "tree"
    (directory / "bin").mkdir(parents=True)
    (directory / "bin" / "busybox").write_bytes(Path("/bin/busybox").read_bytes())
    (directory / "bin" / "busybox").chmod(0o755)
    archive = tmp_path / "bare.tar"
    subprocess.run(["tar", "-C", str(directory), "-cf", str(archive), "."], check=True)
    shell("import", str(archive), "bare")
    shell("run", "--network", "none", "--name", "bare", "bare", "/bin/busybox", "mkdir", "/made")
    assert shell("diff", "bare") == "A /made\n"
    upper = shell("inspect", "-f", "{{.GraphDriver.Data.UpperDir}}", "bare").strip()
    assert [path.name for path in Path(upper).iterdir()] == ["made"]  # they are a layer below the image's
    shell("rm", "bare")
    shell("rmi", "bare")


def test_top_of_chosen_columns(shell: Shell) -> None:
    shell("run", "-d", "--name", "topped", "busybox", "sleep", "1000")
    assert shell("top", "topped", "-o", "pid,comm").splitlines()[1].split()[1] == "sleep"
    assert shell("top", "topped").splitlines()[1].split()[0] == "root"
    shell("rm", "-f", "topped")


def test_volume_is_free_when_its_container_has_gone(shell: Shell) -> None:
    """``--rm`` in the foreground, and ``stop`` of one in the background: then ``volume rm`` works at once."""
    for number in range(5):
        shell("run", "--rm", "-v", f"free{number}:/data", "busybox", "true")
        shell("volume", "rm", f"free{number}")
        shell("run", "--rm", "-d", "--name", "free", "-v", f"free{number}:/data", "busybox", "sleep", "1000")
        shell("stop", "-t", "0", "free")
        shell("volume", "rm", f"free{number}")


def test_refused(shell: Shell) -> None:
    for wrong in ("status=asleep", "health=ill", "colour=red", "status"):
        shell("ps", "-f", wrong, code=1)
    shell("run", "-d", "--name", "refused", "busybox", "sleep", "1000")
    shell("exec", "-u", "nobody-here", "refused", "true", code=126)
    shell("exec", "-w", "/not/there", "refused", "true", code=126)
    shell("update", "refused", code=1)
    assert "you must provide one or more flags" in shell.errors
    shell("rm", "-f", "refused")


class TestSystem:
    def test_df_and_prune(self, shell: Shell, engine: Engine) -> None:
        """What containers and volumes take is counted, and comes back."""
        shell("image", "prune", "-f")  # what other tests left
        words = ["run", "--name", "df", "-v", "/anonymous", "-v", "kept:/kept", "busybox"]
        shell(*words, "sh", "-c", "head -c 100000 /dev/zero | tee /file /kept/file > /anonymous/file")
        rows = {row.split("  ")[0]: row.split() for row in shell("system", "df").splitlines()[1:]}
        assert rows["Containers"][-5:] == ["1", "0", "100kB", "100kB", "(100%)"]
        assert rows["Local Volumes"][-5:] == ["2", "2", "200kB", "0B", "(0%)"]
        detail = shell("system", "df", "-v")
        assert "Containers space usage" in detail
        assert "Local Volumes space usage" in detail
        shell("system", "df", "-v", "--format", "json", code=1)
        shell("system", "prune", input="n\n", code=1)
        assert len(engine.containers.list(all=True)) == 1
        said = shell("system", "prune", "-f", "--volumes")
        assert "Deleted Containers:" in said
        assert "Deleted Volumes:" in said
        assert said.rstrip().endswith("Total reclaimed space: 200kB")
        assert [volume.name for volume in engine.volumes.list()] == ["kept"]
        assert "busybox:latest" in [tag for image in engine.images for tag in image.tags]
        engine.volumes.remove("kept")

    def test_export(self, shell: Shell, engine: Engine, tmp_path: Path) -> None:
        shell("run", "--name", "exported", "busybox", "sh", "-c", "echo hello > /greeting")
        shell("export", "-o", str(tmp_path / "tar"), "exported")
        assert shell("import", str(tmp_path / "tar"), "again:1").startswith("sha256:")
        assert shell("run", "--rm", "again:1", "/bin/cat", "/greeting") == "hello\n"
        shell("export", "-o", str(tmp_path / "none"), "nobody", code=1)
        assert not (tmp_path / "none").exists()
        shell("rm", "exported")
        shell("rmi", "again:1")

"""Less common words of Docker's command line, found by running both side by side (docker 28 and 20.10)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kept import SLEEP, container
from test_containers_cli import Shell

from fastdock import Engine

pytestmark = pytest.mark.kernel


@pytest.fixture
def shell(engine: Engine) -> Shell:
    return Shell(engine.root)


def test_ps_filters(engine: Engine, shell: Shell) -> None:
    def names(*filters: str) -> list[str]:
        words = [word for text in filters for word in ("--filter", text)]
        return shell("ps", "-a", "--format", "{{.Names}}", *words).split()

    with (
        container(engine, name="web", publish=["127.0.0.1:0:80", "127.0.0.1:0:53/udp"], restart="always"),
        container(engine, name="plain", network="none"),
    ):
        port = shell("port", "web", "80").strip().rpartition(":")[2]
        assert names("expose=80") == names("expose=79-81/tcp") == names(f"publish={port}") == ["web"]
        assert names("expose=80/udp") == names("publish=80") == []
        assert names("expose=53/udp", "restart-policy=always") == ["web"]
        assert names("is-task=false") == ["plain", "web"]
        assert names("is-task=true") == []
        for wrong in ("exited=x", "publish=x", "expose=80/x", "is-task=x", "restart-policy=x", "nosuch=1"):
            shell("ps", "--filter", wrong, code=1)
            assert "invalid" in shell.errors


def test_mounts_are_named_and_short(engine: Engine, shell: Shell) -> None:
    made = engine.containers.create(
        "busybox",
        SLEEP,
        name="mounted",
        network="none",
        volumes=["data:/data", "/usr/share/common-licenses:/x:ro"],
    )
    try:
        assert shell("ps", "-a", "--format", "{{.Mounts}}") == "data,/usr/share/com…\n"
        assert (
            shell("ps", "-a", "--no-trunc", "--format", "{{.Mounts}}") == "data,/usr/share/common-licenses\n"
        )
    finally:
        made.remove(volumes=True)
        engine.volumes.remove("data")


def test_sizes(engine: Engine, shell: Shell) -> None:
    with container(engine, name="big", network="none") as made:
        made.write_bytes("/x", b"1" * 5000)
        assert shell("ps", "--format", "{{.Size}}").startswith("5kB (virtual ")
        said = shell("inspect", "-s", "--format", "{{.SizeRw}} {{.SizeRootFs}}", "big").split()
        assert int(said[0]) == 5000
        assert int(said[1]) > 1_000_000
        assert shell("inspect", "--format", '[{{index .Config.Labels "none"}}]', "big") == "[]\n"


def test_streams_and_keys(engine: Engine, shell: Shell) -> None:
    run = ("run", "--rm", "--network", "none")
    both = ("busybox", "sh", "-c", "echo o; echo e >&2; exit 3")
    assert (shell(*run, "-a", "stdout", *both, code=3), shell.errors) == ("o\n", "")
    assert (shell(*run, "-a", "STDERR", *both, code=3), shell.errors) == ("", "e\n")
    assert (shell(*run, "-a", "stdin", *both, code=3), shell.errors) == ("", "")
    shell(*run, "-a", "bogus", *both, code=125)
    assert "valid streams" in shell.errors
    shell(*run, "--detach-keys", "bogus", *both, code=125)
    with container(engine, name="one", network="none"):
        shell("exec", "--detach-keys", "bogus", "one", "true", code=1)
        assert "detach keys" in shell.errors


def test_rename_and_logs(engine: Engine, shell: Shell) -> None:
    with container(engine, ["sh", "-c", "echo a; exec sleep 1000"], name="one", network="none") as made:
        made.wait_for(log="a")
        shell("rename", "one", "one", code=1)
        assert "already" in shell.errors
        assert shell("logs", "--details", "one") == " a\n"
        assert shell("logs", "--since", "10m", "--until", "0s", "one") == "a\n"
        assert shell("logs", "--until", "2000-01-01", "one") == ""


def test_wrong_usage(engine: Engine, shell: Shell) -> None:
    """Docker's: 125 for flags, 1 for words."""
    for words in (
        ("ps", "--bogus"),
        ("ps", "-n", "x"),
        ("logs", "--bogus", "x"),
        ("container", "ls", "--bogus"),
        ("run", "--bogus", "busybox"),
        ("create", "--bogus", "busybox"),
    ):
        shell(*words, code=125)
    for words in (
        ("ps", "x"),
        ("run",),
        ("create",),
        ("create", "--pull=never", "no-such-image"),
        ("exec", "x"),
        ("logs",),
        ("logs", "a", "b"),
        ("no-such-command",),
    ):
        shell(*words, code=1)


def test_ps_quotes_commands(engine: Engine, shell: Shell) -> None:
    """Go's strconv.Quote, after the cut."""
    made = engine.containers.create("busybox", ["sh", "-c", 'echo "a \\ b\tc\x01é"'], network="none")
    words = ("ps", "-a", "--filter", f"id={made.id}", "--format", "{{.Command}}")
    assert shell(*words) == '"sh -c \'echo \\"a \\\\ b\\t…"\n'
    assert shell(*words, "--no-trunc") == '"sh -c \'echo \\"a \\\\ b\\tc\\x01é\\"\'"\n'
    made.remove()


def test_ps_as_json_has_sizes(engine: Engine, shell: Shell) -> None:
    """Where a template looks at all; not the word json."""
    with container(engine, name="big", network="none") as made:
        made.write_bytes("/x", b"1" * 5000)
        row = json.loads(shell("ps", "--format", "{{json .}}"))
        assert row["Size"].startswith("5kB (virtual ")
        assert list(row) == sorted(row)
        assert json.loads(shell("ps", "--format", "json"))["Size"] == "0B"


def test_attach_needs_a_terminal_for_a_terminal(engine: Engine, shell: Shell) -> None:
    with container(engine, ["sh"], name="one", network="none", tty=True, open_stdin=True):
        shell("attach", "one", code=1)
        assert "not a TTY" in shell.errors
    with container(engine, name="one", network="none", open_stdin=True):
        shell("attach", "--detach-keys", "bogus", "one", code=1)
        assert "detach keys" in shell.errors


def test_cp_makes_no_directory_of_ours(engine: Engine, shell: Shell, tmp_path: Path) -> None:
    with container(engine, name="one", network="none"):
        for target in ("none/x", "none/"):
            shell("cp", "one:/bin/busybox", f"{tmp_path}/{target}", code=1)
            assert "does not exist" in shell.errors
        assert list(tmp_path.iterdir()) == []
        shell("cp", "one:/bin/busybox", f"{tmp_path}/new")
        assert (tmp_path / "new").stat().st_size > 100_000


def test_switches_with_values(engine: Engine, shell: Shell) -> None:
    """As Go's flags are written; what follows the image is the program's."""
    run = ("--network=none", "--read-only=0", "busybox", "echo", "--rm=maybe")
    assert shell("run", "--rm=true", *run) == "--rm=maybe\n"
    assert shell("ps", "-aq") == ""
    shell("run", "--name", "one", "--sig-proxy=false", "--rm=false", *run)
    assert shell("ps", "--all=true", "--format", "{{.Names}}") == "one\n"
    shell("commit", "--pause=false", "one")
    shell("rm", "--force=1", "one")
    shell("run", "--rm=maybe", "busybox", "true", code=125)


def test_volumes_of_what_has_ended(engine: Engine, shell: Shell, tmp_path: Path) -> None:
    """cp sees them; inspect calls them as the user did; an anonymous one is gone with its container."""
    words = ("-v", "kept:/d", "-v", f"{tmp_path}:/h:ro", "-v", "/anonymous")
    shell("run", "--name", "one", "--network", "none", *words, "busybox", "sh", "-c", "echo x > /d/f")
    shell("cp", "one:/d/f", str(tmp_path / "out"))
    assert (tmp_path / "out").read_text() == "x\n"
    shell("cp", "one:/h/out", str(tmp_path / "again"))
    shell("cp", str(tmp_path / "out"), "one:/d/back")
    assert shell("inspect", "-f", "{{json .HostConfig.Binds}}", "one") == f'["kept:/d","{tmp_path}:/h:ro"]\n'
    each = "{{range .Mounts}}{{.Type}} {{.Name}} {{.Driver}} {{.Destination}};{{end}}"
    assert "volume kept local /d;bind   /h;" in shell("inspect", "-f", each, "one")
    shell("rm", "-v", "one")
    shell(
        "run",
        "--rm",
        "--network",
        "none",
        "-v",
        "kept:/d",
        "-v",
        "/other",
        "busybox",
        "test",
        "-e",
        "/d/back",
    )
    assert shell("volume", "ls", "-q") == "kept\n"
    shell("volume", "rm", "kept")


def test_health_that_is_not_checked(engine: Engine, shell: Shell) -> None:
    """Docker's structures have the member all the same."""
    asked = "{{json .State.Health}}{{if .State.Health}}a{{else}}b{{end}}{{json .Config.Healthcheck}}"
    with container(engine, name="one", network="none"):
        assert shell("inspect", "-f", asked, "one") == "nullbnull\n"
        shell("inspect", "-f", "{{.State.Nothing}}", "one", code=1)


def test_events_have_their_older_names(engine: Engine, shell: Shell) -> None:
    with container(engine, name="one", network="none") as made:
        words = ("--since", "1h", "--until", "0s", "--filter", "container=one", "--filter", "event=create")
        shown = shell("events", *words, "--format", "{{.Action}} {{.Status}} {{.ID}} {{.From}}")
        assert shown.splitlines()[-1] == f"create create {made.id} busybox"


def test_names_without_a_network(engine: Engine) -> None:
    """They are its root's, to write to; each start makes them anew."""
    names = "/etc/hosts /etc/hostname /etc/resolv.conf"
    with container(engine, name="one", network="none") as made:
        script = f"echo 192.0.2.1 x >> /etc/hosts && stat -c '%u %g %a' {names}"
        done = made.exec(["sh", "-c", script], capture_output=True)
        assert done.stdout == b"0 0 644\n" * 3
        assert made.read_bytes("/etc/hostname") == f"{made.short_id}\n".encode()
        made.restart(0)
        assert b"192.0.2.1" not in made.read_bytes("/etc/hosts")
        assert made.read_bytes("/etc/hosts").startswith(b"127.0.0.1\tlocalhost\n")

"""Less common words of Docker's command line, found by running both side by side (docker 28 and 20.10)."""

from __future__ import annotations

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
    ):
        shell(*words, code=125)
    for words in (("ps", "x"), ("exec", "x"), ("logs",), ("logs", "a", "b"), ("no-such-command",)):
        shell(*words, code=1)


def test_cp_makes_no_directory_of_ours(engine: Engine, shell: Shell, tmp_path: Path) -> None:
    with container(engine, name="one", network="none"):
        for target in ("none/x", "none/"):
            shell("cp", "one:/bin/busybox", f"{tmp_path}/{target}", code=1)
            assert "does not exist" in shell.errors
        assert list(tmp_path.iterdir()) == []
        shell("cp", "one:/bin/busybox", f"{tmp_path}/new")
        assert (tmp_path / "new").stat().st_size > 100_000


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

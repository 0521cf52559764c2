"""Logs of kept containers: Docker's lines, byte for byte, rotated, followed, and when the disk is full."""

from __future__ import annotations

import io
import json
import os
import subprocess
import time
from pathlib import Path

import pytest
from kept import container, output_of, shell, wait_until

from fastdock import (
    Engine,
    SpecError,
    _core,
)
from fastdock.containers import control
from support import busybox_tar

pytestmark = pytest.mark.kernel


class TestLogs:
    def test_lines_are_dockers(self, engine: Engine) -> None:
        with container(engine, shell("printf 'a<b>&\"\\\\\\t\\n'; printf rest")) as made:
            made.wait()
            lines = [
                json.loads(line)
                for line in Path(engine.containers.log_path(made.id)).read_text().splitlines()
            ]
            assert [(line["log"], line["stream"]) for line in lines] == [
                ('a<b>&"\\\t\n', "stdout"),
                ("rest", "stdout"),
            ]
            raw = Path(engine.containers.log_path(made.id)).read_text()
            assert "a\\u003cb\\u003e\\u0026" in raw
            assert set(lines[0]) == {"log", "stream", "time"}

    def test_bytes_are_kept(self, engine: Engine) -> None:
        with container(engine, shell("printf '\\377\\000\\001x\\n'")) as made:
            made.wait()
            assert output_of(made) == b"\xff\x00\x01x\n"

    def test_long_lines(self, engine: Engine) -> None:
        with container(
            engine, shell("yes x | head -c 100000 | { while read a; do printf x; done; }; echo")
        ) as made:
            made.wait()
            assert output_of(made) == b"x" * 50000 + b"\n"
            assert max(len(entry.data) for entry in made.logs()) == 16384

    def test_tail_since_streams(self, engine: Engine) -> None:
        with container(engine, shell("for i in 1 2 3 4; do echo $i; done; echo e >&2")) as made:
            made.wait()
            assert [e.data for e in made.logs(tail=2, stderr=False)] in ([b"3\n", b"4\n"], [b"4\n"])
            assert [e.data for e in made.logs(tail=0)] == []
            assert [e.data for e in made.logs(stdout=False)] == [b"e\n"]
            assert list(made.logs(since=time.time() + 100)) == []
            assert len(list(made.logs(until=time.time() + 100))) == 5

    def test_follow_to_the_end(self, engine: Engine) -> None:
        with container(engine, shell("echo 1; read x; echo 2; exit 0"), open_stdin=True) as made:
            follower = made.logs(follow=True)
            assert next(follower).data == b"1\n"
            with made._connect() as connection:
                connection.send(control.ATTACH, control.ATTACH_INPUT)
                connection.send(control.INPUT, payload=b"\n")
                assert [entry.data for entry in follower] == [b"2\n"]

    def test_rotation(self, engine: Engine) -> None:
        script = "i=0; while test $i -lt 3000; do echo line $i; i=$((i+1)); done"
        with container(engine, shell(script), log_opt={"max-size": "64k", "max-file": "2"}) as made:
            made.wait()
            files = [f for f in os.listdir(made.directory) if "-json.log" in f]
            assert len(files) == 2
            assert all(os.path.getsize(f"{made.directory}/{f}") <= 64 << 10 for f in files)
            kept = output_of(made).split(b"\n")
            assert kept[-2] == b"line 2999"
            assert len(kept) < 3000

    def test_followed_over_several_rotations(self, engine: Engine) -> None:
        """The reader misses nothing that is still there, however far the files have moved on."""
        script = "read go; i=0; while test $i -lt 1500; do echo line $i; i=$((i+1)); done"
        options = {"log_opt": {"max-size": "32k", "max-file": "9"}, "open_stdin": True}
        with container(engine, shell("echo begin; " + script), **options) as made:
            made.wait_for(log="begin", timeout=60)
            follower = made.logs(follow=True)
            assert next(follower).data == b"begin\n"
            with made._connect() as connection:
                connection.send(control.ATTACH, control.ATTACH_INPUT)
                connection.send(control.INPUT, payload=b"\n")
                made.wait(60)
            assert len([f for f in os.listdir(made.directory) if "-json.log" in f]) > 3
            assert [entry.data for entry in follower] == [b"line %d\n" % i for i in range(1500)]

    def test_local_is_compressed(self, engine: Engine) -> None:
        script = "i=0; while test $i -lt 3000; do echo line $i; i=$((i+1)); done; sleep 1000"
        options = {"log_driver": "local", "log_opt": {"max-size": "64k", "max-file": "9"}}
        with container(engine, shell(script), **options) as made:
            made.wait_for(log="line 2999", timeout=60)
            wait_until(made, lambda: any(f.endswith(".1.gz") for f in os.listdir(made.directory)))
            assert len(output_of(made).splitlines()) == 3000

    def test_full_disk(self, engine: Engine, tmp_path: Path) -> None:
        """Log lines are lost, never the container; and commands still work."""
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "full", str(tmp_path)], check=True)
        try:
            with Engine(tmp_path / "root") as small:
                small.images.import_tar(io.BytesIO(busybox_tar()), "busybox")
                script = "i=0; while test $i -lt 40; do seq 100000; i=$((i+1)); done; exit 7"
                # Linux maps the ids of a tmpfs from 6.3 on.
                options = {"log_opt": {"max-size": "-1"}, "network": "none", "userns": "host"}
                with container(small, shell(script), **options) as made:
                    assert made.wait(60) == 7
                    status = os.statvfs(tmp_path)
                    assert status.f_bavail * status.f_frsize < 2 << 20
                    assert next(made.logs()).data == b"1\n"
                    small.close()
                    with Engine(tmp_path / "root") as fresh:
                        again = fresh.containers.create("busybox", ["true"], network="none", userns="host")
                        again.start()
                        assert again.wait() == 0
                        again.remove()
        finally:
            _core.release_kept()
            subprocess.run(["umount", str(tmp_path)], check=True)

    def test_none(self, engine: Engine) -> None:
        with container(engine, ["echo", "x"], log_driver="none") as made:
            made.wait()
            with pytest.raises(SpecError):
                list(made.logs())

"""Real servers of Debian's packages in containers, with clients in others and outside: nginx, redis, PostgreSQL, iperf3."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "kernel"))
from netlab import Lab

from fastdock import PIPE, Container, Engine
from support import busybox_tar, missing

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

PACKAGES = (
    "nginx",
    "redis-server",
    "redis-tools",
    "liblzf1",
    "libjemalloc2",
    "iperf3",
    "libiperf0",
    "libsctp1",
)
PLACE = "/opt/servers"
POSTGRES = Path("/usr/lib/postgresql/15/bin")
NGINX = """
daemon off; user root; pid /tmp/pid; error_log /dev/stderr; events {}
http {
  access_log /dev/stdout; client_body_temp_path /tmp/a; proxy_temp_path /tmp/b; fastcgi_temp_path /tmp/c;
  uwsgi_temp_path /tmp/d; scgi_temp_path /tmp/e;
  server { listen 80; listen [::]:80; location / { return 200 "hello $remote_addr"; } }
}
"""


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages' files, below one directory."""
    directory = tmp_path_factory.mktemp("servers")
    for place in (directory, *directory.parents[:2]):
        place.chmod(0o755)  # containers with ids of their own walk through it
    done = subprocess.run(
        ["apt-get", "download", *PACKAGES], cwd=directory, capture_output=True, text=True, check=False
    )
    if done.returncode:
        missing(f"no package mirror: {done.stderr[-200:]}")
    for package in directory.glob("*.deb"):
        subprocess.run(["dpkg", "-x", str(package), str(directory)], check=True)
    (directory / "nginx.conf").write_text(NGINX)
    return directory


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path)
    yield made
    made.close()


@pytest.fixture
def town(lab: Lab, tmp_path: Path) -> Iterator[Engine]:
    """An engine in the lab's host, with the network ``app``."""
    with Engine(tmp_path / "root") as engine:
        engine.images.import_tar(io.BytesIO(busybox_tar()), "busybox")
        engine.networks.create("app", ipv6=True)
        yield engine
        for made in engine.containers:
            made.remove(force=True)


@contextlib.contextmanager
def serving(
    town: Engine, servers: Path, command: list[str], port: int, **options: Any
) -> Iterator[Container]:
    made = town.containers.create("host", command, **{**with_packages(servers), "network": "app", **options})
    try:
        made.start()
        made.wait_for(port=port, timeout=60)
        yield made
    finally:
        made.remove(force=True)


def with_packages(servers: Path) -> dict[str, Any]:
    library = f"{PLACE}/usr/lib/x86_64-linux-gnu"
    return {"volumes": [f"{servers}:{PLACE}:ro"], "env": {"LD_LIBRARY_PATH": library}}


def client(town: Engine, servers: Path, *command: str, **options: Any) -> str:
    options = {**with_packages(servers), "network": "app", **options}
    done = town.run("host", list(command), stdout=PIPE, stderr=PIPE, text=True, timeout=60, **options)
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


_GET = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=10).read().decode())"


def test_nginx(lab: Lab, town: Engine, servers: Path) -> None:
    command = [f"{PLACE}/usr/sbin/nginx", "-c", f"{PLACE}/nginx.conf"]
    with serving(town, servers, command, 80, name="web", publish=["8080:80"], network_alias=["www"]) as web:
        for name in ("web", "www", web.short_id, "web.app"):
            assert client(town, servers, "python3", "-c", _GET, f"http://{name}/").startswith("hello ")
        for address in (lab.HOST4, f"[{lab.HOST6}]"):
            said = lab.outside.call(lambda url=f"http://{address}:8080/": urllib.request.urlopen(url).read())  # type: ignore[misc]
            assert said.decode() in (f"hello {lab.OUTSIDE4}", f"hello {lab.OUTSIDE6}"), (
                "the source address is kept"
            )
        assert client(town, servers, "python3", "-c", _GET, f"http://{lab.HOST4}:8080/", network="bridge")
        town.networks.create("other")
        with pytest.raises(AssertionError):
            client(town, servers, "python3", "-c", _GET, "http://web/", network="other")
        lab.nft("flush", "ruleset")  # everybody's rules, in the middle
        town.networks.repair()
        said = lab.outside.call(lambda: urllib.request.urlopen(f"http://{lab.HOST4}:8080/").read())
        assert said.decode() == f"hello {lab.OUTSIDE4}"


def test_redis(town: Engine, servers: Path) -> None:
    command = [f"{PLACE}/usr/bin/redis-server", "--protected-mode", "no", "--save", ""]
    tool = f"{PLACE}/usr/bin/redis-cli"
    with serving(town, servers, command, 6379, name="redis") as redis:
        assert client(town, servers, tool, "-h", "redis", "set", "a", "1") == "OK\n"
        assert client(town, servers, tool, "-h", "redis", "get", "a") == "1\n"
        address = redis.inspect()["NetworkSettings"]["IPAddress"]
        redis.restart(0)
        redis.wait_for(port=6379, timeout=60)
        assert redis.inspect()["NetworkSettings"]["IPAddress"] == address
        assert client(town, servers, tool, "-h", "redis", "ping") == "PONG\n"


def test_postgres(lab: Lab, town: Engine, servers: Path) -> None:
    if not (POSTGRES / "postgres").exists():
        missing("no PostgreSQL 15 (apt-get install postgresql)")
    script = (
        f"{POSTGRES}/initdb -D /tmp/db -U web -A trust >/dev/null && echo 'host all all all trust' >> /tmp/db/pg_hba.conf && "
        f"exec {POSTGRES}/postgres -D /tmp/db -c listen_addresses='*' -c unix_socket_directories=/tmp"
    )
    ask = [str(POSTGRES / "psql"), "-h", "db", "-U", "web", "-d", "postgres", "-Atc"]
    with serving(town, servers, ["sh", "-c", script], 5432, name="db", user="www-data"):
        who = {"user": "1000"}
        assert client(town, servers, *ask, "select 6 * 7", **who) == "42\n"
        rows = client(town, servers, *ask, "select count(*) from generate_series(1, 100000)", **who)
        assert rows == "100000\n"


@pytest.mark.parametrize("how", ["tcp", "udp", "reverse", "six"])
def test_iperf3(lab: Lab, town: Engine, servers: Path, how: str) -> None:
    """Megabytes go through, between containers and through a published port."""
    program = f"{PLACE}/usr/bin/iperf3"
    more = {"tcp": [], "udp": ["-u", "-b", "100M"], "reverse": ["-R"], "six": ["-6"]}[how]
    with serving(town, servers, [program, "-s"], 5201, name="meter", publish=["5201:5201", "5201:5201/udp"]):
        said = client(town, servers, program, "-c", "meter", "-n", "20M", "-J", *more)
        assert (
            json.loads(said)["end"]["sum"]["bytes"] >= 20 << 20
            if how == "udp"
            else "error" not in json.loads(said)
        )
        library = {**os.environ, "LD_LIBRARY_PATH": f"{servers}/usr/lib/x86_64-linux-gnu"}
        words = [
            f"{servers}/usr/bin/iperf3",
            "-c",
            lab.HOST6 if how == "six" else lab.HOST4,
            "-n",
            "20M",
            "-J",
            *more,
        ]
        done = lab.outside.call(lambda: subprocess.run(words, env=library, capture_output=True, text=True))
        assert "error" not in json.loads(done.stdout), done.stdout


def test_500_containers_on_one_network(lab: Lab, town: Engine) -> None:
    """Each has an address of its own, finds and reaches the others; at the end everything is given back."""
    town.run("busybox", ["true"], network="app", publish=["80"])
    empty = lab.nft("list", "map", "inet", table_of(town), "ports4")
    running = [
        town.Popen("busybox", ["sleep", "1000"], network="app", name=f"c{number}", publish=["80"])
        for number in range(500)
    ]
    try:
        network = town.networks.get("app")
        addresses = [
            endpoint.plain_addresses[0]
            for _, document in town.networks.endpoints(network).values()
            for endpoint in document.endpoints
        ]
        assert len(set(addresses)) == 500
        script = "for n in 0 250 499; do ping -c1 -W5 c$n || exit 1; done"
        done = town.run("busybox", ["sh", "-c", script], network="app", stdout=PIPE, stderr=PIPE)
        assert done.returncode == 0, done
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.wait()
    (left,) = town.store.database.execute("SELECT count(*) FROM network_addresses").fetchone()
    assert left == 0
    assert lab.nft("list", "map", "inet", table_of(town), "ports4") == empty


def table_of(town: Engine) -> str:
    return str(town.networks._scope.table)

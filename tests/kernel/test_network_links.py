"""``--link``: names and variables of other containers, as docker 28 has them."""

from __future__ import annotations

import pytest
from kept import SLEEP, container
from netlab import Lab
from test_containers_network import address_of, net_engine
from test_network_commands import app, command, reaches, says

from fastdock import PIPE, ContainerNotFound, ContainerNotRunning, Engine, SpecError

pytestmark = pytest.mark.kernel
__all__ = ["app", "net_engine"]


def test_on_a_network_of_ones_own_an_alias_is_the_linkers_alone(
    lab: Lab, net_engine: Engine, app: str
) -> None:
    with (
        container(net_engine, network=app, name="db"),
        container(net_engine, network=app, name="web", link=["db:data", "db"]) as web,
        container(net_engine, network=app, name="other") as other,
    ):
        assert reaches(web, "data")
        assert reaches(web, "data.app")
        assert reaches(web, "db")
        assert not reaches(other, "data")
        assert "data" not in says(web, "cat /etc/hosts; env")
        document = web.inspect()
        assert document["HostConfig"]["Links"] is None
        assert document["NetworkSettings"]["Networks"]["app"]["Links"] == ["db:data", "db:db"]
        web.restart(0)
        assert reaches(web, "data")
        run = ("run", "--rm", "--network", app, "--link", "db:data", "busybox", "sh", "-c")
        command(net_engine, *run, "ping -c1 -W2 data")


def test_a_link_leads_to_whoever_is_called_so(lab: Lab, net_engine: Engine, app: str) -> None:
    """The other need not be there yet, and may be another one later."""
    with container(net_engine, network=app, name="web", link=["db:data"]) as web:
        assert not reaches(web, "data")
        with container(net_engine, network=app, name="db"):
            assert reaches(web, "data")
        assert not reaches(web, "data")


def test_connect_with_a_link(lab: Lab, net_engine: Engine, app: str) -> None:
    with (
        container(net_engine, network=app, name="db"),
        container(net_engine, name="web"),
    ):
        command(net_engine, "network", "connect", "--link", "db:late", app, "web")
        web = net_engine.containers.get("web")
        assert reaches(web, "late")
        assert web.inspect()["NetworkSettings"]["Networks"]["app"]["Links"] == ["db:late"]
        web.restart(0)
        assert reaches(web, "late")
        web.disconnect(app)
        assert not reaches(web, "late")
        web.disconnect("bridge")
        with pytest.raises(SpecError, match="when a container is created"):
            web.connect("bridge", links=["db:x"])


def test_on_the_default_bridge_hosts_and_variables(lab: Lab, net_engine: Engine) -> None:
    with container(net_engine, name="my-db", expose=["5432", "53/udp"], env={"PW": "secret"}) as db:
        address = address_of(db)
        with container(net_engine, name="web", link=["my-db:data", "my-db"], env={"DATA_NAME": "own"}) as web:
            lines = says(web, "cat /etc/hosts").splitlines()
            assert f"{address}\tdata {db.id[:12]} my-db" in lines
            assert f"{address}\tmy-db {db.id[:12]}" in lines
            assert reaches(web, "data")
            variables = says(web, "tr '\\0' '\\n' < /proc/1/environ").splitlines()
            assert {
                f"MY_DB_PORT=tcp://{address}:5432",
                f"MY_DB_PORT_5432_TCP=tcp://{address}:5432",
                f"MY_DB_PORT_5432_TCP_ADDR={address}",
                "MY_DB_PORT_5432_TCP_PORT=5432",
                "MY_DB_PORT_53_UDP_PROTO=udp",
                "MY_DB_NAME=/web/my-db",
                "MY_DB_ENV_PW=secret",
                "DATA_NAME=own",
            } <= {*variables}
            assert not any(each.startswith("DATA_ENV_PATH") for each in variables)
            assert {*says(web, "env").splitlines()} >= {f"DATA_PORT=tcp://{address}:5432", "DATA_NAME=own"}
            assert web.inspect()["HostConfig"]["Links"] == ["/my-db:/web/data", "/my-db:/web/my-db"]
        run = ("run", "--rm", "--link", "my-db:data", "busybox", "sh", "-c", "env; cat /etc/hosts")
        said = command(net_engine, *run).splitlines()
        assert f"DATA_PORT_5432_TCP=tcp://{address}:5432" in said
        assert f"{address}\tdata {db.id[:12]} my-db" in said


def test_variables_of_ranges_of_ports(lab: Lab, net_engine: Engine) -> None:
    """As docker 28 has them: consecutive ports of one protocol; TCP goes before the others."""
    exposed = ["79/udp", "80-82", "81/udp", "82/udp", "84", "90-91/sctp"]
    with (
        container(net_engine, name="db", expose=exposed) as db,
        container(net_engine, name="web", link=["db"]) as web,
    ):
        address = address_of(db)
        variables = [each for each in says(web, "env").splitlines() if each.startswith("DB_PORT")]
        assert f"DB_PORT=tcp://{address}:80" in variables
        assert {each for each in variables if "_START=" in each or "_END=" in each} == {
            f"DB_PORT_{first}_{protocol.upper()}_{word}"
            for first, last, protocol in ((80, 82, "tcp"), (90, 91, "sctp"), (81, 82, "udp"))
            for word in (
                f"START={protocol}://{address}:{first}",
                f"PORT_START={first}",
                f"END={protocol}://{address}:{last}",
                f"PORT_END={last}",
            )
        }
        assert f"DB_PORT_84_TCP_ADDR={address}" in variables


def test_the_other_may_be_called_differently(lab: Lab, net_engine: Engine) -> None:
    """A link on the default bridge is to the container, whatever it is called, as docker 28 has it."""
    with (
        container(net_engine, name="db") as db,
        container(net_engine, name="web", link=["db:data"]) as web,
    ):
        db.rename("store")
        assert web.inspect()["HostConfig"]["Links"] == ["/store:/web/data"]
        with container(net_engine, name="db"):
            web.rename("shop")
            web.restart(0)
            assert f"{address_of(db)}\tdata {db.id[:12]} store" in says(web, "cat /etc/hosts").splitlines()
            assert "DATA_NAME=/shop/data" in says(web, "env")
            assert web.inspect()["HostConfig"]["Links"] == ["/store:/shop/data"]
            db.stop(0)
            assert "DATA_NAME" not in says(web, "env")
            web.stop(0)
            with pytest.raises(ContainerNotRunning, match="cannot link to store, as data"):
                web.start()
            db.remove()
            with pytest.raises(ContainerNotRunning, match=f"cannot link to {db.id}, as data"):
                web.start()
            assert web.inspect()["HostConfig"]["Links"] == [f"/{db.id}:/shop/data"]


def test_hosts_follow_the_other_to_its_new_address(lab: Lab, net_engine: Engine) -> None:
    with (
        container(net_engine, name="db") as db,
        container(net_engine, name="web", link=["db:data"]) as web,
    ):
        says(web, "echo '10.0.0.1 mine' >> /etc/hosts")
        old = address_of(db)
        db.stop(0)
        with container(net_engine) as filler:
            assert address_of(filler) == old
            db.start()
            assert address_of(db) != old
            lines = says(web, "cat /etc/hosts").splitlines()
            assert f"{address_of(db)}\tdata {db.id[:12]} db" in lines
            assert not any(line.startswith(f"{old}\t") for line in lines)
            assert "10.0.0.1 mine" in lines
            assert reaches(web, "data")


def test_the_other_must_run_on_the_default_bridge(lab: Lab, net_engine: Engine, app: str) -> None:
    with pytest.raises(ContainerNotFound, match="db"):
        net_engine.containers.create("busybox", SLEEP, name="web", link=["db"])
    with (
        container(net_engine, name="db") as db,
        container(net_engine, network=app, name="elsewhere"),
        container(net_engine, name="web", link=["db:data"]) as web,
    ):
        web.stop(0)
        db.stop(0)
        with pytest.raises(ContainerNotRunning, match="cannot link to db, as data"):
            web.start()
        db.start()
        web.start()
        with pytest.raises(ContainerNotRunning, match="cannot link to elsewhere"):
            net_engine.run("busybox", ["true"], network="bridge", link=["elsewhere"], stdout=PIPE)


@pytest.mark.parametrize("network", ["host", "none", "container:db"])
def test_links_need_a_network(lab: Lab, net_engine: Engine, network: str) -> None:
    with pytest.raises(SpecError, match="links are to others on a network"):
        net_engine.containers.create("busybox", SLEEP, network=network, link=["db"])


@pytest.mark.parametrize("link", ["", ":", "db:", ":x", "a:b:c", "db:a b", "db:x/y", "db:x\ny"])
def test_what_is_no_link(lab: Lab, net_engine: Engine, link: str) -> None:
    with pytest.raises(SpecError, match="bad --link"):
        net_engine.containers.create("busybox", SLEEP, network="bridge", link=[link])

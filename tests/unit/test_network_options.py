"""The forms of ports, hosts, egress policies and files."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdock._errors import SpecError
from fastdock.endpoint import attachments_of
from fastdock.network import (
    PortSpec,
    PublishedPort,
    ResolvConf,
    files,
    hosts,
    model,
    parse_port,
    parse_resolv_conf,
    resolv_conf,
)
from fastdock.network.files import check_hostname, parse_add_host
from fastdock.network.ipam import mac_of, make_subnet, pick_subnet
from fastdock.network.model import parse_egress
from fastdock.network.ports import families, target
from fastdock.options import options_from


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("80", PortSpec(80)),
        ("80/UDP", PortSpec(80, "udp")),
        ("8080:80", PortSpec(80, "tcp", "", range(8080, 8081))),
        ("127.0.0.1:8080:80/sctp", PortSpec(80, "sctp", "127.0.0.1", range(8080, 8081))),
        ("127.0.0.1::80", PortSpec(80, "tcp", "127.0.0.1")),
        ("[fd00::1]:8080:80", PortSpec(80, "tcp", "fd00::1", range(8080, 8081))),
        ("8000-8010:80", PortSpec(80, "tcp", "", range(8000, 8011))),
        (":80", PortSpec(80)),
        ("0:80", PortSpec(80)),
        ("target=80", PortSpec(80)),
        ("published=8080,target=80,protocol=udp,mode=host", PortSpec(80, "udp", "", range(8080, 8081))),
    ],
)
def test_port_forms(text: str, spec: PortSpec) -> None:
    assert parse_port(text) == [spec]


def test_port_ranges() -> None:
    assert [(p.container_port, p.host_ports) for p in parse_port("9000-9001:80-81")] == [
        (80, range(9000, 9001)),
        (81, range(9001, 9002)),
    ]
    assert [p.container_port for p in parse_port("80-82")] == [80, 81, 82]


@pytest.mark.parametrize("text", [
    "", "x", "0", "65536", "80/icmp", "1-2:3-5", "5-3:80", "a:80:80", "1:2:3:4", "[::1:80:80", "-80", "80-", "8 0:80",
    "localhost:80:80", "127.0.0.1:80", "\u0661:80", "[fd00::1]", "1.2.3.4:5.6.7.8:9:80",
    "published=80", "target=80,x=y", "target=80,target=81", "target=a", "target=80,mode=x", "target=80-81",
])  # fmt: skip
def test_what_is_no_port(text: str) -> None:
    with pytest.raises(SpecError):
        parse_port(text)


@given(st.text(max_size=30))
def test_any_text_is_a_port_or_an_error(text: str) -> None:
    try:
        specs = parse_port(text)
    except SpecError:
        return
    assert all(0 < spec.container_port <= 65535 for spec in specs)


def test_families_of_a_port() -> None:
    assert families(PortSpec(80)) == ((socket.AF_INET, ""), (socket.AF_INET6, ""))
    assert families(PortSpec(80, host="0.0.0.0")) == ((socket.AF_INET, ""),)
    assert families(PortSpec(80, host="fd00::1")) == ((socket.AF_INET6, "fd00::1"),)
    assert families(PortSpec(80, host="::1")) == ((socket.AF_INET6, "::1"),)


def test_where_a_port_leads() -> None:
    four, both = {socket.AF_INET: "10.0.0.2"}, {socket.AF_INET: "10.0.0.2", socket.AF_INET6: "fd00::2"}
    assert target("tcp", socket.AF_INET6, both) == ("fd00::2", False)
    assert target("tcp", socket.AF_INET6, four) == ("10.0.0.2", True)
    assert target("sctp", socket.AF_INET6, four) is None
    assert target("tcp", socket.AF_INET, {socket.AF_INET6: "fd00::2"}) is None


def test_hosts_as_docker_writes_them() -> None:
    text = hosts("box", ["172.17.0.2"], [("db", "10.0.0.1")], "lan")
    assert text.splitlines() == [
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        "fe00::0\tip6-localnet",
        "ff00::0\tip6-mcastprefix",
        "ff02::1\tip6-allnodes",
        "ff02::2\tip6-allrouters",
        "10.0.0.1\tdb",
        "172.17.0.2\tbox.lan box",
    ]


def test_resolv_conf_is_read_as_the_c_library_does() -> None:
    conf = parse_resolv_conf(
        "# a\nnameserver 127.0.0.53\nnameserver bad\nnameserver fe80::1%eth0\n"
        "domain a.b\nsearch c.d e.f\noptions ndots:2\nnameserver\n;x\n"
    )
    assert conf == ResolvConf(("127.0.0.53", "fe80::1%eth0"), ("c.d", "e.f"), ("ndots:2",))
    assert conf.reachable_nameservers == ("fe80::1%eth0",)
    assert (
        resolv_conf(conf)
        == "search c.d e.f\nnameserver 127.0.0.53\nnameserver fe80::1%eth0\noptions ndots:2\n"
    )
    assert resolv_conf(ResolvConf(("1.1.1.1",), (".",))) == "nameserver 1.1.1.1\n"


@given(st.text())
def test_any_resolv_conf_can_be_read(text: str) -> None:
    assert parse_resolv_conf(resolv_conf(parse_resolv_conf(text))) is not None


def test_hosts_follow_the_addresses() -> None:
    text = files.hosts("box", ["10.0.0.2"])
    more = files.hosts_with(text + "192.0.2.1\tmine\n", "box", ["10.1.0.2"], [])
    assert more == text + "192.0.2.1\tmine\n10.1.0.2\tbox\n"
    assert files.hosts_with(more, "box", [], ["10.0.0.2", "10.1.0.2"]).endswith(
        "ip6-allrouters\n192.0.2.1\tmine\n"
    )


def test_documents_survive_the_database() -> None:
    endpoint = model.Endpoint(
        "n", "app", "bridge", "b", "eth0", "02:00:00:00:00:01", ("10.0.0.2/24",), ("10.0.0.1",)
    )
    document = model.Document(
        endpoints=(endpoint,),
        ports=(PublishedPort("tcp", "", 80, "10.0.0.2", 8080),),
        egress=model.Egress(("10.0.0.0/8",), ("example.org",)),
        upstreams=("192.0.2.53",),
        uses_resolver=True,
        exposed=("80/tcp",),
        hostname="box.dom box",
    )
    assert model.document_from(document.to_json()) == document
    assert model.document_from(model.Document(()).to_json()) == model.Document(())


def test_networks_in_dockers_forms() -> None:
    def network(value: object) -> str:
        return options_from({"network": value}).network

    assert network("default") == "bridge"
    assert network(["app", "name=b,alias=x,ip=10.0.0.2"]) == "app,b;alias=x;ip=10.0.0.2"
    assert options_from({}).network == "none"
    assert options_from({"network": None}, network="bridge").network == "bridge"
    for bad in (
        "name=",
        "alias=x",
        "name=a,b=c",
        "",
        "a,b",
        "a;b",
        "name=a,gw-priority=x",
        "name=a,driver-opt=x",
    ):
        with pytest.raises(SpecError):
            network(bad)
    options = options_from({"network": ['name=a,"driver-opt=k=1,2;3",gw-priority=-1,Alias=x', "b"]})
    first, second = attachments_of(options)
    assert (first.driver_opts, first.gw_priority, first.aliases) == ((("k", "1,2;3"),), -1, ("x",))
    assert second == model.Attachment("b")


def test_add_host() -> None:
    assert parse_add_host("a:1.2.3.4", ()) == [("a", "1.2.3.4")]
    assert parse_add_host("a:[fd00::1]", ()) == [("a", "fd00::1")]
    assert parse_add_host("a=fd00::1", ()) == [("a", "fd00::1")]
    assert parse_add_host("a:host-gateway", ("172.17.0.1",)) == [("a", "172.17.0.1")]
    for bad in ("a", "a:", ":1.2.3.4", "a:b", "a b:1.2.3.4", "a\nb:1.2.3.4", "a:host-gateway"):
        with pytest.raises(SpecError):
            parse_add_host(bad, ())


def test_the_name_in_its_own_hosts() -> None:
    """libnetwork, etchosts.Build(): the whole name and the bare one, however they were given."""
    assert files.own_names("foo", "") == "foo"
    assert files.own_names("foo", "bar.com") == "foo.bar.com foo"
    assert files.own_names("foo.bar.com", "") == "foo.bar.com foo"


def test_what_docker_refuses() -> None:
    for wrong in (
        {"dns": ["foo"]}, {"dns": [""]}, {"dns_search": ["a b"]}, {"dns_search": [""]},
        {"network": "none", "ip": "1.2.3.4"}, {"network": "host", "ip6": "fd00::1"}, {"network": "bridge", "ip": "1.2.3.4"},
        {"network": "bridge", "network_alias": ["x"]}, {"network": "host", "mac_address": "02:42:ac:11:00:02"},
        {"network": "container:x", "hostname": "a"}, {"network": "container:x", "dns": ["1.1.1.1"]},
        {"network": "container:x", "add_host": ["a:1.1.1.1"]}, {"network": "container:x", "publish": ["80"]},
        {"network": "container:x", "publish_all": True}, {"network": "container:x", "expose": ["80"]},
        {"network": "container:x", "mac_address": "02:42:ac:11:00:02"}, {"network": "container:x", "ip": "1.2.3.4"},
        {"network": "container:x", "network_alias": ["y"]},
    ):  # fmt: skip
        with pytest.raises(SpecError):
            options_from(wrong)
    options_from(
        {"network": "app", "ip": "1.2.3.4", "network_alias": ["x"], "dns": ["fe80::1%eth0", "1.1.1.1"]}
    )
    options_from({"dns_search": ["a.b", "c.d.", "_x.y", "."]})


def test_hostnames() -> None:
    assert check_hostname("a" * 64)
    assert check_hostname("a-b.c_d.e9") == "a-b.c_d.e9"
    for bad in ("", "-a", "a-", "a..b", "a b", "a\n", "x" * 65, "ä"):
        with pytest.raises(SpecError):
            check_hostname(bad)


def test_egress_policies() -> None:
    assert parse_egress("allow") is None
    deny = parse_egress("deny")
    assert deny is not None
    assert (deny.prefixes, deny.domains) == ((), ())
    some = parse_egress("10.1.2.3/8, Example.ORG,*.a.b,fd00::/8,1.1.1.1")
    assert some is not None
    assert (some.prefixes, some.domains) == (("10.0.0.0/8", "fd00::/8", "1.1.1.1/32"), ("example.org", "a.b"))
    for bad in ("1.2.3", "a b", "10.0.0.0/33", "http://x/"):
        with pytest.raises(SpecError):
            parse_egress(bad)


@given(st.lists(st.integers(17, 31), max_size=15))
def test_picked_subnets_overlap_nothing(used: list[int]) -> None:
    taken = [f"172.{second}.3.0/24" for second in used]
    picked = ipaddress.ip_network(pick_subnet(4, taken))
    assert not any(picked.overlaps(ipaddress.ip_network(network)) for network in taken)


def test_more_networks_than_docker_has_room_for() -> None:
    taken = [*(f"172.{second}.0.0/16" for second in range(17, 32)), "192.168.0.0/16", "10.89.0.0/24"]
    assert pick_subnet(4, taken) == "10.89.1.0/24"


def test_subnets() -> None:
    assert make_subnet("10.1.0.0/16").gateway == "10.1.0.1"
    assert make_subnet("10.1.0.0/16", "10.1.0.254", "10.1.5.0/24").ip_range == "10.1.5.0/24"
    assert mac_of(["172.17.0.2"]) == "02:42:ac:11:00:02"
    assert mac_of(["fd00::2"]).startswith("02:42:")

"""``fastdock network`` beside ``docker network`` (docker 28's command line, seen with a dockerd): lists, filters, lists of words."""

from __future__ import annotations

import json

import pytest
from kept import container
from netlab import Lab
from test_containers_network import net_engine
from test_network_commands import command

from fastdock import Engine

pytestmark = pytest.mark.kernel
__all__ = ["net_engine"]


def listed(engine: Engine, *words: str) -> list[str]:
    return command(engine, "network", "ls", *words).splitlines()


def test_list(lab: Lab, net_engine: Engine) -> None:
    for name in ("n10", "n2", "n1"):
        command(net_engine, "network", "create", "--label", "a=b", "--label", "c", name)
    names = ["bridge", "host", "n1", "n2", "n10", "none"]
    assert listed(net_engine, "--format", "{{.Name}}") == names
    ids = listed(net_engine, "-q", "--no-trunc")
    assert [len(each) for each in ids] == [64] * 6
    assert (
        listed(net_engine, "-q")
        == listed(net_engine, "-q", "--format", "table")
        == [each[:12] for each in ids]
    )
    assert listed(net_engine, "-q", "--format", "{{.Name}}") == names  # a template goes before -q
    assert listed(
        net_engine, "-f", "name=n1$", "--format", '{{.IPv4}} {{.IPv6}} {{.Labels}} {{.Label "a"}}'
    ) == ["true false a=b,c= b"]
    heading, _ = listed(net_engine, "-f", "name=n1$", "--format", r"table {{.IPv4}}\t{{.CreatedAt}}")
    assert heading.split("  ")[0] == "IPV4"
    (line,) = listed(net_engine, "-f", "name=n1$", "--format", "json")
    document = json.loads(line)
    fields = ["CreatedAt", "Driver", "ID", "IPv4", "IPv6", "Internal", "Labels", "Name", "Scope"]
    assert list(document) == fields
    assert (document["ID"], document["IPv4"]) == (ids[2][:12], "true")


def test_filters(lab: Lab, net_engine: Engine) -> None:
    for name in ("app", "web-app"):
        command(net_engine, "network", "create", name)
    form = ("--format", "{{.Name}}")
    assert listed(net_engine, "-f", "name=^app", *form) == ["app"]
    assert listed(net_engine, "-f", "name=[", *form) == []
    assert listed(net_engine, "-f", "Name = app$ ", "-f", "", *form) == ["app", "web-app"]
    (whole,) = listed(net_engine, "-q", "--no-trunc", "-f", "name=^app$")
    for part in (whole, whole[:5], f"^{whole[:12]}", whole[20:40]):
        assert listed(net_engine, "-f", f"id={part}", *form) == ["app"]
    said = command(net_engine, "network", "ls", "-f", "dangling", code=125)
    assert "bad format of filter (expected name=value)" in said


def test_times_of_prune(lab: Lab, net_engine: Engine) -> None:
    command(net_engine, "network", "create", "app")
    prune = ("network", "prune", "-f", "--filter")
    for before in ("until=2001-01-02T03:04:05", "until=2001-01-02", "until=1000000000", "until=10m"):
        assert command(net_engine, *prune, before) == ""
    assert command(net_engine, *prune, "until=2100-01-01T00:00:00Z") == "Deleted Networks:\napp\n\n"


def test_several_words_of_one_option(lab: Lab, net_engine: Engine) -> None:
    """Docker's options of type "strings" take a list with commas."""
    create = ("network", "create", "--subnet", "10.91.0.0/16,fd91::/64", "--gateway", "10.91.0.9,fd91::9")
    command(net_engine, *create, "--ipv6", "--ip-range", "10.91.7.0/24,fd91::7:0/112", "app")
    (shown,) = json.loads(command(net_engine, "network", "inspect", "app"))
    assert shown["IPAM"]["Config"] == [
        {"Subnet": "10.91.0.0/16", "IPRange": "10.91.7.0/24", "Gateway": "10.91.0.9"},
        {"Subnet": "fd91::/64", "IPRange": "fd91::7:0/112", "Gateway": "fd91::9"},
    ]
    assert list(shown["IPAM"]["Config"][0]) == ["Subnet", "IPRange", "Gateway"]
    with container(net_engine, name="web"):
        options = ("--alias", "one,two", "--driver-opt", "a=b,c=d")
        command(net_engine, "network", "connect", *options, "app", "web")
        here = net_engine.containers.get("web").inspect()["NetworkSettings"]["Networks"]["app"]
        assert {"one", "two"} <= {*here["Aliases"]}
        assert here["DriverOpts"] == {"a": "b", "c": "d"}


def test_a_subnet_that_is_an_address(lab: Lab, net_engine: Engine) -> None:
    said = command(net_engine, "network", "create", "--subnet", "10.91.0.7/16", "app", code=1)
    assert "10.91.0.7/16" in said
    assert "10.91.0.0/16" in said


def test_group_without_a_command_prints_its_help(lab: Lab, net_engine: Engine) -> None:
    assert "disconnect" in command(net_engine, "network")
    command(net_engine, "network", "nope", code=1)

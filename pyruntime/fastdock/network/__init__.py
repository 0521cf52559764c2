"""Networks of containers: bridges, addresses, ports, names."""

from .files import RESOLVER, ResolvConf, hosts, parse_resolv_conf, resolv_conf
from .model import (
    Addresses,
    Attachment,
    Document,
    Egress,
    Endpoint,
    Network,
    NetworkOptions,
    NetworkPlan,
    attachment_of,
)
from .networks import Networks
from .ports import PortSpec, PublishedPort, parse_port

__all__ = [
    "RESOLVER",
    "Addresses",
    "Attachment",
    "Document",
    "Egress",
    "Endpoint",
    "Network",
    "NetworkOptions",
    "NetworkPlan",
    "Networks",
    "PortSpec",
    "PublishedPort",
    "ResolvConf",
    "attachment_of",
    "hosts",
    "parse_port",
    "parse_resolv_conf",
    "resolv_conf",
]

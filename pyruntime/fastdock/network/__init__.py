"""Networks of containers: bridges, addresses, ports, names."""

from .files import RESOLVER, ResolvConf, hosts, parse_resolv_conf, resolv_conf
from .model import Attachment, Document, Egress, Endpoint, Network, NetworkOptions, NetworkPlan
from .networks import Networks
from .ports import PortSpec, PublishedPort, parse_port

__all__ = [
    "RESOLVER",
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
    "hosts",
    "parse_port",
    "parse_resolv_conf",
    "resolv_conf",
]

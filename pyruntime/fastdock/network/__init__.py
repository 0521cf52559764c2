"""Networks of containers: bridges, addresses, ports, names.

Imported when first used, as in ``fastdock`` itself: a container without a network needs the texts of ``files`` alone.
"""

from __future__ import annotations

TYPE_CHECKING = False  # see fastdock._light
if TYPE_CHECKING:
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

_HOME = {
    **dict.fromkeys(("RESOLVER", "ResolvConf", "hosts", "parse_resolv_conf", "resolv_conf"), "files"),
    **dict.fromkeys(("Addresses", "Attachment", "Document", "Egress", "Endpoint", "Network"), "model"),
    **dict.fromkeys(("NetworkOptions", "NetworkPlan", "attachment_of"), "model"),
    **dict.fromkeys(("PortSpec", "PublishedPort", "parse_port"), "ports"),
    "Networks": "networks",
}

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


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)

"""Options of networks as Docker's command line has them: what is refused, and what a container then sees."""

from __future__ import annotations

import pytest
from kept import container
from netlab import Lab
from test_containers_network import net_engine
from test_network_commands import app, command, says

from fastdock import Engine, SpecError
from fastdock.network import Attachment, NetworkOptions

pytestmark = pytest.mark.kernel
__all__ = ["app", "net_engine"]


@pytest.mark.parametrize("mac", ["foo", "01:42:ac:11:00:99", "00:00:00:00:00:00"])
def test_a_bad_mac_address_takes_nothing(lab: Lab, net_engine: Engine, mac: str) -> None:
    """What was recorded with one made every later command of the state directory fail."""
    run = ("run", "--rm", "busybox", "true")
    assert "bad MAC address" in command(net_engine, "run", "--mac-address", mac, *run[1:], code=125)
    with pytest.raises(SpecError, match="bad MAC"):
        net_engine.networks.plan("c" * 64, NetworkOptions((Attachment("bridge", mac=mac),)))
    command(net_engine, *run)


def test_a_record_that_cannot_be_read_goes_with_its_owner(lab: Lab, net_engine: Engine) -> None:
    """Of an older version, which took bad MAC addresses."""
    plan = net_engine.networks.plan("c" * 64, NetworkOptions())
    assert plan.document is not None
    (endpoint,) = plan.document.endpoints
    bad = plan.document._replace(endpoints=(endpoint._replace(mac="foo"),)).to_json()
    net_engine.store.database.execute("UPDATE network_containers SET document = ?, owner = '1 0'", (bad,))
    assert net_engine.networks.collect() == 1
    command(net_engine, "run", "--rm", "busybox", "true")


def test_a_mac_address_in_other_spellings(lab: Lab, net_engine: Engine, app: str) -> None:
    with container(net_engine, network=app, mac_address="02-42-AC-11-00-99") as made:
        assert says(made, "cat /sys/class/net/eth0/address") == "02:42:ac:11:00:99\n"

"""Which addresses are whose, against a model: the lowest free one, and back when their container is gone."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdock._errors import Conflict, FastdockError
from fastdock.network import details, ipam
from fastdock.network.ipam import Subnet, make_subnet
from fastdock.network.model import Document
from fastdock.store.database import MIGRATIONS


class Lab:
    """A network in a database of its own."""

    def __init__(self, *subnets: Subnet) -> None:
        self.db = sqlite3.connect(":memory:", isolation_level=None)
        self.db.execute("PRAGMA foreign_keys=ON")
        for script in MIGRATIONS:
            self.db.executescript(script)
        self.db.execute("INSERT INTO networks VALUES ('n', 'n', 'bridge', 'b', 0, '{}', '{}', 0, '{}')")
        for subnet in subnets:
            nothing = bytes(4 if subnet.version == 4 else 16)
            self.db.execute("INSERT INTO network_subnets VALUES ('n', ?, ?, ?, ?, ?)", (*subnet, nothing))

    def take(self, subnet: Subnet, container: str, wanted: str = "", preferred: str = "") -> str:
        address = ipam.allocate(self.db, "n", subnet, container, wanted, preferred)
        details.insert_container(self.db, container, "", "", Document(()), "1 1")
        return address


SMALL = make_subnet("10.1.0.0/28", "10.1.0.5")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.none(), st.integers(0, 15)), max_size=60))
def test_the_lowest_free_address_is_given_out(steps: list[int | None]) -> None:
    """None: a container starts; a number: the one with that address goes, or takes it by name."""
    lab = Lab(SMALL)
    may = [number for number in range(1, 15) if number != 5]
    taken: dict[int, str] = {}
    for step, number in enumerate(steps):
        container = f"c{step}"
        if number is None:
            free = [candidate for candidate in may if candidate not in taken]
            if not free:
                with pytest.raises(FastdockError, match=r"no address is free in 10.1.0.0/28"):
                    lab.take(SMALL, container)
                continue
            assert lab.take(SMALL, container) == f"10.1.0.{free[0]}"
            taken[free[0]] = container
        elif number in taken:
            details.forget(lab.db, taken.pop(number))
        elif number in may:
            assert lab.take(SMALL, container, wanted=f"10.1.0.{number}") == f"10.1.0.{number}"
            taken[number] = container
    rows = lab.db.execute("SELECT address, container_id FROM network_addresses").fetchall()
    assert {row[0][3]: row[1] for row in rows} == taken


def test_a_taken_address_is_refused_with_its_owner() -> None:
    lab = Lab(SMALL)
    lab.take(SMALL, "first", wanted="10.1.0.7")
    with pytest.raises(Conflict, match=r"10.1.0.7 is in use by the container first"):
        lab.take(SMALL, "second", wanted="10.1.0.7")
    assert lab.take(SMALL, "third", preferred="10.1.0.7") == "10.1.0.1"
    details.forget(lab.db, "first")
    assert lab.take(SMALL, "fourth", preferred="10.1.0.7") == "10.1.0.7"


def test_addresses_of_both_versions_come_back_with_their_container() -> None:
    six = make_subnet("fd00::/64")
    lab = Lab(SMALL, six)
    given_out = [ipam.allocate(lab.db, "n", subnet, "both") for subnet in (SMALL, six)]
    details.insert_container(lab.db, "both", "", "", Document(()), "1 1")
    lab.db.execute("INSERT INTO network_ports VALUES (2, 'tcp', 80, '', 'both')")
    assert given_out == ["10.1.0.1", "fd00::2"]
    details.forget(lab.db, "both")
    for table in ("network_addresses", "network_ports", "network_endpoints", "network_containers"):
        assert lab.db.execute(f"SELECT * FROM {table}").fetchall() == []
    assert lab.take(SMALL, "next") == "10.1.0.1"
    assert lab.take(six, "after") == "fd00::2"

"""Kernel tests need root.  Each runs here, and once more on cgroup v2 in a VM (see v2.py)."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import leaks
import v2
from netlab import Lab
from oci_bundle import bundle

from fastdock.containers import reaping

__all__ = ["bundle"]  # a fixture

# What differs on cgroup v2 and on an older kernel (6.1); the VM is 16 times slower, so not all else as well.
ALSO_IN_THE_VM = (
    "test_cgroup.py",
    "test_cgroup_limits.py",
    "test_cgroup_removal.py",
    "test_run.py",
    "test_oci_exec.py",
    "test_oci_hooks.py",
    "test_oci_lifecycle.py",
    "test_oci_like_runc.py",
    "test_oci_messages.py",
    "test_oci_mounts.py",
    "test_oci_namespaces.py",
    "test_oci_process.py",
    "test_oci_resources.py",
    "test_oci_specification.py",
    "test_oci_state.py",
    "test_oci_terminals.py",
    "test_rootless_delegation.py",
    "test_oci_systemd.py",
    "test_oci_systemd_user.py",
)


@pytest.hookimpl(tryfirst=True)  # before -m and -k select
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    v2.double(items, Path(__file__).parent, ALSO_IN_THE_VM)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    v2.write_result(report)


@pytest.fixture(autouse=True)
def _needs_root() -> None:
    if os.geteuid() != 0:
        if os.environ.get("FASTDOCK_MUST_WORK"):
            pytest.fail("kernel tests need root")
        pytest.skip("needs root")


@pytest.fixture(autouse=True)
def _nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """After a test that uses ``engine``: no process, mount, cgroup, device, descriptor or directory more."""
    if "engine" not in request.fixturenames:
        yield
        return
    root = request.getfixturevalue("session_root")
    engine = request.getfixturevalue("engine")
    engine.run(
        "busybox", ["true"]
    )  # what is kept for the next start (id ranges, mounts, a session) is not a leak
    reaping._reaper._begin()
    engine.networks._is_whole(())  # opens the netlink socket that is kept
    before = leaks.footprint(root)
    yield
    left = leaks.footprint(root).leaked_since(before)
    # A veth pair goes after its namespace, on a thread of the kernel (cleanup_net) that tells nobody.
    deadline = time.monotonic() + 10
    while any(leak.startswith("network device") for leak in left) and time.monotonic() < deadline:
        time.sleep(0.01)
        left = leaks.footprint(root).leaked_since(before)
    assert left == []


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A host of our own, with an outside machine: network namespaces."""
    made = Lab(tmp_path)
    yield made
    made.close()

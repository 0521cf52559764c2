"""Options as users write them: every text is either understood or refused with one clear error."""

from __future__ import annotations

import os
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdock._errors import FastdockError, LimitError, SpecError
from fastdock.mount_options import MountOption, parse_device, parse_mount, parse_tmpfs, parse_volume
from fastdock.options import check_hostname, check_name, options_from, parse_ulimit
from fastdock.sizes import parse_size, parse_swap

UNITS = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
# What a hostile or careless user types: mostly the characters that mean something.
SCRIBBLE = st.text(alphabet=string.ascii_letters + string.digits + ":=,./~-_ \0\n\tä", max_size=40)


class TestSizes:
    @given(st.integers(0, 2**20), st.sampled_from(sorted(UNITS)), st.sampled_from(["", "B", "ib", "iB"]))
    def test_number_and_unit(self, number: int, unit: str, ending: str) -> None:
        if unit == "b":
            ending = ""
        assert parse_size(f"{number}{unit}{ending}", "memory") == number * UNITS[unit]
        assert parse_size(f" {number} {unit.upper()}{ending} ", "memory") == number * UNITS[unit]

    @given(st.integers(0, 2**63 - 1))
    def test_bytes(self, number: int) -> None:
        assert parse_size(number, "memory") == number
        assert parse_size(str(number), "memory") == number

    def test_fractions(self) -> None:
        assert parse_size("1.5g", "memory") == 3 * 2**29
        assert parse_size("0.5k", "memory") == 512

    @pytest.mark.parametrize(
        "text",
        ["", "-1", "-1m", "m", "1x", "1 m m", "1..5m", "1e3", "0x10", "1m\n2", "inf", "nan", "5bb", True, None, "1,5g",
         "9" * 400, "9" * 400 + "p", "99999999t", 2**63, "٣m"],
    )  # fmt: skip
    def test_what_is_no_size(self, text: Any) -> None:
        with pytest.raises(LimitError, match="memory"):
            parse_size(text, "memory")

    @given(SCRIBBLE)
    def test_anything_is_a_size_or_an_error(self, text: str) -> None:
        try:
            assert 0 <= parse_size(text, "memory") < 2**63
        except LimitError as error:
            assert "\n" not in str(error)

    def test_swap_without_limit(self) -> None:
        assert parse_swap(-1) == parse_swap("-1") == -1
        with pytest.raises(LimitError):
            parse_swap("-2")


class TestUlimits:
    @given(st.integers(0, 2**63), st.integers(0, 2**63))
    def test_soft_and_hard(self, one: int, two: int) -> None:
        soft, hard = sorted((one, two))
        assert parse_ulimit(f"nofile={soft}:{hard}") == ("nofile", soft, hard)
        assert parse_ulimit(f"nofile={soft}") == ("nofile", soft, soft)
        if soft < hard:
            with pytest.raises(SpecError, match="soft limit is above"):
                parse_ulimit(f"nofile={hard}:{soft}")

    def test_unlimited(self) -> None:
        assert parse_ulimit("core=-1") == parse_ulimit("core=unlimited:unlimited") == ("core", -1, -1)
        assert parse_ulimit("core=5:-1") == ("core", 5, -1)

    @pytest.mark.parametrize(
        "text", ["", "nofile", "nofile=", "=5", "nofile=x", "nofile=1:2:3", "nofile=:5", "nofile=-2", "nofile=1_0",
                 "nofile=" + str(2**64), "nofile= 5", "nofile=-1:5", "nofile=1.5"]
    )  # fmt: skip
    def test_what_is_no_ulimit(self, text: str) -> None:
        with pytest.raises(SpecError, match="ulimit"):
            parse_ulimit(text)

    @given(SCRIBBLE)
    def test_anything(self, text: str) -> None:
        try:
            name, soft, hard = parse_ulimit(text)
        except SpecError:
            return
        assert name
        assert hard == -1 or -1 < soft <= hard < 2**64

    def test_forms(self) -> None:
        """A mapping with numbers, pairs and text, or the command line's list."""
        wanted = (("nofile", 10, 20), ("core", 0, 0), ("nproc", 5, 5))
        given_as = {"nofile": (10, 20), "core": 0, "nproc": "5"}
        assert options_from({"ulimits": given_as}).ulimits == wanted
        assert options_from({"ulimits": ["nofile=10:20", "core=0", "nproc=5"]}).ulimits == wanted


class TestVolumes:
    def test_host_directory(self) -> None:
        assert parse_volume("/a:/b") == MountOption("bind", "/b", "/a", create_source=True)
        assert parse_volume("/a:/b:ro").read_only
        assert parse_volume("/a:/b:rw,rshared").propagation == "rshared"

    def test_relative_and_home(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HOME", "/home/me")
        assert parse_volume("./x:/b").source == f"{tmp_path}/x"
        assert parse_volume("~/x:/b").source == "/home/me/x"

    def test_named(self) -> None:
        assert parse_volume("data:/b:nocopy") == MountOption("volume", "/b", "data", no_copy=True)
        assert parse_volume("/b") == MountOption("volume", "/b")

    @pytest.mark.parametrize(
        "text", ["", ":", "/a:", ":/b", "/a:b", "/a:/b:", "/a:/b:rx", "/a:/b:ro,rw", "/a:/b:ro:z", "/a:/b/../c", "a b:/c",
                 "/a:/", "/a:/.", "x", "/a:/b\0", "/a\0:/b"]
    )  # fmt: skip
    def test_what_is_no_volume(self, text: str) -> None:
        with pytest.raises(SpecError):
            parse_volume(text)

    @given(SCRIBBLE)
    def test_anything(self, text: str) -> None:
        try:
            mount = parse_volume(text)
        except SpecError:
            return
        assert_sound(mount)


def assert_sound(mount: MountOption) -> None:
    assert mount.target.startswith("/")
    assert mount.target != "/"
    assert ".." not in mount.target.split("/")
    assert "\0" not in mount.target + mount.source
    if mount.type == "bind":
        assert os.path.isabs(mount.source)


class TestMounts:
    def test_bind(self) -> None:
        made = parse_mount("type=bind,source=/a,target=/b,readonly,bind-propagation=rslave")
        assert made == MountOption("bind", "/b", "/a", read_only=True, propagation="rslave")
        assert parse_mount({"type": "bind", "src": "/a", "dst": "/b", "read_only": True}).read_only
        assert not parse_mount("type=bind,src=/a,dst=/b,ro=false").read_only
        assert not parse_mount("type=bind,src=/a,dst=/b,bind-nonrecursive").recursive

    def test_paths(self) -> None:
        made = parse_mount({"type": "bind", "source": Path("/a"), "target": Path("/b")})
        assert made == MountOption("bind", "/b", "/a")

    def test_tmpfs(self) -> None:
        made = parse_mount("type=tmpfs,destination=/t,tmpfs-size=1m,tmpfs-mode=700")
        assert made.options == "size=1048576,mode=700"

    @pytest.mark.parametrize(
        "text", ["", "x", "type=bind", "type=bind,target=/b", "type=bind,source=/a", "type=nfs,target=/b", "target=b",
                 "type=bind,source=/a,target=/b,colour=red", "type=tmpfs,target=/t,tmpfs-size=x", "type=bind,source=a,target=/b",
                 "type=bind,source=/a,target=/", "type=bind,source=/a,target=/b,bind-propagation=sideways",
                 "type=tmpfs,target=/t,source=/a", "type=tmpfs,target=/t,tmpfs-mode=rw", "type=bind,source=/a,target=/b,ro=maybe"]
    )  # fmt: skip
    def test_what_is_no_mount(self, text: str) -> None:
        with pytest.raises((SpecError, LimitError)):
            parse_mount(text)

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["type", "source", "target", "readonly", "tmpfs-size", "bind-propagation"]),
                SCRIBBLE,
            ),
            max_size=5,
        ).map(lambda pairs: ",".join(f"{key}={value}" for key, value in pairs))
        | SCRIBBLE
    )
    def test_anything(self, text: str) -> None:
        try:
            mount = parse_mount(text)
        except (SpecError, LimitError):
            return
        assert_sound(mount)

    def test_two_at_one_place(self) -> None:
        with pytest.raises(SpecError, match="two mounts at /b"):
            options_from({"volumes": ["/a:/b"], "tmpfs": ["/b"]})

    def test_outer_before_inner(self) -> None:
        """Otherwise the outer mount would cover the inner one."""
        mounts = options_from({"volumes": ["/a:/x/y/z", "/b:/x"], "tmpfs": {"/x/y": ""}}).mounts
        assert [mount.target for mount in mounts] == ["/x", "/x/y", "/x/y/z"]


def test_tmpfs() -> None:
    assert parse_tmpfs("/t") == MountOption("tmpfs", "/t")
    assert parse_tmpfs("/t:size=1m,exec").options == "size=1m,exec"
    for text in ("", "t", "/", "/a/../b"):
        with pytest.raises(SpecError):
            parse_tmpfs(text)


class TestDevices:
    def test_forms(self) -> None:
        assert parse_device("/dev/fuse") == ("/dev/fuse", "/dev/fuse", "rwm")
        assert parse_device("/dev/fuse:/dev/f") == ("/dev/fuse", "/dev/f", "rwm")
        assert parse_device("/dev/fuse:r") == ("/dev/fuse", "/dev/fuse", "r")
        assert parse_device("/dev/fuse:/dev/f:rw") == ("/dev/fuse", "/dev/f", "rw")

    @pytest.mark.parametrize(
        "text",
        ["", ":", "/dev/x:", "/dev/x:q", "/dev/x:/y:z", "/dev/x:/y:r:w", "/dev/x:/../y", "dev/x", "/dev/x:/"],
    )
    def test_what_is_no_device(self, text: str) -> None:
        with pytest.raises(SpecError):
            parse_device(text)

    @given(SCRIBBLE)
    def test_anything(self, text: str) -> None:
        try:
            device = parse_device(text)
        except SpecError:
            return
        assert device.host.startswith("/")
        assert device.container.startswith("/")
        assert device.access
        assert set(device.access) <= set("rwm")


class TestNames:
    @given(st.text(max_size=30))
    def test_container_names(self, name: str) -> None:
        allowed = set(string.ascii_letters + string.digits)
        good = len(name) > 1 and name[0] in allowed and set(name) <= allowed | set("_.-")
        try:
            assert check_name(name) == name
            assert good
        except SpecError:
            assert not good

    @pytest.mark.parametrize("name", ["", "-a", "a-", "a b", "a" * 65, "ä", "a\n"])
    def test_bad_host_names(self, name: str) -> None:
        with pytest.raises(SpecError, match="host name"):
            check_hostname(name)

    @pytest.mark.parametrize("name", ["a", "a.b-c", "A1", "x" * 64])
    def test_good_host_names(self, name: str) -> None:
        assert check_hostname(name) == name


class TestContradictions:
    @pytest.mark.parametrize(
        ("given_options", "words"),
        [
            ({"memory": "1m"}, "minimum is 6m"),
            ({"memory": "64m", "memory_swap": "32m"}, "cannot be less than memory"),
            ({"memory_swap": "64m"}, "needs memory"),
            ({"memory": "64m", "memory_reservation": "65m"}, "cannot be more than memory"),
            ({"cpus": 1, "cpu_quota": 50000}, "contradicts"),
            ({"cpus": 1, "cpu_period": 50000}, "contradicts"),
            ({"cpus": 0}, "cpus"),
            ({"cpus": 10**6}, "processors of this machine"),
            ({"cpus": "nan"}, "cpus"),
            ({"cpus": "two"}, "not a number"),
            ({"storage": "floppy"}, "neither memory nor disk"),
            ({"publish": ["8080:80"]}, "take bridge"),
            ({"userns": "keep"}, "neither host nor private"),
            ({"userns": "private", "privileged": True}, "contradicts"),
            ({"pull": "sometimes"}, "none of missing, always and never"),
            ({"pids": -2}, "negative"),
            ({"name": "-"}, "container name"),
            ({"hostname": "a b"}, "host name"),
            ({"domainname": "x" * 65}, "domain name"),
            ({"domainname": "a\0b"}, "domain name"),
            ({"cwd": "relative"}, "absolute path"),
            ({"cwd": "/a/../b"}, "absolute path"),
            ({"env": {"": "x"}}, "name"),
            ({"env": {"A=B": "x"}}, "name"),
            ({"env": {"A": "x\0"}}, "NUL"),
            ({"env": ["A=1"]}, "env"),
            ({"labels": "a"}, "labels"),
            ({"cap_add": "CHOWN"}, "a list is wanted"),
            ({"volumes": "/a:/b"}, "a list is wanted"),
            ({"ulimits": "nofile=5"}, "a list is wanted"),
            ({"devices": "/dev/null"}, "a list is wanted"),
            ({"mounts": "type=tmpfs,target=/x"}, "a list is wanted"),
            ({"user": "a\0b"}, "user"),
            ({"stop_signal": "SIGNONE"}, "signal"),
        ],
    )  # fmt: skip
    def test_one_clear_error(self, given_options: dict[str, Any], words: str) -> None:
        with pytest.raises(FastdockError) as caught:
            options_from(given_options)
        assert isinstance(caught.value, SpecError | LimitError)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_unknown_options_are_the_caller_s_mistake(self) -> None:
        with pytest.raises(TypeError, match="memroy"):
            options_from({"memroy": "1g"})

    def test_none_is_not_given(self) -> None:
        assert options_from({"memory": None, "cwd": None}) == options_from({})

    def test_the_same_options_are_the_same_key(self) -> None:
        """Plans are kept by their options."""
        one = options_from({"env": {"A": "1"}, "volumes": ["/a:/b"], "entrypoint": "x"})
        two = options_from({"env": {"A": "1"}, "volumes": {"/a": "/b"}, "entrypoint": ["x"]})
        assert hash(one) == hash(two)
        assert one == two

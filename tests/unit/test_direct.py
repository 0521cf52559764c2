"""``fastdock run`` reads its flags without click, and must read them as click does."""

from __future__ import annotations

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdock.cli import direct
from fastdock.cli.run import _OPTIONS
from fastdock.cli.run_command import run_command

NAMES = [name for flag in _OPTIONS for name in flag.names if "/" not in name]
WORDS = st.one_of(
    st.sampled_from([*NAMES, "-it", "-ti", "-i", "--rm", "busybox", "--", "-", "--no-sig-proxy", "--help", "-eA=b"]),
    st.sampled_from(["1", "64m", "A=b", "--name=x", "--env=A=b", "--memory=", "--rm=1", "-w=/x", "--cpu-shares=two"]),
    st.text(max_size=8),
)


def by_click(arguments: list[str]) -> tuple[dict[str, object], str, tuple[str, ...]] | None:
    try:
        context = run_command.make_context("run", list(arguments), resilient_parsing=False)
    except (click.ClickException, click.exceptions.Exit):
        return None
    values = dict(context.params)
    return {name: values[name] for name in values if name not in ("image", "command")}, values["image"], values["command"]


@given(st.lists(WORDS, max_size=8))
def test_as_click(arguments: list[str]) -> None:
    parsed = direct.parse(arguments, _OPTIONS)
    if parsed is not None:
        assert parsed == by_click(arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["busybox"],
        ["--rm", "busybox", "true"],
        ["-it", "--rm", "busybox", "sh", "-c", "echo $A", "--rm"],
        ["-e", "A=1", "-e", "B=2", "--env=C=3", "-v", "/a:/b:ro", "--memory", "64m", "--cpus=1.5", "host", "ls"],
        ["--cpu-shares", "512", "--name", "--rm", "busybox"],
    ],
)
def test_what_people_write_needs_no_click(arguments: list[str]) -> None:
    assert direct.parse(arguments, _OPTIONS) == by_click(arguments) is not None


@pytest.mark.parametrize(
    "arguments",
    [[], ["--rm"], ["--help"], ["--nonsense", "busybox"], ["-eA=b", "busybox"], ["--memory"], ["--rm=1", "busybox"],
     ["--cpu-shares", "two", "busybox"], ["--", "busybox"], ["-", "busybox"]],
)  # fmt: skip
def test_the_rest_is_left_to_click(arguments: list[str]) -> None:
    assert direct.parse(arguments, _OPTIONS) is None

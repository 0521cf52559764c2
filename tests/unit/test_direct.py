"""Commands that read their flags without click must read them as click does."""

from __future__ import annotations

import importlib
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdock.cli import COMMANDS, direct
from fastdock.cli.plain import Plain
from fastdock.cli.plain_command import command_of


def find(place: str) -> Plain:
    module, _, attribute = place.partition(":")
    found: Plain = getattr(importlib.import_module(f"fastdock.cli.{module}"), attribute)
    return found


PLAIN = {name: find(place) for name, (place, _) in COMMANDS.items() if place.partition(":")[2].isupper()}
RUN = PLAIN["run"]
WORDS = st.one_of(
    st.sampled_from(
        [
            "-it",
            "-ti",
            "-aq",
            "-i",
            "--rm",
            "busybox",
            "--",
            "-",
            "--no-sig-proxy",
            "--help",
            "-h",
            "-eA=b",
            "-n1",
        ]
    ),
    st.sampled_from(
        ["1", "64m", "A=b", "--name=x", "--env=A=b", "--memory=", "--rm=1", "-w=/x", "--cpu-shares=two"]
    ),
    st.text(max_size=8),
)
# A command, and words that it may be given.
CALLS = st.sampled_from(sorted(PLAIN)).flatmap(
    lambda name: st.tuples(
        st.just(name),
        st.lists(
            st.one_of(
                WORDS, st.sampled_from([n for flag in PLAIN[name].flags for n in flag.names if "/" not in n])
            ),
            max_size=8,
        ),
    )
)


def by_click(name: str, arguments: list[str]) -> tuple[tuple[str, ...], dict[str, Any]] | None:
    """What click makes of it, in the end: the call of the command's function."""
    seen: list[tuple[tuple[str, ...], dict[str, Any]]] = []

    def remember(root: str | None, words: tuple[str, ...], flags: dict[str, Any]) -> int:
        seen.append((words, flags))
        return 0

    command = command_of(name, PLAIN[name]._replace(run=remember))
    try:
        command.main(list(arguments), standalone_mode=False)
    except (click.ClickException, click.exceptions.Exit):
        return None
    return seen[0] if seen else None


@given(CALLS)
def test_as_click(call: tuple[str, list[str]]) -> None:
    name, arguments = call
    parsed = direct.parse(arguments, PLAIN[name])
    if parsed is not None:
        assert parsed == by_click(name, arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["busybox"],
        ["--rm", "busybox", "true"],
        ["-it", "--rm", "busybox", "sh", "-c", "echo $A", "--rm"],
        [
            "-e",
            "A=1",
            "-e",
            "B=2",
            "--env=C=3",
            "-v",
            "/a:/b:ro",
            "--memory",
            "64m",
            "--cpus=1.5",
            "host",
            "ls",
        ],
        ["--cpu-shares", "512", "--name", "--rm", "busybox"],
    ],
)
def test_what_people_write_needs_no_click(arguments: list[str]) -> None:
    assert direct.parse(arguments, RUN) == by_click("run", arguments) is not None


@pytest.mark.parametrize(
    "arguments",
    [[], ["--rm"], ["--help"], ["--nonsense", "busybox"], ["-eA=b", "busybox"], ["--memory"], ["--rm=1", "busybox"],
     ["--cpu-shares", "two", "busybox"], ["--", "busybox"], ["-", "busybox"]],
)  # fmt: skip
def test_the_rest_is_left_to_click(arguments: list[str]) -> None:
    assert direct.parse(arguments, RUN) is None

"""Restart policies, durations, signals, health checks and detach keys, as Docker's users write them."""

from __future__ import annotations

import json
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdock import SpecError
from fastdock.cli.attachment import Detacher, parse_keys
from fastdock.cli.cp import split
from fastdock.cli.stats import binary_size
from fastdock.containers import settings
from fastdock.containers.names import random_name
from fastdock.containers.state import State
from fastdock.options import check_name, dump, options_from


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("no", ("no", 0)),
        ("always", ("always", 0)),
        ("on-failure", ("on-failure", 0)),
        ("on-failure:3", ("on-failure", 3)),
    ],
)
def test_restart(text: str, wanted: tuple[str, int]) -> None:
    assert settings.parse_restart(text) == wanted


@pytest.mark.parametrize("text", ["", "sometimes", "always:3", "on-failure:", "on-failure:-1"])
def test_restart_refused(text: str) -> None:
    with pytest.raises(SpecError):
        settings.parse_restart(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("1m30s", 90), ("500ms", 0.5), ("1h", 3600), ("0", 0), (2.5, 2.5), ("1.5s", 1.5)],
)
def test_durations(text: str | float, seconds: float) -> None:
    assert settings.parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "30", "s", "1 s", "-1s", "1x"])
def test_durations_refused(text: str) -> None:
    with pytest.raises(SpecError):
        settings.parse_duration(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("SIGTERM", 15),
        ("term", 15),
        ("9", 9),
        (10, 10),
        ("SIGRTMIN+3", signal.SIGRTMIN + 3),
        ("RTMAX-1", signal.SIGRTMAX - 1),
    ],
)
def test_signals(text: str | int, number: int) -> None:
    assert settings.parse_signal(text) == number


@pytest.mark.parametrize("text", ["", "0", "65", "SIGNONE", "-1"])
def test_signals_refused(text: str) -> None:
    with pytest.raises(SpecError):
        settings.parse_signal(text)


def test_health_of_the_image_and_the_user() -> None:
    image = {"Test": ["CMD", "check"], "Interval": 5_000_000_000, "Retries": 7}
    assert settings.health_from({}, image) == settings.HealthOptions(("CMD", "check"), 5.0, retries=7)
    mine = settings.health_from({"health_cmd": "other", "health_retries": 1}, image)
    assert mine == settings.HealthOptions(("CMD-SHELL", "other"), 5.0, retries=1)
    assert settings.health_from({"no_healthcheck": True}, image) is None
    assert settings.health_from({}, {"Test": ["NONE"]}) is None
    assert settings.health_from({}, None) is None


def test_log_options() -> None:
    assert settings.log_settings("json-file", {}) == (10 << 20, 3, False)
    assert settings.log_settings("json-file", {"max-size": "1k", "max-file": "1"}) == (1024, 1, False)
    for bad in ({"max-file": "0"}, {"nonsense": "1"}):
        with pytest.raises(SpecError):
            settings.log_settings("json-file", bad)


def test_options_come_back_from_json() -> None:
    options = options_from(
        {
            "memory": "64m",
            "env": {"A": "b"},
            "volumes": ["/a:/b:ro"],
            "devices": ["/dev/null"],
            "ulimits": ["nofile=5"],
        }
    )
    stored = json.loads(json.dumps(dump(options)))
    assert settings.load_options(stored) == options
    assert settings.load_options({**stored, "from_the_future": 1}) == options
    wanted = settings.settings_from(
        {"health_cmd": "x", "restart": "always", "log_opt": {"max-size": "1m"}}, None
    )
    assert settings.load_settings(json.loads(json.dumps(dump(wanted)))) == wanted


def test_random_names_are_names() -> None:
    for attempt in range(5):
        check_name(random_name(attempt))


def test_detach_keys() -> None:
    assert parse_keys("ctrl-p,ctrl-q") == b"\x10\x11"
    assert parse_keys("a,ctrl-[") == b"a\x1b"
    for bad in ("ctrl-", "ab", "ctrl-1"):
        with pytest.raises(SpecError):
            parse_keys(bad)


@given(st.binary(), st.lists(st.integers(0, 50), max_size=5))
def test_what_is_typed_goes_through(typed: bytes, cuts: list[int]) -> None:
    """Everything but the keys themselves, wherever the reads are cut; at most a begun key sequence is held back."""
    detacher = Detacher(b"\x10\x11")
    expected, _, _ = typed.partition(b"\x10\x11")
    places = sorted(min(cut, len(typed)) for cut in cuts)
    out, found = b"", False
    for begin, end in zip([0, *places], [*places, len(typed)], strict=True):
        part, found = detacher.feed(typed[begin:end])
        out += part
        if found:
            break
    assert found == (b"\x10\x11" in typed)
    assert out == expected or (not found and out + b"\x10" == expected)


def test_copy_arguments() -> None:
    assert split("name:/path") == ("name", "/path")
    assert split("/a:b") == ("", "/a:b")
    assert split("./a:b") == ("", "./a:b")
    assert split("-") == ("", "-")


def test_sizes_of_stats() -> None:
    assert [binary_size(n) for n in (0, 1023, 1536, 64 << 20)] == ["0B", "1023B", "1.5KiB", "64MiB"]


def test_status_words() -> None:
    from fastdock.cli.listing import status_text

    assert status_text(State(), 0) == "Created"
    up = State("running", started_at="1970-01-01T00:00:00Z")
    assert status_text(up, 120) == "Up 2 minutes" or status_text(up, 120).startswith("Up")
    done = State("exited", exit_code=3, finished_at="2026-01-01T00:00:00Z")
    assert status_text(done, 1767225600 + 7200) == "Exited (3) 2 hours ago"
    assert "health: starting" in status_text(up._replace(health={"status": "starting"}), 10)

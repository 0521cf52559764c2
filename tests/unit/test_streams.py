"""The log's lines and the multiplexed streams, taken apart in Cython."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdock import _streams


def line(text: str, stream: str = "stdout", time: str = "2026-01-02T03:04:05.5Z", **more: str) -> bytes:
    return (
        json.dumps({"log": text, "stream": stream, "time": time, **more}, separators=(",", ":")).encode()
        + b"\n"
    )


@given(
    st.lists(
        st.tuples(st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(["stdout", "stderr"]))
    )
)
def test_lines_of_any_json_writer(entries: list[tuple[str, str]]) -> None:
    for ascii_only in (True, False):
        block = b"".join(
            json.dumps(
                {"log": text, "stream": stream, "time": "2026-01-02T03:04:05Z"},
                separators=(",", ":"),
                ensure_ascii=ascii_only,
            ).encode()
            + b"\n"
            for text, stream in entries
        )
        parsed = _streams.parse_log(block)
        wanted = [(1 if stream == "stdout" else 2, text.encode()) for text, stream in entries]
        assert [(entry.stream, entry.data) for entry in parsed] == wanted
        pieces = _streams.plain_log(block)
        for number in (1, 2):
            assert b"".join(d for s, d in pieces if s == number) == b"".join(
                d for s, d in wanted if s == number
            )


@given(st.binary())
def test_raw_bytes_win(data: bytes) -> None:
    block = line("\ufffd", raw=base64.b64encode(data).decode())
    assert _streams.parse_log(block)[0].data == data
    assert b"".join(piece for _, piece in _streams.plain_log(block)) == data


@given(st.binary(max_size=300), st.integers(0, 80), st.binary(max_size=9))
def test_damage_is_left_out(data: bytes, at: int, insert: bytes) -> None:
    good = line("good\n")
    _streams.parse_log(data)
    _streams.plain_log(data)
    damaged = good[:at] + insert + good[at + 1 :]
    _streams.parse_log(damaged)
    _streams.plain_log(damaged)
    assert [e.data for e in _streams.parse_log(data.replace(b"\n", b"") + b"\n" + good)][-1] == b"good\n"


@given(st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)))
def test_times(when: datetime) -> None:
    text = when.isoformat() + "Z"
    entry = _streams.parse_log(line("x", time=text))[0]
    assert entry.stamp == text
    assert entry.time == pytest.approx(when.replace(tzinfo=UTC).timestamp(), abs=1e-5)


@given(st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=200))), st.data())
def test_demultiplexer(frames: list[tuple[int, bytes]], data: st.DataObject) -> None:
    stream = b"".join(_streams.frame(number, content) for number, content in frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    demultiplexer = _streams.Demultiplexer()
    seen = []
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        seen += demultiplexer.feed(stream[begin:end])
    assert seen == frames
    assert demultiplexer.pending == 0


def test_demultiplexer_refuses_other_streams() -> None:
    with pytest.raises(ValueError, match="multiplexed"):
        _streams.Demultiplexer().feed(b"GET / HTTP/1.1\r\n")

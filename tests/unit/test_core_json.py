"""``_core.parse_json`` and ``dump_json`` are Python's ``json``, but for what JSON itself does not have."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdock import _core

# Cs: lone surrogates, which no UTF-8 text holds.
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=20)


@given(VALUES)
def test_what_is_written_is_read_back_by_either(value: object) -> None:
    assert json.loads(_core.dump_json(value)) == value
    assert _core.parse_json(json.dumps(value)) == value


@given(st.text('{}[]",:0123456789eE+-.truefalsnul\\ \n') | TEXT)
def test_any_text_is_read_as_python_reads_it_or_refused(text: str) -> None:
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError, match="at byte"):
            _core.parse_json(text)
        return
    try:
        found = _core.parse_json(text)
    except ValueError:  # stricter: NaN and lone surrogates
        assert "NaN" in text or "Infinity" in text or "\\u" in text
        return
    assert found == expected or (math.isnan(found) and math.isnan(expected))


def test_of_two_equal_keys_the_last_counts() -> None:
    assert _core.parse_json('{"a": 1, "a": 2}') == {"a": 2}


def test_a_deep_document_ends_in_no_crash() -> None:
    deep = _core.parse_json("[" * 50_000 + "]" * 50_000)
    for _ in range(3):  # and the count of levels is what it was
        with pytest.raises(RecursionError):
            _core.dump_json(deep)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_no_json_number(value: float) -> None:
    with pytest.raises(ValueError, match="no such number"):
        _core.dump_json(value)


@pytest.mark.parametrize("value", [b"", object(), {1: 2}, {"a": {1}}])
def test_no_json_value(value: object) -> None:
    with pytest.raises(TypeError):
        _core.dump_json(value)


def test_a_lone_surrogate_is_no_text() -> None:
    with pytest.raises(UnicodeEncodeError):
        _core.dump_json("\udcff")


def test_the_error_says_where() -> None:
    with pytest.raises(ValueError, match="at byte 5"):
        _core.parse_json('{"a":}')

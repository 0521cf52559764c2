"""The stand-ins of ``_light`` do what they stand for."""

from __future__ import annotations

import collections
import copy
import pickle
import re

import pytest

from fastdock._light import NamedTuple, Pattern


class Point(NamedTuple):
    x: int
    y: int = 2
    label: str = ""

    @property
    def sum(self) -> int:
        return self.x + self.y


REAL = collections.namedtuple("Point", "x y label", defaults=(2, ""))


@pytest.mark.parametrize(
    ("values", "named"), [((1,), {}), ((1, 5, "a"), {}), ((), {"x": 1}), ((1,), {"label": "b"})]
)
def test_made_as_a_named_tuple(values: tuple[object, ...], named: dict[str, object]) -> None:
    made, real = Point(*values, **named), REAL(*values, **named)  # type: ignore[arg-type]
    assert tuple(made) == tuple(real)
    assert made._asdict() == real._asdict()
    assert repr(made) == repr(real)
    assert made._replace(y=7) == Point(made.x, 7, made.label)
    assert (made.x, made.y, made.label) == tuple(made)


@pytest.mark.parametrize(
    ("values", "named"),
    [((), {}), ((1, 2, "", 4), {}), ((1,), {"x": 2}), ((1,), {"z": 2}), ((1, 2), {"y": 2})],
)
def test_refused_as_by_a_named_tuple(values: tuple[object, ...], named: dict[str, object]) -> None:
    with pytest.raises(TypeError):
        REAL(*values, **named)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Point"):
        Point(*values, **named)  # type: ignore[arg-type]


def test_the_rest_of_a_named_tuple() -> None:
    point = Point(1)
    assert point.sum == 3
    assert pickle.loads(pickle.dumps(point)) == copy.copy(point) == point
    assert Point._fields == ("x", "y", "label")
    assert Point._field_defaults == {"y": 2, "label": ""}
    match point:
        case Point(x, y):
            assert (x, y) == (1, 2)
    with pytest.raises(AttributeError):
        point.x = 2  # type: ignore[misc]


def test_a_pattern_is_the_compiled_one() -> None:
    pattern = Pattern(r"(a+)b", "ai")
    match = pattern.fullmatch("AAb")
    assert match is not None
    assert match[1] == "AA"
    assert pattern.fullmatch("b") is None
    assert pattern.findall("ab aab") == re.compile(r"(a+)b", re.ASCII | re.IGNORECASE).findall("ab aab")

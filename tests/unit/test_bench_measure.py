"""The benchmarks' method: turns, warm-up, ratios within a round, failures that stop only their subject."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdock.bench.measure import Series, Subject, measure, quartiles, ratio


def test_subjects_run_in_turn_and_the_first_place_rotates() -> None:
    order: list[str] = []
    subjects = [Subject(name, lambda name=name: order.append(name)) for name in "abc"]
    measure(subjects, rounds=3, warmup=0)
    assert "".join(order) == "abcbcacab"


def test_warmup_is_run_and_thrown_away() -> None:
    values = iter([9.0, 9.0, 1.0, 2.0, 3.0])
    series = measure([Subject("x", lambda: next(values))], rounds=3, warmup=2)["x"]
    assert series.values == [1.0, 2.0, 3.0]


def test_a_slow_subject_runs_in_each_nth_round_and_warms_up_once() -> None:
    calls: list[int] = []
    series = measure([Subject("vm", lambda: calls.append(1) or 1.0, every=5)], rounds=10, warmup=3)["vm"]
    assert list(series.samples) == [0, 5]
    assert len(calls) == 3


def test_a_failure_ends_only_its_own_subject() -> None:
    def fail() -> None:
        raise OSError("no such engine\nat all")

    found = measure([Subject("bad", fail), Subject("good", lambda: 1.0)], rounds=2, warmup=0)
    assert found["bad"].failure == "OSError: no such engine at all"
    assert found["good"].values == [1.0, 1.0]


def test_time_is_taken_from_outside_unless_the_subject_measured_it() -> None:
    found = measure([Subject("own", lambda: 42.0), Subject("outside", lambda: None)], rounds=1, warmup=0)
    assert found["own"].values == [42.0]
    assert 0 < found["outside"].values[0] < 1


def test_what_runs_before_each_sample_is_not_timed() -> None:
    calls: list[str] = []
    measure(
        [Subject("x", lambda: calls.append("run"))], rounds=2, warmup=0, before=lambda: calls.append("before")
    )
    assert calls == ["before", "run"] * 2


def test_two_subjects_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="one name"):
        measure([Subject("x", lambda: None)] * 2, rounds=1)


def test_a_ratio_is_taken_within_rounds() -> None:
    # The machine became ten times slower in the second half: the ratio does not see it.
    base = Series("base", {0: 1.0, 1: 1.0, 2: 10.0, 3: 10.0})
    other = Series("other", {0: 2.0, 1: 2.0, 2: 20.0, 3: 20.0})
    assert ratio(other, base) == (2.0, 2.0, 2.0)


def test_a_ratio_without_a_common_round_is_an_error() -> None:
    with pytest.raises(ValueError, match="no round"):
        ratio(Series("a", {0: 1.0}), Series("b", {1: 1.0}))


@settings(deadline=None)  # a busy machine is slow, not wrong
@given(st.lists(st.floats(1e-9, 1e3), min_size=1, max_size=50))
def test_quartiles_are_ordered_and_within_the_samples(values: list[float]) -> None:
    low, middle, high = quartiles(values)
    assert min(values) * (1 - 1e-12) <= low <= middle <= high <= max(values) * (1 + 1e-12)

"""Tables, plots and files of a benchmark run."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdock.bench import svg
from fastdock.bench.footprint import Footprint
from fastdock.bench.growth import Curve
from fastdock.bench.measure import Series
from fastdock.bench.report import Report, write_plots
from fastdock.bench.suites import Comparison
from fastdock.bench.tables import duration, size, text


def series(name: str, *values: float) -> Series:
    return Series(name, dict(enumerate(values)))


@pytest.fixture
def report() -> Report:
    comparison = Comparison(
        "start to end of `true`", "3 rounds", {
            "floor": series("floor", 0.002, 0.002, 0.004),
            "fastdock": series("fastdock", 0.003, 0.003, 0.006),
            "broken": Series("broken", {}, "CommandFailed: <no> & such"),
        }, {"docker": "docker is not installed"})  # fmt: skip
    curve = Curve("growth", "layers", {"fastdock": {1.0: series("fastdock", 0.003), 120.0: series("fastdock", 0.004)}},
                  {"docker": "too slow"})  # fmt: skip
    machine = {
        "date": "2026-11-24T08:00+00:00",
        "cores": "2",
        "processor": "P",
        "kernel": "6.18",
        "cgroups": "v1",
        "load": "0.5 0.4 0.3",
    }
    memory = {"docker": [Footprint(0, 100 << 20, 0, 0), Footprint(10, 140 << 20, 1 << 20, 4 << 20)]}
    return Report(machine, {"floor": "bench/floor"}, [comparison], [curve], memory)


def test_a_table_has_ratios_and_names_what_was_not_measured(report: Report) -> None:
    shown = text(report.comparisons[0])
    assert "fastdock" in shown
    assert "1.50 (1.50 … 1.50)" in shown
    assert "not measured: docker: docker is not installed" in shown
    assert "not measured: broken: CommandFailed" in shown


def test_figures_survive_the_way_through_json(report: Report) -> None:
    assert Report.from_json(report.to_json()) == report


@pytest.mark.parametrize("written", ["", "{}", "[]", '{"machine": 1}', "null"])
def test_another_json_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Report.from_json(written)


def test_every_plot_is_well_formed_and_names_its_subjects(report: Report, tmp_path: Path) -> None:
    written = write_plots(report.plots(), tmp_path)
    documents = [path.read_text() for path in written if path.suffix == ".svg"]
    assert len(documents) == 4
    for document in documents:
        ElementTree.fromstring(document)
    assert all("fastdock" in document for document in documents[:3])


def test_the_page_loads_nothing_and_escapes(report: Report) -> None:
    page = report.html()
    found: list[str] = []

    class Links(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.extend(f"{tag} {name}" for name, _ in attrs if name in ("src", "href"))

    Links().feed(page)
    assert found == []
    assert "&lt;no&gt; &amp; such" in page


def test_the_readme_part_has_date_machine_and_rows(report: Report) -> None:
    lines = report.markdown().splitlines()
    assert "Measured 2026-11-24, 2 cores (P), Linux 6.18, cgroup v1, load 0.5 at the start." in lines[0]
    assert any(line.startswith("| fastdock | 3 ms |") for line in lines)


@settings(deadline=None)  # a busy machine is slow, not wrong
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=20).filter(str.isprintable),
        st.floats(1e-9, 1e6),
        min_size=1,
        max_size=20,
    )
)
def test_bars_take_any_names_and_values(values: dict[str, float]) -> None:
    ElementTree.fromstring(svg.bars("title <&>", {name: (v, v, v) for name, v in values.items()}, duration))


@pytest.mark.parametrize(
    ("value", "shown"), [(2.5, "2.5 s"), (0.0031, "3.1 ms"), (4.2e-5, "42 µs"), (3e-9, "3 ns")]
)
def test_durations_have_their_unit(value: float, shown: str) -> None:
    assert duration(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(12, "12 B"), (2048, "2 KiB"), (3 << 20, "3 MiB"), (-2048, "-2 KiB")]
)
def test_sizes_have_their_unit(value: float, shown: str) -> None:
    assert size(value) == shown

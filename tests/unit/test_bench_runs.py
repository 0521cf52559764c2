"""``fastdock bench``: what may be chosen, the README's part, and pytest's own option."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from fastdock.bench.measure import Series
from fastdock.bench.report import Report
from fastdock.bench.runs import README_BEGIN, README_END, chosen_names, update_readme
from fastdock.bench.suites import Comparison
from fastdock.cli.bench import bench_command

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def report() -> Report:
    series = {"fastdock": Series("fastdock", {0: 0.003}), "floor": Series("floor", {0: 0.002})}
    machine = {
        "date": "2026-11-24T08:00+00:00",
        "cores": "2",
        "processor": "P",
        "kernel": "6.18",
        "cgroups": "v1",
        "load": "0.5 0.4 0.3",
    }
    return Report(machine, {}, [Comparison("start", "1 round", series)])


def test_fastdock_the_floor_and_a_bare_process_always_take_part() -> None:
    names = chosen_names(["crun", "vm"])
    assert names is not None
    assert {"fastdock", "floor", "fork+exec", "crun", "vm"} <= set(names)


def test_no_choice_means_everybody() -> None:
    assert chosen_names([]) is None


def test_an_unknown_peer_is_a_usage_error() -> None:
    result = CliRunner().invoke(bench_command, ["--against", "crun,rocket"])
    assert result.exit_code == 2
    assert "there is no peer or kind named 'rocket'" in result.output


@pytest.mark.parametrize("option", ["--json", "--html", "--plots"])
def test_what_cannot_be_written_is_said_before_anything_is_measured(option: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(bench_command, [option, str(tmp_path / "missing" / "file")])
    assert result.exit_code == 2
    assert f"there is no directory {tmp_path / 'missing'}" in result.output


@pytest.mark.parametrize("option", ["--json", "--html", "--plots"])
def test_a_directory_that_takes_no_files_is_said_before_anything_is_measured(option: str) -> None:
    result = CliRunner().invoke(bench_command, [option, "/proc/fastdock-figures"])
    assert result.exit_code == 2
    assert "cannot write /proc/fastdock-figures: No such file or directory" in result.output


def test_a_directory_that_cannot_be_made_is_a_usage_error() -> None:
    result = CliRunner().invoke(bench_command, ["--directory", "/proc/fastdock-bench"])
    assert result.exit_code == 2
    assert "--directory: /proc/fastdock-bench: No such file or directory" in result.output


def test_a_file_of_before_is_replaced_and_nothing_is_left_beside(report: Report, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(report.to_json())
    (tmp_path / "b.json").write_text("before")
    options = ["--from", str(tmp_path / "a.json"), "--json", str(tmp_path / "b.json")]
    assert CliRunner().invoke(bench_command, options).exit_code == 0
    assert Report.from_json((tmp_path / "b.json").read_text()) == report
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b.json"]


def test_the_help_names_the_suites_and_the_engines() -> None:
    output = CliRunner().invoke(bench_command, ["--help"]).output
    assert "density   start time beside" in output
    assert "firecracker" in output


def test_figures_of_before_are_shown_again_without_measuring(report: Report, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(report.to_json())
    result = CliRunner().invoke(
        bench_command,
        ["--from", str(tmp_path / "a.json"), "--html", str(tmp_path / "a.html"), "--plots", str(tmp_path)],
    )
    assert result.exit_code == 0, result.output
    assert "1.50" in result.output
    assert "<svg" in (tmp_path / "a.html").read_text()
    assert (tmp_path / "01-bars.svg").exists()


def test_a_file_of_something_else_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[]")
    result = CliRunner().invoke(bench_command, ["--from", str(tmp_path / "a.json")])
    assert result.exit_code == 2
    assert "not a report" in result.output


def test_the_readme_changes_only_between_its_marks(report: Report, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"# before\n{README_BEGIN}\nold\n{README_END}\nafter\n")
    plot = update_readme(readme, report, tmp_path / "docs")
    text = readme.read_text()
    assert text.startswith(f"# before\n{README_BEGIN}\n![start](docs/01-bars.svg)")
    assert text.endswith(f"{README_END}\nafter\n")
    assert "old" not in text
    assert plot.read_text().startswith("<svg")


def test_a_readme_without_marks_is_left_alone(report: Report, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("# mine\n")
    with pytest.raises(ValueError, match="are missing"):
        update_readme(readme, report, tmp_path)
    assert readme.read_text() == "# mine\n"


def collected(*arguments: str) -> str:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False).stdout


def test_benchmarks_never_run_by_accident() -> None:
    assert "bench/" not in collected("bench")
    assert "bench/test_start.py" not in collected("tests/unit/test_bench_measure.py", "bench")


def test_the_option_runs_benchmarks_and_no_tests() -> None:
    shown = collected("--benchmark")
    assert "bench/test_start.py" in shown
    assert "tests/" not in shown

"""``fastdock bench``: containers beside other engines and VMs, measured on this machine."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fastdock.cli.common import Command

if TYPE_CHECKING:
    from fastdock.bench.report import Report

_SUITES = ("start", "programs", "exec", "pull", "parallel", "memory", "density", "net", "growth", "all")


class _Bench(Command):
    """Its help names the suites and the peers: what it needs for that is not imported before."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from fastdock.bench.peers import PEERS
        from fastdock.bench.runs import SUITES

        with formatter.section("Suites [start]"):
            formatter.write_dl([*SUITES.items(), ("all", "every one of these")])
        kinds: dict[str, list[str]] = {}
        for peer in PEERS:
            kinds.setdefault(peer.kind, []).append(peer.name)
        with formatter.section("Kinds and engines, for --against"):
            formatter.write_dl([(kind, ", ".join(names)) for kind, names in kinds.items()])


@click.command("bench", cls=_Bench)
@click.argument(
    "suites",
    nargs=-1,
    type=click.Choice(_SUITES),
    metavar="[SUITE]...",
)
@click.option(
    "--against",
    metavar="NAME,...",
    help="Only these engines or kinds (process, sandbox, container, vm) beside fastdock [all there are].",
)
@click.option(
    "--rounds", type=click.IntRange(3), default=20, show_default=True, help="Rounds of each measurement."
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write all samples to a file, after each comparison.",
)
@click.option(
    "--html",
    "html_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a page with plots, each time.",
)
@click.option(
    "--plots",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write the plots as SVG (and PNG with fastdock[bench]) into a directory.",
)
@click.option(
    "--readme",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Put the first table and plot into this README.",
)
@click.option(
    "--from",
    "from_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Measure nothing: show a file that --json wrote.",
)
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where root file systems and state go [a new directory below /var/tmp].",
)
def bench_command(
    suites: tuple[str, ...],
    against: str | None,
    rounds: int,
    json_file: Path | None,
    html_file: Path | None,
    plots: Path | None,
    readme: Path | None,
    from_file: Path | None,
    directory: Path | None,
) -> None:
    """Measure fastdock beside other engines and VMs on this machine.

    Without a SUITE, the starts.  All take part in turn; ratios within a round are the result; what is not
    installed is listed as not measured.  docs/benchmarks.md says how everything is measured.
    """
    from fastdock.bench.report import Report
    from fastdock.bench.runs import SUITES, chosen_names, run, update_readme
    from fastdock.bench.workload import NoProgram

    output = _Output(json_file, html_file, plots)
    output.check()
    if directory is not None:
        try:
            directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as error:
            raise click.UsageError(f"--directory: {directory}: {error.strerror}") from None
    if readme and not os.access(readme, os.W_OK):
        raise click.UsageError(f"cannot write {readme}: permission denied, or a read-only file system")
    if from_file is not None:
        try:
            report = Report.from_json(from_file.read_text())
        except ValueError as error:
            raise click.UsageError(f"{from_file}: {error}") from None
        output.save(report)
    else:
        try:
            names = chosen_names([word for word in (against or "").split(",") if word])
        except KeyError as error:
            raise click.UsageError(f"--against: there is no peer or kind named {error.args[0]!r}") from None
        wanted = list(SUITES) if "all" in suites else list(dict.fromkeys(suites)) or ["start"]
        # Ended by timeout(1) or a service manager it must still stop the daemons that it started.
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
        try:
            with _Progress() as progress:
                report = run(
                    wanted,
                    names=names,
                    rounds=rounds,
                    directory=directory,
                    progress=progress.show,
                    save=output.save,
                )
        except (KeyboardInterrupt, SystemExit):
            output.interrupted()
            raise
        except NoProgram as error:
            raise click.ClickException(str(error)) from None
    click.echo(report.text())
    if readme:
        try:
            click.echo(
                f"wrote {readme} and {update_readme(readme, report, readme.parent / 'docs' / 'plots')}",
                err=True,
            )
        except ValueError as error:
            raise click.ClickException(str(error)) from None
    output.done()


class _Output:
    """The files that are asked for, written anew after each comparison."""

    def __init__(self, json_file: Path | None, html_file: Path | None, plots: Path | None) -> None:
        self._json, self._html, self._plots = json_file, html_file, plots
        self._last: Report | None = None
        self._written: Sequence[Path] = ()
        self._failure: OSError | None = None

    def check(self) -> None:
        """Raises UsageError for what cannot be written: before minutes of measuring, not after."""
        for file in filter(None, (self._json, self._html, self._plots)):
            above = file.absolute().parent
            if not above.is_dir():
                raise click.UsageError(f"cannot write {file}: there is no directory {above}")
            try:
                if file is self._plots:
                    file.mkdir(exist_ok=True)
                if file is self._plots or not file.exists() or file.is_file():
                    beside = _beside(file / "01-bars.svg" if file is self._plots else file)
                    # Permission bits say little: root is above them, a read-only file system below.
                    beside.touch()
                    beside.unlink()
            except OSError as error:
                raise click.UsageError(f"cannot write {file}: {error.strerror}") from None

    def save(self, report: Report) -> None:
        """Writes all files; one that cannot be written ends no hour of measuring: ``done`` says it."""
        from fastdock.bench.report import write_plots

        self._last, self._failure = report, None
        try:
            if self._json:
                _replace(self._json, report.to_json())
            if self._html:
                _replace(self._html, report.html())
            if self._plots:
                self._written = write_plots(report.plots(), self._plots)
        except OSError as error:
            self._failure = error

    def interrupted(self) -> None:
        """Shows what was measured until then."""
        if self._last is not None:
            click.echo(self._last.text())
            click.echo("interrupted: what is shown had been measured before", err=True)

    def done(self) -> None:
        """Names the plots.  Raises ClickException if the last state is in a file no more."""
        for written in self._written:
            click.echo(f"wrote {written}", err=True)
        if self._plots and not any(path.suffix == ".png" for path in self._written):
            click.echo("no PNG files: pip install fastdock[bench]", err=True)
        if self._failure is not None:
            raise click.ClickException(f"cannot write {self._failure.filename}: {self._failure.strerror}")


def _replace(file: Path, text: str) -> None:
    """Writes a file so that whoever ends us meanwhile leaves the one of before."""
    if file.exists() and not file.is_file():  # /dev/stdout
        file.write_text(text)
        return
    beside = _beside(file)
    try:
        beside.write_text(text)
        beside.replace(file.resolve())
    finally:
        beside.unlink(missing_ok=True)


def _beside(file: Path) -> Path:
    target = file.resolve()
    return target.with_name(f".{target.name}.{os.getpid()}")


class _Progress:
    """A bar on a terminal, nothing elsewhere."""

    def __enter__(self) -> _Progress:
        self._bar = None
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress

            self._bar = Progress(console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task("opening the engines", total=None)
        return self

    def show(self, done: int, total: int, name: str) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total, description=name or "done")

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

"""``fastdock bench``: containers beside other engines and VMs, measured on this machine."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import click

from fastdock.cli.common import Command

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
    help="Write all samples to a file, after each suite.",
)
@click.option(
    "--html", "html_file", type=click.Path(dir_okay=False, path_type=Path), help="Write a page with plots."
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
    from fastdock.bench.report import Report, write_plots
    from fastdock.bench.runs import SUITES, chosen_names, run, update_readme

    for file in (json_file, html_file, plots):  # before minutes of measuring, not after
        if file is not None and not file.absolute().parent.is_dir():
            raise click.UsageError(f"cannot write {file}: there is no directory {file.absolute().parent}")
    if from_file is not None:
        try:
            report = Report.from_json(from_file.read_text())
        except ValueError as error:
            raise click.UsageError(f"{from_file}: {error}") from None
        if json_file:
            json_file.write_text(report.to_json())
    else:
        try:
            names = chosen_names([word for word in (against or "").split(",") if word])
        except KeyError as error:
            raise click.UsageError(f"--against: there is no peer or kind named {error.args[0]!r}") from None
        wanted = list(SUITES) if "all" in suites else list(dict.fromkeys(suites)) or ["start"]
        # Ended by timeout(1) or a service manager it must still stop the daemons that it started.
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
        with _Progress() as progress:
            report = run(
                wanted,
                names=names,
                rounds=rounds,
                directory=directory,
                progress=progress.show,
                save=lambda done: json_file.write_text(done.to_json()) if json_file else None,
            )
    click.echo(report.text())
    if html_file:
        html_file.write_text(report.html())
    if plots:
        for written in write_plots(report.plots(), plots):
            click.echo(f"wrote {written}", err=True)
    if readme:
        try:
            click.echo(
                f"wrote {readme} and {update_readme(readme, report, readme.parent / 'docs' / 'plots')}",
                err=True,
            )
        except ValueError as error:
            raise click.ClickException(str(error)) from None


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

"""``rsdl sweep``: a study on this machine, and its numbers."""

from typing import Annotated

import typer


def sweep_report(
    runs_url: Annotated[
        str, typer.Argument(metavar="RUNS_URL", help="Where the runs lie: a folder or s3://.")
    ],
    out: Annotated[str, typer.Option(metavar="HTML", help="The page.")] = "study.html",
    latex: Annotated[
        str | None, typer.Option(metavar="TEX", help="LaTeX tables; default: beside the page.")
    ] = None,
    csv: Annotated[
        str | None, typer.Option(metavar="CSV", help="A row for each run; default: beside it.")
    ] = None,
) -> None:
    """Write a study by the numbers: one page, and its tables as LaTeX and CSV.

    Everything comes from run records. Runs that are not completed are shown; they are no models.
    """
    from rsdl.commands.report import report_study

    raise typer.Exit(report_study(runs_url, out=out, latex=latex, csv=csv))


def sweep_local(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="CONFIG... [KEY=VALUE]...", help="YAML files, and overrides for all of them."
        ),
    ],
    devices: Annotated[
        int, typer.Option(min=1, help="Runs at a time: one a GPU, or sharing the cores.")
    ] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    retry: Annotated[
        bool, typer.Option("--retry", help="Try runs again that an earlier sweep has given up.")
    ] = False,
) -> None:
    """Run a study on this machine: a queue of `rsdl train` over its devices.

    Completed runs are skipped, begun ones go on, crashed ones are tried three times. The same
    command goes on after any end, kill -9 included. In the end study.html, .tex and .csv lie beside
    the runs. Exit codes: 0 all completed, 1 one failed, 2 the input of one is wrong, 75 stopped
    after saving.
    """
    from rsdl.commands.sweep.local import sweep_local as command

    raise typer.Exit(command(arguments, devices=devices, dry_run=dry_run, retry=retry))

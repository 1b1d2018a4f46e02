"""``rsdl sweep``: a study on this machine, and its numbers."""

from typing import Annotated

import typer

app = typer.Typer(help="Run a study, and write its numbers.", no_args_is_help=True)


@app.command("report")
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
    from rsdl.commands.study import report_study

    raise typer.Exit(report_study(runs_url, out=out, latex=latex, csv=csv))

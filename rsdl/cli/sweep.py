"""``rsdl sweep``: submit a study to a cluster, see where it stands, gather its models."""

from typing import Annotated

import typer

app = typer.Typer(
    help="Run a study on a cluster or on this machine, and write its numbers.",
    no_args_is_help=True,
)

Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NAME]...", help="Jobs, or the configs that they train."),
]
RunsUrl = Annotated[
    str | None,
    typer.Argument(metavar="[RUNS_URL]", help="Where the runs lie: a folder or s3://; $RSDL_RUNS."),
]
Runs = Annotated[
    str | None,
    typer.Option("--runs", metavar="RUNS_URL", help="Where the runs lie; default: $RSDL_RUNS."),
]
Manifests = Annotated[
    str | None,
    typer.Option(
        "--manifests", metavar="DIR|FILE", help="The study's manifests; default: k8s/, if here."
    ),
]
Namespace = Annotated[
    str | None,
    typer.Option("--namespace", "-n", help="Namespace; default: the manifests', else kubectl's."),
]
Study = Annotated[
    str | None, typer.Option("--study", help="Study; default: the manifests', else the only one.")
]
MaxRunning = Annotated[
    int, typer.Option("--max-running", min=1, help="Jobs of the study that may run at once.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only say what would be done, and change nothing.")
]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Do what can be done now, and leave.")]
Every = Annotated[
    float, typer.Option("--every", min=0.05, metavar="SECONDS", help="Time between two looks.")
]


@app.command("submit")
def sweep_submit(
    target: Annotated[
        str, typer.Argument(metavar="DIR|FILE", help="The study's manifests, such as k8s/.")
    ],
    max_running: MaxRunning = 9,
    dry_run: DryRun = False,
    runs: Runs = None,
    no_wait: NoWait = False,
    every: Every = 15.0,
    namespace: Namespace = None,
) -> None:
    """Submit what is not completed, and more as others finish; never more at once than asked.

    Stop it at any time, and run it again, by hand or with --no-wait by cron: what runs goes on, and
    nothing is submitted twice. Exit codes: 0 all is on its way, 1 some have failed or run from
    other manifests: they are told of, and left alone.
    """
    from rsdl.commands.sweep.scope import JobSelector
    from rsdl.commands.sweep.submission import SubmitOptions
    from rsdl.commands.sweep.submit import submit

    options = SubmitOptions(max_running, every, wait=not no_wait, dry_run=dry_run)
    raise typer.Exit(submit(JobSelector(target, namespace), options, runs=runs))


@app.command("status")
def sweep_status(
    runs: RunsUrl = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show it again and again, until all is over.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    every: Every = 15.0,
    manifests: Manifests = None,
    namespace: Namespace = None,
    study: Study = None,
    prometheus: Annotated[
        str | None,
        typer.Option(
            "--prometheus",
            metavar="URL",
            help="Also how busy GPUs were by the cluster: https://prometheus.nrp-nautilus.io.",
        ),
    ] = None,
) -> None:
    """Show where every run stands, by the cluster and by its record, and what is left to train.

    Either is enough: the cluster alone, or RUNS_URL alone, without kubectl. "left" is training time
    at the pace so far, OA(val) or whatever metric the task has the best validation so far; "stale"
    says running, but nobody is at it.
    """
    from rsdl.commands.sweep.scope import JobSelector
    from rsdl.commands.sweep.status import status

    selector = JobSelector(manifests, namespace, study)
    code = status(
        runs, selector, watch=watch, every_s=every, as_json=as_json, prometheus=prometheus
    )
    raise typer.Exit(code)


@app.command("armada")
def sweep_armada(
    target: Annotated[
        str, typer.Argument(metavar="DIR|FILE", help="The study's manifests, such as k8s/.")
    ],
    out: Annotated[
        str, typer.Option("--out", metavar="FILE", help="Job set to write.")
    ] = "armada.yaml",
    runs: Runs = None,
    preemptible: Annotated[
        bool, typer.Option("--preemptible", help="Armada may take GPUs of it for others.")
    ] = False,
    dry_run: DryRun = False,
    namespace: Namespace = None,
) -> None:
    """Write the runs that are not completed as a job set, for armadactl submit FILE.

    For clusters that have Armada beside Jobs. What the pods need (configs, service account) is
    applied by kubectl. Armada tries nothing again: run this once more for what is left.
    """
    from rsdl.commands.runs import demand_runs
    from rsdl.commands.sweep.armada import write_job_set
    from rsdl.commands.sweep.scope import JobSelector

    selector, url = JobSelector(target, namespace), demand_runs(runs)
    raise typer.Exit(write_job_set(selector, url, out, preemptible=preemptible, dry_run=dry_run))


@app.command("collect")
def sweep_collect(
    runs: RunsUrl = None,
    out: Annotated[
        str, typer.Option("--out", metavar="DIR", help="Local folder to gather them in.")
    ] = "models",
    partial: Annotated[
        bool, typer.Option("--partial", help="Take runs that are not completed, too.")
    ] = False,
    dry_run: DryRun = False,
    manifests: Annotated[
        str | None,
        typer.Option("--manifests", metavar="DIR|FILE", help="Runs that there must be: its Jobs'."),
    ] = None,
) -> None:
    """Gather best models and records of all runs, with checksums in models.csv and models.json.

    Run it again: models that are here and unchanged are not fetched. Exit code 1 if a run is not
    completed, or lacks a file, unless --partial.
    """
    from rsdl.commands.runs import demand_runs
    from rsdl.commands.sweep.collect import collect

    url = demand_runs(runs)
    raise typer.Exit(collect(url, out, partial=partial, dry_run=dry_run, manifests=manifests))


@app.command("retry")
def sweep_retry(
    names: Names = None,
    max_running: MaxRunning = 9,
    dry_run: DryRun = False,
    runs: Runs = None,
    no_wait: NoWait = False,
    every: Every = 15.0,
    manifests: Manifests = None,
    namespace: Namespace = None,
    study: Study = None,
) -> None:
    """Submit Jobs anew that have failed, by default all; their runs go on from their checkpoints.

    The failed Job is deleted first. The new one is made from the manifests, where there are any,
    and else as it was.
    """
    from rsdl.commands.sweep.scope import JobSelector
    from rsdl.commands.sweep.submission import SubmitOptions
    from rsdl.commands.sweep.submit import retry

    options = SubmitOptions(max_running, every, wait=not no_wait, dry_run=dry_run)
    selector = JobSelector(manifests, namespace, study)
    raise typer.Exit(retry(names or (), selector, options, runs=runs))


@app.command("cancel")
def sweep_cancel(
    names: Names = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All of the study that have not finished.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: DryRun = False,
    no_wait: NoWait = False,
    every: Every = 5.0,
    manifests: Manifests = None,
    namespace: Namespace = None,
    study: Study = None,
) -> None:
    """Delete Jobs that have not finished; their pods have time to save, and runs can be resumed.

    It never forces: a Job goes when its last pod has saved and gone.
    """
    from rsdl.commands.sweep.cancel import CancelOptions, cancel
    from rsdl.commands.sweep.scope import JobSelector

    options = CancelOptions(everything, yes, dry_run, not no_wait, every)
    raise typer.Exit(cancel(names or (), JobSelector(manifests, namespace, study), options))


@app.command("local")
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
    seeds: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", help="Runs of each config: its seed, and NAME_seedK with the next."
        ),
    ] = 1,
    folds: Annotated[
        int | None,
        typer.Option(
            min=2, metavar="N", help="Cross-validation: N runs of each, NAME-foldKofN; see train."
        ),
    ] = None,
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
    the runs; with several seeds or folds they have means, intervals and paired tests between
    architectures. Exit codes: 0 all completed, 1 one failed, 2 the input of one is wrong, 75
    stopped after saving.
    """
    from rsdl.commands.sweep.local import sweep_local as command
    from rsdl.commands.sweep.plan import Repeats

    repeats = Repeats(seeds, folds)
    code = command(arguments, devices=devices, repeats=repeats, dry_run=dry_run, retry=retry)
    raise typer.Exit(code)


@app.command("report")
def sweep_report(
    runs_urls: Annotated[
        list[str],
        typer.Argument(metavar="RUNS_URL", help="Where the runs lie: folders or s3://."),
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

    Several RUNS_URL, such as those of each task's study, are summed on one page; each data set is
    ranked by the metric of its task. Everything comes from run records. Runs that are not completed
    are shown; they are no models.
    """
    from rsdl.commands.report import report_study

    raise typer.Exit(report_study(runs_urls, out=out, latex=latex, csv=csv))

"""``rsdl sweep status``: show the status of a study, from the cluster, its records or both."""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from rich.console import Console

from rsdl.cluster.jobs import Snapshot
from rsdl.cluster.prometheus import read_gpu_use
from rsdl.commands.runs import RUNS_VARIABLE, Runs, read_runs, runs_url
from rsdl.commands.sweep.request_retry import retry_until_answered
from rsdl.commands.sweep.rows import Row, make_rows
from rsdl.commands.sweep.scope import JobSelector, Scope, find_scope, one_study
from rsdl.commands.sweep.table import count_states, overall, print_table
from rsdl.config.run import RunConfig
from rsdl.core.errors import ClusterError, ConfigError

OVER = {"completed", "failed", "broken"}


def status(
    runs: str | None,
    selector: JobSelector,
    *,
    watch: bool = False,
    every_s: float = 15.0,
    as_json: bool = False,
    prometheus: str | None = None,
) -> int:
    """Print the status of every run of a study.

    Args:
        runs: URL of the runs; ``None`` takes ``$RSDL_RUNS``. Without either, only the cluster is
            queried.
        selector: Selects the Jobs. Without namespace and study, and if no cluster can be queried,
            only the records are shown.
        watch: Whether to refresh the table until all runs have ended.
        every_s: Seconds between two refreshes.
        as_json: Whether to print JSON instead of a table.
        prometheus: URL of the cluster's Prometheus, to query GPU utilization; ``None`` for none.

    Raises:
        InputError: If neither cluster nor records can be read, or one that was named cannot.
    """
    if watch and as_json:
        raise ConfigError("--json", "is given with --watch", "pass one of them")
    url = runs_url(runs)
    look = _Look(url, selector, prometheus)
    rows = look()
    if as_json:
        page = {"runs": [row.to_json() for row in rows], "totals": count_states(rows)}
        print(json.dumps(page, indent=2))
        return 0
    # soft_wrap: programs that read the redirected table need its full width.
    console = Console(file=sys.stdout, soft_wrap=True, highlight=False)
    print_table(rows, console)
    while watch and not _is_over(rows):
        time.sleep(every_s)
        rows = retry_until_answered(look, every_s, lambda line: print(line, file=sys.stderr))
        console.clear() if console.is_terminal else console.print()
        console.print(f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S}")
        print_table(rows, console)
    return 0


class _Look:
    """Reads cluster and records at every call.

    Args:
        url: URL of the runs, if any.
        selector: Selects the Jobs.
        prometheus: URL of the cluster's Prometheus, if it is to be queried.
    """

    def __init__(
        self, url: str | None, selector: JobSelector, prometheus: str | None = None
    ) -> None:
        self._url = url
        self._selector = selector
        self._prometheus = prometheus
        self._told = ""
        self._scope: Scope | None = None
        self._trained: dict[str, RunConfig] = {}

    def __call__(self) -> list[Row]:
        """Return a row for each run."""
        snapshot = self._ask_cluster()
        configs = {} if self._scope is None else self._scope.configs()
        runs: Runs | None = None if self._url is None else read_runs(self._url, self._trained)
        rows = make_rows(configs, snapshot, runs, datetime.now(UTC))
        return rows if self._prometheus is None else self._with_gpu_use(rows, self._prometheus)

    def _with_gpu_use(self, rows: list[Row], url: str) -> list[Row]:
        """Return the rows with the GPU utilization of their Jobs from Prometheus."""
        namespace = None if self._scope is None else self._scope.cluster.kubectl.namespace
        if namespace is None:
            raise ConfigError("--prometheus", "no namespace is known", "name it with --namespace")
        use = read_gpu_use(url, namespace, {row.job for row in rows})
        return [replace(row, gpu_by_cluster=use.get(row.job)) for row in rows]

    def _ask_cluster(self) -> Snapshot | None:
        try:
            if self._scope is None:
                self._scope = find_scope(self._selector, self._url)
                self._trained = {} if self._url is None else self._scope.trained()
            snapshot = self._scope.cluster.read()
        except ClusterError as error:
            if self._selector.namespace is not None or self._selector.study is not None:
                raise
            if self._url is None:
                other = f"or name RUNS_URL, or set {RUNS_VARIABLE}: records need no cluster"
                remedy = f"{error.remedy}; {other}" if error.remedy else other
                raise type(error)(error.where, error.problem, remedy) from error
            if str(error) != self._told:
                self._told = str(error)
                sys.stderr.write(f"without the cluster: {error}\n")
            return None
        one_study(snapshot, self._scope.cluster.study)
        return snapshot


def _is_over(rows: Sequence[Row]) -> bool:
    return bool(rows) and all(overall(row) in OVER for row in rows)

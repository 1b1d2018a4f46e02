"""``rsdl k8s check``: check manifests against the rules of a cluster before they are applied."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.text import Text

from rsdl.cluster.kubectl import Kubectl
from rsdl.cluster.load import (
    KUSTOMIZATIONS,
    Manifest,
    entry_points,
    load_manifests,
    parse,
)
from rsdl.cluster.policy.check import check as check_manifests
from rsdl.cluster.policy.objects import ManifestSet
from rsdl.cluster.policy.rules import PROFILES
from rsdl.cluster.policy.study.command import find_training
from rsdl.cluster.policy.study.facts import Study
from rsdl.cluster.policy.study.load import load_runs
from rsdl.cluster.policy.violation import Violation
from rsdl.cluster.server import RULES, check_on_server
from rsdl.commands.runs import find_runs
from rsdl.core.errors import ClusterError, ConfigError
from rsdl.records.run_record import RECORD

STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}
STDIN = "-"


def check(
    targets: Sequence[str],
    *,
    profile: str,
    configs: str | None = None,
    benchmark: str | None = None,
    strict: bool = False,
    every: bool = False,
    as_json: bool = False,
    server: bool = False,
) -> int:
    """Print violations of the rules and, with ``server``, objects that the API server rejects.

    Args:
        targets: Files and folders; each is checked as a separate set.
        profile: A key of ``PROFILES``.
        configs: Folder that is ``configs/`` in the image; ``None`` takes ``configs`` if it exists.
        benchmark: A run, or a folder of runs, whose records contain GPU utilization.
        strict: Whether warnings fail the check too.
        every: Whether to print a violation for each object, even if several have the same one.
        as_json: Whether to print a JSON object.
        server: Whether to also check on the cluster, for every folder that is applied by itself.

    Returns:
        1 if there is an error, or with ``strict`` a warning; otherwise 0.

    Raises:
        ConfigError: If there is nothing to check, or a file needed for the check is missing.
        ClusterError: If the cluster cannot be queried; violations of the rules are printed before.
        UnreachableClusterError: If the cluster does not answer.
    """
    folder = find_configs(configs)
    gpu_use = {} if benchmark is None else read_gpu_use(benchmark)
    sets = [each for target in targets for each in load_sets(target, every=server)]
    found = [each for manifests in sets for each in check_set(manifests, profile, folder, gpu_use)]
    objects = [manifest for manifests in sets for manifest in manifests]
    num_objects = len(objects)
    away: ClusterError | None = None
    if server:
        try:
            found += check_on_server(objects, Kubectl())
            places = {(each.source, each.title): at for at, each in reversed([*enumerate(objects)])}
            found.sort(key=lambda violation: places[violation.source, violation.object])
        except ClusterError as error:
            away = error
    counts = {kind: sum(v.severity == kind for v in found) for kind in STYLES}
    if as_json:
        body = {
            "objects": num_objects,
            **{f"{kind}s": count for kind, count in counts.items()},
            "violations": [asdict(violation) for violation in found],
        }
        print(json.dumps(body, indent=2))
    else:
        show(found, every=every)
        said = ", ".join(_count(number, kind) for kind, number in counts.items())
        print(f"{_count(num_objects, 'object')}: {said}")
    if away is not None:
        raise away
    return int(bool(counts["error"] or (strict and counts["warning"])))


def check_set(
    manifests: Sequence[Manifest],
    profile: str,
    folder: Path | None = None,
    gpu_use: dict[str, float] | None = None,
) -> list[Violation]:
    """Return the violations in a set of objects that are applied together."""
    manifest_set = ManifestSet(manifests)
    if profile != "none":
        trains = any(find_training(pod) is not None for pod in manifest_set.pods)
        runs = load_runs(manifest_set, folder) if trains else {}
        manifest_set = ManifestSet(manifests, Study(runs, gpu_use or {}))
    return check_manifests(manifest_set, profile)


def load_sets(target: str, *, every: bool = False) -> Iterator[list[Manifest]]:
    """Yield the sets of objects of a file, a folder or ``-`` (stdin).

    Each Kustomize folder within a plain folder is a separate set, except components.

    Args:
        target: Path given by the user.
        every: Whether to also yield folders below a Kustomize folder that are applied separately.
    """
    if target == STDIN:
        yield list(parse(sys.stdin.read(), STDIN))
        return
    path = Path(target)
    inner = sorted({file.parent for name in KUSTOMIZATIONS for file in path.rglob(name)})
    if path in inner or not inner:
        for each in entry_points(target) if every and inner else [target]:
            yield load_manifests(each)
        return
    found = False
    tops = [folder for folder in inner if not any(up in inner for up in folder.parents)]
    for folder in tops:
        texts = [(folder / name) for name in KUSTOMIZATIONS if (folder / name).is_file()]
        if "kind: Component" not in texts[0].read_text():
            found = True
            yield load_manifests(str(folder))
    if not found:
        raise ConfigError(
            target, "holds components alone", "name a Kustomize folder that uses them"
        )


def find_configs(configs: str | None) -> Path | None:
    """Return the folder of the configs, if there is one.

    Raises:
        ConfigError: If the named folder does not exist.
    """
    folder = Path("configs" if configs is None else configs)
    if folder.is_dir():
        return folder
    if configs is not None:
        raise ConfigError("--configs", f"{configs} is no folder", "name the configs/ of the image")
    return None


def read_gpu_use(target: str) -> dict[str, float]:
    """Return the GPU utilization of runs, by name of the run, from their records.

    Args:
        target: A ``run.json``, a run, or a folder of runs.

    Raises:
        ConfigError: If no record there has a GPU utilization.
        DataError: If there is no record, or one cannot be read.
    """
    records = (folder.read_record() for folder in find_runs(target.removesuffix(RECORD) or "."))
    use = {
        record.name: record.gpu_utilization
        for record in records
        if record is not None and record.gpu_utilization is not None
    }
    if not use:
        raise ConfigError(
            "--benchmark", f"no record in {target} says how busy GPUs were", "train on a GPU first"
        )
    return use


def show(found: Sequence[Violation], *, every: bool) -> None:
    """Print violations by object; unless ``every``, print one shared by several objects once."""
    console = Console(file=sys.stdout, soft_wrap=True, highlight=False)
    last = ""
    for violation, others in fold(found, every=every):
        place = f"{violation.source}: {violation.object}"
        if place != last:
            console.print(Text(place, style="bold"))
            last = place
        line = Text("  ")
        line.append(f"{violation.severity:<8}", STYLES[violation.severity])
        line.append(f"{violation.rule}: {violation.field}: {violation.problem}")
        line.append(f"; {violation.remedy}")
        if others:
            line.append(f" (and {others})", "dim")
        console.print(line)


def fold(found: Sequence[Violation], *, every: bool) -> list[tuple[Violation, str]]:
    """Return violations to show, each with the number of others, such as "26 more Jobs"."""
    groups: dict[tuple[str, ...], list[Violation]] = {}
    for violation in found:
        key: tuple[str, ...] = (violation.rule, violation.field, violation.remedy)
        kind, _, name = violation.object.partition("/")
        # Compare problems without the name of the object.
        problem = violation.problem.replace(name, "") if name else violation.problem
        key = (*key, kind, problem, *([name] if every else ()))
        groups.setdefault(key, []).append(violation)
    shown = []
    for group in groups.values():
        kind = group[0].object.partition("/")[0]
        others = len({violation.object for violation in group}) - 1
        shown.append((group[0], f"{others} more {kind}{'s' * (others > 1)}" if others else ""))
    return shown


def list_rules() -> None:
    """Print every rule of every profile, one line each."""
    for group in PROFILES["nautilus"]:
        profiles = [name for name, chosen in PROFILES.items() if group in chosen]
        print(f"{group.title} (--profile {' or '.join(profiles)})")
        for rule in group.rules:
            print(f"  {rule.id:<26}{rule.severity:<9}{rule.summary}")
    print("The cluster itself (--server)")
    for name, severity, summary in RULES:
        print(f"  {name:<26}{severity:<9}{summary}")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"

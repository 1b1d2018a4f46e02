"""Good manifests, and what breaks them."""

import copy
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from rsdl.cluster.load import Manifest, load_manifests
from rsdl.cluster.policy.check import check
from rsdl.cluster.policy.objects import ManifestSet
from rsdl.cluster.policy.study.facts import Study
from rsdl.cluster.policy.study.load import load_runs
from rsdl.cluster.policy.violation import Violation

GOOD = Path(__file__).with_name("good")
CONFIGS = Path(__file__).parents[4] / "configs"
STEP = re.compile(r"\[(\d+)\]|\[([^\]]+)\]|\.?([^.\[\]]+)")


def read(name: str) -> list[Manifest]:
    """Return good manifests, to be broken at will."""
    found = load_manifests(str(GOOD / f"{name}.yaml"))
    # An anchor makes two parts one; a manifest of a cluster knows no such thing.
    return [Manifest(m.source, yaml.safe_load(_plain(m.body))) for m in found]


def set_part(manifests: list[Manifest], kind: str, path: str, value: object) -> list[Manifest]:
    """Return the manifests with a part of one object set, or gone if ``None``.

    Args:
        manifests: The manifests.
        kind: Of the object; the first of its kind, or as ``Job:1`` the second.
        path: Of the part.
        value: Of the part.
    """
    manifests = copy.deepcopy(manifests)
    kind, _, at = kind.partition(":")
    target: Any = [manifest for manifest in manifests if manifest.kind == kind][int(at or 0)].body
    steps = [int(n) if n else key or plain for n, key, plain in STEP.findall(path)]
    for step, following in pairwise(steps):
        if isinstance(step, str):
            target = target.setdefault(step, [] if isinstance(following, int) else {})
        else:
            target = target[step]
    last = steps[-1]
    if value is None:
        del target[last]
    elif isinstance(last, int) and last == len(target):
        target.append(value)
    else:
        target[last] = value
    return manifests


def examine(
    manifests: list[Manifest],
    profile: str = "nautilus",
    gpu_use: Mapping[str, float] | None = None,
) -> list[Violation]:
    """Return what breaks a rule, with the configs of this repository."""
    runs = load_runs(ManifestSet(manifests), CONFIGS)
    return check(ManifestSet(manifests, Study(runs, gpu_use or {})), profile)


def _plain(body: object) -> str:
    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: object) -> bool:
            return True

    return yaml.dump(body, Dumper=Dumper)

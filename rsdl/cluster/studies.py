"""The parts of the case study: 27 configs for each task, the nine architectures on three data sets.

Each part is a study of its own on the cluster, with its own name and folder of runs.
"""

from collections.abc import Mapping

from rsdl.models.catalog import ARCHITECTURES

PUBLISHED = "detection/study"  # the published study of detectors by their nearest of ours
# The task whose configs lie in configs/ itself, and whose Jobs are those of k8s/.
FIRST = "classification"
STUDIES: Mapping[str, tuple[str, ...]] = {
    FIRST: ("ucm", "aid", "resisc45"),
    "segmentation": ("loveda", "potsdam", "burned"),
    "detection": ("dota", "xview", "rareplanes"),
}


def study_configs(task: str = FIRST) -> list[str]:
    """Return the names of a study's configs, in its order."""
    return [f"{architecture}_{data}" for architecture in ARCHITECTURES for data in STUDIES[task]]


def study_name(study: str, task: str) -> str:
    """Return the name of a task's study: ``hrrsi``, ``hrrsi-segmentation``."""
    return study if task == FIRST else f"{study}-{task}"


def task_of(name: str) -> str:
    """Return the task of a study's config; that of ``k8s/`` for any other name."""
    dataset = name.rpartition("_")[2]
    return next((task for task, datasets in STUDIES.items() if dataset in datasets), FIRST)


def config_paths(name: str, folder: str) -> list[str]:
    """Return the files that a config of this name may be, the one that counts first."""
    others = [f"{folder}/{task}/{name}.yaml" for task in STUDIES if task != FIRST]
    return [f"{folder}/{name}.yaml", *others, f"{folder}/{PUBLISHED}/{name}.yaml"]

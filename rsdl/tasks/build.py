"""The tasks by name."""

from collections.abc import Callable
from typing import Any

from rsdl.config.task import TASKS, TaskConfig
from rsdl.core.errors import ConfigError
from rsdl.data.manifest import Manifest, Split
from rsdl.tasks.base import Task
from rsdl.tasks.classification import ClassificationTask
from rsdl.tasks.detection import DetectionTask
from rsdl.tasks.segmentation import SegmentationTask

# Config, classes, and the train split, if there is one to know.
BUILDERS: dict[str, Callable[[Any, tuple[str, ...], Split | None], Task]] = {
    "classification": lambda config, classes, train: ClassificationTask(config, classes),
    "segmentation": lambda config, classes, train: SegmentationTask(
        config, classes, train.class_counts if train else ()
    ),
    "detection": lambda config, classes, train: DetectionTask(
        config, classes, sum(train.class_counts) / max(train.samples, 1) if train else 1.0
    ),
}


def build_task(config: TaskConfig, manifest: Manifest, *, url: str) -> Task:
    """Return the task of a config for a data set.

    Args:
        config: Config of the task.
        manifest: Manifest of the data set, which has the classes.
        url: Location of the data set, for errors.

    Raises:
        ConfigError: If the data set has another kind of target.
    """
    wanted, found = config.facts.target, manifest.target
    if wanted != found:
        fit = " or ".join(name for name, facts in TASKS.items() if facts.target == found)
        raise ConfigError(
            "task.name",
            f'{config.name} needs targets of kind "{wanted}", the data set at data.url={url} has '
            f'"{found}"',
            f"set task.name={fit}, or name another data set" if fit else "name another data set",
        )
    return BUILDERS[config.name](config, manifest.classes, manifest.splits.get("train"))

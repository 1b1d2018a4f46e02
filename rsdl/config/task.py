"""The learning tasks: what every room may know of each, and the config that selects one."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """What reports, manifests and commands know of a task without loading PyTorch.

    Attributes:
        target: Kind of target that a data set must have; see ``rsdl/data/targets``.
        primary_metric: Metric that ranks runs and selects the best checkpoint; higher is better.
        label: Name of the primary metric in tables, as ``OA``.
        title: Name of the primary metric in prose, as ``overall accuracy``.
    """

    target: str
    primary_metric: str
    label: str
    title: str


TaskName = Literal["classification"]
TASKS = {"classification": TaskFacts("class_index", "oa", "OA", "overall accuracy")}


def metric_label(tasks: Iterable[str]) -> str:
    """Return the label of the primary metric; those of several tasks are joined by slashes."""
    return "/".join(dict.fromkeys(TASKS[task].label for task in tasks))


class TaskConfig(BaseModel):
    """What is learnt."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: TaskName = Field("classification", description="The task.")
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="Share of the target spread over all classes in training."
    )

    @property
    def facts(self) -> TaskFacts:
        """The task's entry in ``TASKS``."""
        return TASKS[self.name]

"""The learning task and its label smoothing."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class TaskConfig(BaseModel):
    """What is learnt."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["classification"] = Field("classification", description="The task.")
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="Share of the target spread over all classes in training."
    )

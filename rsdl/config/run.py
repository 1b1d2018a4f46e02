"""RunConfig: the complete configuration of a run, composed of the packages' config classes."""

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rsdl.config.data import DEFAULT_BATCH_SIZE, AugmentConfig, DataConfig
from rsdl.config.fold import parse_fold
from rsdl.config.model import ModelConfig
from rsdl.config.optim import OptimConfig, scale_lr
from rsdl.config.task import ClassificationConfig, TaskConfig
from rsdl.config.trainer import CheckpointConfig, LoggingConfig, TrainerConfig
from rsdl.storage.s3.endpoint import StorageConfig

# Fields that may change when a run resumes: where and how fast it runs, never its result.
CHANGEABLE = (
    "output",
    "storage.endpoint",
    "storage.anonymous",
    "storage.requester_pays",
    "data.url",
    "data.cache",
    "data.cache.folder",
    "data.cache.size",
    "data.decoded_cache",
    "data.num_workers",
    "data.prefetch",
    # These differ in the rounding of pixels, and on a GPU in chroma upsampling; see
    # rsdl/data/gpu/resample.py and device_decoder.py.
    "data.decode",
    "data.resident",
    "data.eval_batch_size",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "trainer.timeout_s",
    "trainer.rendezvous_s",
    "trainer.accumulate",
    "trainer.compile",
    "trainer.checkpoint_activations",
    "trainer.channels_last",
    "trainer.log_every_steps",
    "checkpoint.every_minutes",
    "checkpoint.keep",
    "logging.mlflow",
    "logging.wandb",
    "logging.project",
)

# Fields that may grow once a run is completed, which extends it.
LENGTH = ("trainer.max_epochs", "trainer.max_steps")


class RunConfig(BaseModel):
    """One training run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="Name of the run, and of its folder."
    )
    output: str = Field("runs", description="Folder or s3:// of all runs.")
    storage: StorageConfig = Field(StorageConfig(), description="How s3:// is reached.")
    seed: int = Field(0, ge=0, description="Seed of every random choice.")
    task: TaskConfig = Field(ClassificationConfig(), description="What is learnt.")
    data: DataConfig = Field(description="Where the data lies and how it is fed.")
    model: ModelConfig = Field(description="The network.")
    augment: AugmentConfig = Field(AugmentConfig(), description="What happens to training images.")
    optim: OptimConfig = Field(OptimConfig(), description="How weights are updated.")
    trainer: TrainerConfig = Field(TrainerConfig(), description="Where and how long to train.")
    checkpoint: CheckpointConfig = Field(CheckpointConfig(), description="When state is saved.")
    logging: LoggingConfig = Field(LoggingConfig(), description="Where to log.")

    @model_validator(mode="before")
    @classmethod
    def _scale_lr(cls, tree: Any) -> Any:  # noqa: ANN401 - what a YAML file holds
        """Set ``optim.lr`` where only ``optim.base_lr`` is given; leave errors to the fields."""
        optim = tree.get("optim") if isinstance(tree, dict) else None
        data = tree.get("data") if isinstance(tree, dict) else None
        if not isinstance(optim, dict) or not isinstance(data, dict) or "lr" in optim:
            return tree
        base, batch = optim.get("base_lr"), data.get("batch_size", DEFAULT_BATCH_SIZE)
        name = optim.get("name", OptimConfig().name)
        if not isinstance(base, int | float) or type(batch) is not int or not isinstance(name, str):
            return tree
        if base <= 0 or batch <= 0:
            return tree
        return tree | {"optim": optim | {"lr": scale_lr(base, name, batch)}}

    @model_validator(mode="before")
    @classmethod
    def _name_fold(cls, tree: Any) -> Any:  # noqa: ANN401 - what a YAML file holds
        """End the name with the fold, so that each has a folder; leave errors to the fields."""
        data = tree.get("data") if isinstance(tree, dict) else None
        name, fold = (
            part.get(key) if isinstance(part, dict) else None
            for part, key in ((tree, "name"), (data, "fold"))
        )
        if not isinstance(name, str) or not isinstance(fold, str):
            return tree
        try:
            suffix = parse_fold(fold).suffix
        except ValueError:
            return tree
        return tree | {"name": name.removesuffix(suffix) + suffix}

    @model_validator(mode="after")
    def _turns_fit(self) -> "RunConfig":
        if self.data.normalize == "weights" and self.model.weights == "none":
            raise ValueError(
                "data.normalize: is weights, and model.weights is none; set data.normalize=auto"
            )
        if self.augment.rotate90 and not isinstance(self.data.image_size, int):
            raise ValueError(
                "augment.rotate90: turns height into width, so data.image_size must be a square; "
                "set augment.rotate90=false, flips stay"
            )
        return self

    @model_validator(mode="after")
    def _boxes_turn(self) -> "RunConfig":
        if self.augment.rotate and self.task.name == "detection" and not self.task.is_oriented:
            raise ValueError(
                f"augment.rotate: is {self.augment.rotate:g}, and an aligned box of a turned image "
                "is not that of its object; set task.boxes=oriented or augment.rotate=0"
            )
        return self

    @model_validator(mode="after")
    def _boxes_keep_their_shape(self) -> "RunConfig":
        if self.task.name != "detection" or not self.task.is_oriented:
            return self
        if self.data.crop_ratio != (1, 1):
            low, high = self.data.crop_ratio
            raise ValueError(
                f"data.crop_ratio: is [{low:.4g}, {high:.4g}], which stretches images, and a "
                "stretched rectangle at an angle is none; set data.crop_ratio=[1,1]"
            )
        if self.data.eval_crop == "whole":
            raise ValueError(
                "data.eval_crop: is whole, which stretches images, and a stretched rectangle at an "
                "angle is none; set data.eval_crop=1"
            )
        return self

    @property
    def digest(self) -> str:
        """SHA-256 of all fields that determine the result."""
        text = json.dumps(self.identity(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def identity(self) -> dict[str, Any]:
        """Return the fields that determine the result, by path."""
        leaves = flatten(self.model_dump(mode="json"))
        if self.data.normalize == "auto" and self.model.weights == "none":
            leaves["data.normalize"] = "dataset"  # as in runs that are older than the field
        return {path: value for path, value in leaves.items() if path not in CHANGEABLE}


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested dicts by dotted path."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        leaves |= flatten(value, f"{path}.") if isinstance(value, dict) else {path: value}
    return leaves


def show_changeable() -> str:
    """Return the fields that may change when a run resumes, group by group."""
    groups: dict[str, list[str]] = {}
    for path in CHANGEABLE:
        group, _, name = path.partition(".")
        groups.setdefault(group, []).append(name)
    # data.cache stands for the fields below it.
    named = {group: [n for n in names if "." not in n] for group, names in groups.items()}
    return ", ".join(
        group if names == [""] else f"{group}.{{{','.join(names)}}}"
        for group, names in named.items()
    )


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a config file, for editors.

    A file may be a fragment for others to extend, so no field is required.
    """
    schema = RunConfig.model_json_schema()
    schema["title"] = "rsdl run"
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["properties"]["extends"] = {
        "description": "Files that this one builds upon, later ones override earlier ones.",
        "items": {"type": "string"},
        "type": "array",
    }
    for part in (schema, *schema.get("$defs", {}).values()):
        part.pop("required", None)
        for field in part.get("properties", {}).values():
            if "oneOf" in field:  # a fragment need not say which
                field["anyOf"] = field.pop("oneOf")
            _allow_interpolation(field)
    return schema


def _allow_interpolation(field: dict[str, Any]) -> None:
    """Allow ``${...}`` in a field that expects a number or a boolean."""
    kinds = {"integer", "number", "boolean"}
    wanted = {field.get("type")} | {choice.get("type") for choice in field.get("anyOf", [])}
    if not kinds & wanted:
        return
    keep = ("description", "title", "default")
    rule = {key: field.pop(key) for key in list(field) if key not in keep}
    choices = rule.pop("anyOf", [rule])
    field["anyOf"] = [*choices, {"type": "string", "pattern": r"\$\{.*\}"}]

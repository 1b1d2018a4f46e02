"""Devices, length of training, checkpoints and logging."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Precision = Literal["auto", "fp32", "bf16-mixed", "16-mixed"]
Compile = Literal["off", "on", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]

MOST_PLAIN_NODES = 60  # YAML 1.1 reads 1:1, a range without quotes, as 61


def _name_compile(value: object) -> object:
    """Return ``on`` or ``off`` for YAML's booleans."""
    return ("on" if value else "off") if isinstance(value, bool) else value


Compiling = Annotated[
    Compile, BeforeValidator(_name_compile, json_schema_input_type=Compile | bool)
]


def _check_nodes(value: object) -> object:
    """Refuse what is no number of nodes and no range of them."""
    if isinstance(value, int) and value > MOST_PLAIN_NODES:
        low, high = divmod(value, 60)
        raise ValueError(
            f'YAML reads {low}:{high} as the number {value}: write "{low}:{high}" in quotes; '
            f'and for {value} nodes "{value}:{value}"'
        )
    if isinstance(value, str) and value != "auto":
        least, _, most = value.partition(":")
        if not (least.isdecimal() and most.isdecimal() and 1 <= int(least) <= int(most)):
            raise ValueError(f'"{value}" is no MIN:MAX with 1 <= MIN <= MAX')
    return value


NumNodes = Annotated[
    Annotated[int, Field(ge=1)] | Annotated[str, Field(pattern=r"^(auto|\d+:\d+)$")],
    BeforeValidator(_check_nodes),
]


class TrainerConfig(BaseModel):
    """Where and how long to train."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    accelerator: Literal["auto", "cpu", "gpu"] = Field("auto", description="What to train on.")
    devices: int | Literal["auto"] = Field("auto", description="Devices on each node.")
    num_nodes: NumNodes = Field(
        "auto",
        description="Nodes; auto: as many as torchrun says, else one. MIN:MAX: nodes may come and "
        "go while the run goes on.",
    )
    strategy: Literal["auto", "ddp", "fsdp"] = Field(
        "auto", description="fsdp spreads the weights over the devices; auto: ddp, each has all."
    )
    compress_gradients: bool = Field(False, description="ddp: exchange gradients as bf16.")
    sync_batchnorm: bool = Field(
        False, description="Batch norm over the batches of all devices; on GPUs."
    )
    timeout_s: float = Field(
        600.0, ge=5, description="Seconds after which a silent device is given up."
    )
    rendezvous_s: float = Field(
        600.0, ge=5, description="Seconds that devices may start apart from each other."
    )
    precision: Precision = Field(
        "auto",
        description="auto: bf16-mixed on a GPU that has it, 16-mixed on others (fp32 with fsdp), "
        "fp32 on the CPU.",
    )
    max_epochs: int = Field(100, ge=1, description="Epochs.")
    max_steps: int | None = Field(None, ge=1, description="Stop after so many optimizer steps.")
    accumulate: int = Field(
        1, ge=1, description="Micro-batches in an optimizer step, when memory is short."
    )
    checkpoint_activations: bool = Field(
        False,
        description="Compute activations anew in the backward pass, when memory is short: about a "
        "third more time. Not for networks with batch norm.",
    )
    channels_last: bool = Field(True, description="Memory layout of convolutions.")
    compile: Compiling = Field(
        "off",
        description=(
            "torch.compile of the network and the augmentation; true is on, false is off, others "
            "are torch's modes: reduce-overhead and max-autotune replay CUDA graphs."
        ),
    )
    deterministic: bool = Field(False, description="Refuse operations that are not, on a GPU.")
    log_every_steps: int = Field(10, ge=1, description="Optimizer steps between two log rows.")
    patience: int | None = Field(
        None, ge=1, description="Stop after so many epochs without a better validation."
    )

    @property
    def node_range(self) -> tuple[int, int] | None:
        """The least and the most nodes; ``None`` if the config does not say."""
        if self.num_nodes == "auto":
            return None
        least, _, most = str(self.num_nodes).partition(":")
        return int(least), int(most or least)

    @property
    def is_elastic(self) -> bool:
        """Whether the number of nodes may change during the run."""
        least, most = self.node_range or (1, 1)
        return least < most


class LoggingConfig(BaseModel):
    """Where to log beside metrics.csv and TensorBoard."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mlflow: bool = Field(False, description='Log to MLflow ($MLFLOW_TRACKING_URI); extra "mlflow".')
    wandb: bool = Field(False, description='Log to Weights & Biases; extra "wandb".')
    project: str = Field("rsdl", description="MLflow experiment or W&B project.")


class CheckpointConfig(BaseModel):
    """When checkpoints are written and how many stay."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    every_minutes: float = Field(10.0, gt=0, description="Also within an epoch.")
    keep: int = Field(1, ge=1, description="How many of the last ones stay, last.ckpt included.")

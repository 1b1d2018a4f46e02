"""The Lightning Trainer, set up the way rsdl runs it."""

import logging
import warnings
from typing import Literal

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pydantic import BaseModel, ConfigDict, Field
from pytorch_lightning.loggers import Logger, TensorBoardLogger

from rsdl.core.errors import ConfigError
from rsdl.storage.store import Store
from rsdl.train.checkpoint import StoreCheckpointIO

PRECISIONS = {"fp32": "32-true", "bf16-mixed": "bf16-mixed", "16-mixed": "16-mixed"}
Precision = Literal["auto", "fp32", "bf16-mixed", "16-mixed"]


class TrainerConfig(BaseModel):
    """Where and how long to train."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    accelerator: Literal["auto", "cpu", "gpu"] = Field("auto", description="What to train on.")
    devices: int | Literal["auto"] = Field("auto", description="Devices on each node.")
    num_nodes: int = Field(1, ge=1, description="Nodes.")
    precision: Precision = Field(
        "auto", description="auto: bf16-mixed on a GPU that has it, else fp32."
    )
    max_epochs: int = Field(100, ge=1, description="Epochs.")
    max_steps: int | None = Field(None, ge=1, description="Stop after so many optimizer steps.")
    accumulate: int = Field(
        1, ge=1, description="Micro-batches in an optimizer step, when memory is short."
    )
    channels_last: bool = Field(True, description="Memory layout of convolutions.")
    compile: bool = Field(False, description="Compile the network with torch.compile.")
    deterministic: bool = Field(False, description="Refuse operations that are not, on a GPU.")
    log_every_steps: int = Field(10, ge=1, description="Optimizer steps between two log rows.")
    patience: int | None = Field(
        None, ge=1, description="Stop after so many epochs without a better validation."
    )


class LoggingConfig(BaseModel):
    """Where to log beside metrics.csv and TensorBoard."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mlflow: bool = Field(False, description='Log to MLflow ($MLFLOW_TRACKING_URI); extra "mlflow".')
    wandb: bool = Field(False, description='Log to Weights & Biases; extra "wandb".')
    project: str = Field("rsdl", description="MLflow experiment or W&B project.")


class EventLogger(TensorBoardLogger):
    """TensorBoard's events and nothing else."""

    def save(self) -> None:
        """Write events, but no hparams.yaml: config.yaml says it all."""
        if self._experiment is not None:
            self._experiment.flush()


def build_trainer(
    config: TrainerConfig,
    store: Store,
    *,
    clip_grad: float | None,
    callbacks: list[pl.Callback],
    loggers: list[Logger],
) -> pl.Trainer:
    """Return the trainer.

    Raises:
        ConfigError: If what is asked for is not on this machine.
    """
    _quieten()
    try:
        return pl.Trainer(
            accelerator=config.accelerator,
            devices=1
            if config.devices == "auto" and config.accelerator == "cpu"
            else config.devices,
            num_nodes=config.num_nodes,
            precision=PRECISIONS[choose_precision(config)],  # type: ignore[arg-type]
            max_epochs=config.max_epochs,
            max_steps=config.max_steps or -1,
            accumulate_grad_batches=config.accumulate,
            gradient_clip_val=clip_grad,
            callbacks=callbacks,
            logger=loggers,
            plugins=[StoreCheckpointIO(store)],
            deterministic=config.deterministic,
            # Loaders know the epoch and the position; each epoch gets its own.
            reload_dataloaders_every_n_epochs=1,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=config.log_every_steps,
        )
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError("trainer", reason, 'see what is here with "rsdl doctor"') from error


def choose_precision(config: TrainerConfig) -> str:
    """Return the precision that ``auto`` stands for on this machine."""
    if config.precision != "auto":
        return config.precision
    on_gpu = config.accelerator != "cpu" and torch.cuda.is_available()
    return "bf16-mixed" if on_gpu and torch.cuda.is_bf16_supported() else "fp32"


def build_loggers(config: LoggingConfig, folder: str, name: str) -> list[Logger]:
    """Return the loggers of a run; TensorBoard always.

    Args:
        config: Which others.
        folder: Local folder for TensorBoard's event files.
        name: Name of the run.
    """
    loggers: list[Logger] = [EventLogger(folder, name="", version="")]
    try:
        if config.mlflow:
            from pytorch_lightning.loggers import MLFlowLogger

            loggers.append(MLFlowLogger(experiment_name=config.project, run_name=name))
        if config.wandb:
            from pytorch_lightning.loggers import WandbLogger

            loggers.append(WandbLogger(name=name, project=config.project, save_dir=folder))
    except ModuleNotFoundError as error:
        extra = "mlflow" if config.mlflow and "mlflow" in str(error) else "wandb"
        raise ConfigError(
            f"logging.{extra}", "is not installed", f'run "pip install rsdl-train[{extra}]"'
        ) from error
    return loggers


def _quieten() -> None:
    """Keep Lightning's chatter and what does not concern our loaders off the terminal."""
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.WARNING)
    quiet = (
        ".*does not have many workers.*",
        ".*smaller than the logging interval.*",
        ".*in eval mode at the start of training.*",  # the averaged weights
        ".*LeafSpec.*is deprecated.*",  # Lightning 2.6 on torch 2.14
    )
    for message in quiet:
        warnings.filterwarnings("ignore", message)

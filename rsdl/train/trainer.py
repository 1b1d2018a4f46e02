"""The Lightning Trainer as rsdl configures it."""

import logging
import warnings

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.loggers import Logger, TensorBoardLogger
from pytorch_lightning.strategies import DDPStrategy, Strategy
from torch.distributed import is_initialized
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.nn.parallel import DistributedDataParallel

from rsdl.config.run import RunConfig
from rsdl.config.trainer import LoggingConfig, TrainerConfig
from rsdl.core.allocator import keep_freed_memory
from rsdl.core.errors import ConfigError
from rsdl.data.plan import Share
from rsdl.distributed.rank import RankInfo, world_size
from rsdl.distributed.rendezvous import backend_for
from rsdl.train.checkpoint_io import StoreCheckpointIO
from rsdl.train.fsdp import ShardedStrategy
from rsdl.train.lightning_private import flush
from rsdl.train.upload_queue import UploadQueue

PRECISIONS = {"fp32": "32-true", "bf16-mixed": "bf16-mixed", "16-mixed": "16-mixed"}


class EventLogger(TensorBoardLogger):
    """A TensorBoardLogger that writes event files only."""

    def save(self) -> None:
        """Write events, but no hparams.yaml, since config.yaml holds the hyperparameters."""
        flush(self)


def fit_to_ranks(config: TrainerConfig, rank_info: RankInfo | None) -> TrainerConfig:
    """Return the config with the numbers of devices and nodes of the started processes.

    Args:
        config: Config of the user.
        rank_info: This process's rank, from torchrun or our launcher; ``None``: one process.

    Raises:
        ConfigError: If the config contradicts the processes, or its options exclude each other.
    """
    rank_info = rank_info or RankInfo()
    if rank_info.world_size % rank_info.local_world_size:
        raise ConfigError(
            "trainer.devices",
            f"{rank_info.world_size} processes are not a multiple of the "
            f"{rank_info.local_world_size} here",
            "start the same number on every node",
        )
    nodes = rank_info.world_size // rank_info.local_world_size
    least, most = config.node_range or (nodes, nodes)
    for name, asked, count, fits in (
        ("devices", config.devices, rank_info.local_world_size, False),
        ("num_nodes", config.num_nodes, nodes, least <= nodes <= most),
    ):
        if asked not in ("auto", count) and not fits:
            raise ConfigError(
                f"trainer.{name}", f"is {asked}, but {count} were started", "leave it out"
            )
    _check_options(config)
    told = {"devices": rank_info.local_world_size}
    return config.model_copy(update=told if config.is_elastic else told | {"num_nodes": nodes})


def share_batch(config: RunConfig, world_size: int) -> Share:
    """Return how the global batch is shared by the first rank of a number of ranks.

    With a number of nodes that may change, the steps of accumulation follow from it: a device has
    no more rows at a time than with the most nodes, and rows that do not count fill up the parts.

    Args:
        config: Config of the run, as :func:`fit_to_ranks` returns it.
        world_size: Number of ranks.
    """
    asked, batch = config.trainer.accumulate, config.data.batch_size
    if not config.trainer.is_elastic:
        return Share(0, world_size, asked)
    assert config.trainer.node_range is not None and config.trainer.devices != "auto"
    multiple = 2 if config.augment.mixes else 1  # images are mixed in pairs
    most = config.trainer.node_range[1] * config.trainer.devices
    limit = Share(0, most, asked, multiple).rows_of(batch)
    accumulate = -(-batch // (world_size * limit))
    while Share(0, world_size, accumulate, multiple).rows_of(batch) > limit:
        accumulate += 1
    return Share(0, world_size, accumulate, multiple)


def _check_options(config: TrainerConfig) -> None:
    on_gpu = backend_for(config.accelerator) == "nccl"
    if config.sync_batchnorm and not on_gpu:
        raise ConfigError("trainer.sync_batchnorm", "works on GPUs only", "leave it out on the CPU")
    if config.strategy == "fsdp" and config.compress_gradients:
        raise ConfigError(
            "trainer.compress_gradients", "is for ddp, trainer.strategy is fsdp", "leave one out"
        )
    if config.strategy == "fsdp" and config.precision == "16-mixed":
        raise ConfigError(
            "trainer.precision", "16-mixed does not go with fsdp", "use bf16-mixed or fp32"
        )


def build_trainer(
    config: TrainerConfig,
    uploads: UploadQueue,
    *,
    accumulate: int = 1,
    clip_grad: float | None,
    callbacks: list[pl.Callback],
    loggers: list[Logger],
    validates: bool = True,
) -> pl.Trainer:
    """Return the trainer.

    Args:
        config: Result of :func:`fit_to_ranks`.
        uploads: Queue that writes to the run's folder.
        accumulate: Micro-batches in an optimizer step.
        clip_grad: Largest norm of the gradient.
        callbacks: rsdl's callbacks.
        loggers: Loggers of the run.
        validates: Whether epochs end with a validation.

    Raises:
        ConfigError: If this machine lacks the requested devices.
    """
    _quieten()
    precision = choose_precision(config)
    set_tensor_cores(precision)
    # Lightning's own detection takes an sbatch script for one of several Slurm tasks.
    environment = [] if is_initialized() else [LightningEnvironment()]
    try:
        trainer = pl.Trainer(
            accelerator=config.accelerator,
            devices=config.devices,
            num_nodes=world_size() // int(config.devices) if is_initialized() else 1,
            strategy=choose_strategy(config),
            sync_batchnorm=config.sync_batchnorm,
            precision=PRECISIONS[precision],  # type: ignore[arg-type]
            max_epochs=config.max_epochs,
            max_steps=config.max_steps or -1,
            accumulate_grad_batches=accumulate,
            gradient_clip_val=clip_grad,
            callbacks=callbacks,
            logger=loggers,
            plugins=[StoreCheckpointIO(uploads), *environment],
            deterministic=config.deterministic,
            # All batches have one size, so cuDNN can benchmark its algorithms once. The choice,
            # and so the rounding, may differ between starts.
            benchmark=not config.deterministic,
            # A loader is bound to an epoch and a position, so each epoch needs a new one.
            reload_dataloaders_every_n_epochs=1,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            limit_val_batches=1.0 if validates else 0,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=config.log_every_steps,
        )
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError("trainer", reason, 'see what is here with "rsdl doctor"') from error
    # Lightning's SIGTERM handler runs a collective, which could mismatch one of another rank.
    trainer._signal_connector.register_signal_handlers = _leave_signals  # type: ignore[method-assign]
    if trainer.strategy.root_device.type == "cpu":
        keep_freed_memory()
    return trainer


def _leave_signals() -> None:
    """Register no signal handlers: rsdl has its own."""


def choose_strategy(config: TrainerConfig) -> Strategy | str:
    """Return the strategy; several ranks must have initialized the process group before."""
    if not is_initialized():
        return "auto"
    kind = ShardedStrategy if config.strategy == "fsdp" else GradientStrategy
    strategy = kind(cluster_environment=TorchElasticEnvironment())
    if isinstance(strategy, GradientStrategy):
        strategy.compress = config.compress_gradients
    return strategy


class GradientStrategy(DDPStrategy):
    """DDP with optional bf16 compression: half the bytes to all-reduce, updates in fp32."""

    compress = False

    def _register_ddp_hooks(self) -> None:
        # Lightning registers hooks on GPUs only; gloo reduces bf16 as well.
        if self.compress:
            assert isinstance(self.model, DistributedDataParallel)
            self.model.register_comm_hook(None, bf16_compress_hook)


def choose_precision(config: TrainerConfig) -> str:
    """Return the precision; resolve ``auto`` for this machine."""
    if config.precision != "auto":
        return config.precision
    if config.accelerator == "cpu" or not torch.cuda.is_available():
        return "fp32"
    # A V100 emulates bf16, slower than fp32; it has tensor cores for fp16.
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return "bf16-mixed"
    return "fp32" if config.strategy == "fsdp" else "16-mixed"


def set_tensor_cores(precision: str) -> None:
    """Allow tensor cores, if there are any, for what mixed precision keeps in fp32.

    Args:
        precision: One of ``PRECISIONS``; ``fp32`` stays full fp32.
    """
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("highest" if precision == "fp32" else "high")


def build_loggers(config: LoggingConfig, folder: str, name: str) -> list[Logger]:
    """Return the loggers of a run, always including TensorBoard.

    Args:
        config: Selects further loggers.
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
    """Silence Lightning's log messages and its warnings that do not apply to rsdl's loaders."""
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

"""``rsdl models``: list architectures with parameters and GFLOPs, and remote-sensing weights."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import get_args

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from rsdl.config.model import ModelConfig
from rsdl.config.task import CONFIGS, ClassificationConfig, TaskConfig, TaskName
from rsdl.core.errors import ConfigError
from rsdl.models.catalog import ARCHITECTURES, find_timm_name
from rsdl.models.probe import measure_cost, published_size
from rsdl.models.remote_sensing import WEIGHTS, names_for
from rsdl.storage.s3.endpoint import AWS
from rsdl.tasks.build import BUILDERS

NUM_BANDS = 3
SIZES = {"segmentation": 512, "detection": 1024}  # px, as in the configs; others: as published


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One line of the table.

    Attributes:
        name: Name to write in a config.
        timm_name: Name of the model in timm.
        family: CNN, transformer or hybrid; ``None`` for a model that is not one of the nine.
        parameters: Trainable parameters, including the head.
        gflops: 10^9 floating point operations for one image; a multiply-accumulate counts as two.
        image_size: Side of the square input in pixels that ``gflops`` holds for.
    """

    name: str
    timm_name: str
    family: str | None
    parameters: int
    gflops: float
    image_size: int


def list_models(
    names: Sequence[str] = (),
    *,
    task: TaskName = "classification",
    head: str | None = None,
    num_classes: int = 21,
    image_size: int | None = None,
    as_json: bool = False,
) -> None:
    """Print parameters and GFLOPs of the nine architectures, or of the named models, with a head.

    Args:
        names: Config names or timm model names; empty for the nine architectures.
        task: Task whose head they get.
        head: Value of ``task.head``; ``None`` for the task's default.
        num_classes: Number of classes of the heads.
        image_size: Side of the input in pixels; ``None`` takes each model's published size, and
            for segmentation and detection that of the configs.
        as_json: Whether to print a JSON array instead of a table.

    Raises:
        ConfigError: If a name or head is unknown or a model does not take the size.
    """
    chosen = names or tuple(ARCHITECTURES)
    options = _options(task, head)
    size = image_size or SIZES.get(task)
    rows = [
        describe_model(name, options=options, num_classes=num_classes, image_size=size)
        for name in chosen
    ]
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return
    console = Console()
    console.print(_table(rows))
    shown = f"{task} by {head}" if head else task
    console.print(
        f"For {shown} of {num_classes} classes in {NUM_BANDS} bands. GFLOPs: 10^9 floating "
        "point operations for one image, forward; a multiply-accumulate counts as two.",
        style="dim",
        highlight=False,
    )
    known = sorted({row.architecture for row in WEIGHTS.values()})
    console.print(
        f"Pretrained on remote-sensing imagery: {len(WEIGHTS)} weights for {', '.join(known)}; see "
        "rsdl models --weights.",
        style="dim",
        highlight=False,
    )


def list_weights(names: Sequence[str] = (), *, as_json: bool = False) -> None:
    """Print the remote-sensing weights that ``model.weights`` takes by name.

    Args:
        names: Models whose weights are wanted; empty for all.
        as_json: Whether to print a JSON array with everything that is known of them.

    Raises:
        ConfigError: If a model is unknown.
    """
    models = [find_timm_name(name).partition(".")[0] for name in names]
    chosen = [one for model in models for one in names_for(model)] if names else list(WEIGHTS)
    if as_json:
        print(json.dumps([{"name": name} | asdict(WEIGHTS[name]) for name in chosen], indent=2))
        return
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("weights", "bands", "pixels", "license"):
        table.add_column(heading, overflow="fold")
    for name in chosen:
        row = WEIGHTS[name]
        bands = row.trained_on.bands
        shown = ", ".join(bands) if len(bands) <= NUM_BANDS else f"{len(bands)} of Sentinel-2"
        table.add_row(name, shown, row.trained_on.dtype, row.license)
    Console().print(table)


def describe_model(
    name: str,
    *,
    num_classes: int,
    image_size: int | None,
    options: TaskConfig | None = None,
) -> ModelRow:
    """Return the table row of a model, without allocating or downloading its weights."""
    classes = tuple(map(str, range(num_classes)))
    options = options or ClassificationConfig()
    built = BUILDERS[options.name](options, classes, None)
    timm_name = find_timm_name(name)
    size = published_size(timm_name) if image_size is None else image_size
    with torch.device("meta"):
        model = built.build_network(
            ModelConfig(name=name), in_chans=NUM_BANDS, image_size=size, storage=AWS, bands=()
        )
    cost = measure_cost(model, in_chans=NUM_BANDS, image_size=size)
    family = ARCHITECTURES[name].family if name in ARCHITECTURES else None
    return ModelRow(name, timm_name, family, cost.parameters, cost.flops / 1e9, size)


def _options(task: TaskName, head: str | None) -> TaskConfig:
    """Return the config of a task with a head, and all else by default.

    Raises:
        ConfigError: If the task has no such head.
    """
    kind = CONFIGS[task]
    fields: dict[str, str] = {"name": task}
    if head is not None:
        field = kind.model_fields.get("head")
        known = get_args(field.annotation) if field is not None else ()
        if head not in known:
            remedy = f"give one of {', '.join(known)}" if known else "leave it out, or give --task"
            raise ConfigError("--head", f"{task} has no head {head!r}", remedy)
        fields["head"] = head
    options: TaskConfig = kind.model_validate(fields)  # type: ignore[assignment]
    return options


def _table(rows: Sequence[ModelRow]) -> Table:
    # Narrow enough for the nine on 80 columns, the width of piped output.
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("model", "timm model", "family"):
        table.add_column(heading, overflow="fold")
    for heading in ("params", "GFLOPs", "px"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.name,
            row.timm_name,
            row.family or "-",
            f"{row.parameters / 1e6:.1f} M",
            f"{row.gflops:.1f}",
            str(row.image_size),
        )
    if len(rows) > 1:
        table.add_section()
        table.add_row("sum", "", "", f"{sum(row.parameters for row in rows) / 1e6:.1f} M", "", "")
    return table

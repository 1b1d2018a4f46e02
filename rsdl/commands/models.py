"""``rsdl models``: list architectures with parameters and GFLOPs, and remote-sensing weights."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from rsdl.config.model import ModelConfig
from rsdl.models.catalog import ARCHITECTURES, build_model, find_timm_name
from rsdl.models.probe import measure_cost, published_size
from rsdl.models.remote_sensing import WEIGHTS, names_for

NUM_BANDS = 3


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One line of the table.

    Attributes:
        name: Name to write in a config.
        timm_name: Name of the model in timm.
        family: CNN, transformer or hybrid; ``None`` for a model that is not one of the nine.
        parameters: Trainable parameters, including the classifier.
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
    num_classes: int = 21,
    image_size: int | None = None,
    as_json: bool = False,
) -> None:
    """Print parameters and GFLOPs of the nine architectures, or of the named models.

    Args:
        names: Config names or timm model names; empty for the nine architectures.
        num_classes: Number of classes of the classifiers.
        image_size: Side of the input in pixels; ``None`` takes each model's published size.
        as_json: Whether to print a JSON array instead of a table.

    Raises:
        ConfigError: If a name is unknown or a model does not take the size.
    """
    chosen = names or tuple(ARCHITECTURES)
    rows = [describe_model(name, num_classes=num_classes, image_size=image_size) for name in chosen]
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return
    console = Console()
    console.print(_table(rows))
    console.print(
        f"For {num_classes} classes and {NUM_BANDS} bands. GFLOPs: 10^9 floating point operations "
        "for one image, forward; a multiply-accumulate counts as two.",
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


def describe_model(name: str, *, num_classes: int, image_size: int | None) -> ModelRow:
    """Return the table row of a model, without allocating or downloading its weights."""
    timm_name = find_timm_name(name)
    size = published_size(timm_name) if image_size is None else image_size
    with torch.device("meta"):
        model = build_model(
            ModelConfig(name=name), num_classes=num_classes, in_chans=NUM_BANDS, image_size=size
        )
    cost = measure_cost(model, in_chans=NUM_BANDS, image_size=size)
    family = ARCHITECTURES[name].family if name in ARCHITECTURES else None
    return ModelRow(name, timm_name, family, cost.parameters, cost.flops / 1e9, size)


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

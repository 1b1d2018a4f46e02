"""``rsdl models --heads``: which heads of segmentation fit which backbone, found by trying."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from rsdl.config.model import ModelConfig
from rsdl.config.task import SegmentationConfig
from rsdl.core.errors import ConfigError
from rsdl.models.catalog import ARCHITECTURES, find_timm_name
from rsdl.models.heads.catalog import HEADS
from rsdl.models.probe import published_size
from rsdl.models.segmenter import build_segmenter

NUM_BANDS, NUM_CLASSES = 3, 6


@dataclass(frozen=True, slots=True)
class HeadRow:
    """Whether a head fits a backbone.

    Attributes:
        model: Name of the backbone in a config.
        head: Value of ``task.head``.
        parameters: Trainable parameters of both; ``None`` if it does not fit.
        reason: Why it does not fit.
    """

    model: str
    head: str
    parameters: int | None
    reason: str | None = None


def list_heads(names: Sequence[str] = (), *, as_json: bool = False) -> None:
    """Print the heads that fit the nine architectures, or the named models.

    Args:
        names: Config names or timm model names; empty for the nine architectures.
        as_json: Whether to print a JSON array instead of a table.

    Raises:
        ConfigError: If a name is unknown, or a package that a head needs is not installed.
    """
    chosen = names or tuple(ARCHITECTURES)
    for name in chosen:
        find_timm_name(name)
    rows = [row for name in chosen for row in describe_heads(name)]
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("model", "heads, with M parameters", "does not fit"):
        table.add_column(heading, overflow="fold")
    for name in chosen:
        own = [row for row in rows if row.model == name]
        fits = [f"{row.head} {row.parameters / 1e6:.0f}" for row in own if row.parameters]
        table.add_row(name, ", ".join(fits), ", ".join(row.head for row in own if row.reason))
    Console().print(table)
    print("Why one does not fit: --json. What begins with smp/ is a decoder of")
    print('segmentation_models_pytorch: pip install "rsdl-train[smp]".')


def describe_heads(name: str) -> Iterator[HeadRow]:
    """Yield for each head whether it fits a backbone, without allocating its weights.

    Raises:
        ConfigError: If a package that a head needs is not installed.
    """
    size = published_size(find_timm_name(name))
    for head in HEADS:
        options = SegmentationConfig(name="segmentation", head=head)
        try:
            with torch.device("meta"):
                network = build_segmenter(
                    ModelConfig(name=name), options, num_classes=NUM_CLASSES, in_chans=NUM_BANDS,
                    image_size=size,
                )  # fmt: skip
                network(torch.empty(2, NUM_BANDS, size, size))
        except ConfigError as error:
            if "pip install" in (error.remedy or ""):
                raise
            yield HeadRow(name, head, None, error.problem)
            continue
        yield HeadRow(name, head, sum(weight.numel() for weight in network.parameters()))

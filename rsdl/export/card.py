"""The model card: ``README.md`` of an export, with the front matter of the Hugging Face Hub."""

from collections.abc import Iterator
from typing import Any

import yaml

from rsdl.core.image_size import show_size
from rsdl.export.formats import Parity
from rsdl.export.model import TrainedModel
from rsdl.export.weights import is_of_timm
from rsdl.records.evaluation_base import Evaluation
from rsdl.records.model_spec import ModelSpec
from rsdl.records.run_record import RunRecord
from rsdl.tasks.base import CardFacts

USES = {
    "safetensors": """```python
import rsdl, timm

model = rsdl.load("FOLDER")       # takes raw pixels
network = timm.create_model("local-dir:FOLDER", pretrained=True)    # takes normalised ones
```""",
    "rsdl": """```python
import rsdl

model = rsdl.load("FOLDER")       # takes raw pixels
```""",
    "onnx": """```python
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
(logits,) = session.run(["logits"], {{"images": images}})   # [B, {bands}, H, W] {dtype}, raw pixels
```""",
    "torch": """```python
import torch

graph = torch.export.load("model.pt2").module()
logits = graph(images)            # [B, {bands}, H, W] {dtype}, raw pixels
```""",
}
LIBRARIES = {"safetensors": "timm", "torch": "pytorch"}
# What of a data set's provenance tells its origin.
ORIGINS = ("title", "homepage", "url", "source", "md5", "split_rule", "seed", "rsdl_version")


def write_card(
    model: TrainedModel,
    record: RunRecord | None,
    evaluation: Evaluation | None,
    parity: Parity,
    *,
    to: str,
    licence: str | None,
) -> str:
    """Return the model card as Markdown.

    Args:
        model: The exported network.
        record: The run's record, if there is one.
        evaluation: Its evaluation, if there is one.
        parity: How far the export is from the run.
        to: Format of the export.
        licence: SPDX identifier of the licence; ``None`` if it is not known.
    """
    spec, facts = model.spec, model.task.card()
    if to in ("safetensors", "hf"):
        to = "safetensors" if is_of_timm(model) else "rsdl"
    front = {
        "license": (licence or "other").lower(),
        "library_name": LIBRARIES.get(to, to),
        "pipeline_tag": facts.pipeline,
        "tags": ["remote-sensing", facts.pipeline, spec.timm_model],
    }
    sections = (
        _model(spec, record),
        _input(spec, facts),
        _use(spec, to, parity),
        _metrics(evaluation),
        _data(spec, licence),
        _intended(spec, facts),
    )
    text = "\n\n".join("\n".join(section) for section in sections)
    return f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n{text}\n"


def _model(spec: ModelSpec, record: RunRecord | None) -> Iterator[str]:
    yield f"# {spec.run}"
    yield ""
    yield (
        f"{spec.timm_model} for remote-sensing images ({spec.task.name}, {len(spec.classes)} "
        f"classes), trained on {spec.dataset} with rsdl {spec.rsdl_version}."
    )
    if record is not None:
        yield (
            f"{record.parameters / 1e6:.1f} M parameters, {record.epochs_completed} epochs, "
            f"{record.optimizer_steps:,} steps of {record.global_batch} images, seed "
            f"{record.seed}, on {record.device_count} x {record.device_name}."
        )


def _input(spec: ModelSpec, facts: CardFacts) -> Iterator[str]:
    size = f"{show_size(spec.image_size)} px"
    if spec.central is None:
        fitted = f"stretched to {size}"
    else:
        share = "" if spec.central == 1 else f"{spec.central:.1%} of "
        fitted = f"cropped to {share}its largest central box of that shape, resized to {size}"
    yield "## Input and output"
    yield ""
    yield f"- Bands, in this order: {', '.join(spec.bands)}"
    yield f"- Pixels: {spec.dtype}, as stored, not scaled; images of any size"
    yield f"- An image is {fitted} and normalised by band"
    yield f"- Mean by band: {_numbers(spec.mean)}; standard deviation: {_numbers(spec.std)}"
    yield f"- {facts.outputs}"


def _use(spec: ModelSpec, to: str, parity: Parity) -> Iterator[str]:
    use = USES[to]
    yield "## Use"
    yield ""
    yield use.format(bands=len(spec.bands), dtype=spec.dtype)
    yield ""
    yield f"Compared with the run: {parity}."


def _metrics(evaluation: Evaluation | None) -> Iterator[str]:
    yield "## Metrics"
    yield ""
    if evaluation is None:
        yield "These weights were not evaluated."
        return
    yield f"On {evaluation.num_samples:,} images of the {evaluation.split} split:"
    yield ""
    yield "| metric | value |"
    yield "| --- | ---: |"
    for name, value in evaluation.metrics.items():
        yield f"| {name} | {'-' if value is None else f'{value:.4f}'} |"
    yield ""
    yield from _table([row.model_dump() for row in evaluation.per_class])


def _table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the scores of the classes, whichever the task has."""
    for number, row in enumerate(rows):
        if number == 0:
            yield f"| {' | '.join(row)} |"
            yield f"| --- |{' ---: |' * (len(row) - 1)}"
        yield f"| {' | '.join(map(_cell, row.values()))} |"


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _data(spec: ModelSpec, licence: str | None) -> Iterator[str]:
    yield "## Data and licence"
    yield ""
    yield f"- Data set: {spec.dataset}"
    for key in ORIGINS:
        if key in spec.provenance:
            yield f"- {key}: {spec.provenance[key]}"
    unknown = "not stated; the terms of the data set and of the initial weights apply"
    yield f"- Licence of these weights: {licence or unknown}"


def _intended(spec: ModelSpec, facts: CardFacts) -> Iterator[str]:
    yield "## Intended use"
    yield ""
    yield (
        f"Images like those of {spec.dataset}: the same bands, units and ground resolution. "
        f"{facts.caution} On other sensors, seasons or regions, measure before use; no decision "
        "about people should rest on it alone."
    )


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)

"""``rsdl.load``: a run, a checkpoint or an export -> a network that takes raw pixels."""

from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from rsdl.core.errors import DataError
from rsdl.export.model import TrainedModel
from rsdl.records.model_spec import MODEL, ModelSpec, parse_model_spec
from rsdl.storage.connect import connect, join
from rsdl.storage.s3.endpoint import AWS
from rsdl.storage.store import Store
from rsdl.tasks.build import BUILDERS
from rsdl.train.checkpoint import AVERAGED, NETWORK, read_checkpoint
from rsdl.train.saved_run import find_run, read_config, read_model_spec

WEIGHTS = "model.safetensors"


def load(
    source: str, *, device: str | torch.device = "cpu", data_url: str | None = None
) -> TrainedModel:
    """Return the network of a run, ready to take raw pixels, in evaluation mode.

    It computes what ``rsdl evaluate`` computes: the best weights, or their moving average if the
    run evaluates that, in float32, after the same crop, resize and normalisation.

    Args:
        source: Folder or ``s3://`` URL of a run, one of its checkpoints
            (``RUN/checkpoints/last.ckpt``), or a folder that ``rsdl export --to safetensors``
            wrote.
        device: Where to put the network.
        data_url: Location of the data set, for a run of an older release whose data has moved.

    Raises:
        InputError: If there is no such run, or it cannot be read.
    """
    if not source.endswith(".ckpt"):
        store = connect(source.removesuffix(f"/{WEIGHTS}"))
        if store.size(WEIGHTS) is not None:
            return load_export(store).to(device)
    return load_run(source, data_url=data_url).to(device)


def load_run(source: str, *, data_url: str | None = None) -> TrainedModel:
    """Return the network of a run or of one of its checkpoints, on the CPU."""
    folder, checkpoint = find_run(source)
    config = read_config(folder, data_url)
    spec = read_model_spec(folder, config)
    where = join(folder.store.url, checkpoint)
    state = read_checkpoint(folder.store, checkpoint)["state_dict"]
    prefix = AVERAGED if config.optim.ema_decay is not None else NETWORK
    tensors = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    return build(spec, tensors, where)


def load_export(store: Store) -> TrainedModel:
    """Return the network that ``rsdl export --to safetensors`` wrote, on the CPU."""
    where = join(store.url, WEIGHTS)
    if store.size(MODEL) is None:
        raise DataError(store.url, f"has no {MODEL}", "name a folder that rsdl export wrote")
    spec = parse_model_spec(store.read(MODEL), join(store.url, MODEL))
    try:
        tensors = load_file(store.local(WEIGHTS))
    except (SafetensorError, ValueError) as error:
        raise DataError(where, "is damaged", "export the run again") from error
    return build(spec, tensors, where)


def build(spec: ModelSpec, tensors: Mapping[str, Any], where: str) -> TrainedModel:
    """Return a network with its weights.

    Args:
        spec: What the network takes and returns.
        tensors: Its weights by name.
        where: Where they were read, for errors.

    Raises:
        DataError: If they belong to another network.
    """
    spec = spec.model_copy(update={"task": spec.task.for_inference()})
    task = BUILDERS[spec.task.name](spec.task, spec.classes, None)
    network = task.build_network(
        spec.model,
        in_chans=len(spec.bands),
        image_size=spec.image_size,
        storage=AWS,
        bands=spec.bands,
    ).to(memory_format=torch.channels_last)
    try:
        network.load_state_dict(tensors)
    except (RuntimeError, TypeError, AttributeError) as error:
        first = str(error).splitlines()[-1].strip()[:200]
        raise DataError(where, f"does not fit {spec.model.name}: {first}", "restore it") from error
    return TrainedModel(spec, task, network)

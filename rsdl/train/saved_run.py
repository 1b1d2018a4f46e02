"""Find a run that has been trained, its checkpoint, its config and what its network needs."""

from rsdl.config.load import read_tree, resolve, validate_written
from rsdl.config.run import RunConfig
from rsdl.core.errors import ConfigError, DataError
from rsdl.data.manifest import Manifest, load_manifest
from rsdl.models.catalog import find_timm_name
from rsdl.models.normalization import Normalization, choose_normalization
from rsdl.records.model_spec import MODEL, ModelSpec, parse_model_spec
from rsdl.records.run_record import BEST, CONFIG, LAST
from rsdl.storage.connect import connect, join
from rsdl.train.run_folder import RunFolder


def find_run(target: str) -> tuple[RunFolder, str]:
    """Return the run's folder and the checkpoint's name within it.

    Args:
        target: Folder of a run, or a checkpoint in its ``checkpoints`` folder.

    Raises:
        DataError: If there is no run, or no such checkpoint.
    """
    if target.endswith(".ckpt"):
        place, _, file = target.rpartition("/")
        root, _, checkpoints = place.rpartition("/")
        if checkpoints != "checkpoints":
            raise DataError(
                target, "does not lie in a run", "name RUN/checkpoints/FILE.ckpt, or the run itself"
            )
        folder = RunFolder(connect(root or ("/" if place.startswith("/") else ".")))
        name = f"{checkpoints}/{file}"
    else:
        folder = RunFolder(connect(target))
        name = next((n for n in (BEST, LAST) if folder.store.size(n) is not None), BEST)
    if folder.store.size(CONFIG) is None:
        raise DataError(
            folder.store.url,
            f"is no run: it has no {CONFIG}",
            "name a folder that rsdl train wrote",
        )
    if folder.store.size(name) is None:
        raise DataError(join(folder.store.url, name), "no such checkpoint", "train the run first")
    return folder, name


def read_config(folder: RunFolder, data_url: str | None = None) -> RunConfig:
    """Return the config of a run.

    Args:
        folder: The run's folder.
        data_url: New location of the data, if it has moved.
    """
    path = folder.store.local(CONFIG)
    tree = resolve(read_tree(path), str(path))
    if data_url is not None:
        tree["data"] = dict(tree["data"]) | {"url": data_url}
    return validate_written(tree)


def check_same_data(folder: RunFolder, manifest_digest: str) -> None:
    """Check that the data set is the one that the run was trained on.

    Raises:
        ConfigError: If it is another.
    """
    record = folder.read_record()
    if record is not None and record.manifest_digest != manifest_digest:
        raise ConfigError(
            "data.url",
            "is not the data set that the run was trained on (its manifest differs)",
            "name the right one with --data URL",
        )


def find_normalization(
    config: RunConfig, manifest: Manifest, folder: RunFolder | None = None
) -> Normalization:
    """Return the mean and standard deviation that a run's images are normalised with.

    Args:
        config: The run.
        manifest: The data set.
        folder: The run's folder. Where it has been begun, it keeps them, so that neither a mirror
            that is gone nor another release of timm changes them.

    Raises:
        ConfigError: If ``data.normalize`` asks for what the weights or bands do not have.
    """
    own = Normalization(manifest.mean, manifest.std, "the data set")
    if folder is not None and folder.store.size(MODEL) is not None:
        spec = parse_model_spec(folder.store.read(MODEL), join(folder.store.url, MODEL))
        kept = Normalization(spec.mean, spec.std, f"the run's {MODEL}")
        return own if (own.mean, own.std) == (kept.mean, kept.std) else kept
    return choose_normalization(
        config.data.normalize, config.model, manifest.bands, manifest.dtype, own, config.storage
    )


def describe_model(
    config: RunConfig, manifest: Manifest, folder: RunFolder | None = None
) -> ModelSpec:
    """Return what a run's network needs beside its weights; see :func:`find_normalization`."""
    data, normalization = config.data, find_normalization(config, manifest, folder)
    return ModelSpec(
        run=config.name,
        task=config.task,
        model=config.model.model_copy(update={"weights": "none"}),
        timm_model=find_timm_name(config.model.name),
        classes=manifest.classes,
        bands=manifest.bands,
        dtype=manifest.dtype,
        mean=normalization.mean,
        std=normalization.std,
        image_size=data.image_size,
        eval_crop=data.eval_crop,
        decode_size=data.decode_size,
        dataset=manifest.dataset,
        provenance=manifest.provenance,
    )


def read_model_spec(folder: RunFolder, config: RunConfig) -> ModelSpec:
    """Return what a run's network needs beside its weights.

    Runs of older releases do not keep it; theirs comes from the data set.

    Raises:
        DataError: If the run does not keep it, and its data set is gone.
        ConfigError: If another data set lies there.
    """
    store = folder.store
    if store.size(MODEL) is not None:
        return parse_model_spec(store.read(MODEL), join(store.url, MODEL))
    try:
        manifest = load_manifest(connect(config.data.url, None, config.storage), where="data.url")
    except DataError as error:
        raise DataError(
            store.url,
            f"an older rsdl trained it and kept no {MODEL}, and its data set is not at "
            f"{config.data.url}",
            "name the data set's new URL (data_url, --data)",
        ) from error
    check_same_data(folder, manifest.digest)
    return describe_model(config, manifest)

"""``rsdl data``: pack, index, inspect and verify data sets."""

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from rsdl.commands.bars import sample_bar
from rsdl.config.data import DataConfig
from rsdl.core.errors import ConfigError, DataError
from rsdl.data.convert_objects import convert_objects
from rsdl.data.dataset import DataSet, train_plan
from rsdl.data.manifest import Manifest
from rsdl.data.object_sizes import SIZES, count_sizes
from rsdl.data.packing.duplicates import say_duplicates
from rsdl.data.packing.index_shards import index_shards
from rsdl.data.packing.pack import PackOptions, pack
from rsdl.data.packing.verify import check_dataset
from rsdl.data.plan import Share, check_share, deal_parts
from rsdl.data.preview import contact_sheet, encode_png
from rsdl.data.sample import Source
from rsdl.data.shard_store import SHARDS_URL
from rsdl.data.sources.geotiff import GeotiffSource
from rsdl.data.sources.geotiff_options import GeotiffOptions
from rsdl.data.sources.split_files import SplitFile, read_split_files
from rsdl.data.sources.synthetic import write_scenes
from rsdl.data.sources.synthetic_objects import write_object_scenes
from rsdl.data.targets import KINDS
from rsdl.storage.connect import connect
from rsdl.storage.local import translate
from rsdl.storage.store import Store

Fractions = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class SplitChoice:
    """How train, val and test are chosen.

    Attributes:
        fractions: Their shares of a draw; ``None`` if the user names none.
        published: Name of a published split, which replaces the draw.
        files: Paths of the lists of their images, which replace the draw.
    """

    fractions: Fractions | None = None
    published: str | None = None
    files: tuple[str, str, str] | None = None

    def read_lists(self) -> dict[str, SplitFile] | None:
        """Return the lists of images, if they are given."""
        return None if self.files is None else read_split_files(self.files)


def pack_geotiff(scenes: GeotiffOptions, *, out: str, options: PackOptions) -> int:
    """Cut scenes into labelled tiles and pack them."""
    for scene in scenes.scenes:
        check_local("SCENES", scene)
    check_local("--labels", scenes.labels)
    return pack_source(GeotiffSource(scenes), out, options)


def check_local(where: str, source: str) -> None:
    """Check that a source is a local path, not an object store."""
    if "://" in source:
        raise ConfigError(
            where, f'"{source}" is no local path', "copy it here first; --out may be s3://"
        )


def check_folder(where: str, source: str, out: str) -> None:
    """Check that a folder of images is local, and that shards do not go among them.

    They would be files of the source, which is another one then: nothing could go on.

    Raises:
        ConfigError: If it is not local, or holds ``out``.
    """
    check_local(where, source)
    if "://" not in out and Path(out).resolve().is_relative_to(Path(source).resolve()):
        problem = f"{out} lies in {source}, whose images are packed"
        raise ConfigError("--out", problem, "name a folder outside of it")


def pack_source(source: Source, out: str, options: PackOptions) -> int:
    """Pack a source with a progress bar, and print a summary."""
    # No cache: packing reads back only images that may be duplicates, too few to copy shards for.
    store = connect(out, None)
    with sample_bar("packing") as progress:
        manifest = pack(source, store, options, progress)
    announce(store, manifest)
    return 0


def announce(store: Store, manifest: Manifest) -> None:
    """Print a summary of a packed or indexed data set."""
    print(f"{store.url}: {describe(manifest)}")
    for line in describe_findings(manifest):
        print(line)


def describe_findings(manifest: Manifest) -> Iterator[str]:
    """Yield a line for each kind of finding of packing or indexing: left out or duplicated."""
    facts = manifest.provenance
    if isinstance(groups := facts.get("groups"), int):
        yield f"{groups} groups, each in one split (--group-by {facts.get('group_by')})"
    if isinstance(blocks := facts.get("blocks"), int):
        yield f"{blocks} blocks of ground, each in one split ({facts.get('split_rule')})"
    if isinstance(objects := facts.get("objects"), dict) and (cut := objects.get("only_cut")):
        yield f"{cut} objects are whole in no tile: they are marked, and count for nothing"
    if num_skipped := facts.get("num_skipped"):
        yield f"{num_skipped} corrupt samples left out; manifest.json names them"
    if isinstance(left_out := facts.get("left_out"), dict):
        shown = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
        yield f"passed over: {shown}"
    yield from say_duplicates(facts)


def generate_scenes(
    out: str, *, num_scenes: int, size: int, seed: int, objects: bool = False
) -> int:
    """Write synthetic scenes and their labels: land use, or the boxes of objects."""
    write = write_object_scenes if objects else write_scenes
    labels = write(Path(out), num_scenes=num_scenes, size=size, seed=seed)
    print(f"{num_scenes} scenes of {size} x {size} px: {out}, labels: {labels}")
    return 0


def index(
    url: str,
    *,
    out: str | None,
    splits: Sequence[str],
    classes: str | None,
    on_corrupt: str,
    overwrite: bool,
) -> int:
    """Index WebDataset shards of other tools; write the index beside them or to ``out``."""
    store = connect(url)
    target = store if out is None else connect(out)
    with sample_bar("indexing") as progress:
        manifest = index_shards(
            store,
            target,
            globs=splits,
            classes=read_names(classes),
            on_corrupt=on_corrupt,
            overwrite=overwrite,
            progress=progress,
        )
    announce(target, manifest)
    return 0


def info(url: str, *, sheet: str | None, split: str, sizes: bool = False) -> int:
    """Print a summary of a data set; with ``sheet``, also write an image of samples.

    With ``sizes`` all objects are read, to count the small, medium and large ones.
    """
    console = Console(file=sys.stdout)
    dataset = DataSet(DataConfig(url=url))
    manifest = dataset.manifest
    print(f"{manifest.dataset} at {dataset.store.url}: {describe(manifest)}")
    table = Table("class", title=KINDS[manifest.target].counts)
    for name in manifest.splits:
        table.add_column(name, justify="right")
    table.add_column("all", justify="right")
    for number, name in enumerate(manifest.classes):
        counts = [each.class_counts[number] for each in manifest.splits.values()]
        table.add_row(name, *map(str, counts), str(sum(counts)))
    totals = [sum(each.class_counts) for each in manifest.splits.values()]
    table.add_row("all", *map(str, totals), str(sum(totals)), style="bold")
    console.print(table)
    if sizes:
        console.print(_size_table(dataset))
    bands = Table("band", title=f"train statistics ({manifest.dtype})")
    bands.add_column("mean", justify="right")
    bands.add_column("std", justify="right")
    for name, mean, std in zip(manifest.bands, manifest.mean, manifest.std, strict=True):
        bands.add_row(name, f"{mean:.4g}", f"{std:.4g}")
    console.print(bands)
    for line in describe_findings(manifest):
        print(line)
    if sheet is not None:
        # What is drawn on a picture needs more room than a picture of one class.
        room = {} if KINDS[manifest.target].in_index else {"columns": 4, "side": 320}
        picture = encode_png(contact_sheet(dataset.split(split, "--split"), **room))
        try:
            Path(sheet).write_bytes(picture)
        except OSError as error:
            raise translate(error, Path(sheet)) from error
        print(f"sheet: {sheet}")
    return 0


def _size_table(dataset: DataSet) -> Table:
    manifest = dataset.manifest
    if manifest.target != "objects":
        problem = f"is for objects, and this data set has {KINDS[manifest.target].counts}"
        raise ConfigError("--sizes", problem, "leave it out")
    counts = sum(count_sizes(dataset.split(name, "--split")) for name in manifest.splits)
    table = Table("class", title="objects by area: below 32 x 32 px, below 96 x 96 px, larger")
    for size in SIZES:
        table.add_column(size, justify="right")
    for name, row in zip(manifest.classes, np.asarray(counts).tolist(), strict=True):
        table.add_row(name, *map(str, row))
    return table


def convert(url: str, *, layout: str, out: str) -> int:
    """Write the images and objects of a data set in a format of other tools."""
    dataset, target = DataSet(DataConfig(url=url)), connect(out)
    with sample_bar("converting") as progress:
        lost = convert_objects(dataset, layout, target, progress)
    print(f"{target.url}: {describe(dataset.manifest)}, as {layout}")
    for reason, count in lost.items():
        print(f"passed over: {count} {reason}")
    return 0


def verify(url: str) -> int:
    """Verify every checksum, index row and sample; return 1 if any is wrong, else 0."""
    store = connect(url)
    with sample_bar("verifying") as progress:
        report = check_dataset(store, progress)
    for problem in report.problems:
        print(problem)
    if report.problems:
        print(f"{len(report.problems)} problems in {report.num_samples} samples")
        return 1
    print(f"ok: {report.num_samples} samples in {report.num_shards} shards")
    return 0


def show_plan(
    config: DataConfig,
    *,
    seed: int,
    epoch: int,
    world_size: int,
    rank: int | None,
    num_workers: int,
    start: int = 0,
) -> int:
    """Print the planned samples, one line each: batch, rank, worker, key."""
    data = DataSet(config).split(config.train_split, "--split")
    plan = train_plan(config, data, seed=seed, epoch=epoch)
    if not plan.num_batches():
        raise ConfigError(
            "--global-batch",
            f"{config.batch_size} exceeds the {len(data.index)} samples of {config.train_split}: "
            "training would read none",
            "use less",
        )
    check_share(config.batch_size, Share(0, world_size))
    ranks = range(world_size) if rank is None else [rank]
    streams = [plan.batches(Share(number, world_size), start) for number in ranks]
    for batches in zip(*streams, strict=True):
        for number, planned in zip(ranks, batches, strict=True):
            keys = data.index.keys(planned.samples)
            for worker, first, last in deal_parts(planned, num_workers):
                for row in range(first, last):
                    mark = "" if planned.valid[row] else " (padding)"
                    sys.stdout.write(f"{planned.number} {number} {worker} {keys[row]}{mark}\n")
    return 0


def describe(manifest: Manifest) -> str:
    """Return a one-line description of a data set."""
    shards = [shard for split in manifest.splits.values() for shard in split.shards]
    counts = ", ".join(f"{split.samples:,} {name}" for name, split in manifest.splits.items())
    size = sum(shard.bytes for shard in shards)
    place = manifest.provenance.get(SHARDS_URL)
    return (
        f"{counts}; {len(manifest.classes)} classes, {len(manifest.bands)} bands of "
        f"{manifest.dtype}, {len(shards)} shards, {size / 1e6:,.1f} MB"
        + (f" at {place}" if place is not None else "")
    )


def read_names(text: str | None, option: str = "--classes") -> tuple[str, ...] | None:
    """Return names given as ``a,b,c`` or as a file with one name per line."""
    if text is None:
        return None
    # Not Path.is_file, which raises if a list of names is longer than a path may be.
    names = read_lines(Path(text)) if os.path.isfile(text) else text.split(",")
    cleaned = tuple(name.strip() for name in names if name.strip())
    if not cleaned:
        raise DataError(
            option,
            f"names no {option.removeprefix('--')}",
            "give a,b,c or a file with a name a line",
        )
    return cleaned


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError("--classes", f"cannot read {path}: {error}") from error

"""``rsdl data``: prepare, pack, index, look at and check data sets."""

import os
from typing import Annotated, Literal

import typer

from rsdl.cli import pack
from rsdl.cli.options import (
    Corrupt,
    Out,
    Overwrite,
    Seed,
    ShardMb,
    SplitFiles,
    Url,
    Workers,
    parse_shares,
)
from rsdl.core.errors import ConfigError

app = typer.Typer(help="Prepare, pack, index, look at and check data sets.", no_args_is_help=True)
app.add_typer(pack.app, name="pack")
cache = typer.Typer(
    help="Show or clear this node's cache of remote shards.",
    no_args_is_help=True,
)
app.add_typer(cache, name="cache")

CacheFolder = Annotated[
    str | None,
    typer.Option("--folder", metavar="DIR", help="The cache; default: $RSDL_CACHE."),
]
CacheOf = Annotated[
    str | None,
    typer.Option("--config", metavar="CONFIG", help="YAML file: the cache of its data.cache."),
]


@app.command("prepare")
def data_prepare(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="For classification ucm, aid, resisc45, eurosat; for segmentation loveda, "
            "potsdam, vaihingen, landcoverai, inria, massachusetts_roads, deepglobe, spacenet, "
            "burned; for detection dota, dota1.5, dota2.0, xview, rareplanes, dior, dior_r, vhr10, "
            "hrsc2016, fair1m.",
        ),
    ],
    out: Out,
    origin: Annotated[
        str | None,
        typer.Option("--from", metavar="PATH", help="Archive or folder that is already here."),
    ] = None,
    work: Annotated[
        str, typer.Option(metavar="DIR", help="Where archives are kept and unpacked.")
    ] = "~/.cache/rsdl",
    split: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,C",
            help="Shares of train, val and test, such as 0.2,0,0.8; or a published split: "
            "torchgeo (ucm, resisc45, eurosat), torchgeo-spatial (eurosat). Default: the "
            "published split of a segmentation or detection set, else 0.8,0.1,0.1.",
        ),
    ] = None,
    split_files: SplitFiles = None,
    tile: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="PX",
            help="Segmentation, detection: cut images into tiles; 0: keep them whole. Default: "
            "512, for burned 225, for dota and fair1m 1024; images that are tiles or small already "
            "are kept.",
        ),
    ] = None,
    overlap: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="PX",
            help="Detection: pixels that tiles share. Default: 200 of 1024, 128 of 512.",
        ),
    ] = None,
    class_from: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="rareplanes: attribute of aircraft that is their class: role."
        ),
    ] = None,
    seed: Seed = 0,
    shard_mb: ShardMb = 64,
    on_corrupt: Corrupt = "error",
    overwrite: Overwrite = False,
    num_workers: Workers = None,
) -> None:
    """Download a published data set (or take it --from a path) and pack it.

    Downloads resume, are checked, and are kept. Run it again if it was interrupted.
    """
    from rsdl.commands import data
    from rsdl.commands.prepare import PrepareOptions, prepare
    from rsdl.data.packing.pack import PackOptions

    options = PackOptions(round(shard_mb * 1e6), on_corrupt, overwrite, num_workers)
    if split_files is not None:
        choice = data.SplitChoice(files=split_files)
    elif split is None:
        choice = data.SplitChoice()
    elif split[:1].isalpha():
        choice = data.SplitChoice(published=split)
    else:
        choice = data.SplitChoice(parse_shares(split))
    asked = PrepareOptions(
        origin=origin,
        work=os.path.expanduser(work),
        split=choice,
        seed=seed,
        tile=tile,
        overlap=overlap,
        class_from=class_from,
    )
    code = prepare(name, asked, out=out, options=options)
    raise typer.Exit(code)


@app.command("scenes")
def data_scenes(
    out: Annotated[str, typer.Argument(metavar="DIR", help="Folder to write to.")],
    num_scenes: Annotated[int, typer.Option(min=1, help="Scenes.")] = 20,
    size: Annotated[int, typer.Option(min=256, help="Side of a scene in px.")] = 512,
    seed: Annotated[int, typer.Option(min=0, help="Seed; the same scenes every time.")] = 0,
    objects: Annotated[
        bool,
        typer.Option("--objects", help="Ships, planes and vehicles with boxes, for detection."),
    ] = False,
) -> None:
    """Generate georeferenced scenes of ten land uses with labels, for trying things out."""
    from rsdl.commands import data

    code = data.generate_scenes(out, num_scenes=num_scenes, size=size, seed=seed, objects=objects)
    raise typer.Exit(code)


@app.command("index")
def data_index(
    url: Annotated[str, typer.Argument(metavar="URL", help="Shards: a folder or s3://.")],
    out: Annotated[
        str | None,
        typer.Option(
            metavar="OTHER",
            help="Folder or s3:// for manifest and index; default: beside the shards.",
        ),
    ] = None,
    split: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SPLIT=GLOB",
            help="Which tars are which split, if names do not say: train=part-{000..099}.tar.",
        ),
    ] = None,
    classes: Annotated[str | None, typer.Option(help="Class names a,b,c, or a file.")] = None,
    on_corrupt: Corrupt = "error",
    overwrite: Overwrite = False,
) -> None:
    """Index WebDataset shards that someone else wrote; none of them is changed.

    With --out nothing is written to URL, which may be read-only: a public bucket, a mount. OTHER is
    then the data set to train on, and knows where the shards lie.
    """
    from rsdl.commands import data

    code = data.index(
        url,
        out=out,
        splits=split or (),
        classes=classes,
        on_corrupt=on_corrupt,
        overwrite=overwrite,
    )
    raise typer.Exit(code)


@app.command("info")
def data_info(
    url: Url,
    sheet: Annotated[
        str | None, typer.Option(metavar="PNG", help="Write a sheet of sample images.")
    ] = None,
    split: Annotated[str, typer.Option(help="Split that the sheet shows.")] = "train",
    sizes: Annotated[
        bool,
        typer.Option("--sizes", help="Count small, medium and large objects; reads them all."),
    ] = False,
) -> None:
    """Show counts for each split and class, bands, statistics and bytes."""
    from rsdl.commands import data

    raise typer.Exit(data.info(url, sheet=sheet, split=split, sizes=sizes))


@app.command("convert")
def data_convert(
    url: Url,
    to: Annotated[Literal["coco", "yolo", "dota"], typer.Option(help="Format.")],
    out: Annotated[str, typer.Option(metavar="URL", help="Empty folder or s3:// to write to.")],
) -> None:
    """Write a data set of objects as images and annotation files, for tools that read no shards.

    Images are written as they are stored, below images/SPLIT. YOLO's labels are four corners each,
    without ignored objects; DOTA marks these as 2, and COCO as iscrowd.
    """
    from rsdl.commands import data

    raise typer.Exit(data.convert(url, layout=to, out=out))


@app.command("verify")
def data_verify(url: Url) -> None:
    """Check every checksum, every index row and that every sample decodes; 1 if one does not."""
    from rsdl.commands import data

    raise typer.Exit(data.verify(url))


@app.command("plan")
def data_plan(
    url: Url,
    global_batch: Annotated[int, typer.Option(min=1, help="Samples per optimizer step.")],
    split: Annotated[str, typer.Option(help="Split.")] = "train",
    epoch: Annotated[int, typer.Option(min=0, help="Epoch, from 0.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the run.")] = 0,
    world_size: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    rank: Annotated[int | None, typer.Option(min=0, help="One of them; default: all.")] = None,
    num_workers: Annotated[int, typer.Option(min=1, help="Threads of each.")] = 1,
    window: Annotated[int, typer.Option(min=1, help="data.window of the run.")] = 16,
    partitions: Annotated[int, typer.Option(min=1, help="data.partitions of the run.")] = 1,
    tail: Annotated[Literal["drop", "pad"], typer.Option(help="data.tail of the run.")] = "drop",
    sampling: Annotated[
        Literal["natural", "balanced"], typer.Option(help="data.sampling of the run.")
    ] = "natural",
    start: Annotated[int, typer.Option(min=0, help="Samples consumed before.")] = 0,
) -> None:
    """Print the samples that training will read, in order: batch, rank, worker, key.

    Batch k holds the same keys whatever the world size and the workers: compare for yourself.
    """
    from rsdl.commands import data
    from rsdl.config.data import DataConfig

    if rank is not None and rank >= world_size:
        raise ConfigError("--rank", f"is {rank}, there are {world_size}", "count from 0")
    settings = DataConfig(
        url=url,
        train_split=split,
        batch_size=global_batch,
        window=window,
        partitions=partitions,
        tail=tail,
        sampling=sampling,
    )
    code = data.show_plan(
        settings,
        seed=seed,
        epoch=epoch,
        world_size=world_size,
        rank=rank,
        num_workers=num_workers,
        start=start,
    )
    raise typer.Exit(code)


@cache.command("show")
def data_cache_show(folder: CacheFolder = None, config: CacheOf = None) -> None:
    """Show where this node keeps copies of remote shards, and how much there is.

    What a running command reads now is in use. The copies used longest ago go first when room is
    needed, so there is nothing to tidy up; data.cache.size says how much room there is.
    """
    from rsdl.commands.cache import show

    raise typer.Exit(show(folder=folder, config=config))


@cache.command("clear")
def data_cache_clear(
    folder: CacheFolder = None,
    config: CacheOf = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be removed.")
    ] = False,
) -> None:
    """Remove every copy that no running command uses.

    Training that runs is not disturbed; what it reads later is fetched again.
    """
    from rsdl.commands.cache import clear

    raise typer.Exit(clear(folder=folder, config=config, dry_run=dry_run))

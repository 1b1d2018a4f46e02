"""Arguments -> one command; errors -> exit codes.

0 done, 1 a crash or a failed check, 2 the user's input is wrong and trying again cannot help, 75
preempted after saving: start it again. Commands are imported when they are called, so that
``rsdl --help`` is quick.
"""

import logging
import os
import sys
import traceback
from typing import Annotated, Literal

import typer

from rsdl import __version__
from rsdl.core.errors import ConfigError, RsdlError

app = typer.Typer(
    name="rsdl",
    help="Train deep networks on high-resolution remote-sensing imagery.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(
    help="Prepare, pack, index, look at and check data sets.", no_args_is_help=True
)
pack_app = typer.Typer(help="Pack imagery of your own into shards.", no_args_is_help=True)
cache_app = typer.Typer(
    help="Look after the copies of remote shards on this node (in $RSDL_CACHE).",
    no_args_is_help=True,
)
data_app.add_typer(pack_app, name="pack")
data_app.add_typer(cache_app, name="cache")
app.add_typer(data_app, name="data")

Url = Annotated[str, typer.Argument(metavar="URL", help="Root of the data set: a folder or s3://.")]
Out = Annotated[
    str, typer.Option("--out", metavar="URL", help="Where the data set goes: a folder or s3://.")
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the split and the order.")]
ShardMb = Annotated[float, typer.Option("--shard-mb", min=0.001, help="Size of a shard in MB.")]
Corrupt = Annotated[
    Literal["error", "skip"],
    typer.Option("--on-corrupt", help="A sample that cannot be decoded: stop, or leave it out."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what lies there.")]
Workers = Annotated[
    int | None, typer.Option("--num-workers", min=1, help="Threads; default: one a core.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Overrides, such as optim.lr=1e-4."),
]
SplitShares = Annotated[
    str, typer.Option("--split", metavar="A,B,C", help="Shares of train, val and test.")
]


def main() -> None:
    """Run the command line and exit with its code."""
    debug = "--debug" in sys.argv or os.environ.get("RSDL_DEBUG", "") not in ("", "0")
    _show_log()
    try:
        app()
    except RsdlError as error:
        if debug:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.write(f"{error}\n")
        _leave(error.exit_code)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        _leave(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _leave(1)
    except Exception as error:
        if debug:
            raise
        sys.stderr.write(
            f"crash: {type(error).__name__}: {' '.join(str(error).split())}\n"
            "run it again with --debug for the traceback\n"
        )
        _leave(1)


def _leave(code: int) -> None:
    sys.exit(code)


def _show_log() -> None:
    """Show what rsdl has to say besides results, such as a head that was left out."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log = logging.getLogger("rsdl")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    if version:
        typer.echo(f"rsdl {__version__}")
        raise typer.Exit


@app.command()
def train(
    config: Annotated[str, typer.Argument(help="YAML file, such as configs/resnet50_ucm.yaml.")],
    overrides: Overrides = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Throw away what was begun, and begin anew.")
    ] = False,
) -> None:
    """Train a network; the same command again resumes a run that is not completed.

    Everything goes to OUTPUT/NAME: config.yaml, run.json, metrics.csv, TensorBoard events,
    checkpoints and report.html. Exit codes: 0 done, 2 wrong input, 75 preempted after saving.
    """
    from rsdl.commands.train import train as command

    raise typer.Exit(command(config, overrides or [], restart=restart))


@app.command()
def evaluate(
    target: Annotated[str, typer.Argument(help="A run's folder, or one of its checkpoints.")],
    split: Annotated[str | None, typer.Option(help="Split; default: test, else val.")] = None,
    tta: Annotated[
        bool, typer.Option("--tta", help="Average over the 8 flips and quarter turns.")
    ] = False,
    data: Annotated[
        str | None, typer.Option(metavar="URL", help="Where the data lies now, if it moved.")
    ] = None,
) -> None:
    """Evaluate a trained network and write its report anew."""
    from rsdl.commands.evaluate import evaluate as command

    raise typer.Exit(command(target, split=split, tta=tta, data_url=data))


@app.command()
def report(
    runs: Annotated[list[str], typer.Argument(help="Runs, or folders that hold runs.")],
    out: Annotated[
        str | None, typer.Option(help="File; default: comparison.html for several runs.")
    ] = None,
) -> None:
    """Write a run's report anew, or compare several runs in one page."""
    from rsdl.commands.report import report as command

    raise typer.Exit(command(runs, out=out))


@app.command()
def config(
    path: Annotated[str | None, typer.Argument(metavar="[CONFIG]", help="YAML file.")] = None,
    overrides: Overrides = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of a config, for editors.")
    ] = False,
) -> None:
    """Print the resolved config, or the schema of all configs."""
    from rsdl.commands.config import show_config, show_schema

    if schema:
        show_schema()
    elif path is None:
        raise ConfigError("CONFIG", "is required", "name a YAML file, or pass --schema")
    else:
        show_config(path, overrides or [])


@app.command()
def models(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Models of timm; default: the nine."),
    ] = None,
    num_classes: Annotated[int, typer.Option(min=1, help="Classes of the head.")] = 21,
    image_size: Annotated[
        int | None, typer.Option(min=1, help="Input size in px; default: as published.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the nine architectures, or any of timm's: parameters, GFLOPs, input size."""
    from rsdl.commands.models import list_models

    list_models(names or (), num_classes=num_classes, image_size=image_size, as_json=as_json)


@app.command()
def doctor(
    urls: Annotated[
        list[str] | None, typer.Argument(metavar="[URL]...", help="Data sets to try to reach.")
    ] = None,
    output: Annotated[str, typer.Option(help="Folder that runs will be written to.")] = ".",
) -> None:
    """Check this machine: each line is ok, or says what to do."""
    from rsdl.commands.doctor import run_doctor

    raise typer.Exit(run_doctor(urls or (), output=output))


@data_app.command("prepare")
def data_prepare(
    name: Annotated[str, typer.Argument(metavar="{ucm|aid|resisc45|eurosat}", help="Data set.")],
    out: Out,
    origin: Annotated[
        str | None,
        typer.Option("--from", metavar="PATH", help="Archive or folder that is already here."),
    ] = None,
    work: Annotated[
        str, typer.Option(metavar="DIR", help="Where archives are kept and unpacked.")
    ] = "~/.cache/rsdl",
    split: SplitShares = "0.8,0.1,0.1",
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
    from rsdl.data.pack import PackOptions

    options = PackOptions(round(shard_mb * 1e6), on_corrupt, overwrite, num_workers)
    code = data.prepare(
        name,
        out=out,
        origin=origin,
        work=os.path.expanduser(work),
        fractions=_shares(split),
        seed=seed,
        options=options,
    )
    raise typer.Exit(code)


@pack_app.command("folder")
def data_pack_folder(
    src: Annotated[str, typer.Argument(help="Folder with one folder of images for each class.")],
    out: Out,
    name: Annotated[str | None, typer.Option(help="Name; default: the folder's.")] = None,
    split: SplitShares = "0.8,0.1,0.1",
    seed: Seed = 0,
    shard_mb: ShardMb = 64,
    on_corrupt: Corrupt = "error",
    overwrite: Overwrite = False,
    num_workers: Workers = None,
) -> None:
    """Pack a tree with one folder for each class; JPEGs are stored as they came.

    Folders named train, val and test on top are taken as the splits. Run it again if it was
    interrupted: it goes on, and gives the same bytes.
    """
    from rsdl.commands import data
    from rsdl.data.pack import PackOptions

    options = PackOptions(round(shard_mb * 1e6), on_corrupt, overwrite, num_workers)
    code = data.pack_folder(
        src, out=out, name=name, fractions=_shares(split), seed=seed, options=options
    )
    raise typer.Exit(code)


@pack_app.command("geotiff")
def data_pack_geotiff(
    scenes: Annotated[list[str], typer.Argument(help="GeoTIFFs, folders of them, or globs.")],
    labels: Annotated[
        str, typer.Option(help="GeoJSON polygons, or a class raster (or a folder of them).")
    ],
    out: Out,
    tile: Annotated[int, typer.Option(min=8, help="Side of a tile in px.")] = 256,
    overlap: Annotated[int, typer.Option(min=0, help="Pixels that neighbours share.")] = 0,
    name: Annotated[str, typer.Option(help="Name of the data set.")] = "scenes",
    label_field: Annotated[str, typer.Option(help="GeoJSON property with the class.")] = "class",
    classes: Annotated[
        str | None, typer.Option(help="Class names a,b,c (rasters also 1=a,2=b), or a file.")
    ] = None,
    min_cover: Annotated[
        float, typer.Option(min=0, max=1, help="Share of a tile that its class must cover.")
    ] = 0.5,
    max_nodata: Annotated[
        float, typer.Option(min=0, max=1, help="Tiles with more nodata are left out.")
    ] = 0.5,
    alpha: Annotated[
        Literal["mask", "band"],
        typer.Option(help="A band tagged as alpha: the mask, or imagery (NIR often is tagged so)."),
    ] = "mask",
    split_by: Annotated[
        Literal["auto", "scene", "block"],
        typer.Option(help="Split whole scenes, or blocks of ground; auto: scenes if 5 lie apart."),
    ] = "auto",
    split: SplitShares = "0.7,0.15,0.15",
    block: Annotated[
        int, typer.Option(min=1, help="Side of a block in tiles; less for small areas.")
    ] = 8,
    gap: Annotated[int, typer.Option(min=1, help="Tiles left out between splits.")] = 1,
    tile_format: Annotated[
        Literal["npy", "tif"], typer.Option(help="npy reads fastest; tif is smaller.")
    ] = "npy",
    seed: Seed = 0,
    shard_mb: ShardMb = 64,
    on_corrupt: Corrupt = "error",
    overwrite: Overwrite = False,
    num_workers: Workers = None,
) -> None:
    """Cut georeferenced scenes into labelled tiles and pack them.

    Any number of bands, uint8, uint16 or float32. Splits never share ground: scenes that touch stay
    together, or blocks of ground are dealt out with a gap between them.
    """
    from rsdl.commands import data
    from rsdl.data.pack import PackOptions

    options = PackOptions(round(shard_mb * 1e6), on_corrupt, overwrite, num_workers)
    from rsdl.data.sources.geotiff import GeotiffOptions

    cut = GeotiffOptions(
        scenes=tuple(scenes),
        labels=labels,
        name=name,
        tile=tile,
        overlap=overlap,
        label_field=label_field,
        classes=data.read_names(classes),
        min_cover=min_cover,
        max_nodata=max_nodata,
        alpha=alpha,
        split_by=split_by,
        fractions=_shares(split),
        seed=seed,
        block=block,
        gap=gap,
        tile_format=tile_format,
    )
    raise typer.Exit(data.pack_geotiff(cut, out=out, options=options))


@data_app.command("scenes")
def data_scenes(
    out: Annotated[str, typer.Argument(metavar="DIR", help="Folder to write to.")],
    num_scenes: Annotated[int, typer.Option(min=1, help="Scenes.")] = 20,
    size: Annotated[int, typer.Option(min=256, help="Side of a scene in px.")] = 512,
    seed: Annotated[int, typer.Option(min=0, help="Seed; the same scenes every time.")] = 0,
) -> None:
    """Generate georeferenced scenes of ten land uses with labels, for trying things out."""
    from rsdl.commands import data

    raise typer.Exit(data.generate_scenes(out, num_scenes=num_scenes, size=size, seed=seed))


@data_app.command("index")
def data_index(
    url: Url,
    split: Annotated[
        list[str] | None,
        typer.Option(metavar="SPLIT=GLOB", help="Which tars are which split, if names do not say."),
    ] = None,
    classes: Annotated[str | None, typer.Option(help="Class names a,b,c, or a file.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Index WebDataset shards that someone else wrote, in place."""
    from rsdl.commands import data

    raise typer.Exit(data.index(url, splits=split or (), classes=classes, overwrite=overwrite))


@data_app.command("info")
def data_info(
    url: Url,
    sheet: Annotated[
        str | None, typer.Option(metavar="PNG", help="Write a sheet of sample images.")
    ] = None,
    split: Annotated[str, typer.Option(help="Split that the sheet shows.")] = "train",
) -> None:
    """Show counts for each split and class, bands, statistics and bytes."""
    from rsdl.commands import data

    raise typer.Exit(data.info(url, sheet=sheet, split=split))


@data_app.command("verify")
def data_verify(url: Url) -> None:
    """Check every checksum, every index row and that every sample decodes; 1 if one does not."""
    from rsdl.commands import data

    raise typer.Exit(data.verify(url))


@data_app.command("plan")
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
    from rsdl.data.dataset import DataConfig

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


@cache_app.command("show")
def data_cache_show() -> None:
    """Show where this node keeps copies of remote shards, and how much there is."""
    from rsdl.commands.cache import show

    raise typer.Exit(show())


@cache_app.command("clear")
def data_cache_clear() -> None:
    """Remove every copy that no running command uses."""
    from rsdl.commands.cache import clear

    raise typer.Exit(clear())


def _shares(text: str) -> tuple[float, float, float]:
    try:
        train, val, test = (float(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError("--split", f"{text!r} is not A,B,C", "write 0.8,0.1,0.1") from error
    return train, val, test

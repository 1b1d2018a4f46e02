"""``rsdl data pack``: imagery of one's own into shards."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from rsdl.cli import pack_objects
from rsdl.cli.options import (
    Corrupt,
    Out,
    Overwrite,
    Seed,
    ShardMb,
    SplitFiles,
    SplitShares,
    Workers,
    parse_shares,
)

Nodata = Annotated[
    float | None, typer.Option(help="Value of pixels without data, if the files do not say.")
]
Bands = Annotated[
    str | None,
    typer.Option(metavar="NAME,...", help="Bands to take, in order, by description or number."),
]
app = typer.Typer(help="Pack imagery of your own into shards.", no_args_is_help=True)


@app.command("folder")
def data_pack_folder(
    src: Annotated[str, typer.Argument(help="Folder with one folder of images for each class.")],
    out: Out,
    name: Annotated[str | None, typer.Option(help="Name; default: the folder's.")] = None,
    split: SplitShares = "0.8,0.1,0.1",
    split_files: SplitFiles = None,
    group_by: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX",
            help="Keep a scene in one split: what this finds in an image's path below its class "
            'folder names the scene, such as "^(.+)_tile" or "^[^/]+".',
        ),
    ] = None,
    seed: Seed = 0,
    shard_mb: ShardMb = 64,
    decode: Annotated[
        Literal["all", "sample"],
        typer.Option(help="Check and measure every image, or 256 JPEGs and the others' ends."),
    ] = "all",
    nodata: Nodata = None,
    bands: Bands = None,
    unscale: Annotated[
        bool, typer.Option("--unscale", help="Apply the scale and offset that TIFFs name.")
    ] = False,
    alpha: Annotated[
        Literal["auto", "mask", "band"],
        typer.Option(help="A band tagged as alpha; auto: a mask if it is 0 and the highest alone."),
    ] = "auto",
    axes: Annotated[
        Literal["HWC", "CHW", "PAGES"] | None,
        typer.Option(help="Axes of .npy arrays; PAGES: the pages of a TIFF are its bands."),
    ] = None,
    on_corrupt: Corrupt = "error",
    overwrite: Overwrite = False,
    num_workers: Workers = None,
) -> None:
    """Pack a tree with one folder for each class; JPEGs are stored as they came.

    Folders named train, val and test on top are taken as the splits. Run it again if it was
    interrupted: it goes on, and gives the same bytes. Most of the time goes into decoding, which
    finds damaged images and gives each band's mean and spread; --decode sample leaves most of it
    out.
    """
    from rsdl.commands import data
    from rsdl.data.packing.pack import PackOptions
    from rsdl.data.sources.folder import FolderSource
    from rsdl.raster.picture import PictureRules

    options = PackOptions(round(shard_mb * 1e6), on_corrupt, overwrite, num_workers)
    data.check_folder("SRC", src, out)
    source = FolderSource(
        Path(src),
        name=name,
        fractions=parse_shares(split),
        seed=seed,
        decode=decode,
        rules=PictureRules(axes, nodata, alpha, data.read_names(bands, "--bands"), unscale),
        group_by=group_by,
        lists=data.SplitChoice(files=split_files).read_lists(),
    )
    raise typer.Exit(data.pack_source(source, out, options))


@app.command("masks")
def data_pack_masks(
    images: Annotated[str, typer.Argument(help="Folder of the images.")],
    masks: Annotated[str, typer.Argument(help="Folder of their masks, of the same names.")],
    out: Out,
    classes: Annotated[
        str | None,
        typer.Option(help="Names of the values 0, 1, 2: a,b,c (or 1=a,2=b), or a file."),
    ] = None,
    colors: Annotated[
        str | None,
        typer.Option(metavar="FILE", help='Colours: lines "R G B NAME", or isprs or deepglobe.'),
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option(help="Value, or name of a colour, that counts for nothing.")
    ] = None,
    tile: Annotated[
        int, typer.Option(min=0, help="Cut images into tiles, px; 0: keep them whole.")
    ] = 0,
    overlap: Annotated[int, typer.Option(min=0, help="Pixels that neighbours share.")] = 0,
    keep_unlabelled: Annotated[
        bool, typer.Option("--keep-unlabelled", help="Keep images and tiles without a label.")
    ] = False,
    name: Annotated[str | None, typer.Option(help="Name; default: the folder's.")] = None,
    split: SplitShares = "0.8,0.1,0.1",
    group_by: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX",
            help="Keep a scene in one split: what this finds in an image's path names the scene.",
        ),
    ] = None,
    seed: Seed = 0,
    shard_mb: ShardMb = 64,
    nodata: Nodata = None,
    bands: Bands = None,
    alpha: Annotated[
        Literal["auto", "mask", "band"],
        typer.Option(help="A band tagged as alpha; auto: a mask if it is 0 and the highest alone."),
    ] = "auto",
    on_corrupt: Corrupt = "error",
    overwrite: Overwrite = False,
    num_workers: Workers = None,
) -> None:
    """Pack images with a mask each, for segmentation.

    Masks hold a number for each pixel (also 0 and 255), or a colour. Pixels without data, and
    values that are to be ignored, are 255 in the shards and count for nothing. Folders named train,
    val and test below both folders are taken as the splits.
    """
    from rsdl.commands import data
    from rsdl.data.packing.pack import PackOptions
    from rsdl.data.sources.mask_folder import MaskFolderSource, MaskOptions
    from rsdl.raster.picture import PictureRules

    options = PackOptions(round(shard_mb * 1e6), on_corrupt, overwrite, num_workers)
    data.check_folder("IMAGES", images, out)
    data.check_folder("MASKS", masks, out)
    source = MaskFolderSource(
        Path(images),
        Path(masks),
        MaskOptions(
            classes=data.read_names(classes),
            colours=colors,
            ignore=tuple(value for text in ignore or () for value in text.split(",")),
            tile=tile or None,
            overlap=overlap,
            keep_unlabelled=keep_unlabelled,
            fractions=parse_shares(split),
            seed=seed,
            group_by=group_by,
            name=name,
            rules=PictureRules(None, nodata, alpha, data.read_names(bands, "--bands"), False),
        ),
    )
    raise typer.Exit(data.pack_source(source, out, options))


@app.command("geotiff")
def data_pack_geotiff(
    scenes: Annotated[list[str], typer.Argument(help="GeoTIFFs, folders of them, or globs.")],
    labels: Annotated[
        str,
        typer.Option(
            help="Polygons (GeoJSON, Shapefile, GeoPackage, FlatGeobuf), or class rasters."
        ),
    ],
    out: Out,
    tile: Annotated[int, typer.Option(min=8, help="Side of a tile in px.")] = 256,
    overlap: Annotated[int, typer.Option(min=0, help="Pixels that neighbours share.")] = 0,
    name: Annotated[str, typer.Option(help="Name of the data set.")] = "scenes",
    label_field: Annotated[str, typer.Option(help="Polygons' field with the class.")] = "class",
    label_layer: Annotated[
        str | None, typer.Option(help="Layer of a vector file that has several.")
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            help="Class names a,b,c; of a raster its values 1, 2, 3, or 0=a,1=b; or a file."
        ),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(help="Value of a class raster, or class of polygons, that is no label."),
    ] = None,
    min_cover: Annotated[
        float, typer.Option(min=0, max=1, help="Share of a tile that its class must cover.")
    ] = 0.5,
    max_nodata: Annotated[
        float, typer.Option(min=0, max=1, help="Tiles with more nodata are left out.")
    ] = 0.5,
    alpha: Annotated[
        Literal["auto", "mask", "band"],
        typer.Option(help="A band tagged as alpha; auto: a mask if it is 0 and the highest alone."),
    ] = "auto",
    nodata: Nodata = None,
    bands: Bands = None,
    unscale: Annotated[
        Literal["auto", "on", "off"],
        typer.Option(help="Apply scale and offset of the files; auto: where they differ."),
    ] = "auto",
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
    task: Annotated[
        Literal["classification", "segmentation", "detection"],
        typer.Option(
            help="Give a tile its main class, each pixel its own, or take polygons as objects."
        ),
    ] = "classification",
    all_touched: Annotated[
        bool,
        typer.Option(
            "--all-touched", help="Segmentation: label each pixel that a polygon touches."
        ),
    ] = False,
    background: Annotated[
        str | None,
        typer.Option(
            help="Segmentation: name of the class of pixels without a label; default: ignore them."
        ),
    ] = None,
    keep: Annotated[
        float,
        typer.Option(min=0, max=1, help="Detection: learn objects of which this share is visible."),
    ] = 0.7,
    drop: Annotated[
        float,
        typer.Option(min=0, max=1, help="Detection: below this share, drop them; between, ignore."),
    ] = 0.3,
    empty: Annotated[
        float,
        typer.Option(min=0, max=1, help="Detection: share of train tiles without an object kept."),
    ] = 0.1,
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
    from rsdl.data.packing.pack import PackOptions
    from rsdl.data.sources.geotiff_options import GeotiffOptions

    options = PackOptions(round(shard_mb * 1e6), on_corrupt, overwrite, num_workers)
    cut = GeotiffOptions(
        scenes=tuple(scenes),
        labels=labels,
        name=name,
        tile=tile,
        overlap=overlap,
        label_field=label_field,
        label_layer=label_layer,
        classes=data.read_names(classes),
        ignore=tuple(value for text in ignore or () for value in text.split(",")),
        min_cover=min_cover,
        max_nodata=max_nodata,
        alpha=alpha,
        bands=data.read_names(bands, "--bands"),
        unscale=unscale,
        nodata=nodata,
        split_by=split_by,
        fractions=parse_shares(split),
        seed=seed,
        block=block,
        gap=gap,
        tile_format=tile_format,
        task=task,
        all_touched=all_touched,
        background=background,
        keep=keep,
        drop=drop,
        empty=empty,
    )
    raise typer.Exit(data.pack_geotiff(cut, out=out, options=options))


pack_objects.register(app)

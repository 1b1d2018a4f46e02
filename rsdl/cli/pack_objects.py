"""``rsdl data pack dota`` and others: images with annotated objects into shards.

All formats share their options, so that one function makes the command of each.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

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

ENDING = (
    " Tiles of an image stay in one split; folders named train, val and test are splits. Objects "
    "that a tile's edge cuts keep their true corners, and are marked or left out by what is seen "
    "of them. What is left out is counted."
)
HELP = {
    "dota": "Pack DOTA's labels: a text file for each image, four corners, class, difficult.",
    "coco": "Pack COCO's annotations: one JSON file for all images of a split.",
    "yolo": "Pack YOLO's labels, upright or oriented: a text file for each image.",
    "voc": "Pack XML annotations: Pascal VOC, DIOR, FAIR1M, HRSC2016, roLabelImg.",
    "xview": "Pack xView: TIFFs, and one GeoJSON file with boxes in pixels.",
    "rareplanes": "Pack RarePlanes: GeoJSON of each georeferenced image, or COCO's JSON.",
    "vhr10": "Pack NWPU VHR-10's ground truth: a text file for each image, (x1,y1),(x2,y2),class.",
}


def register(app: typer.Typer) -> None:
    """Add a command for each format."""
    for layout, text in HELP.items():
        app.command(layout, short_help=text, help=text + ENDING)(_make_command(layout))


def _make_command(layout: str) -> Callable[..., None]:
    def command(
        src: Annotated[str, typer.Argument(help="Folder of the images, or of the data set.")],
        out: Out,
        labels: Annotated[
            list[str] | None,
            typer.Option(
                metavar="PATH",
                help="Folder of the annotations, or the name that their folders below SRC have; "
                "coco, xview, rareplanes: a file, or SPLIT=FILE. Default: anywhere below SRC.",
            ),
        ] = None,
        classes: Annotated[
            str | None,
            typer.Option(help="Class names a,b,c, or a file. Default: the format's, or all."),
        ] = None,
        ignore: Annotated[
            list[str] | None, typer.Option(help="Class whose objects are left out.")
        ] = None,
        single_class: Annotated[
            str | None, typer.Option(metavar="NAME", help="Give all objects this class.")
        ] = None,
        class_from: Annotated[
            str | None,
            typer.Option(
                metavar="FIELD",
                help="coco, rareplanes: attribute that is the class, such as role or num_engines.",
            ),
        ] = None,
        outline: Annotated[
            Literal["box", "polygon"] | None,
            typer.Option(
                help="Take upright boxes, or outlines, where both are given. Default: coco box, "
                "voc polygon."
            ),
        ] = None,
        one_based: Annotated[
            bool,
            typer.Option("--one-based", help="voc: the first pixel is 1, and xmax is included."),
        ] = False,
        keep_unlabelled: Annotated[
            bool,
            typer.Option(
                "--keep-unlabelled", help="Take images without annotations as without objects."
            ),
        ] = False,
        tile: Annotated[
            int, typer.Option(min=0, help="Side of tiles in px; 0: keep images whole.")
        ] = 1024,
        overlap: Annotated[int, typer.Option(min=0, help="Pixels that neighbours share.")] = 200,
        keep: Annotated[
            float, typer.Option(min=0, max=1, help="An object cut to less is marked, and ignored.")
        ] = 0.7,
        drop: Annotated[
            float, typer.Option(min=0, max=1, help="An object cut to less is left out.")
        ] = 0.3,
        empty: Annotated[
            float | None,
            typer.Option(
                min=0,
                max=1,
                help="Share of tiles without objects that train keeps; val and test keep all. "
                "Default: 0.1, of whole images 1.",
            ),
        ] = None,
        name: Annotated[str | None, typer.Option(help="Name; default: the folder's.")] = None,
        split: SplitShares = "0.8,0.1,0.1",
        split_files: SplitFiles = None,
        group_by: Annotated[
            str | None,
            typer.Option(
                metavar="REGEX",
                help="Keep a scene in one split: what this finds in an image's path names it.",
            ),
        ] = None,
        seed: Seed = 0,
        shard_mb: ShardMb = 64,
        nodata: Annotated[
            float | None,
            typer.Option(help="Value of pixels without data, if the files do not say."),
        ] = None,
        bands: Annotated[
            str | None, typer.Option(metavar="NAME,...", help="Bands to take, in order.")
        ] = None,
        alpha: Annotated[
            Literal["auto", "mask", "band"],
            typer.Option(
                help="A band tagged as alpha; auto: a mask if it is 0 and the highest alone."
            ),
        ] = "auto",
        on_corrupt: Corrupt = "error",
        overwrite: Overwrite = False,
        num_workers: Workers = None,
    ) -> None:
        from rsdl.commands import data
        from rsdl.data.packing.pack import PackOptions
        from rsdl.data.sources.annotation_formats import read_annotations
        from rsdl.data.sources.annotations import AnnotationRules
        from rsdl.data.sources.object_options import ObjectOptions
        from rsdl.data.sources.object_source import ObjectSource
        from rsdl.data.sources.object_tiles import VisibleRules
        from rsdl.raster.picture import PictureRules

        rules = AnnotationRules(
            classes=data.read_names(classes),
            ignore=tuple(each for text in ignore or () for each in text.split(",")),
            single=single_class,
            keep_unlabelled=keep_unlabelled,
            outline=outline,
            class_from=class_from,
            one_based=one_based,
        )
        options = ObjectOptions(
            tile=tile or None,
            overlap=overlap,
            visible=VisibleRules(keep, drop),
            empty=empty,
            fractions=parse_shares(split),
            seed=seed,
            group_by=group_by,
            lists=data.SplitChoice(files=split_files).read_lists(),
            name=name,
            rules=PictureRules(None, nodata, alpha, data.read_names(bands, "--bands"), False),
        )
        packing = PackOptions(round(shard_mb * 1e6), on_corrupt, overwrite, num_workers)
        data.check_folder("SRC", src, out)
        for label in labels or ():
            data.check_local("--labels", label)
        images = read_annotations(layout, Path(src), rules, tuple(labels or ()))
        raise typer.Exit(data.pack_source(ObjectSource(images, options), out, packing))

    return command

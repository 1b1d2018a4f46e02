"""The command that maps scenes."""

from typing import Annotated, Literal

import typer

app = typer.Typer()


@app.command()
def predict(
    run: Annotated[str, typer.Argument(help="A run, one of its checkpoints, or an export.")],
    scenes: Annotated[
        list[str], typer.Argument(help="Files, folders, globs, https://, s3://, STAC items.")
    ],
    out: Annotated[str, typer.Option(metavar="URL", help="Folder or s3:// for the maps.")],
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Also write SCENE_probabilities.tif.")
    ] = False,
    vectorize: Annotated[
        Literal["gpkg", "geojson"] | None,
        typer.Option(help="Write polygons: SCENE.gpkg, or SCENE.geojson in lon, lat."),
    ] = None,
    simplify: Annotated[
        float | None,
        typer.Option(min=0, metavar="PX", help="Tolerance of the polygons' edges; default: 1 px."),
    ] = None,
    min_area: Annotated[
        float | None,
        typer.Option(min=0, metavar="M2", help="Leave out polygons of fewer square metres."),
    ] = None,
    score: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Leave out objects of less; default: task.score_threshold."
        ),
    ] = None,
    quicklook: Annotated[
        bool, typer.Option("--quicklook", help="Also write SCENE_quicklook.png, with a legend.")
    ] = False,
    page: Annotated[
        bool, typer.Option("--page", help="Also write SCENE.html: the map over the scene.")
    ] = False,
    tile: Annotated[
        int | None,
        typer.Option(min=1, help="Side of the training tiles in px; default: as they were cut."),
    ] = None,
    overlap: Annotated[
        int | None,
        typer.Option(min=0, help="Px that windows share; default: a quarter; classification: 0."),
    ] = None,
    tta: Annotated[
        bool, typer.Option("--tta", help="Average over 8 flips and quarter turns.")
    ] = False,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Windows computed at once; default: 4 on a CPU, 16 on a GPU."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    part: Annotated[
        str | None, typer.Option(metavar="I/N", help="Every N-th scene from the I-th on.")
    ] = None,
    bands: Annotated[
        str | None,
        typer.Option(metavar="NAME,...", help="The run's bands as the scenes name or number them."),
    ] = None,
    alpha: Annotated[
        Literal["auto", "mask", "band"] | None,
        typer.Option(help="What a band tagged as alpha is; default: as the data set was packed."),
    ] = None,
    unscale: Annotated[
        Literal["auto", "on", "off"] | None,
        typer.Option(help="Apply scale and offset; default: as the data set was packed."),
    ] = None,
    nodata: Annotated[
        float | None, typer.Option(help="Value of pixels without data, if the files do not say.")
    ] = None,
    asset: Annotated[
        str | None, typer.Option(metavar="NAME", help="Asset of STAC items, if several are images.")
    ] = None,
    aoi: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Map inside of these polygons: GeoJSON, GeoPackage, ..."),
    ] = None,
    bbox: Annotated[
        str | None,
        typer.Option(metavar="W,S,E,N", help="Map this box: degrees of longitude, latitude."),
    ] = None,
    resample: Annotated[
        bool,
        typer.Option("--resample", help="Map scenes of another pixel size at the training's."),
    ] = False,
    gsd: Annotated[
        float | None,
        typer.Option(
            min=1e-3,
            max=1e5,
            metavar="METRES",
            help="Pixel size of the training imagery, if not recorded.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the scenes.")] = False,
) -> None:
    """Map scenes by a trained network: SCENE.tif in the scene's CRS and grid.

    A Cloud Optimized GeoTIFF of class numbers with colours and names; 255 where the scene has no
    data. Segmentation: windows overlap and are blended. Classification: each tile has one class.

    Detection: SCENE.geojson (lon, lat) or SCENE.gpkg (the scene's CRS), a box an object with class,
    score, length_m, width_m, and angle_deg clockwise from north; SCENE.csv in px without a CRS.

    Scenes whose map is there are left out, so that the same command goes on after it was killed.
    """
    from rsdl.commands.data import read_names
    from rsdl.commands.predict import PredictOptions
    from rsdl.commands.predict import predict as command
    from rsdl.predict.inputs import SceneOptions
    from rsdl.predict.outputs import OutputOptions

    given = SceneOptions(
        bands=read_names(bands, "--bands"),
        alpha=alpha,
        unscale=unscale,
        nodata=nodata,
        asset=asset,
        aoi=aoi,
        bbox=bbox,
        resample=resample,
        gsd=gsd,
    )
    outputs = OutputOptions(
        probabilities=probabilities,
        polygons=vectorize,
        simplify_px=simplify,
        min_area_m2=min_area,
        score=score,
        quicklook=quicklook,
        page=page,
    )
    options = PredictOptions(
        tile=tile,
        overlap=overlap,
        outputs=outputs,
        tta=tta,
        batch_size=batch_size,
        device=device,
        part=part,
        dry_run=dry_run,
    )
    raise typer.Exit(command(run, scenes, out, given, options))

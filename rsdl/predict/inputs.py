"""Which scenes are predicted, and how their pixels are read so that they are those of the run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from rsdl.config.fold import parse_part
from rsdl.core.errors import ConfigError, DataError
from rsdl.core.image_size import show_size
from rsdl.predict.area import find_area
from rsdl.predict.resample import fit, training_gsd
from rsdl.raster.gate import check_nodata
from rsdl.raster.remote import RasterFile
from rsdl.raster.scenes import Scene, SceneRules, describe_scenes
from rsdl.records.model_spec import ModelSpec

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneOptions:
    """What a user says of the scenes; ``None`` is what the data set was packed with.

    Attributes:
        bands: The run's bands as the scenes name or number them, in the run's order.
        alpha: What a band tagged as alpha is; as in ``SceneRules``.
        unscale: Whether scale and offset are applied; as in ``SceneRules``.
        nodata: Nodata value, in addition to the files' own.
        asset: Name of the asset of STAC items that is mapped.
        aoi: Vector file of the area that is mapped; ``None``: all.
        bbox: Box of the area, west, south, east and north in degrees.
        resample: Whether scenes of another pixel size are read at that of the training imagery.
        gsd: Pixel size of the training imagery in metres; ``None``: as the data set says.
    """

    bands: tuple[str, ...] | None = None
    alpha: Literal["auto", "mask", "band"] | None = None
    unscale: Literal["auto", "on", "off"] | None = None
    nodata: float | None = None
    asset: str | None = None
    aoi: str | None = None
    bbox: str | None = None
    resample: bool = False
    gsd: float | None = None


@dataclass(frozen=True, slots=True)
class Chosen:
    """The scenes to map.

    Attributes:
        scenes: The scenes, clipped to the area.
        remarks: What is to be said of the choice.
        record: What of it decides on the maps, as fields of ``Prediction``.
    """

    scenes: tuple[Scene, ...]
    remarks: tuple[str, ...]
    record: dict[str, Any]


def scene_rules(spec: ModelSpec, options: SceneOptions) -> SceneRules:
    """Return how scenes are read for a run.

    Raises:
        ConfigError: If not as many bands are named as the run has.
    """
    packed = _packed_options(spec)
    bands = spec.bands if options.bands is None else options.bands
    if len(bands) != len(spec.bands):
        raise ConfigError(
            "--bands",
            f"names {len(bands)} bands, the run was trained on {len(spec.bands)}",
            f"name these, in this order: {', '.join(spec.bands)}",
        )
    numbered = tuple(f"band_{number}" for number in range(1, len(bands) + 1))
    return SceneRules(
        alpha=options.alpha or packed.get("alpha", "auto"),
        # Bands that had no names are all bands: find_scenes compares their number.
        bands=None if bands == numbered and options.bands is None else bands,
        unscale=options.unscale or packed.get("unscale", "auto"),
        nodata=packed.get("nodata") if options.nodata is None else options.nodata,
        narrow=packed.get("narrow", False),
        georeferenced=spec.task.facts.target != "objects",
    )


def find_scenes(
    files: Sequence[RasterFile], rules: SceneRules, spec: ModelSpec
) -> tuple[Scene, ...]:
    """Return the scenes in files, checked to have the bands and the type of a run.

    Args:
        files: The files, of ``find_files``.
        rules: How scenes are read.
        spec: What the network takes.

    Raises:
        DataError: If one is not such a scene.
        ConfigError: If a band is missing.
    """
    try:
        scenes = describe_scenes(files, rules)
    except ConfigError as error:
        if error.where != "--bands" or rules.bands != spec.bands:
            raise
        # The names are the run's and not the user's, who needs to know them.
        order = ", ".join(spec.bands)
        remedy = f"{error.remedy}; pass those that are {order}, in this order, as --bands NAME,..."
        raise ConfigError(error.where, error.problem, remedy) from error
    first = scenes[0]  # all agree
    if len(first.bands) != len(spec.bands):
        raise DataError(
            str(first.path),
            f"has {len(first.bands)} bands ({', '.join(first.bands)}), the run was trained on "
            f"{len(spec.bands)} ({', '.join(spec.bands)})",
            "choose them in the run's order with --bands NAME,...",
        )
    if first.dtype != spec.dtype and rules.unscale == "on" and first.dtype == "float32":
        problem = f"makes pixels float32, and the run was trained on {spec.dtype}"
        raise ConfigError("--unscale on", problem, "leave it out, or pass --unscale off")
    if first.dtype != spec.dtype:
        remedy = "convert it as the training scenes were"
        if spec.dtype == "float32":
            remedy += ", or apply its scale with --unscale on"
        problem = f"has pixels of {first.dtype}, the run was trained on {spec.dtype}"
        raise DataError(str(first.path), problem, remedy)
    return scenes


def choose_scenes(
    files: Sequence[RasterFile], rules: SceneRules, spec: ModelSpec, given: SceneOptions
) -> Chosen:
    """Return what is mapped of the scenes in files: the user's area, at the training's pixel size.

    Args:
        files: The files, of ``find_files``.
        rules: How scenes are read.
        spec: What the network takes.
        given: The area, and whether scenes are resampled.

    Raises:
        DataError: If a scene is none, is not like the training imagery, or none is in the area.
        ConfigError: If an option cannot be used.
    """
    area, gsd = find_area(given.aoi, given.bbox), training_gsd(spec, given.gsd)
    if given.resample and gsd is None:
        problem = "needs the pixel size of the training imagery, and nothing says it"
        raise ConfigError("--resample", problem, "name it with --gsd METRES")
    scenes = find_scenes(files, rules, spec)
    check_nodata(given.nodata, scenes[0].dtype)
    remarks = []
    table = scenes[0].table
    names = [name or colour for name, colour in zip(table.names, table.colours, strict=True)]
    if rules.bands is None and any(names) and names != ["red", "green", "blue"]:
        taken = ", ".join(name or "?" for name in names)
        remarks.append(
            f"the run's bands have no names: those of scenes are taken as {taken} (--bands)"
        )
    if plain := sum(scene.crs is None for scene in scenes):
        remarks.append(
            f"{plain} of {len(scenes)} scenes have no coordinate reference system: all in pixels"
        )
    if area is not None:
        num_found, scenes = len(scenes), area.touched(scenes)
        if outside := num_found - len(scenes):
            remarks.append(
                f"{outside} of {num_found} scenes lie outside of the area and are left out"
            )
    if gsd is None:
        remarks.append("nothing says the pixel size of the training imagery: not compared (--gsd)")
    else:
        scenes = fit(scenes, gsd, resample=given.resample)
        if resized := sum(scene.scale != (1, 1) for scene in scenes):
            remarks.append(
                f"{resized} of {len(scenes)} scenes are read, and mapped, at {gsd.middle:.3g} m"
            )
    if area is not None:
        scenes = area.clip(scenes)
    record = {
        "area": area and area.record,
        "gsd_m": gsd.middle if gsd and given.resample else None,
    }
    return Chosen(scenes, tuple(remarks), record)


def find_tile(spec: ModelSpec) -> tuple[int, str]:
    """Return the side of the tiles that a network was trained on, in pixels, and where it is said.

    Raises:
        ConfigError: If nothing says it.
    """
    for room in (_packed_options(spec), spec.provenance.get("masks")):
        if isinstance(room, dict) and isinstance(tile := room.get("tile"), int):
            return tile, "as the data set was cut"
    if isinstance(spec.image_size, int):
        return spec.image_size, "data.image_size; nothing says how large the images were"
    problem = f"is needed: the network sees {show_size(spec.image_size)} px"
    raise ConfigError("--tile", problem, "name the side of the training images in pixels")


def choose_part(items: Sequence[Item], part: str | None) -> Sequence[Item]:
    """Return every N-th item from the I-th on, as ``I/N`` says.

    Raises:
        ConfigError: Unless I is 1 to N.
    """
    if part is None:
        return items
    if (found := parse_part(part)) is None:
        raise ConfigError("--part", f'"{part}" is not I/N', "use I from 1 to N, as 1/8")
    number, parts = found
    return items[number - 1 :: parts]


def _packed_options(spec: ModelSpec) -> dict[str, Any]:
    """Return the options that the images of the data set were packed with."""
    is_geotiff = spec.provenance.get("source") == "geotiff"
    options = spec.provenance.get("options" if is_geotiff else "rules")
    given = options if isinstance(options, dict) else {}
    # Images have a switch where scenes have three positions.
    return given | {"unscale": "on"} if given.get("unscale") is True else given

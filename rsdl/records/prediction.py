"""What the maps of a folder were made with and of: ``prediction.json`` and a file a scene.

A prediction that is started again goes on with the scenes that are not there yet. These files tell
whether the maps that are there were made by the same network in the same way, and of the same
scenes.
"""

import json
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from rsdl.core.versions import parse_document

PREDICTION = "prediction.json"
FORMAT = 1
Record = TypeVar("Record", bound=BaseModel)


class Prediction(BaseModel):
    """All that decides on the content of a map, the scene apart.

    Attributes:
        run: Name of the run.
        weights: SHA-256 of the network's weights.
        classes: Names of the classes, in the order of the values.
        window: Height and width of the windows in pixels.
        overlap: Pixels that two windows share.
        tta: Whether flips and quarter turns were averaged.
        probabilities: Whether each map has probabilities beside it.
        polygons: Format of the polygons beside each map, or of the objects, if one was chosen.
        simplify_px: Tolerance of the polygons in pixels.
        min_area_m2: Polygons that are smaller are left out.
        score: Objects of a lower score are left out; ``None``: the map has none.
        quicklook: Whether each map has a PNG beside it.
        page: Whether each map has an HTML page beside it.
        bands: Names of the scenes' bands, in the order of the network; ``None``: as they are.
        alpha: What a band tagged as alpha is.
        unscale: Whether scale and offset are applied.
        nodata: Nodata value, in addition to the files' own.
        area: The box that is mapped, or a digest of the polygons; ``None``: whole scenes.
        gsd_m: Pixel size in metres at which scenes of another one are read; ``None``: as they are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    format: Literal[1] = 1
    run: str
    weights: str
    classes: tuple[str, ...]
    window: tuple[int, int]
    overlap: int
    tta: bool
    probabilities: bool
    polygons: Literal["gpkg", "geojson"] | None = None
    simplify_px: float | None = None
    min_area_m2: float | None = None
    score: float | None = None
    quicklook: bool = False
    page: bool = False
    bands: tuple[str, ...] | None
    alpha: Literal["auto", "mask", "band"]
    unscale: Literal["auto", "on", "off"]
    nodata: Annotated[float, Field(allow_inf_nan=True)] | None
    area: str | None = None
    gsd_m: float | None = None

    def to_json(self) -> bytes:
        """Return the stored bytes."""
        return (self.model_dump_json(indent=2) + "\n").encode()

    def differs_in(self, other: "Prediction") -> str | None:
        """Return the first field whose value is another one, or ``None``."""
        # As they are stored: a nodata of NaN is that of the file.
        mine, theirs = (json.loads(each.to_json()) for each in (self, other))
        return next((name for name in mine if mine[name] != theirs[name]), None)


class MappedScene(BaseModel):
    """The scene that a map shows; it is written once the map is there.

    Attributes:
        scene: Name of the scene.
        num_bytes: Size of its file.
        sha256_of_ends: SHA-256 of the two ends of its file, wherever it lies.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    scene: str
    num_bytes: int
    sha256_of_ends: str

    def to_json(self) -> bytes:
        """Return the stored bytes."""
        return (self.model_dump_json(indent=2) + "\n").encode()

    def is_same(self, other: "MappedScene") -> bool:
        """Return whether both are of one file, whatever it is called."""
        return (self.num_bytes, self.sha256_of_ends) == (other.num_bytes, other.sha256_of_ends)


def parse_prediction(data: bytes, where: str) -> Prediction:
    """Parse the content of a ``prediction.json``.

    Raises:
        DataError: If it is damaged, or a newer release has written it.
    """
    return _parse(Prediction, data, where)


def parse_mapped_scene(data: bytes, where: str) -> MappedScene:
    """Parse the record of a map's scene; errors as :func:`parse_prediction`."""
    return _parse(MappedScene, data, where)


def _parse(kind: type[Record], data: bytes, where: str) -> Record:
    return parse_document(
        kind,
        data,
        where,
        reads=FORMAT,
        what="is no record of maps: ",
        whole="JSON",
        remedy="name a new folder with --out",
    )

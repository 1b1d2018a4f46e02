"""What the maps of a folder were made with: ``prediction.json``, beside them.

A prediction that is started again goes on with the scenes that are not there yet. This file tells
whether the maps that are there were made by the same network in the same way.
"""

import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rsdl.core.versions import document_error

PREDICTION = "prediction.json"
FORMAT = 1


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
        bands: Names of the scenes' bands, in the order of the network; ``None``: as they are.
        alpha: What a band tagged as alpha is.
        unscale: Whether scale and offset are applied.
        nodata: Nodata value, in addition to the files' own.
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
    bands: tuple[str, ...] | None
    alpha: Literal["auto", "mask", "band"]
    unscale: Literal["auto", "on", "off"]
    nodata: Annotated[float, Field(allow_inf_nan=True)] | None

    def to_json(self) -> bytes:
        """Return the stored bytes."""
        return (self.model_dump_json(indent=2) + "\n").encode()

    def differs_in(self, other: "Prediction") -> str | None:
        """Return the first field whose value is another one, or ``None``."""
        # As they are stored: a nodata of NaN is that of the file.
        mine, theirs = (json.loads(each.to_json()) for each in (self, other))
        return next((name for name in mine if mine[name] != theirs[name]), None)


def parse_prediction(data: bytes, where: str) -> Prediction:
    """Parse the content of a ``prediction.json``.

    Raises:
        DataError: If it is damaged, or a newer release has written it.
    """
    try:
        return Prediction.model_validate_json(data)
    except ValidationError as error:
        raise document_error(
            error,
            where,
            reads=FORMAT,
            what="is no record of maps: ",
            whole="JSON",
            remedy="name a new folder with --out",
        ) from error

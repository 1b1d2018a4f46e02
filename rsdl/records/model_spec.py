"""What a trained network needs beside its weights to be used: ``model.json``.

A run has one from its first step on, and so has an export. With it, neither the data set nor the
config is needed to load the network.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from rsdl import __version__
from rsdl.config.model import ModelConfig
from rsdl.config.task import TaskConfig
from rsdl.core.image_size import ImageSize, aspect_ratio
from rsdl.core.pixels import Dtype
from rsdl.core.versions import document_error

MODEL = "model.json"
FORMAT = 1


class ModelSpec(BaseModel):
    """A network, its input and its output, without the weights.

    Attributes:
        run: Name of the run.
        model: The network; ``weights`` is always ``none``.
        timm_model: Its name in timm.
        classes: Names of the classes, in the order of the outputs.
        bands: Names of the bands, in the order of the input.
        dtype: Type of the stored pixels.
        mean: Mean of each band in stored units.
        std: Standard deviation of each band in stored units; 0 is treated as 1.
        image_size: Size of the images that the network sees.
        eval_crop: ``data.eval_crop`` of the run.
        decode_size: ``data.decode_size`` of the run.
        dataset: Name of the data set that it was trained on.
        provenance: That of the data set.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    rsdl_version: str = __version__
    run: str
    task: TaskConfig
    model: ModelConfig
    timm_model: str
    classes: tuple[str, ...] = Field(min_length=1)
    bands: tuple[str, ...] = Field(min_length=1)
    dtype: Dtype
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: ImageSize
    eval_crop: Annotated[float, Field(gt=0, le=1)] | Literal["whole"]
    decode_size: int | None
    dataset: str
    provenance: dict[str, JsonValue]

    @model_validator(mode="after")
    def _lengths_agree(self) -> "ModelSpec":
        if not len(self.mean) == len(self.std) == len(self.bands):
            raise ValueError("mean, std and bands differ in length")
        return self

    @property
    def central(self) -> float | None:
        """Share of the largest central box that is evaluated; ``None`` for the whole image."""
        return None if self.eval_crop == "whole" else self.eval_crop

    @property
    def aspect(self) -> float:
        """Width over height of the images that the network sees."""
        return aspect_ratio(self.image_size)

    def to_json(self) -> bytes:
        """Return the stored bytes."""
        return (self.model_dump_json(indent=2) + "\n").encode()


def parse_model_spec(data: bytes, where: str) -> ModelSpec:
    """Parse the content of a ``model.json``.

    Raises:
        DataError: If it is damaged, or a newer release has written it.
    """
    try:
        return ModelSpec.model_validate_json(data)
    except ValidationError as error:
        what = "is no description of a model: "
        raise document_error(
            error, where, reads=FORMAT, what=what, whole="JSON", remedy="restore it"
        ) from error

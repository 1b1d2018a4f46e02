"""Data set, input pipeline, and augmentation."""

from typing import Annotated, Any, Literal, TypedDict

from pydantic import BaseModel, ByteSize, ConfigDict, Field, field_validator, model_validator

from rsdl.config.fold import parse_fold
from rsdl.storage.cache.config import CacheConfig

SMALLEST_SIDE = 8
DEFAULT_BATCH_SIZE = 64
Side = Annotated[int, Field(ge=SMALLEST_SIDE)]


class DataConfig(BaseModel):
    """Where the data lies and how it is fed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(description="Root of the data set: a folder or s3:// with a manifest.json.")
    train_split: str = Field("train", description="Split to train on.")
    val_split: str | None = Field(
        "val",
        description="Split to validate on after every epoch; null: none, the last weights count.",
    )
    test_split: str = Field("test", description="Split for the final evaluation.")
    fold: str | None = Field(
        None,
        description="K/N, cross-validation: train and val split are pooled and divided into N "
        "folds by groups and classes, as a function of the seed; the run is validated on the K-th "
        "and trained on the others. Its name ends with -foldKofN. The test split stays apart.",
    )
    batch_size: int = Field(
        DEFAULT_BATCH_SIZE,
        ge=1,
        description="Samples per optimizer step, over all devices and accumulation steps.",
    )
    eval_batch_size: int | None = Field(
        None,
        ge=1,
        description="Samples per validation batch over all devices; null: batch_size, and on GPUs "
        "four micro-batches of training for each. Scores do not depend on it.",
    )
    image_size: Side | tuple[Side, Side] = Field(
        224, description="Side of the image that the network sees, or [height, width], px."
    )
    num_workers: int | None = Field(
        None, ge=1, description="Loader threads per process; null: one per core of the process."
    )
    prefetch: int = Field(4, ge=1, description="Batches in flight.")
    window: int = Field(16, ge=1, description="Consecutive shards that are shuffled together.")
    partitions: int = Field(1, ge=1, description="Parts of the data, for as many nodes.")
    tail: Literal["drop", "pad"] = Field(
        "drop", description="The last, incomplete training batch: drop it, or pad it uncounted."
    )
    sampling: Literal["natural", "balanced"] = Field(
        "natural",
        description="Each sample once, or each class equally often. balanced with masks: as many "
        "draws for each class, given to images by their part in its pixels (class-aware sampling, "
        "Shen et al. 2016). An epoch keeps its length.",
    )
    on_corrupt: Literal["error", "skip"] = Field(
        "error", description="A sample that cannot be decoded stops the run, or is left out."
    )
    crop_scale: tuple[float, float] = Field(
        (0.35, 1.0), description="Random crop: smallest and largest share of the image's area."
    )
    crop_ratio: tuple[float, float] = Field(
        (3 / 4, 4 / 3),
        description="Random crop: smallest and largest width over height, times image_size's.",
    )
    crop_on: Literal["any", "foreground"] = Field(
        "any",
        description="Random crop of an image with a mask: anywhere, or the first of ten positions "
        "where less than three quarters of the labelled pixels are of one class, else the one with "
        "the least of one class (mmsegmentation's cat_max_ratio).",
    )
    mosaic: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Detection: share of the training images that show a quarter each of four "
        "around a random centre (YOLOv4). Each takes four reads.",
    )
    copy_paste: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Detection: share of the training images onto which about half of the objects "
        "of another are pasted, in their boxes, where they hide none (Ghiasi et al. 2021).",
    )
    cache: CacheConfig | Literal["none"] = Field(
        CacheConfig(), description="Copies of remote shards on this node; none: read by range."
    )
    decoded_cache: ByteSize | Literal["auto", "off"] = Field(
        "auto",
        description="Pixels kept on this node after they were first decoded, read by later epochs "
        "and runs. auto: within data.cache, when they fit into what the shards leave of its size "
        'and into half of the memory; off; or a budget beside it, such as "200GB".',
    )
    decode_size: int | None = Field(
        None,
        ge=8,
        description="Shrink the shorter side to so many px before the crop; null: full size.",
    )
    decode: Literal["host", "device"] = Field(
        "host",
        description="Who decodes JPEGs for training: cores, or (experimental) the GPU, where cores "
        "are few.",
    )
    normalize: Literal["auto", "weights", "dataset"] = Field(
        "auto",
        description="Mean and standard deviation of images: those that the pretrained weights were "
        "trained with, or the data set's. auto: the weights' where they saw these bands, by name, "
        "and this dtype; others' and timm's files saw 8-bit red, green and blue.",
    )
    eval_crop: Annotated[float, Field(gt=0, le=1)] | Literal["whole"] = Field(
        1.0,
        description="Evaluation: share of the largest central box of image_size's shape; whole: "
        "the whole image, stretched to image_size.",
    )
    resident: Literal["auto", "off", "on"] = Field(
        "off",
        description="Decoded train split in the device's memory; auto: on a GPU, where it fits.",
    )

    @field_validator("fold")
    @classmethod
    def _is_a_fold(cls, value: str | None) -> str | None:
        return value if value is None else str(parse_fold(value))

    @model_validator(mode="after")
    def _fold_is_validated(self) -> "DataConfig":
        if self.fold is not None and self.val_split in (None, self.train_split):
            raise ValueError(
                "fold is the part to validate on: val_split must name a split, and another than "
                "train_split; it need not exist"
            )
        return self

    @field_validator("decoded_cache", mode="before")
    @classmethod
    def _off_is_a_word(cls, value: Any) -> Any:  # noqa: ANN401
        if value is True:
            raise ValueError("must be auto, off or a size, is true")
        return "off" if value is False else value  # YAML reads off as False

    @field_validator("image_size", mode="before")
    @classmethod
    def _is_a_side_or_two(cls, value: Any) -> Any:  # noqa: ANN401
        sides = value if isinstance(value, (list, tuple)) and len(value) == 2 else [value]
        if not all(type(side) is int and side >= SMALLEST_SIDE for side in sides):
            raise ValueError(
                f"must be a side or [height, width], whole numbers from {SMALLEST_SIDE} up"
            )
        return sides[0] if len(set(sides)) == 1 else tuple(sides)

    @model_validator(mode="after")
    def _device_decodes_whole(self) -> "DataConfig":
        if self.decode == "device" and self.decode_size is not None:
            raise ValueError(
                "decode=device decodes whole images, decode_size less of them; choose one"
            )
        return self

    @model_validator(mode="after")
    def _host_composes(self) -> "DataConfig":
        if self.decode == "device" and (self.mosaic or self.copy_paste):
            raise ValueError(
                "mosaic and copy_paste are made of pixels that the host decodes; pass decode=host"
            )
        return self

    @model_validator(mode="after")
    def _ranges_ascend(self) -> "DataConfig":
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise ValueError(f"crop_scale must ascend within (0, 1], is [{low}, {high}]")
        low, high = self.crop_ratio
        if not 0 < low <= high:
            raise ValueError(f"crop_ratio must ascend above 0, is [{low}, {high}]")
        return self

    @field_validator("resident", mode="before")
    @classmethod
    def _read_switch(cls, value: object) -> object:
        # YAML reads on and off as booleans.
        return ("on" if value else "off") if isinstance(value, bool) else value


class AugmentConfig(BaseModel):
    """What happens to training images beside the random crop."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    flip: bool = Field(True, description="Flip along x and y, each with probability 1/2.")
    rotate90: bool = Field(True, description="Rotate by multiples of 90 degrees.")
    rotate: float = Field(
        0.0, ge=0, le=180, description="Rotate half of the images by any angle, +- these degrees."
    )
    brightness: float = Field(0.0, ge=0, le=1, description="Jitter factor 1 +- this (RGB).")
    contrast: float = Field(0.0, ge=0, le=1, description="Jitter factor 1 +- this (RGB).")
    saturation: float = Field(0.0, ge=0, le=1, description="Jitter factor 1 +- this (RGB).")
    hue: float = Field(0.0, ge=0, le=0.5, description="Shift of the hue, +- turns (RGB).")
    mixup: float = Field(0.0, ge=0, description="Alpha of mixup's Beta distribution; 0 is off.")
    cutmix: float = Field(0.0, ge=0, description="Alpha of CutMix's Beta distribution; 0 is off.")

    @property
    def jitters(self) -> bool:
        """Whether colour jitter is on."""
        return any((self.brightness, self.contrast, self.saturation, self.hue))

    @property
    def mixes(self) -> bool:
        """Whether images are mixed in pairs, by mixup or CutMix."""
        return self.mixup > 0 or self.cutmix > 0


class DataFields(TypedDict, total=False):
    """The fields of DataConfig as keywords, ``url`` apart; values are checked by DataConfig."""

    train_split: str
    val_split: str | None
    test_split: str
    fold: str | None
    batch_size: int
    eval_batch_size: int | None
    image_size: int | tuple[int, int]
    num_workers: int | None
    prefetch: int
    window: int
    partitions: int
    tail: Literal["drop", "pad"]
    sampling: Literal["natural", "balanced"]
    on_corrupt: Literal["error", "skip"]
    crop_scale: tuple[float, float]
    crop_ratio: tuple[float, float]
    crop_on: Literal["any", "foreground"]
    mosaic: float
    copy_paste: float
    cache: dict[str, Any] | Literal["none"]
    decoded_cache: int | str
    decode_size: int | None
    decode: Literal["host", "device"]
    normalize: Literal["auto", "weights", "dataset"]
    eval_crop: float | Literal["whole"]
    resident: Literal["auto", "off", "on"]

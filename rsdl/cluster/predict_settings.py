"""What ``k8s/predict`` maps: a part of ``k8s/settings.yaml``."""

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

# A word of a shell command, which is quoted; nothing in it can end the quotes.
Word = Annotated[str, Field(min_length=1, pattern=r"^[^'\s$`\\]([^'\n$`\\]*[^'\s$`\\])?$")]
Url = Annotated[str, Field(pattern=r"^(s3|https)://[^'\s$`\\]+$")]


OWN_OPTIONS = ("--part", "--out", "--device", "--dry-run")


class PredictSettings(BaseModel):
    """Which scenes are mapped by which run: the arguments of ``rsdl predict``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")] | Url = Field(
        "swin_base_loveda",
        description="Name of a run: one that ends in a data set of a study is looked up in the "
        "runs of its task, any other in those of classification; or s3:// of any.",
    )
    scenes: tuple[Url, ...] = Field(
        (), description="Scenes, or what lists them; none: s3://BUCKET/scenes."
    )
    out: Url | None = Field(None, description="Where maps go; null: s3://BUCKET/maps/STUDY.")
    parts: int = Field(8, ge=1, le=1000, description="Pods that share the scenes.")
    options: tuple[Word, ...] = Field(
        (), description="More options of rsdl predict, a word each, such as --probabilities."
    )

    @field_validator("options")
    @classmethod
    def _are_not_the_jobs(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        for word in words:
            name = re.split(r"[=\s]", word)[0]
            if name in OWN_OPTIONS:
                raise ValueError(f"{name} is what the Job itself passes, or what no pod can do")
            if name != word and name.startswith("--"):
                raise ValueError(f"write {word!r} as two words: [{', '.join(word.split())}]")
        return words

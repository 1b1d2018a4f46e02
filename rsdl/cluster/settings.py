"""``k8s/settings.yaml``: settings by the user of a cluster, for the whole study or for one job."""

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from rsdl import __version__
from rsdl.cluster.nautilus import GPUS, REGIONS
from rsdl.cluster.node_range import NODES, Nodes, node_range
from rsdl.cluster.plain_yaml import read_yaml
from rsdl.cluster.predict_settings import PredictSettings
from rsdl.cluster.studies import FIRST, study_name, task_of
from rsdl.cluster.wheels import WHEELS
from rsdl.core.errors import ConfigError, ConfigErrors

FILE = "settings.yaml"
LABEL = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
IMAGE = r"^[a-z0-9][a-z0-9._:/-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*|@sha256:[0-9a-f]{64})$"


def _one_of(known: Collection[str]) -> BeforeValidator:
    def check(value: object) -> str:
        # YAML reads cuda=12 as a number.
        if str(value) not in known:
            raise ValueError(f"must be one of {', '.join(known)}")
        return str(value)

    return BeforeValidator(check)


GpuName = Annotated[str, _one_of(GPUS)]


class JobSettings(BaseModel):
    """Settings of one job; absent fields are as for the whole study."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gpu: GpuName | None = Field(None, description=f"One of {', '.join(GPUS)}.")
    gpus: Literal[1, 2, 4, 8] | None = Field(None, description="GPUs of a pod.")
    nodes: Nodes | None = Field(None, description=NODES)
    opportunistic: bool | None = Field(None, description="Any pod may preempt it.")
    overrides: tuple[str, ...] = Field(
        (), description="Fields of configs that are otherwise in pods, as KEY=VALUE."
    )

    @field_validator("overrides")
    @classmethod
    def _are_resolved_by_us(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            if "$(" in value:
                raise ValueError(f"{value}: write ${{oc.env:NAME}} for a variable of the pod")
        return values


# Batches that take more than 24 GB; that of maxvit_small on dota more than 48, so it has two parts.
LARGE = ("maxvit_small_loveda", "maxvit_small_potsdam", "resnext101_dota", "densenet161_dota",
         "efficientnet_b5_dota", "convnext_base_dota", "swin_base_dota", "pvt_v2_b5_dota",
         "maxvit_small_dota")  # fmt: skip
JOBS = {
    # Its config is written for one machine; pods read and write the bucket.
    "quickstart": JobSettings(
        overrides=("output=${oc.env:RSDL_RUNS}", "data.url=${oc.env:RSDL_DATA}/quickstart"),
    ),
    **{name: JobSettings(gpu="a40") for name in LARGE},
    "maxvit_small_dota": JobSettings(gpu="a40", overrides=("trainer.accumulate=2",)),
}


class Settings(JobSettings):
    """Settings by the user of a cluster."""

    study: str = Field(
        "hrrsi",
        pattern=LABEL,
        description="Name of the study; those of other tasks are STUDY-segmentation and so on.",
    )
    image: str = Field(
        f"gitlab-registry.nrp-nautilus.io/rsdl/rsdl:{__version__}",
        pattern=IMAGE,
        description="Image with its tag or digest; made and named by rsdl k8s image --push, or by "
        "GitLab from .gitlab-ci.yml.",
    )
    namespace: str = Field("rsdl", pattern=LABEL, description="Your namespace.")
    bucket: str = Field(
        "rsdl",
        pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$",
        description="S3 bucket of data and runs.",
    )
    weights: str = Field(
        "",
        pattern=r"^((s3://[a-z0-9]|/)[^$\s]+)?$",
        description="Mirror by rsdl models fetch, such as s3://BUCKET/weights; empty: each job "
        "asks the hub.",
    )
    region: Annotated[str, _one_of(REGIONS)] = Field(
        "west", description=f"One of {', '.join(REGIONS)}."
    )
    gpu: GpuName = Field("any-24gb", description=f"One of {', '.join(GPUS)}.")
    gpus: Literal[1, 2, 4, 8] = Field(1, description="GPUs of a pod.")
    nodes: Nodes = Field(1, description=NODES)
    opportunistic: bool = Field(False, description="Any pod may preempt it.")
    avoid_nodes: tuple[str, ...] = Field(
        (), description="Host names of nodes where pods have failed; no pod goes there."
    )
    cuda: Annotated[str, _one_of(WHEELS)] = Field(
        "13",
        description="CUDA of the image: "
        + ", ".join(f"{name} (drivers from {wheel.driver} on)" for name, wheel in WHEELS.items())
        + ".",
    )
    parallelism: int = Field(
        9, ge=1, description="Pods at a time of the study as one Indexed Job (render --indexed)."
    )
    deadline_hours: int = Field(168, ge=1, description="Hours that a job may take, waiting too.")
    predict: PredictSettings = Field(
        PredictSettings(),
        description="What k8s/predict maps: run, scenes, out, parts (pods) and options of rsdl "
        "predict.",
    )
    jobs: dict[str, JobSettings] = Field(JOBS, description="What is otherwise for one config.")

    @model_validator(mode="after")
    def _runs_on_its_cards(self) -> "Settings":
        wheel = WHEELS[self.cuda]
        for name in {self.gpu, *(job.gpu for job in self.jobs.values() if job.gpu)}:
            lost = [card.product for card in GPUS[name].cards if not wheel.runs_on(card.capability)]
            if lost:
                raise ValueError(
                    f"gpu {name} may be a {lost[0]}, for which PyTorch with CUDA {wheel.cuda} has "
                    "no code: choose others, or another cuda"
                )
        return self

    @model_validator(mode="after")
    def _is_of_its_cuda(self) -> "Settings":
        found = re.search(r"-cuda(\d+)(-|$)", self.image_tag)
        if found and found[1] != self.cuda:
            raise ValueError(f"image {self.image} holds CUDA {found[1]}: set cuda={found[1]}, too")
        return self

    @property
    def fewest_nodes(self) -> int:
        """Pods without which nothing is trained."""
        return node_range(self.nodes)[0]

    @property
    def most_nodes(self) -> int:
        """Pods that train at once, at most."""
        return node_range(self.nodes)[1]

    @property
    def is_elastic(self) -> bool:
        """Whether pods come and go while a run trains."""
        return self.fewest_nodes < self.most_nodes

    @property
    def image_name(self) -> str:
        """The image without its tag or digest."""
        return self.image.removesuffix(f":{self.image_tag}").removesuffix(f"@{self.image_digest}")

    @property
    def predict_run(self) -> str:
        """The run whose network maps scenes, as an argument in a pod."""
        run = self.predict.run
        folder = study_name("$RSDL_RUNS", task_of(run))
        return f"'{run}'" if "://" in run else f'"{folder}/{run}"'

    @property
    def image_digest(self) -> str:
        """The digest of the image; empty where it has a tag."""
        return self.image.partition("@")[2]

    @property
    def image_tag(self) -> str:
        """The tag of the image; empty where it has a digest."""
        return "" if self.image_digest else self.image.rpartition(":")[2]

    def of(self, config: str, task: str = FIRST) -> "Settings":
        """Return the settings for one config of a task."""
        own = self.jobs.get(config, JobSettings())
        fields = own.model_dump(exclude_none=True) | {
            "study": study_name(self.study, task),
            "overrides": (*self.overrides, *own.overrides),
        }
        return self.model_copy(update=fields)


def load_settings(folder: Path) -> Settings:
    """Return the settings of a folder of manifests; the defaults where it has none.

    Raises:
        ConfigError: If the file is not YAML.
        ConfigErrors: With every invalid field.
    """
    path = folder / FILE
    try:
        tree = read_yaml(path.read_text())
    except FileNotFoundError:
        return Settings()
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(str(path), f"is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise ConfigError(str(path), "must hold a mapping", "see docs/nautilus.md")
    return _validate(tree, str(path))


def change(settings: Settings, pairs: Sequence[str], configs: Sequence[str] = ()) -> Settings:
    """Return settings with ``KEY=VALUE`` pairs set, for all or for the named configs alone.

    Args:
        settings: The current settings.
        pairs: ``KEY=VALUE``; values are YAML.
        configs: Names of configs; if given, a key must be one that a job may set for itself.

    Raises:
        ConfigError: If a pair is not ``KEY=VALUE``.
        ConfigErrors: With every invalid field.
    """
    tree = _dump(settings)
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set {pair}", "is not KEY=VALUE", "write for example region=east")
        try:
            value = read_yaml(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {key}", f"cannot read the value {text!r}") from error
        rooms = [tree["jobs"].setdefault(name, {}) for name in configs] or [tree]
        if not configs and key.startswith("predict."):
            rooms, key = [tree["predict"]], key.removeprefix("predict.")
        elif not configs and key == "predict" and isinstance(value, dict):
            value = tree["predict"] | value
        for room in rooms:
            room[key] = value
    return _validate(tree, "--set")


def to_yaml(settings: Settings) -> str:
    """Return ``settings.yaml`` with a comment on each field."""
    tree = _dump(settings)
    jobs = tree.pop("jobs")
    lines = [
        "# What you set, in this one place; then write the manifests anew: rsdl k8s render",
        "# Or do both at once: rsdl k8s render --set bucket=mine --set region=east",
    ]
    for key, value in tree.items():
        lines += [f"# {Settings.model_fields[key].description}", _line({key: value})]
    lines += [f"# {Settings.model_fields['jobs'].description}", _line({"jobs": jobs})]
    return "\n".join(lines) + "\n"


def _dump(settings: Settings) -> dict[str, Any]:
    """Return plain values, in the order of the fields; for jobs only the fields they set."""
    tree = settings.model_dump(mode="json", exclude={"jobs"})
    jobs = {
        name: job.model_dump(mode="json", exclude_defaults=True)
        for name, job in settings.jobs.items()
    }
    return {name: tree[name] for name in Settings.model_fields if name != "jobs"} | {"jobs": jobs}


def _line(tree: dict[str, Any]) -> str:
    return yaml.safe_dump(tree, sort_keys=False).rstrip()


def _validate(tree: dict[str, Any], where: str) -> Settings:
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        raise ConfigErrors([_explain(each, where) for each in error.errors()]) from error


def _explain(error: Any, where: str) -> ConfigError:  # noqa: ANN401 - pydantic's ErrorDetails
    path = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        rooms: dict[str, type[BaseModel]] = {"jobs": JobSettings, "predict": PredictSettings}
        model = rooms.get(path.partition(".")[0], Settings) if "." in path else Settings
        known = ", ".join(model.model_fields)
        return ConfigError(f"{where}: {path}", "unknown setting", f"known here: {known}")
    message = error["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    return ConfigError(f"{where}: {path}", f"{message}, is {error['input']!r}")

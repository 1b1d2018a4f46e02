"""Render RunConfigs as Kustomize files: pure functions from configs and settings to texts by path.

All jobs share one base; their options are components; the rest of a job follows from its config.
The files are commented templates rather than dumps of objects, since people read them. Users change
``settings.yaml`` only; the rendered files are not to be edited, but overlays may build upon them.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import NamedTuple

from rsdl.cluster.labels import CORE, GROWING, PREFIX, RENDEZVOUS, job_name, plain
from rsdl.cluster.nautilus import (
    GPU_COUNTS,
    GPUS,
    REGIONS,
)
from rsdl.cluster.resources import Sizes, dataset_of, estimate_sizes
from rsdl.cluster.settings import FILE, Settings, to_yaml
from rsdl.cluster.studies import FIRST, STUDIES, study_configs
from rsdl.cluster.template import BANNER, TRAINS, fill
from rsdl.config.run import RunConfig
from rsdl.core.errors import ConfigError
from rsdl.data.sources.catalog import DATASETS as PUBLISHED

CONFIG_BANNER = f"# {BANNER} With all that it extends, and what is otherwise in pods.\n"
# Data sets with a download URL; AID is distributed by hand only, and packed from its local copy.
DATASETS = (*(name for name in ("ucm", "aid", "resisc45") if PUBLISHED[name].url), "quickstart")
BASE_SIZES = Sizes(cpu=4, memory_gib=16, cache_gb=30, cache_gib=34, shm_gib=2, grace_s=120)
PREDICT_SIZES = Sizes(cpu=8, memory_gib=32, cache_gb=100, cache_gib=110, shm_gib=2, grace_s=60)
DATA_SIZES = Sizes(cpu=4, memory_gib=8, cache_gb=10, cache_gib=20, shm_gib=2, grace_s=60)
NVME_GB = 200
# Pod names are labels; Kubernetes appends an index and five letters.
MAX_JOB_NAME = 63 - len("-00-abcde")

# Failed pods allowed for each node of a Job: a pod that loses a peer fails along with it. A pod
# that waits in vain for a peer exits with 75 after RENDEZVOUS_S, which does not count.
BACKOFF = 6
BACKOFF_OF_NODES = 12
RENDEZVOUS_S = 300


class PodConfig(NamedTuple):
    """The config of a job.

    Attributes:
        path: Its file.
        run: The config as loaded in a pod.
        text: The text mounted there, with ``${...}`` unresolved.
    """

    path: str
    run: RunConfig
    text: str


def render_studies(configs: Mapping[str, PodConfig], settings: Settings) -> dict[str, str]:
    """Return every file of ``k8s/``, by path.

    Args:
        configs: The runs of all studies by the names of their files.
        settings: The user's settings.

    Raises:
        ConfigError: If a config does not fit the GPU, or two have the same job name.
    """
    files = {FILE: to_yaml(settings)}
    for task in STUDIES:
        place = "" if task == FIRST else f"studies/{task}/"
        files[f"{place}kustomization.yaml"] = fill(
            "root.yaml",
            settings,
            task=task,
            place=place,
            up="../" * place.count("/"),
            jobs=study_configs(task),
        )
    files |= _render_base(settings) | _render_components(settings) | _render_extras(settings)
    return files | render_jobs(configs, settings)


def render_jobs(configs: Mapping[str, PodConfig], settings: Settings) -> dict[str, str]:
    """Return the files of some jobs only, by their path in ``k8s/``.

    Raises:
        ConfigError: If a config does not fit the GPU, or two have the same job name.
    """
    taken: dict[str, str] = {}
    for name in configs:
        other = taken.setdefault(plain(name), name)
        if other != name:
            raise ConfigError(name, f"has the same job name as {other}", "rename one of the files")
    files = {}
    for name, config in configs.items():
        files[f"jobs/{name}/kustomization.yaml"] = render_job(name, config, settings)
        files[f"jobs/{name}/config.yaml"] = f"{CONFIG_BANNER}{config.text}"
    return files


def render_job(name: str, config: PodConfig, settings: Settings) -> str:
    """Return the Kustomization of one job.

    Args:
        name: Name of the config's file, without ``.yaml``.
        config: The run and its file.
        settings: The user's settings.

    Raises:
        ConfigError: If the config does not fit the GPU, or the job's name is too long.
    """
    run, path = config.run, config.path
    settings = settings.of(name, run.task.name)
    for field, url in (("output", run.output), ("data.url", run.data.url)):
        if "://" not in url and not url.startswith("/"):
            raise ConfigError(
                f"{path}: {field}",
                f"{url} is a folder of one machine, which a pod does not have",
                "write ${oc.env:RSDL_RUNS,runs} or ${oc.env:RSDL_DATA,data}/NAME, or override it "
                f"under jobs in {FILE}",
            )
    job = job_name(settings.study, name)
    longest = f"{job}-{RENDEZVOUS}" if settings.is_elastic else job
    if len(longest) > MAX_JOB_NAME:
        raise ConfigError(
            path,
            f"its job would be called {longest}: {len(longest)} letters, {MAX_JOB_NAME} at most",
            "give the study or the file a shorter name",
        )
    on_cpu = run.trainer.accelerator == "cpu"
    sizes = estimate_sizes(run, settings.model_copy(update={"gpus": 1}) if on_cpu else settings)
    return fill(
        "config.yaml",
        settings,
        name=name,
        path=path,
        job=job,
        is_first=run.task.name == FIRST,
        architecture=run.model.name,
        dataset=dataset_of(run),
        components=_components_of(settings, on_cpu=on_cpu),
        sizes=sizes,
        backoff=BACKOFF_OF_NODES,
        roles=(
            (CORE, settings.fewest_nodes),
            (GROWING, settings.most_nodes - settings.fewest_nodes),
            (RENDEZVOUS, 1),
        ),
    )


def render_indexed(configs: Mapping[str, PodConfig], settings: Settings) -> dict[str, str]:
    """Return the files of one Indexed Job that trains all configs, by their path in ``k8s/``.

    Its pods are identical, so each is as large as the largest config needs.

    Args:
        configs: The runs of the study by the names of their files; an index each, in this order.
        settings: The user's settings.

    Raises:
        ConfigError: If a config has its own kind of pod, or several pods.
    """
    for name, config in configs.items():
        own = settings.of(name)
        for field in ("gpu", "gpus", "nodes", "opportunistic"):
            if getattr(own, field) != getattr(settings, field):
                raise ConfigError(
                    f"{FILE}: jobs.{name}.{field}",
                    "is its own, but pods of an Indexed Job are all alike",
                    "take it out, or render Jobs",
                )
        if settings.most_nodes > 1 or config.run.trainer.accelerator == "cpu":
            raise ConfigError(
                config.path,
                "trains on several nodes, or on the CPU: an index is one pod with a GPU",
                "render it as a Job of its own",
            )
    sizes = [estimate_sizes(config.run, settings.of(name)) for name, config in configs.items()]
    largest = Sizes(*(max(getattr(each, f.name) for each in sizes) for f in fields(Sizes)))
    kustomization = fill(
        "indexed.yaml",
        settings,
        job=job_name(settings.study, "indexed"),
        names=list(configs),
        rounds=-(-len(configs) // settings.parallelism),
        components=["settings", *_components_of(settings, on_cpu=False)],
        sizes=largest,
        backoff=BACKOFF,
    )
    texts = {f"indexed/{name}.yaml": CONFIG_BANNER + each.text for name, each in configs.items()}
    return {"indexed/kustomization.yaml": kustomization} | texts


def fields_of_pods(config: RunConfig, settings: Settings) -> list[str]:
    """Return the config fields that differ in a pod, as ``KEY=VALUE``.

    A pod that requested a GPU must not train without one, and takes pretrained weights from the
    mirror that the settings name.
    """
    fields = [] if config.trainer.accelerator == "cpu" else ["trainer.accelerator=gpu"]
    if config.data.cache != "none":
        fields.append("data.cache.size=${oc.env:RSDL_CACHE_SIZE}")
    if settings.weights and config.model.weights == "pretrained":
        fields.append(f"model.weights={settings.weights}")
    return fields


def _components_of(settings: Settings, *, on_cpu: bool) -> list[str]:
    names = [f"region-{settings.region}"]
    if not on_cpu:
        names.append(f"gpu-{settings.gpu}")
        names += [f"multi-gpu-{settings.gpus}"] * (settings.gpus > 1)
    names += ["multi-node"] * (settings.most_nodes > 1 and not settings.is_elastic)
    return names + ["opportunistic"] * settings.opportunistic


def _render_base(settings: Settings) -> dict[str, str]:
    return {
        "base/kustomization.yaml": fill("base.yaml", settings),
        "base/service-account.yaml": fill("service-account.yaml", settings),
        "base/service.yaml": fill("service.yaml", settings),
        "base/s3-secret.example.yaml": fill("s3-secret.example.yaml", settings),
        "base/job/kustomization.yaml": fill("base-job.yaml", settings),
        "base/job/names.yaml": fill("names.yaml", settings),
        "base/job/job.yaml": fill("job.yaml", settings, sizes=BASE_SIZES, backoff=BACKOFF),
        "base/volumes/kustomization.yaml": fill("volumes.yaml", settings),
        "base/volumes/claims.yaml": fill("claims.yaml", settings),
    }


def _render_components(settings: Settings) -> dict[str, str]:
    resources = list(dict.fromkeys(gpu.resource for gpu in GPUS.values()))
    special = {name: gpu for name, gpu in GPUS.items() if not gpu.products}
    others = f"{PREFIX}/gpu notin ({','.join(special)}),{TRAINS}"
    selectors = [(f"{PREFIX}/gpu={name}", gpu.resource) for name, gpu in special.items()]
    selectors.append((others, "nvidia.com/gpu"))
    files = {}
    for name, gpu in GPUS.items():
        asked = ", ".join(f"{r}: {'1' if r == gpu.resource else None!r}" for r in resources)
        asked = "{" + asked.replace("None", "null").replace("'1'", '"1"') + "}"
        files[f"gpu-{name}"] = fill("gpu.yaml", settings, name=name, gpu=gpu, asked=asked)
    for name, region in REGIONS.items():
        files[f"region-{name}"] = fill("region.yaml", settings, name=name, region=region)
    for count in GPU_COUNTS[1:]:
        files[f"multi-gpu-{count}"] = fill(
            "multi-gpu.yaml", settings, count=count, selectors=selectors
        )
    files["multi-node"] = fill(
        "multi-node.yaml", settings, backoff=BACKOFF_OF_NODES, rendezvous_s=RENDEZVOUS_S
    )
    files["opportunistic"] = fill("opportunistic.yaml", settings)
    files["nvme-cache"] = fill(
        "nvme-cache.yaml", settings, cache_gb=NVME_GB, cache_gib=NVME_GB + 10
    )
    files["settings"] = fill("settings.yaml", settings)
    for name in ("pvc-data", "pvc-runs"):
        files[name] = fill("pvc.yaml", settings, name=name)
    files["elastic-nodes"] = fill("elastic-nodes.yaml", settings, rendezvous_s=RENDEZVOUS_S)
    files["elastic-nodes/growing"] = fill("growing.yaml", settings)
    rendezvous = fill("rendezvous.yaml", settings, backoff=BACKOFF_OF_NODES)
    return {
        **{f"components/{name}/kustomization.yaml": text for name, text in files.items()},
        "components/elastic-nodes/names.yaml": fill("elastic-names.yaml", settings),
        "components/elastic-nodes/rendezvous.yaml": rendezvous,
    }


def _render_extras(settings: Settings) -> dict[str, str]:
    gpu = GPUS[settings.gpu]
    one_pod = settings.model_copy(update={"gpus": 1, "nodes": 1})
    return {
        "data/kustomization.yaml": fill("data.yaml", settings),
        "data/job.yaml": fill(
            "data-job.yaml", settings, sizes=DATA_SIZES, datasets=DATASETS, backoff=BACKOFF
        ),
        "predict/kustomization.yaml": fill(
            "predict.yaml", settings, components=_components_of(one_pod, on_cpu=False)
        ),
        "predict/job.yaml": fill(
            "predict-job.yaml", settings, sizes=PREDICT_SIZES, backoff=BACKOFF
        ),
        "dev/kustomization.yaml": fill("dev.yaml", settings),
        "dev/pod.yaml": fill("dev-pod.yaml", settings, sizes=BASE_SIZES, gpu=gpu),
    }

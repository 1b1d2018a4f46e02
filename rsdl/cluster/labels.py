"""Labels, annotations and names by which rsdl finds its Jobs.

The first six labels are those that Kubernetes recommends; ours share one prefix.
"""

NAME = "app.kubernetes.io/name"
INSTANCE = "app.kubernetes.io/instance"
VERSION = "app.kubernetes.io/version"
COMPONENT = "app.kubernetes.io/component"
PART_OF = "app.kubernetes.io/part-of"
MANAGED_BY = "app.kubernetes.io/managed-by"

# Not a domain: the project owns none, and labels do not need one.
PREFIX = "rsdl"
ARCHITECTURE = f"{PREFIX}/architecture"
DATASET = f"{PREFIX}/dataset"
STUDY = f"{PREFIX}/study"
# Of the Jobs of a run whose number of nodes changes; any other Job has none.
ROLE = f"{PREFIX}/role"

# An annotation: the config that a job trains, by its name in ``configs/``, without ``.yaml``.
CONFIG = f"{PREFIX}/config"
# An annotation of an Indexed Job: the configs of its indexes, in order.
CONFIGS = f"{PREFIX}/configs"

APP = "rsdl"
TRAIN, DATA, DEV = "train", "data", "dev"  # values of COMPONENT
CORE, GROWING, RENDEZVOUS = "core", "growing", "rendezvous"  # values of ROLE


def job_name(study: str, config: str) -> str:
    """Return the name of a study's job: ``resnet50_ucm`` of ``hrrsi`` is ``hrrsi-resnet50-ucm``."""
    return f"{study}-{plain(config)}"


def plain(name: str) -> str:
    """Return a name as Kubernetes allows it: ``resnet50_ucm`` is ``resnet50-ucm``."""
    return name.replace("_", "-").replace(".", "-").lower()

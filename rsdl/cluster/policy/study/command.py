"""What a container trains, read from its command."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from rsdl.cluster.labels import CONFIG
from rsdl.cluster.policy.api.containers import SHELLS
from rsdl.cluster.policy.field import Field
from rsdl.cluster.policy.objects import Pod

PROGRAM = "rsdl"
FOLDER = "configs"  # of the image, in its working directory
WITH_VALUE = ("--nnodes", "--nproc-per-node", "--node-rank", "--rdzv-endpoint", "--rdzv-id")
AS_FIELD = {"--nnodes": "trainer.num_nodes", "--nproc-per-node": "trainer.devices"}


@dataclass(frozen=True, slots=True)
class Training:
    """``rsdl train CONFIG [KEY=VALUE]...`` of a container.

    Attributes:
        container: The container.
        config: The file, as the command names it.
        overrides: ``KEY=VALUE``, those from options included.
        environment: Variables of the container; what is not known beforehand is ``unknown``.
        mounted: The texts of what is trained, by file, if it is mounted from a ConfigMap that is
            here: one, or those of all indexes of a Job.
    """

    container: Field
    config: str
    overrides: tuple[str, ...]
    environment: Mapping[str, str]
    mounted: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The config as it is named in ``configs/``, without ``.yaml``."""
        return PurePosixPath(self.config).stem

    @property
    def place(self) -> Field:
        """Where the command stands."""
        return self.container["args"] if self.container["args"] else self.container["command"]


def find_training(pod: Pod) -> Training | None:
    """Return what a pod trains, or ``None``."""
    for container in pod.containers:
        found = parse_training(pod.words(container))
        if found is not None:
            names = [variable["name"].text for variable in container["env"]]
            told = dict.fromkeys(names, "unknown") | pod.variables(container)
            environment = {name: value for name, value in told.items() if _can_be(name, value)}
            mounted = _find_mounted(pod, container, PurePosixPath(found[0]))
            return Training(container, *found, environment, mounted)
    return None


def parse_training(words: Sequence[str]) -> tuple[str, tuple[str, ...]] | None:
    """Return config and overrides of a command that trains.

    Args:
        words: Command and arguments; a shell's script is looked into.
    """
    if words and words[0].rpartition("/")[2] in SHELLS:
        script = next((word for word in words[1:] if not re.fullmatch(r"[-+]\w+", word)), "")
        try:
            words = list(shlex.shlex(script, posix=True, punctuation_chars=True))
        except ValueError:
            words = script.split()
    for at, word in enumerate(words):
        called = at == 0 or words[at - 1].rpartition("/")[2] == PROGRAM
        if word == "train" and called:
            return _parse_arguments(words[at + 1 :])
    return None


def _find_mounted(pod: Pod, container: Field, config: PurePosixPath) -> dict[str, str]:
    for mount, volume in pod.mounts(container):
        name = volume["configMap"]["name"].text
        if name and config.parent == PurePosixPath(mount["mountPath"].text or "/nowhere"):
            texts = pod.owner.manifest_set.config_map(pod.owner, name)
            # $(INDEX).yaml is a file for each index.
            pattern = r"\d+".join(map(re.escape, re.split(r"\$\(\w+\)", config.name)))
            return {key: text for key, text in texts.items() if re.fullmatch(pattern, key)}
    return {}


def named_config(pod: Pod) -> Field:
    """Return the annotation that says which config a pod's object trains."""
    return pod.owner.root["metadata"]["annotations"][CONFIG]


def _can_be(name: str, value: str) -> bool:
    """Return whether an operating system takes a variable."""
    return bool(name) and "=" not in name and "\0" not in name + value


def _parse_arguments(words: Sequence[str]) -> tuple[str, tuple[str, ...]] | None:
    config, overrides, rest = "", [], list(words)
    while rest:
        word = rest.pop(0)
        if set(word) <= set(";&|"):
            break
        if not word.startswith("-"):
            if config:
                overrides.append(word)
            config = config or word
            continue
        name, equals, value = word.partition("=")
        if not equals and name in WITH_VALUE and rest:
            value = rest.pop(0)
        if name in AS_FIELD:
            overrides.append(f"{AS_FIELD[name]}={value}")
    return (config, tuple(overrides)) if config else None

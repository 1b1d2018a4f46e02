"""The training command of a container."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from rsdl.cluster.labels import CONFIG
from rsdl.cluster.policy.api.containers import SHELLS
from rsdl.cluster.policy.field import Field
from rsdl.cluster.policy.objects import Pod
from rsdl.config.load import write_override

PROGRAM = "rsdl"
FOLDER = "configs"  # in the image's working directory
AS_FIELD = {
    "--nnodes": "trainer.num_nodes", "--nproc-per-node": "trainer.devices", "--fold": "data.fold",
}  # fmt: skip
WITH_VALUE = (*AS_FIELD, "--node-rank", "--rdzv-endpoint", "--rdzv-id")


@dataclass(frozen=True, slots=True)
class Training:
    """``rsdl train CONFIG [KEY=VALUE]...`` of a container.

    Attributes:
        container: The container.
        config: The config file, as the command names it.
        overrides: ``KEY=VALUE`` pairs, including those from options.
        environment: Variables of the container; values not known in advance are ``unknown``.
        mounted: Texts of the config files mounted from a ConfigMap of the set, by file name: one,
            or those of all indexes of a Job.
    """

    container: Field
    config: str
    overrides: tuple[str, ...]
    environment: Mapping[str, str]
    mounted: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The config's name in ``configs/``, without ``.yaml``."""
        return PurePosixPath(self.config).stem

    @property
    def place(self) -> Field:
        """The field that holds the command."""
        return self.container["args"] if self.container["args"] else self.container["command"]


def find_training(pod: Pod) -> Training | None:
    """Return the training of a pod, or ``None``."""
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
    """Return config and overrides of a training command, or ``None``.

    Args:
        words: Command and arguments; the script of a shell is parsed too.
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
            # $(INDEX).yaml matches the file of each index.
            pattern = r"\d+".join(map(re.escape, re.split(r"\$\(\w+\)", config.name)))
            return {key: text for key, text in texts.items() if re.fullmatch(pattern, key)}
    return {}


def named_config(pod: Pod) -> Field:
    """Return the annotation that names the config of a pod's object."""
    return pod.owner.root["metadata"]["annotations"][CONFIG]


def _can_be(name: str, value: str) -> bool:
    """Return whether an operating system accepts a variable."""
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
            overrides.append(write_override(AS_FIELD[name], value))
    return (config, tuple(overrides)) if config else None

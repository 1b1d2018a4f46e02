"""Containers: image, mounts and environment."""

import re
from collections.abc import Iterable, Iterator

from rsdl.cluster.policy.field import Field
from rsdl.cluster.policy.objects import Pod
from rsdl.cluster.policy.syntax import nearest
from rsdl.cluster.policy.violation import Finding, Rule

REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)")
SHELLS = ("sh", "bash", "dash", "ash", "zsh")
SERVICE_VARIABLE = re.compile(r"[A-Z0-9_]+_(SERVICE_HOST|SERVICE_PORT\w*|PORT\w*)")


def check_image(pod: Pod) -> Iterator[Finding]:
    """Yield containers without an image."""
    for container in pod.all_containers:
        image = container["image"]
        if not image.value:
            yield image.violation("is required", "name an image")
        elif image.text != image.text.strip():
            yield image.violation(f"is {image.text!r}, with space around it", "take the space away")


def check_mounts(pod: Pod) -> Iterator[Finding]:
    """Yield mounts of volumes that the pod does not have."""
    known = pod.volumes
    for container in pod.all_containers:
        for mount in container["volumeMounts"]:
            name = mount["name"]
            if name.text and name.text not in known:
                near = nearest(name.text, known)
                remedy = f'did you mean "{near}"?' if near else f"add it to {pod.spec.path}.volumes"
                yield name.violation(f'there is no volume "{name.text}"', remedy)


def check_duplicate_variables(pod: Pod) -> Iterator[Finding]:
    """Yield variables that a container sets twice."""
    for container in pod.all_containers:
        names = (variable["name"] for variable in container["env"])
        yield from _repeated(names, "set already: the last one wins")


def check_expansion(pod: Pod) -> Iterator[Finding]:
    """Yield ``$(NAME)`` that is not expanded, since NAME is not set before it."""
    for container in pod.all_containers:
        names = [variable["name"].text for variable in container["env"]]
        if any(_is_unknown(pod, source) for source in container["envFrom"]):
            continue
        before = set(pod.variables(container)) - set(names)
        for variable in container["env"]:
            yield from _unfilled(variable["value"], before, names)
            before.add(variable["name"].text)
        words = [*container["command"], *container["args"]]
        # In a shell, $(...) is command substitution.
        if not words or words[0].text.rpartition("/")[2] in SHELLS:
            continue
        if pod.job is not None and pod.job["completionMode"].text == "Indexed":
            before.add("JOB_COMPLETION_INDEX")
        for word in words:
            yield from _unfilled(word, before, names)


def _is_unknown(pod: Pod, source: Field) -> bool:
    name = source["configMapRef"]["name"].text
    return not (name and pod.owner.manifest_set.find("ConfigMap", pod.owner, name))


def _unfilled(text: Field, before: set[str], names: list[str]) -> Iterator[Finding]:
    for match in REFERENCE.finditer(text.text):
        name = match[1]
        if name is None or name in before or SERVICE_VARIABLE.fullmatch(name):
            continue
        if name in names:
            yield text.violation(f"$({name}) is set further down, so it stays as it is",
                              f"move {name} up")  # fmt: skip
        else:
            near = nearest(name, names)
            remedy = f"did you mean $({near})?" if near else f"set {name}, or write $$({name})"
            yield text.violation(f"$({name}) is not set, so it stays as it is", remedy)


def _repeated(names: Iterable[Field], what: str) -> Iterator[Finding]:
    seen: set[str] = set()
    for name in names:
        if name.text and name.text in seen:
            yield name.violation(f'"{name.text}" is {what}', "rename or remove one")
        seen.add(name.text)


PODS: tuple[Rule[Pod], ...] = (
    Rule("image", "containers have an image", "error", check_image),
    Rule("mount-without-volume", "what is mounted is a volume of the pod", "error", check_mounts),
    Rule("duplicate-variable", "variables are set once", "warning", check_duplicate_variables),
    Rule("expansion", "$(NAME) names a variable that is set before", "warning", check_expansion),
)  # fmt: skip

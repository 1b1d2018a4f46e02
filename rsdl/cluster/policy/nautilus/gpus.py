"""GPU requests: resource name, number and quota."""

from collections.abc import Iterator

from rsdl.cluster import nautilus
from rsdl.cluster.policy.api.resources import amounts
from rsdl.cluster.policy.api.values import selected_values
from rsdl.cluster.policy.field import Field
from rsdl.cluster.policy.objects import Pod
from rsdl.cluster.policy.quantity import parse_quantity
from rsdl.cluster.policy.syntax import nearest
from rsdl.cluster.policy.violation import Finding, Rule

VENDOR = "nvidia.com/"
OWNERS = {
    product: name for name, products in nautilus.OWN_RESOURCES.items() for product in products
}


def gpu_limits(pod: Pod) -> Iterator[tuple[str, Field, int]]:
    """Yield each GPU request: resource, field and number."""
    for container in pod.containers:
        resources = container["resources"]
        for resource in dict.fromkeys(
            [*resources["limits"].members, *resources["requests"].members]
        ):
            field = resources["limits"][resource] or resources["requests"][resource]
            amount = parse_quantity(field.value)
            if resource.startswith(VENDOR) and amount is not None and amount > 0:
                yield resource, field, int(amount)


def count_gpus(pod: Pod) -> int:
    """Return the number of GPUs of one pod."""
    return sum(number for _, _, number in gpu_limits(pod))


def products(pod: Pod) -> Iterator[Field]:
    """Return the GPU types that a pod selects."""
    return selected_values(pod, nautilus.PRODUCT_LABEL)


def check_resource(pod: Pod) -> Iterator[Finding]:
    """Yield GPU resources that the cluster does not have."""
    known = (nautilus.GPU, *nautilus.OWN_RESOURCES)
    for resource, field in amounts(pod):
        if not resource.startswith(VENDOR) or resource in known:
            continue
        product = find_product(resource.removeprefix(VENDOR))
        owner = OWNERS.get(product or "")
        remedy = f"write {owner or nearest(resource, known, 0.9) or nautilus.GPU}"
        if product is not None and owner is None:
            remedy += f", and node affinity of {nautilus.PRODUCT_LABEL} to {product}"
        yield field.violation(f'"{resource}" is no GPU of the cluster', remedy)


def find_product(word: str) -> str | None:
    """Return the GPU type for part of its name, such as rtx3090."""
    known = (*nautilus.SHARED_PRODUCTS, *OWNERS)
    within = [product for product in known if _letters(word) in _letters(product)]
    return min(within, key=len) if within and _letters(word) else nearest(word, known, 0.7)


def _letters(word: str) -> str:
    return "".join(c for c in word.lower() if c.isalnum())


def check_owner(pod: Pod) -> Iterator[Finding]:
    """Yield GPU types that the requested resource does not provide."""
    resources = {resource for resource, _, _ in gpu_limits(pod)}
    for product in products(pod) if resources else ():
        owner = OWNERS.get(product.text, nautilus.GPU)
        if product.text in (*OWNERS, *nautilus.SHARED_PRODUCTS) and owner not in resources:
            asked = ", ".join(sorted(resources))
            yield product.violation(
                f"{product.text} is asked for as {owner}, not as {asked}",
                f"write {owner} in requests and limits, or choose another type",
            )


def check_product(pod: Pod) -> Iterator[Finding]:
    """Yield unknown GPU types."""
    for product in products(pod):
        if product.text not in (*OWNERS, *nautilus.SHARED_PRODUCTS):
            near = find_product(product.text)
            look = f"see kubectl get nodes -L {nautilus.PRODUCT_LABEL}"
            remedy = f'did you mean "{near}"?' if near else look
            yield product.violation(f'"{product.text}" is no GPU that we know', remedy)


def check_quota(pod: Pod) -> Iterator[Finding]:
    """Yield GPUs whose quota must be granted, unless the pod is opportunistic."""
    if pod.spec["priorityClassName"].text in nautilus.OPPORTUNISTIC:
        return
    asked = [(field, resource) for resource, field, _ in gpu_limits(pod)]
    chosen = [(product, product.text) for product in products(pod)] if asked else []
    # If one of several types needs no grant, the pod can run.
    if not all(_model(name) for _, name in chosen):
        chosen = []
    for field, name in (*asked, *chosen):
        if model := _model(name):
            yield field.violation(
                f"the quota of {model} is zero unless granted",
                ("ask for it, or " if model in nautilus.FORM else "")
                + "write priorityClassName: opportunistic",
            )


def _model(name: str) -> str | None:
    if "mig" in name.lower():
        return None
    return next((model for model in nautilus.GRANTED if model.lower() in name.lower()), None)


def check_node(pod: Pod) -> Iterator[Finding]:
    """Yield pods that request more GPUs than a node has."""
    number = count_gpus(pod)
    if number > nautilus.MAX_POD_GPUS:
        field = next(iter(gpu_limits(pod)))[1]
        problem = f"the pod wants {number} GPUs, a node has {nautilus.MAX_POD_GPUS} at most"
        yield field.violation(problem, "spread them over the pods of an Indexed Job")


def check_plan(pod: Pod) -> Iterator[Finding]:
    """Yield the pods with which the set exceeds the number of GPUs allowed without a plan."""
    here = pod.number * count_gpus(pod)
    if not here:
        return
    before = 0
    for other in pod.owner.manifest_set.pods:
        if other.owner is pod.owner:
            break
        before += other.number * count_gpus(other)
        if before > nautilus.PLANNED_GPUS:
            return
    if before + here > nautilus.PLANNED_GPUS:
        field = next(iter(gpu_limits(pod)))[1]
        problem = f"with it the set holds {before + here} GPUs at once"
        yield field.violation(
            problem,
            f"present a plan first for more than {nautilus.PLANNED_GPUS}, or run fewer at once",
        )


PODS: tuple[Rule[Pod], ...] = (
    Rule("gpu-resource", "GPUs are asked for by names that the cluster has", "error",
         check_resource),
    Rule("gpu-own-resource", "a GPU type is asked for by its own resource name", "error",
         check_owner),
    Rule("gpu-product", "GPU types of node affinity are known", "warning", check_product),
    Rule("gpu-quota", "A100, H100, H200, GH200 by grant, or opportunistic", "warning", check_quota),
    Rule("gpus-of-node", "a pod has at most 8 GPUs", "error", check_node),
    Rule("gpus-at-once", "more than 50 GPUs at once want a plan", "warning", check_plan),
)  # fmt: skip

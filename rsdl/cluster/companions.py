"""The Jobs beside the core of an elastic run: its growing part, and its rendezvous.

They live as long as the core does: made before it, deleted with it, and no run of their own.
"""

from collections.abc import Iterable

from rsdl.cluster.labels import CORE, GROWING, INSTANCE, RENDEZVOUS, ROLE
from rsdl.cluster.objects import Object, conditions_of, holds, labels_of, metadata_of

FINISHED = ("Complete", "SuccessCriteriaMet", "Failed", "FailureTarget")


def is_companion(body: Object) -> bool:
    """Return whether a Job or a pod is of a companion."""
    return labels_of(body).get(ROLE) in (GROWING, RENDEZVOUS)


def companions_of(job: Object, companions: Iterable[Object]) -> list[Object]:
    """Return the companions of a Job; none if it is no core."""
    if labels_of(job).get(ROLE) != CORE:
        return []
    instance = labels_of(job).get(INSTANCE)
    return [each for each in companions if labels_of(each).get(INSTANCE) == instance]


def is_ending(body: Object) -> bool:
    """Return whether a companion is being deleted."""
    return bool(metadata_of(body).get("deletionTimestamp"))


def is_over(body: Object) -> bool:
    """Return whether a companion is of a run that has ended, or is being deleted."""
    conditions = conditions_of(body)
    return is_ending(body) or any(holds(conditions, condition) for condition in FINISHED)

"""Rules and their findings."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from rsdl.cluster.load import Manifest

Severity = Literal["error", "warning", "note"]
Subject = TypeVar("Subject")


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem of one object.

    Attributes:
        field: Path within the object, such as ``spec.backoffLimit``.
        problem: The broken rule and the value that broke it.
        remedy: How to fix it, in the imperative.
    """

    field: str
    problem: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Rule(Generic[Subject]):
    """One rule.

    Attributes:
        id: Its identifier.
        summary: Its requirement, in one line.
        severity: An error is rejected or forbidden; a warning may be intended; a note is no fault.
        check: Yields the findings.
    """

    id: str
    summary: str
    severity: Severity
    check: Callable[[Subject], Iterable[Finding]]


@dataclass(frozen=True, slots=True)
class Violation:
    """A finding and its location.

    Attributes:
        source: The file, or the folder that was built.
        object: The object's name in messages: ``Job/resnet50-ucm``.
        field: Path within the object.
        rule: Identifier of the rule.
        severity: Severity of the rule.
        problem: The broken rule and the value that broke it.
        remedy: How to fix it.
    """

    source: str
    object: str
    field: str
    rule: str
    severity: Severity
    problem: str
    remedy: str


def locate(manifest: Manifest, rule: str, severity: Severity, found: Finding) -> Violation:
    """Return a finding together with the object that it is about."""
    return Violation(
        manifest.source, manifest.title, found.field, rule, severity, found.problem, found.remedy
    )

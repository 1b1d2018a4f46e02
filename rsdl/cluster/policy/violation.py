"""What a rule is, and what it finds."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

Severity = Literal["error", "warning", "note"]
Subject = TypeVar("Subject")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with one object.

    Attributes:
        field: Path within the object, such as ``spec.backoffLimit``.
        problem: The rule that was broken and the value that broke it.
        remedy: What to do about it, as an imperative.
    """

    field: str
    problem: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Rule(Generic[Subject]):
    """One rule.

    Attributes:
        id: What it is called by.
        summary: What it asks for, in one line.
        severity: An error is refused or forbidden; a warning may be meant; a note is no fault.
        check: Yields what breaks the rule.
    """

    id: str
    summary: str
    severity: Severity
    check: Callable[[Subject], Iterable[Finding]]


@dataclass(frozen=True, slots=True)
class Violation:
    """A finding, and where it was made.

    Attributes:
        source: The file, or the folder that was built.
        object: What a message calls the object: ``Job/resnet50-ucm``.
        field: Path within the object.
        rule: Id of the rule.
        severity: That of the rule.
        problem: The rule that was broken and the value that broke it.
        remedy: What to do about it.
    """

    source: str
    object: str
    field: str
    rule: str
    severity: Severity
    problem: str
    remedy: str

"""A value in an object together with its path, safe to access whatever the object's shape.

Manifests are written by hand: any part may be absent or of the wrong type. The schema reports that;
the other rules read such parts as empty.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rsdl.cluster.policy.violation import Finding

PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Field:
    """A part of an object.

    Attributes:
        path: Its path in Kubernetes notation: ``spec.containers[0].limits[nvidia.com/gpu]``.
        value: Its value; ``None`` if absent.
    """

    path: str
    value: Any

    def __getitem__(self, key: str) -> "Field":
        """Return a member of a mapping, present or absent."""
        value = self.value.get(key) if isinstance(self.value, Mapping) else None
        if not PLAIN_KEY.fullmatch(key):
            return Field(f"{self.path}[{key}]", value)
        return Field(f"{self.path}.{key}" if self.path else key, value)

    def __iter__(self) -> Iterator["Field"]:
        """Yield the items of a list."""
        if isinstance(self.value, list):
            yield from (Field(f"{self.path}[{at}]", value) for at, value in enumerate(self.value))

    def __bool__(self) -> bool:
        """Return whether there is a value."""
        return self.value is not None

    @property
    def members(self) -> dict[str, "Field"]:
        """The members of a mapping that have a value."""
        if not isinstance(self.value, Mapping):
            return {}
        found = {str(key): self[str(key)] for key in self.value if isinstance(key, str)}
        return {key: member for key, member in found.items() if member}

    @property
    def text(self) -> str:
        """The value if it is a string, else empty."""
        return self.value if isinstance(self.value, str) else ""

    @property
    def integer(self) -> int | None:
        """The value if it is an integer, else ``None``."""
        whole = isinstance(self.value, int) and not isinstance(self.value, bool)
        return self.value if whole else None

    @property
    def texts(self) -> list[str]:
        """The strings in a list."""
        return [item.text for item in self if isinstance(item.value, str)]

    def violation(self, problem: str, remedy: str) -> Finding:
        """Return a finding about this field."""
        return Finding(self.path, problem, remedy)

"""YAML as people read it: 1:4 is text, as in YAML 1.2; YAML 1.1 has 64 there, to the base of 60."""

import re
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """A safe loader whose integers are decimal."""


_Loader.yaml_implicit_resolvers = {
    first: [each for each in resolvers if not each[0].endswith(":int")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"[-+]?(0|[1-9][0-9]*)$"), list("-+0123456789")
)


def read_yaml(text: str) -> Any:  # noqa: ANN401 - whatever it holds
    """Return the values of a document.

    Raises:
        yaml.YAMLError: If it is not YAML.
    """
    return yaml.load(text, _Loader)

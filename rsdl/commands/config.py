"""``rsdl config``: print the resolved config, or the JSON Schema of configs."""

import json
import sys
from collections.abc import Sequence

from rsdl.config.load import load_config, to_yaml
from rsdl.config.run import json_schema


def show_config(path: str, overrides: Sequence[str]) -> None:
    """Print the resolved config as YAML."""
    sys.stdout.write(to_yaml(load_config(path, overrides)))


def show_schema() -> None:
    """Print the JSON Schema of config files."""
    sys.stdout.write(schema_text())


def schema_text() -> str:
    """Return the schema as it is stored in configs/schema.json."""
    return json.dumps(json_schema(), indent=2) + "\n"

"""``rsdl config``: print the resolved config, the names of configs, or their JSON Schema."""

import json
import sys
from collections.abc import Sequence

from rsdl.config.load import load_config, to_yaml
from rsdl.config.names import list_configs
from rsdl.config.run import json_schema


def show_config(path: str, overrides: Sequence[str]) -> None:
    """Print the resolved config as YAML."""
    sys.stdout.write(to_yaml(load_config(path, overrides)))


def show_list() -> None:
    """Print the name and the file of each config that can be given by name."""
    files = list_configs()
    width = max(map(len, files), default=0)
    sys.stdout.writelines(f"{name:{width}}  {file}\n" for name, file in files.items())


def show_schema() -> None:
    """Print the JSON Schema of config files."""
    sys.stdout.write(schema_text())


def schema_text() -> str:
    """Return the schema as it is stored in configs/schema.json."""
    return json.dumps(json_schema(), indent=2) + "\n"

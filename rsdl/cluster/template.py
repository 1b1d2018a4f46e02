"""The templates of manifests, and what all of them know."""

import json
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from rsdl import __version__
from rsdl.cluster.labels import PREFIX, RENDEZVOUS, ROLE
from rsdl.cluster.nautilus import (
    DRIVER_LABEL,
    GPU_COUNTS,
    HOST_LABEL,
    PRODUCT_LABEL,
    REGION_LABEL,
    REGIONS,
    ZONE_LABEL,
)
from rsdl.cluster.resources import Sizes
from rsdl.cluster.settings import Settings
from rsdl.cluster.wheels import WHEELS

BANNER = "Written by rsdl k8s render; not to be edited."
CONTAINER = "/spec/template/spec/containers/0"
TRAINS = f"{ROLE}!={RENDEZVOUS}"  # a selector of Jobs


def fill(template: str, settings: Settings, **context: object) -> str:
    """Return a file from its template, without empty lines.

    Args:
        template: Its name, without ``.jinja``.
        settings: The user's settings.
        context: What the template is told besides.
    """
    context |= {"settings": settings, "wheel": WHEELS[settings.cuda]}
    text = _environment().get_template(f"{template}.jinja").render(**context)
    return "\n".join(line.rstrip() for line in text.splitlines() if line.strip()) + "\n"


@cache
def _environment() -> Environment:
    # No HTML escaping: the output is YAML, and every value is validated before.
    environment = Environment(
        loader=PackageLoader("rsdl.cluster"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["q"] = json.dumps
    environment.filters["pointer"] = lambda name: name.replace("~", "~0").replace("/", "~1")
    environment.globals |= {
        "banner": BANNER,
        "version": __version__,
        "regions": REGIONS,
        "counts": GPU_COUNTS,
        "container": CONTAINER,
        "prefix": PREFIX,
        "trains": TRAINS,
        "is_fixed": f"!{ROLE}",
        "driver_label": DRIVER_LABEL,
        "host_label": HOST_LABEL,
        "product_label": PRODUCT_LABEL,
        "region_label": REGION_LABEL,
        "zone_label": ZONE_LABEL,
        "quantities": _quantities,
    }
    return environment


def _quantities(sizes: Sizes) -> str:
    return (
        f'{{cpu: "{sizes.cpu}", memory: {sizes.memory_gib}Gi, '
        f"ephemeral-storage: {sizes.ephemeral_gib}Gi}}"
    )

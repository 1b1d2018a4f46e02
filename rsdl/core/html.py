"""Render a template as one self-contained HTML page with inline style and script.

A content security policy allows only rsdl's own style and script, by their hashes, and inline
images. So a value that was not escaped correctly still cannot run as a script.
"""

import base64
import hashlib
import re

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape


def open_templates(package: str) -> Environment:
    """Return the templates in a package's folder ``templates``; they escape what they are given."""
    environment = Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = breakable
    return environment


def read_source(environment: Environment, name: str) -> str:
    """Return a style or a script as it lies among the templates."""
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def render_page(
    environment: Environment, template: str, *, style: str, script: str, **context: object
) -> str:
    """Return a template rendered with ``context``, ``style``, ``script`` and their ``policy``.

    Args:
        environment: The templates.
        template: Name of the page's.
        style: CSS that the page may use.
        script: JavaScript that the page may run.
        context: Values for the template.
    """
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; "
        f"script-src {_hash(script)}; base-uri 'none'; form-action 'none'"
    )
    return environment.get_template(template).render(
        context, style=Markup(style), script=Markup(script), policy=policy
    )


def breakable(name: str) -> Markup:
    """Return an escaped name with line break opportunities after ``_``, ``/``, ``-`` and ``.``."""
    return Markup(re.sub(r"([_/.-])(?=\w)", r"\1<wbr>", str(escape(name))))


def _hash(source: str) -> str:
    digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
    return f"'sha256-{digest}'"

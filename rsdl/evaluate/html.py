"""Render a template as one self-contained HTML page with inline style and script.

A content security policy allows only rsdl's own style and script, by their hashes, and inline
images. So a value that was not escaped correctly still cannot run as a script.
"""

import base64
import hashlib
import re
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from rsdl import __version__
from rsdl.evaluate import formatting as formatting


def render_page(template: str, **context: object) -> str:
    """Return a template rendered with ``context``."""
    environment = _environment()
    style, script = (_source(environment, name) for name in ("page.css", "page.js"))
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; "
        f"script-src {_hash(script)}; base-uri 'none'; form-action 'none'"
    )
    return environment.get_template(template).render(
        context, style=style, script=script, policy=policy, version=__version__
    )


def breakable(name: str) -> Markup:
    """Return an escaped name with line break opportunities after ``_``, ``/``, ``-`` and ``.``."""
    return Markup(re.sub(r"([_/.-])(?=\w)", r"\1<wbr>", str(escape(name))))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("rsdl.evaluate"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["formatting"] = formatting
    environment.filters["breakable"] = breakable
    return environment


def _source(environment: Environment, name: str) -> Markup:
    assert environment.loader is not None
    return Markup(environment.loader.get_source(environment, name)[0])


def _hash(source: str) -> str:
    digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
    return f"'sha256-{digest}'"

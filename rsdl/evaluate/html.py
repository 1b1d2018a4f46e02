"""One self-contained HTML page: templates filled in, style and script inside, nothing fetched.

A content security policy allows exactly the style and the script that rsdl wrote, by their hashes,
and images that are part of the page. So even a text that escaped the escaping could not run.
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
    """Return the page that a template makes of ``context``."""
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
    """Return a name, escaped, that may break after ``_``, ``/``, ``-`` or ``.``."""
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

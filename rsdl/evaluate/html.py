"""The pages of reports: their templates, with the formats of their numbers."""

from functools import cache

from jinja2 import Environment

from rsdl import __version__
from rsdl.core.html import open_templates, read_source
from rsdl.core.html import render_page as render
from rsdl.evaluate import formatting as formatting


def render_page(template: str, **context: object) -> str:
    """Return a template rendered with ``context`` as one HTML page."""
    environment = _environment()
    style, script = (read_source(environment, name) for name in ("page.css", "page.js"))
    return render(environment, template, style=style, script=script, **context)


@cache
def _environment() -> Environment:
    environment = open_templates("rsdl.evaluate")
    environment.globals |= {"formatting": formatting, "version": __version__}
    return environment

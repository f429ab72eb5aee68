"""A page that needs nothing but itself: a template with style and script in it."""

import base64
import hashlib
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from jaxmed.report.figures.style import spell


def render_page(template: str, **context: object) -> str:
    """Fills a template of this package and returns the HTML."""
    templates = files("jaxmed.report") / "templates"
    style, script = (
        (templates / name).read_text("utf-8") for name in ("style.css", "page.js")
    )
    page = _environment().get_template(template)
    # The page's policy lets run no script but this one.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return page.render(
        style=Markup(style), script=Markup(script), script_hash=digest, **context
    )


def _environment() -> Environment:
    # Class names, ids and paths come from users' files: everything is escaped.
    environment = Environment(
        loader=PackageLoader("jaxmed.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = _breakable
    environment.filters["spelled"] = spell
    return environment


def _breakable(name: str) -> Markup:
    """Lets a long_name_like_this break where a reader would break it."""
    return escape(name).replace("_", Markup("_<wbr>"))

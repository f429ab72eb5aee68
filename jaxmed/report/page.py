"""A page that needs nothing but itself: a template, filled, with the style in it."""

from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape


def render_page(template: str, **context: object) -> str:
    """Fills a template of this package and returns the HTML."""
    style = (files("jaxmed.report") / "templates" / "style.css").read_text("utf-8")
    page = _environment().get_template(template)
    return page.render(style=Markup(style), **context)


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
    return environment


def _breakable(name: str) -> Markup:
    """Lets a long_name_like_this break where a reader would break it."""
    return escape(name).replace("_", Markup("_<wbr>"))

"""HTML pages: templates with style and script in them, and embedded pictures."""

import base64
import hashlib
import io
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from PIL import Image, UnidentifiedImageError

from jaxmed.errors import InputError
from jaxmed.report.figures.style import DPI, format_number
from jaxmed.runs.record import Cam


def render_page(template: str, **context: object) -> str:
    """Render a template of this package as HTML."""
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
    environment.filters["formatted"] = format_number
    return environment


def _breakable(name: str) -> Markup:
    """Allow line breaks after the underscores of a name."""
    return escape(name).replace("_", Markup("_<wbr>"))


CSS_DPI = 96
CAM_WIDTH = 448
"""Of an image and its map side by side."""
SAMPLES_WIDTH = 1600
ARRAY_WIDTH = 224
# What libjpeg can write.
LARGEST_JPEG = 65_500


@dataclass(frozen=True, kw_only=True)
class EmbeddedImage:
    """A picture ready for the page.

    Attributes:
        src: a data: address.
        alt: what the picture shows, for those who do not see it.
        width: in CSS pixels.
        height: in CSS pixels.
        caption: written below it.
    """

    src: str
    alt: str
    width: int
    height: int
    caption: str = ""


def embed_figure(png: bytes, alt: str, caption: str = "") -> EmbeddedImage:
    """Embed a figure drawn by this package."""
    with Image.open(io.BytesIO(png)) as image:
        width, height = (round(side * CSS_DPI / DPI) for side in image.size)
    return EmbeddedImage(
        src=_address(png, "png"), alt=alt, width=width, height=height, caption=caption
    )


def embed_file(path: Path, alt: str, width: int, caption: str = "") -> EmbeddedImage:
    """Embed an image file, at most `width` pixels wide.

    Raises:
        InputError: the file is not an image.
    """
    data, mime, (width, height) = _shrink(path, width)
    return EmbeddedImage(
        src=_address(data, mime), alt=alt, width=width, height=height, caption=caption
    )


def embed_samples(path: Path) -> EmbeddedImage:
    """Embed the grid of sample images, shrunk where it is very large."""
    alt = "Sample images of the training split, by class."
    return embed_file(path, alt, SAMPLES_WIDTH)


def embed_array(pixels: np.ndarray, alt: str, caption: str = "") -> EmbeddedImage:
    """Embed an image, uint8 (h, w, 1 or 3), about `ARRAY_WIDTH` pixels wide.

    A small one is enlarged by a whole number, so that its pixels stay visible.
    """
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    if image.width > ARRAY_WIDTH:
        size = ARRAY_WIDTH, max(1, round(image.height * ARRAY_WIDTH / image.width))
        image = image.resize(size, Image.Resampling.LANCZOS)
    else:
        times = ARRAY_WIDTH // image.width
        size = image.width * times, image.height * times
        image = image.resize(size, Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    address = _address(buffer.getvalue(), "png")
    width, height = size
    return EmbeddedImage(
        src=address, alt=alt, width=width, height=height, caption=caption
    )


def embed_cam(cam: Cam) -> EmbeddedImage:
    """Embed an image and its saliency map side by side.

    Raises:
        InputError: the file is not an image.
    """
    data, mime, (width, height) = _shrink(cam.path, CAM_WIDTH, photo=True)
    alt = (
        f"Test image {cam.id}, true {cam.true}, predicted {cam.predicted}: the image "
        "and its map."
    )
    return EmbeddedImage(src=_address(data, mime), alt=alt, width=width, height=height)


def _shrink(
    path: Path, width: int, *, photo: bool = False
) -> tuple[bytes, str, tuple[int, int]]:
    """Read an image, at most `width` pixels wide; as JPEG where that is worth it."""
    try:
        image = Image.open(path)
        image.load()
    except (UnidentifiedImageError, OSError) as error:
        raise InputError(f"{path} is not an image that can be read.") from error
    if image.width > width:
        size = width, max(1, round(image.height * width / image.width))
        image = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    if image.height > LARGEST_JPEG:
        image = image.resize(
            (max(1, image.width * LARGEST_JPEG // image.height), LARGEST_JPEG)
        )
    if photo or image.width * image.height > 500_000:
        image.convert("RGB").save(buffer, "JPEG", quality=86, optimize=True)
        return buffer.getvalue(), "jpeg", image.size
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue(), "png", image.size


def _address(data: bytes, mime: str) -> str:
    return f"data:image/{mime};base64,{base64.b64encode(data).decode('ascii')}"

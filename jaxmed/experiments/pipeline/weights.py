"""Starting weights of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxmed.errors import InputError, unknown
from jaxmed.image_stats import Scale
from jaxmed.runs.layout import CONFIG
from jaxmed.runs.trained_model import check_trained
from jaxmed.runtime.files import hash_arrays

if TYPE_CHECKING:
    from jaxmed.models.classifier import Classifier

RUN = "run:"
FILE = "file:"
HUB = "hf:"
NAMES = ("none", "imagenet", "IMAGENET1K_V1", "IMAGENET1K_V2", "IMAGENET1K_FEATURES")


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where a run's weights came from.

    Attributes:
        name: as the recipe says it.
        fingerprint: SHA-256 (hex) of what was loaded; None for random weights.
        note: sentences for the log.
        normalization: what images are normalized by, and why, in words.
    """

    name: str
    fingerprint: str | None
    note: str
    normalization: str


def check_weights(weights: str) -> None:
    """Check the form of `model.weights`.

    Raises:
        InputError: it is none of the forms.
    """
    if weights in (RUN, FILE, HUB):
        expected = "owner/name" if weights == HUB else "a path"
        raise InputError(f"model.weights: {expected} must follow {weights!r}.")
    if weights not in NAMES and not weights.startswith((RUN, FILE, HUB)):
        forms = (f"{FILE}PATH", f"{HUB}owner/name", f"{RUN}FOLDER")
        raise unknown("weights", weights, (*NAMES, *forms))


def adapts_stem(weights: str) -> bool:
    """Tell whether weights are of an RGB network, whatever the model takes."""
    return weights != "none" and not weights.startswith(RUN)


def check_classes(weights: str, theirs: Sequence[str], ours: Sequence[str]) -> None:
    """Check that a head may be kept: that its logits mean the same classes.

    Raises:
        InputError: they do not.
    """
    if tuple(theirs) != tuple(ours):
        raise InputError(
            f"model.keep_head: the classes of {weights} are {', '.join(theirs)}, and "
            f"here they are {', '.join(ours)}. They must be the same, in the same "
            "order."
        )


def load_start(
    model: "Classifier",
    weights: str,
    out: Path,
    *,
    stem: str = "sum",
    keep_head: Sequence[str] | None = None,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
) -> Start:
    """Fill a fresh model's backbone; its head stays as it is, unless it is kept.

    Args:
        model: changed in place, its `mean` and `std` too, where they are given, or
            it is known what the weights want.
        weights: see `ModelConfig.weights`.
        out: the folder where `run:` is looked for first.
        stem: see `jaxmed_convert.initialize`.
        keep_head: the names of the model's classes, to take a run's head too.
        mean, std: of the recipe, empty for what the weights want.

    Raises:
        InputError: there are no such weights, or they are of another architecture.
    """
    check_weights(weights)
    if weights == "none":
        fingerprint, note = None, "All weights are random."
        reason = f"the default of {model.architecture}"
    elif weights.startswith(RUN):
        folder = find_run(weights, out)
        fingerprint, note = _from_run(model, weights, folder, keep_head)
        reason = f"as in {weights}"
    else:
        import jaxmed_convert

        loaded = jaxmed_convert.initialize(model, weights, stem=stem)
        fingerprint, note = loaded.fingerprint, loaded.message
        reason = loaded.scale_reason
    if given := [name for name, v in (("mean", mean), ("std", std)) if v]:
        model.mean, model.std = tuple(mean or model.mean), tuple(std or model.std)
        reason = " and ".join(f"model.{name}" for name in given) + " of the recipe"
    normalization = Scale(model.mean, model.std).describe(reason)
    return Start(
        name=weights,
        fingerprint=fingerprint,
        note=f"{note} Images are normalized by {normalization}.",
        normalization=normalization,
    )


def find_run(weights: str, out: Path) -> Path:
    """Return the finished run folder that "run:FOLDER" names.

    Raises:
        InputError: there is none, neither below `out` nor from the current folder.
    """
    name = weights.removeprefix(RUN)
    candidates = [out / name, Path(name)]
    folder = next(
        (candidate for candidate in candidates if (candidate / CONFIG).is_file()), None
    )
    if folder is None:
        tried = " and ".join(str(candidate) for candidate in dict.fromkeys(candidates))
        raise InputError(
            f"weights {weights!r}: there is no run there; looked at {tried}."
        )
    try:
        check_trained(folder)
    except InputError as error:
        raise InputError(f"weights {weights!r}: {error}") from error
    return folder


def _from_run(
    model: "Classifier", weights: str, folder: Path, keep_head: Sequence[str] | None
) -> tuple[str, str]:
    """Load a run's weights, and return their fingerprint and a sentence."""
    from jaxmed.models import parameters
    from jaxmed.runs.trained_model import read_trained_model

    trained = read_trained_model(folder)
    for name, other, value in (
        ("backbone", trained.model.architecture, model.architecture),
        ("in_channels", trained.model.in_channels, model.in_channels),
        ("pool", trained.model.pool, model.pool),
    ):
        if other != value:
            raise InputError(
                f"weights {weights!r}: {folder} was trained with model.{name} {other}, "
                f"and model.{name} is {value}; they must be the same."
            )
    theirs, parts = parameters.split(trained.model), parameters.split(model)
    arrays, initial = theirs.params | theirs.stats, parts.params | parts.stats
    loaded = {p: array for p, array in arrays.items() if p.startswith("backbone.")}
    head = "the head is fresh"
    if keep_head is not None:
        check_classes(weights, trained.class_names, keep_head)
        if wrong := _mismatched(arrays, initial):
            raise InputError(
                f"model.keep_head: {folder} has another head ({', '.join(wrong)}). Set "
                "model.head, model.hidden_features and model.single_logit as there."
            )
        loaded, head = arrays, "so does its head"
    parameters.update(model, loaded)
    model.mean, model.std = trained.model.mean, trained.model.std
    epoch = trained.best.get("epoch")
    return hash_arrays(loaded), (
        f"Backbone {model.architecture} starts from {folder}"
        f"{f', epoch {epoch}' if epoch else ''}; {head}."
    )


def _mismatched(arrays: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """Return the names of arrays that only one has, or that differ in shape."""
    return sorted(arrays.keys() ^ expected.keys()) + [
        path
        for path, array in expected.items()
        if path in arrays and np.shape(array) != np.shape(arrays[path])
    ]

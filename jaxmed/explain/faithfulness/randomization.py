"""Model randomization: the dependence of maps on what the model has learned.

Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018, section 3: the weights
are made random from the head down, one stage after the other, and each time the map is
compared with the trained model's. A map that stays alike shows the image, not the
model.
"""

from typing import Any, NamedTuple

import numpy as np
from flax import nnx
from jax.typing import ArrayLike
from scipy.ndimage import uniform_filter
from scipy.stats import rankdata

from jaxmed.explain.explanation import explain
from jaxmed.explain.network import checked_images, explained_classes
from jaxmed.models.classifier import Classifier
from jaxmed.models.parameters import load, split
from jaxmed.models.registry import create_model


class Randomization(NamedTuple):
    """How alike maps are to those of the trained model.

    Attributes:
        stages: up to which, from the head down, weights are random, (s,).
        rank_correlation: Spearman's, float (n, s). NaN where a map is flat.
        similarity: SSIM, float (n, s).
    """

    stages: tuple[str, ...]
    rank_correlation: np.ndarray
    similarity: np.ndarray


def randomize(
    model: Classifier,
    images: ArrayLike,
    classes: ArrayLike | None = None,
    *,
    seed: int = 0,
    batch_size: int = 32,
    **settings: Any,
) -> Randomization:
    """Explain the same classes again with more and more random weights.

    Args:
        model: trained; not changed.
        images, classes: see `explain`. None are the trained model's predictions.
        seed: of the random weights, drawn as a fresh model's are.
        batch_size: images at a time.
        **settings: method, layer and options of `explain`.

    Raises:
        InputError: what `explain` refuses.
    """
    images = checked_images(images)
    classes = explained_classes(model, images, classes, batch_size)
    arrays, copy = _arrays(model), nnx.clone(model)
    fresh = _arrays(_fresh(model, seed))

    def maps() -> np.ndarray:
        return explain(copy, images, classes, batch_size=batch_size, **settings).maps

    trained, correlations, similarities = maps(), [], []
    stages = tuple(reversed(model.stages))
    for stage in stages:
        inside = tuple(f"{path}." for path in model.stages[stage])
        arrays |= {p: a for p, a in fresh.items() if f"{p}.".startswith(inside)}
        load(copy, arrays)
        pairs = list(zip(trained, maps(), strict=True))
        correlations.append([rank_correlation(a, b) for a, b in pairs])
        similarities.append([structural_similarity(a, b) for a, b in pairs])
    return Randomization(stages, np.array(correlations).T, np.array(similarities).T)


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Return Spearman's correlation of two maps; NaN if one is flat."""
    a, b = (rankdata(np.float64(m)) - (m.size + 1) / 2 for m in (a, b))
    norm = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / norm) if norm > 0 else float("nan")


def structural_similarity(a: np.ndarray, b: np.ndarray, *, window: int = 7) -> float:
    """Return the SSIM of two maps (h, w) within [0, 1].

    Wang et al., "Image Quality Assessment: From Error Visibility to Structural
    Similarity", IEEE TIP 2004, eq. 13, over squares of `window` pixels, as
    scikit-image computes it by default: unbiased, and without squares over the border.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)

    def mean(values: np.ndarray) -> np.ndarray:
        return uniform_filter(values, window)

    unbiased = window**2 / (window**2 - 1)
    mean_a, mean_b = mean(a), mean(b)
    var_a = unbiased * (mean(a * a) - mean_a**2)
    var_b = unbiased * (mean(b * b) - mean_b**2)
    cov = unbiased * (mean(a * b) - mean_a * mean_b)
    small, smaller = 0.01**2, 0.03**2
    ratio = (2 * mean_a * mean_b + small) * (2 * cov + smaller)
    ratio /= (mean_a**2 + mean_b**2 + small) * (var_a + var_b + smaller)
    border = window // 2
    return float(
        ratio[border : a.shape[0] - border, border : a.shape[1] - border].mean()
    )


def _arrays(model: Classifier) -> dict[str, Any]:
    _, params, stats = split(model)
    return params | stats


def _fresh(model: Classifier, seed: int) -> Classifier:
    hidden = model.head.hidden
    return create_model(
        model.architecture,
        num_classes=model.head.out.out_features,
        in_channels=model.in_channels,
        head=model.head.kind,
        hidden_features=hidden.out_features if hidden is not None else 1,
        pool=model.pool,
        seed=seed,
    )

"""Faithfulness of a saliency method to a model, measured on images.

Every measure of a map is also taken of a random map: noise of the map's own
resolution, enlarged in the same way. A method is worth its pictures where it does
better than that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxmed.errors import InputError
from jaxmed.evaluation.intervals.bootstrap import Bootstrap, Units
from jaxmed.evaluation.intervals.estimate import Estimate, Undefined, as_estimate
from jaxmed.explain.explanation import explain, finish
from jaxmed.explain.faithfulness.insertion_deletion import deletion, insertion
from jaxmed.explain.faithfulness.localization import energy_inside, pointing_game
from jaxmed.explain.faithfulness.randomization import randomize
from jaxmed.explain.faithfulness.road import road
from jaxmed.explain.network import checked_images, explained_classes
from jaxmed.models.classifier import Classifier

# pytorch-grad-cam's shares for ROAD.
ROAD_SHARES = (0.2, 0.4, 0.6, 0.8)
# Whether a larger number is a more faithful map.
HIGHER_IS_BETTER = {"insertion": True, "deletion": False, "road": True}


@dataclass(frozen=True, kw_only=True)
class Faithfulness:
    """Measures of a method's faithfulness, on average over images.

    Attributes:
        images: how many were measured.
        degenerate: how many more were left out, as their maps are no evidence.
        metrics: numbers with 95 % intervals over images, {"value", "ci_low",
            "ci_high"}, by name: "insertion" and "deletion", the areas under the curves;
            "road"; each of them also "..._random", of random maps, and "..._gain", how
            much better the maps are than those, image by image, which is above 0 if
            they are. "rank_correlation" and "similarity" (SSIM) compare the maps with
            those of the model with all its weights random, and should be low. With
            masks "pointing_game" and "energy_inside".
        shares: of the pixels changed, (s + 1,), 0 to 1.
        curves: the mean probability of the class at these shares, float (s + 1,), by
            the names "insertion", "insertion_random", "deletion", "deletion_random".
        stages: up to which, from the head down, weights are random, (t,).
        randomization: the mean "rank_correlation" and "similarity" at these, float
            (t,).
    """

    images: int
    degenerate: int
    metrics: dict[str, Estimate]
    shares: np.ndarray
    curves: dict[str, np.ndarray]
    stages: tuple[str, ...]
    randomization: dict[str, np.ndarray]


def measure_faithfulness(
    model: Classifier,
    images: ArrayLike,
    classes: ArrayLike | None = None,
    *,
    method: str = "grad_cam",
    layer: str | None = None,
    masks: np.ndarray | None = None,
    groups: Sequence[str] | None = None,
    multilabel: bool = False,
    steps: int = 50,
    seed: int = 0,
    batch_size: int = 32,
    **options: Any,
) -> Faithfulness:
    """Measure how faithful a method's maps are to a model.

    Insertion and deletion (Petsiuk et al., BMVC 2018), ROAD (Rong et al., ICML 2022),
    the randomization of the model's weights (Adebayo et al., NeurIPS 2018) and, with
    masks, the pointing game (Zhang et al., ECCV 2016).

    Args:
        model: trained; used in eval mode, not changed.
        images: float32 (n, h, w, c), normalized as for the model. For intervals that
            speak of other images they must be drawn at random.
        classes: int (n,), the classes to explain; None for the predicted ones.
        method, layer, **options: see `explain`.
        masks: bool (n, h, w), where an expert sees the class.
        groups: of each image, such as its patient; images of one group are drawn
            together for the intervals. None: each image is its own.
        multilabel: whether each logit has a sigmoid of its own.
        steps: shares of pixels at which insertion and deletion ask the model.
        seed: of the random maps, random weights, ROAD's noise and the bootstrap.
        batch_size: images at a time.

    Raises:
        InputError: what `explain` refuses; masks or groups that do not fit the images;
            or no map is evidence of anything.

    Examples:
        >>> import numpy as np
        >>> from jaxmed import create_model
        >>> model = create_model("resnet10_narrow", num_classes=2)
        >>> images = np.random.default_rng(0).normal(size=(6, 32, 32, 3))
        >>> found = measure_faithfulness(model, images, layer="layer2", steps=2)
        >>> sorted(found.metrics["insertion_gain"])
        ['ci_high', 'ci_low', 'value']
    """
    # The maps, without those that are no evidence.
    images = checked_images(images)
    classes = explained_classes(model, images, classes, batch_size)
    clusters = _clusters(groups, len(classes))
    if masks is not None and np.shape(masks) != images.shape[:3]:
        raise InputError(
            f"Masks must have the images' shape {images.shape[:3]}, got "
            f"{np.shape(masks)}."
        )
    chosen = {"method": method, "layer": layer, "batch_size": batch_size, **options}
    explanation = explain(model, images, classes, **chosen)
    kept = np.flatnonzero(~explanation.degenerate)
    if not len(kept):
        raise InputError(
            f"None of the {len(classes)} maps is evidence of anything, so that there "
            "is nothing to measure. Take another method, or an earlier layer."
        )
    images, classes, maps = images[kept], classes[kept], explanation.maps[kept]
    random = _random_maps(explanation.raw.shape[1:3], maps.shape, seed)

    # Each measure image by image, of the maps and of the random ones.
    arguments = {"multilabel": multilabel, "batch_size": batch_size}
    values, curves, shares = {}, {}, np.zeros(0)
    for suffix, order in (("", maps), ("_random", random)):
        for name, change in (("insertion", insertion), ("deletion", deletion)):
            result = change(model, images, order, classes, steps=steps, **arguments)
            values[name + suffix], shares = result.areas, result.shares
            curves[name + suffix] = result.probs.mean(axis=0)
        removed = road(
            model, images, order, classes, shares=ROAD_SHARES, seed=seed, **arguments
        )
        values[f"road{suffix}"] = removed.scores
    for name, higher in HIGHER_IS_BETTER.items():
        gain = values[name] - values[f"{name}_random"]
        values[f"{name}_gain"] = gain if higher else -gain
    randomized = randomize(model, images, classes, seed=seed, **chosen)
    by_stage = {
        "rank_correlation": randomized.rank_correlation,
        "similarity": randomized.similarity,
    }
    values |= {name: stages[:, -1] for name, stages in by_stage.items()}
    if masks is not None:
        masks = np.asarray(masks)[kept]
        values["pointing_game"] = pointing_game(maps, masks).astype(float)
        values["energy_inside"] = energy_inside(maps, masks)

    # Means over images, with intervals.
    bootstrap = Bootstrap(seed=seed)
    return Faithfulness(
        images=len(kept),
        degenerate=len(explanation.maps) - len(kept),
        metrics={
            name: mean_estimate(per_image, clusters[kept], bootstrap)
            for name, per_image in values.items()
        },
        shares=shares,
        curves=curves,
        stages=randomized.stages,
        randomization={
            name: np.array([_mean(column) for column in stages.T])
            for name, stages in by_stage.items()
        },
    )


def mean_estimate(
    values: np.ndarray, clusters: np.ndarray, bootstrap: Bootstrap
) -> Estimate:
    """Estimate the mean of values, float (n,), with a percentile interval.

    Args:
        values: NaN are left out.
        clusters: int (n,), the units that are drawn.
        bootstrap: how to resample.
    """
    known = ~np.isnan(values)
    values = np.asarray(values, np.float64)[known]
    if not len(values):
        return as_estimate(Undefined("undefined for every image"), np.zeros(0))
    _, clusters = np.unique(clusters[known], return_inverse=True)
    count = int(clusters.max()) + 1
    units = Units(count, None if count == len(values) else clusters)
    samples = [values @ drawn / drawn.sum(axis=0) for drawn in bootstrap.counts(units)]
    return as_estimate(float(values.mean()), np.concatenate(samples), count)


def _clusters(groups: Sequence[str] | None, count: int) -> np.ndarray:
    """Return the unit of each image that the bootstrap draws, int (n,)."""
    if groups is None:
        return np.arange(count)
    if len(groups) != count:
        raise InputError(f"groups must be {count}, one an image, got {len(groups)}.")
    return np.unique(np.asarray(groups), return_inverse=True)[1]


def _random_maps(
    size: tuple[int, ...], shape: tuple[int, ...], seed: int
) -> np.ndarray:
    """Draw noise of a size (h', w'), enlarged as maps are: float32 (n, h, w)."""
    noise = np.random.default_rng(seed).random((shape[0], *size), np.float32)
    return np.asarray(finish(jnp.asarray(noise), shape[1:]))


def _mean(values: np.ndarray) -> float:
    """Return the mean without NaN; NaN if there is nothing else."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")

"""How far images are from those that a network's BatchNorm statistics describe.

The running statistics of a pretrained network are a fingerprint of the images they were
taken from. Other images have other means and variances at the same places: the shift
that Li et al., "Revisiting Batch Normalization for Practical Domain Adaptation", 2016,
and Schneider et al., "Improving Robustness Against Common Corruptions by Covariate
Shift Adaptation", NeurIPS 2020, undo by taking new statistics. Here it is measured.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike

from jaxmed.data.batching import batches
from jaxmed.data.transforms.preprocess import Preprocessing
from jaxmed.models.classifier import Classifier
from jaxmed.models.layers.normalization import BatchNorm, norm_paths, set_training_norms
from jaxmed.models.parameters import Arrays, dotted, merge, split
from jaxmed.runtime.progress import progress

# Images up to this distance count as similar. Measured with the ImageNet kernels of
# ResNet-18 at 224 pixels (96 pixels in brackets), 128 images each. No complete set of
# ImageNet statistics was at hand, so the two photographs that scikit-learn ships,
# random crops of them, stand for natural images; the distance from both together:
#   the two photographs from each other       0.09  (0.06)
#   chest X-rays, Kermany et al., 224 pixels  0.20  (0.10)
#   `cells`, drawn by jaxmed                  0.45  (0.15)
#   uniform noise                             0.67  (0.56)
#   BreastMNIST, 28 pixels, enlarged          0.94  (0.42)
#   PneumoniaMNIST, 28 pixels, enlarged       1.18  (0.53)
# The X-rays of the two diagnoses are 0.01 apart. The measure sees sharpness and
# contrast more than what is shown: small images that are enlarged lie behind noise.
SIMILAR = 0.1
# Stages from the image up whose layers are compared: a ResNet's stem, layer1, layer2.
EARLY = 3
BATCH_SIZE = 32


def domain_distance(
    model: Classifier, images: np.ndarray, *, preprocessing: Preprocessing
) -> float | None:
    """Measures how far images are from those behind the BatchNorm statistics.

    Args:
        model: with pretrained weights; used in eval mode, not changed.
        images: uint8 (n, h, w, c), n at least 1.
        preprocessing: uint8 images to the model's input.

    Returns:
        At least 0, see `statistics_distance` and `SIMILAR`; None if there is no
        BatchNorm layer in the first stages.
    """
    if not early_norms(model):
        return None
    seen = input_statistics(model, images, preprocessing=preprocessing)
    return statistics_distance(seen, split(model).stats)


def early_norms(model: Classifier) -> tuple[str, ...]:
    """Returns the paths of the BatchNorm layers in the first stages."""
    stages = list(model.stages.values())[:EARLY]
    patterns = [pattern for stage in stages for pattern in stage]
    return tuple(
        path
        for path in norm_paths(model)
        if any(f"{path}.".startswith(f"{pattern}.") for pattern in patterns)
    )


def input_statistics(
    model: Classifier, images: np.ndarray, *, preprocessing: Preprocessing
) -> Arrays:
    """Measures what enters the first BatchNorm layers, all layers in eval mode.

    Args:
        model, images, preprocessing: as for `domain_distance`.

    Returns:
        Means and biased variances over images and space, float32 (c,), by the paths of
        the layers' running ones: "backbone.bn1.mean", "backbone.bn1.var" and so on.
    """
    definition, params, stats = split(model)
    paths, count = early_norms(model), len(images)
    sums: dict[str, tuple[jax.Array, jax.Array]] = {}
    with progress("Comparing images", count, unit="images") as advance:
        for rows, mask in batches(np.arange(count), min(BATCH_SIZE, count)):
            batch = _sums(
                definition, params, stats, images[rows], mask, preprocessing, paths
            )
            sums = jax.tree.map(jnp.add, sums, batch) if sums else batch
            advance(int(mask.sum()))
    seen = {}
    for path, (values, squares) in sums.items():
        mean = seen[f"{path}.mean"] = values / count
        seen[f"{path}.var"] = jnp.maximum(squares / count - mean**2, 0)
    return seen


def statistics_distance(
    seen: Mapping[str, ArrayLike], reference: Mapping[str, ArrayLike]
) -> float:
    """Compares statistics by layer and channel.

    In a layer the median over channels of `divergence` is taken, and of the layers the
    mean. The mean over channels would be that of very few: those for color made a gray
    copy of the two photographs (see `SIMILAR`) lie farther from them than noise does.

    Args:
        seen: as `input_statistics` gives them.
        reference: the same paths, and maybe more.

    Returns:
        At least 0, and 0 for equal statistics; symmetric.
    """
    layers = [path.removesuffix(".mean") for path in seen if path.endswith(".mean")]
    medians = []
    for layer in layers:
        seen_stats = seen[f"{layer}.mean"], seen[f"{layer}.var"]
        reference_stats = reference[f"{layer}.mean"], reference[f"{layer}.var"]
        medians.append(np.median(divergence(*seen_stats, *reference_stats)))
    return float(np.mean(medians))


def divergence(
    mean: ArrayLike,
    var: ArrayLike,
    other_mean: ArrayLike,
    other_var: ArrayLike,
    *,
    epsilon: float = 1e-5,
) -> jax.Array:
    """Computes the symmetrized Kullback-Leibler divergence of Gaussians.

    The mean of KL(p‖q) and KL(q‖p), elementwise (Kullback and Leibler, 1951).

    Args:
        mean, var, other_mean, other_var: of p and of q.
        epsilon: added to the variances, as BatchNorm does.
    """
    p, q = jnp.add(var, epsilon), jnp.add(other_var, epsilon)
    shift = jnp.square(jnp.subtract(mean, other_mean)) * (1 / p + 1 / q)
    return (p / q + q / p - 2 + shift) / 4


class _Observer(nnx.Module):
    """A BatchNorm layer that also keeps what enters it.

    Attributes:
        values, squares: sums over the batch's images of the mean over space of each
            channel, and of its square; (c,).
    """

    def __init__(self, norm: BatchNorm):
        self.norm = norm
        self.values = nnx.Variable(jnp.zeros_like(norm.mean[...]))
        self.squares = nnx.Variable(jnp.zeros_like(norm.mean[...]))

    def __call__(self, x: jax.Array, *, mask: jax.Array) -> jax.Array:
        weights = mask.reshape(-1, 1, 1, 1) / (x.shape[1] * x.shape[2])
        self.values[...] = (x * weights).sum((0, 1, 2))
        self.squares[...] = (jnp.square(x) * weights).sum((0, 1, 2))
        return self.norm(x, mask=mask)


# Compiled, so that the stages above the observed ones, which give nothing that is
# returned, cost nothing.
@partial(jax.jit, static_argnames=("definition", "preprocessing", "paths"))
def _sums(
    definition: Any,
    params: Arrays,
    stats: Arrays,
    images: jax.Array,
    mask: jax.Array,
    preprocessing: Preprocessing,
    paths: tuple[str, ...],
) -> dict[str, tuple[jax.Array, jax.Array]]:
    model = merge(definition, params, stats)
    set_training_norms(model, ())
    observers = {}
    for path, module in list(nnx.iter_modules(model)):
        if isinstance(module, BatchNorm) and dotted(path) in paths:
            observers[dotted(path)] = _Observer(module)
            _replace(model, path, observers[dotted(path)])
    model.features(preprocessing(images), mask=mask)
    return {
        path: (observer.values[...], observer.squares[...])
        for path, observer in observers.items()
    }


def _replace(model: Any, path: tuple[Any, ...], module: nnx.Module) -> None:
    *above, name = path
    for key in above:
        model = model[key] if isinstance(key, int) else getattr(model, key)
    if isinstance(name, int):
        model[name] = module
    else:
        setattr(model, name, module)

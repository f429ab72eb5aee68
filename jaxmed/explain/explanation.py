"""Saliency maps of the evidence for a class, by any method and at any layer."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxmed.explain.activation_maps import principal_maps
from jaxmed.explain.layer_taps import (
    activations_and_gradients,
    check_attention,
    check_layer,
)
from jaxmed.explain.methods import METHODS, Method, find_method
from jaxmed.explain.network import (
    checked_classes,
    checked_images,
    in_batches,
    predicted_classes,
)
from jaxmed.explain.pixel_maps import RawMaps
from jaxmed.models.classifier import Classifier
from jaxmed.models.parameters import Arrays, Parts, split
from jaxmed.models.precision import precision_of


class Explanation(NamedTuple):
    """Saliency maps, and what is known of their soundness.

    Attributes:
        maps: float32 (n, h, w) in [0, 1]: 1 is the strongest evidence for the class.
        raw: float32, signed, as the method's paper has them before any are cut off or
            scaled: (n, h', w') of the layer's size, or (n, h, w) for a method of
            pixels.
        completeness_gap: of integrated gradients, float32 (n,): how far the sum of a
            raw map is from the difference between the class's logit and that of the
            baseline, as a share of it (Sundararajan et al., ICML 2017, section 5, ask
            for at most 0.05). None for other methods.
    """

    maps: np.ndarray
    raw: np.ndarray
    completeness_gap: np.ndarray | None

    @property
    def degenerate(self) -> np.ndarray:
        """Which maps are zero everywhere, and so no evidence: bool (n,).

        Nothing spoke for the class, or everything alike, as on a layer's map of a
        single pixel; or what did is no more than rounding, see `evidence`.
        """
        return (self.maps == 0).all(axis=(1, 2))


def grad_cam(
    model: Classifier,
    images: ArrayLike,
    classes: ArrayLike | None = None,
    **settings: Any,
) -> np.ndarray:
    """Compute Grad-CAM maps, float32 (n, h, w): `explain(...).maps`.

    Examples:
        >>> import numpy as np
        >>> from jaxmed import create_model, grad_cam
        >>> model = create_model("resnet10_narrow", num_classes=3)
        >>> grad_cam(model, np.ones((2, 64, 64, 3), np.float32)).shape
        (2, 64, 64)
    """
    return explain(model, images, classes, method="grad_cam", **settings).maps


def explain(
    model: Classifier,
    images: ArrayLike,
    classes: ArrayLike | None = None,
    *,
    method: str = "grad_cam",
    layer: str | None = None,
    batch_size: int = 32,
    description: str | None = None,
    **options: Any,
) -> Explanation:
    """Compute a saliency map for each image: where the evidence for a class is.

    Evidence against the class is cut off, the rest is scaled to [0, 1] and enlarged
    bilinearly to the image, as pytorch-grad-cam does it.

    Args:
        model: used in eval mode whatever mode its layers are in; not changed.
        images: float32 (n, h, w, c), normalized as for the model.
        classes: int (n,), the class of each image to explain; None explains the one
            that the model predicts, with the largest logit. If the model has a single
            logit, it speaks for class 1, and its negative for class 0.
        method: one of `jaxmed.explain.METHODS`.
        layer: whose map is taken, by torchvision's name, such as "layer3" or
            "layer4.1.conv2" (see `jaxmed.explain.layer_taps`); None is the last feature
            map, or of a vision transformer the norm before the last attention. Methods
            of pixels and of attention take none.
        batch_size: images at a time. Each shape and kind of model compiles once.
        description: shown with the progress; None is the method's name, "" shows none.
        options: of the method; see `jaxmed.explain.pixel_maps`.

    Returns:
        The maps. One is zero everywhere if nothing in the image speaks for the class;
        see `Explanation.degenerate`.

    Raises:
        InputError: no images, classes that the model does not have, an unknown method,
            layer or option, or a method of attention for a model without any.

    Examples:
        Of an image with several labels, each has its map:

        >>> import numpy as np
        >>> from jaxmed import create_model
        >>> model = create_model("resnet10_narrow", num_classes=3)
        >>> images = np.ones((2, 64, 64, 3), np.float32)
        >>> rows, labels = np.nonzero([[1, 0, 1], [0, 1, 0]])
        >>> explanation = explain(model, images[rows], labels, layer="layer3")
        >>> explanation.maps.shape, explanation.raw.shape
        ((3, 64, 64), (3, 4, 4))
    """
    # The arguments, checked.
    definition = find_method(method, layer, options)
    check_attention(model, method)
    images = checked_images(images)
    chosen = checked_classes(classes, model, len(images))
    if classes is None and not definition.of_layer:
        # Other pixels must not change which class is explained.
        chosen = predicted_classes(model, images, batch_size=batch_size)
    check_layer(model, layer, min(images.shape[1:3]))
    parts, least = split(model), _least_evidence(model, definition)
    shape = images.shape[1:3]

    # A batch: raw maps; what of them is evidence, in [0, 1] and of the image's size.
    def compute(images, classes, indices):
        if definition.of_layer:
            raw = _layer_maps(parts, images, classes, layer, method)
        else:
            raw = definition.compute(parts, images, classes, indices, **options)
        return finish(evidence(raw, **least), shape), raw.maps, raw.gap

    title = definition.title if description is None else description
    arrays = (images, chosen, np.arange(len(images)))
    results = in_batches(compute, *arrays, batch_size=batch_size, description=title)
    return Explanation(*results)


def evidence(raw: RawMaps, *, canceled: float, rounding: float) -> jax.Array:
    """Take out the maps that are only the rounding of what they were computed from.

    Before a LayerNorm the gradient is at a right angle to the activations at every
    pixel, so that the products of HiResCAM sum to zero there: what is left is rounding
    and the LayerNorm's epsilon. Scaled to [0, 1], it would look like any other map.

    Args:
        raw: of n images.
        canceled: a map whose largest number is at most this share of the scale is
            left over from a sum that is zero.
        rounding: a map that varies by at most this share of the scale is the same
            everywhere.

    Returns:
        float32 (n, h, w), the raw maps, zero where they are no evidence.
    """
    maps = raw.maps
    highest, lowest = maps.max(axis=(1, 2)), maps.min(axis=(1, 2))
    largest = jnp.maximum(jnp.abs(highest), jnp.abs(lowest))
    sound = largest > canceled * raw.scale
    sound &= highest - lowest > rounding * raw.scale
    return jnp.where(sound[:, None, None], maps, 0)


def _least_evidence(model: Classifier, method: Method) -> dict[str, float]:
    """Return the shares of `evidence`, by the precision of the network's numbers."""
    coarse = precision_of(model) == "bfloat16"
    sums = method.of_layer and not method.principal
    return {
        "canceled": (1e-2 if coarse else 1e-3) if sums else 0.0,
        "rounding": 1e-2 if coarse else 1e-5,
    }


# Keeps a map that is zero everywhere from becoming 0/0; as in pytorch-grad-cam.
EPSILON = 1e-7


@partial(jax.jit, static_argnames="shape")
def finish(maps: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """Cut raw maps off at zero, scale them to [0, 1] and enlarge them to `shape`."""
    maps = _scaled(jax.nn.relu(maps))
    # Half-pixel centers and repeated edges, as cv2's INTER_LINEAR.
    size = (len(maps), *shape)
    return _scaled(jax.image.resize(maps, size, "bilinear", antialias=False))


def _scaled(maps: jax.Array) -> jax.Array:
    maps = maps - maps.min(axis=(1, 2), keepdims=True)
    return maps / (EPSILON + maps.max(axis=(1, 2), keepdims=True))


def _layer_maps(
    parts: Parts, images: jax.Array, classes: jax.Array, layer: str | None, method: str
) -> RawMaps:
    """Compute the maps of a method of `activation_maps`."""
    activations, gradients = _activations(*parts, images, classes, layer)
    shares, sums, scale = _combined(activations, gradients, method)
    if METHODS[method].principal:
        sums = jnp.asarray(principal_maps(np.asarray(shares)))
    return RawMaps(sums, scale)


@partial(jax.jit, static_argnames=("definition", "layer"))
def _activations(
    definition: Any,
    params: Arrays,
    stats: Arrays,
    images: jax.Array,
    classes: jax.Array,
    layer: str | None,
) -> tuple[jax.Array, jax.Array]:
    # Apart from the methods' formulas, so that the network compiles once for all.
    parts = Parts(definition, params, stats)
    return activations_and_gradients(parts, images, classes, layer)


@partial(jax.jit, static_argnames="method")
def _combined(
    activations: jax.Array, gradients: jax.Array, method: str
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Combine to contributions by channel, their sums, and the largest sum of sizes."""
    shares = METHODS[method].compute(activations, gradients)
    scale = jnp.abs(shares).sum(axis=3).max(axis=(1, 2))
    return shares, shares.sum(axis=3), scale

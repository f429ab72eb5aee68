"""Activations of any layer by its name, and the gradient of the score by them.

Names are torchvision's, such as "layer3", "layer4.1.conv2" or "features.28", with or
without "backbone." before them. A layer's map is what the layer itself gives. In torch
that is not always what a hook sees: torchvision's ReLU and its sums of a ResNet work in
place, and write over what a convolution or a BatchNorm has just given. Layers without
parameters (ReLU, pooling) have no module here and so no name. "features" is the map
that is pooled: a DenseNet's includes the ReLU that torchvision applies behind it.

Of vision transformers the names are timm's, such as "blocks.11.norm1", and the tokens
of the patches are laid out as the map that they are.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxmed.errors import InputError, unknown
from jaxmed.explain.methods import METHODS
from jaxmed.explain.network import class_logits, eval_model
from jaxmed.models.backbones.vit import VisionTransformer
from jaxmed.models.classifier import Classifier
from jaxmed.models.parameters import Parts, dotted, split

Through = Callable[[jax.Array], jax.Array]

_BACKBONE = "backbone."
# torchvision's name of all layers before the pooling, in many architectures.
_ALL = "features"
# A module that is called more than once, and never on a map.
_UNNAMED = nnx.Dropout


def default_layer(model: Classifier) -> str | None:
    """Return the layer that is explained unless another is asked for.

    None is the last feature map. What the last block of a vision transformer gives for
    the patches does not reach a class token any more, so theirs is the norm before its
    attention, which pytorch-grad-cam's users take.
    """
    if isinstance(model.backbone, VisionTransformer):
        return f"blocks.{len(model.backbone.blocks) - 1}.norm1"
    return None


def as_map(backbone: Any, outputs: jax.Array, images: jax.Array) -> jax.Array:
    """Lay the tokens of patches, (n, t, c), out as a map (n, h', w', c).

    Args:
        backbone: outputs of another than a vision transformer stay as they are.
        outputs: of one of its layers.
        images: (n, h, w, c), what it saw.
    """
    if not isinstance(backbone, VisionTransformer) or outputs.ndim != 3:
        return outputs
    height, width = (side // backbone.patch for side in images.shape[1:3])
    # Behind the embedding of patches there are no others yet.
    first = backbone.prefix if outputs.shape[1] > height * width else 0
    patches = outputs[:, first : first + height * width]
    return patches.reshape(len(outputs), height, width, outputs.shape[2])


class _Tap(nnx.Module):
    """A module whose output goes through a function."""

    def __init__(self, module: Any, through: Through):
        self.module = module
        self.through = through

    def __call__(self, *args, **kwargs) -> jax.Array:
        return self.through(self.module(*args, **kwargs))


def layer_names(model: Classifier) -> list[str]:
    """Returns the layers that can be named, sorted: "bn1", ..., "layer4.0.conv1"."""
    return sorted(
        dotted(path).removeprefix(_BACKBONE)
        for path, module in nnx.iter_modules(model)
        if len(path) > 1 and path[0] == "backbone" and not isinstance(module, _UNNAMED)
    )


def check_layer(model: Classifier, layer: str | None, image_size: int = 224) -> None:
    """Checks that a layer exists and gives a map.

    Args:
        layer: see `layer_names`; None is `default_layer`.
        image_size: height and width of the images, in pixels.

    Raises:
        InputError: an unknown name, or what the layer gives is behind the pooling.
    """
    if layer is None:
        return
    name, names = layer.removeprefix(_BACKBONE), layer_names(model)
    if name == _ALL and name in names:
        return
    if name not in names:
        # A long list helps nobody: without a near name, the ones of its depth.
        raise unknown(
            "layer", name, [n for n in names if n.count(".") <= name.count(".")]
        )
    shape = (1, image_size, image_size, model.in_channels)
    definition, params, stats = split(model)

    def run(params, stats, images):
        parts = Parts(definition, params, stats)
        outputs = _run(parts, images, layer, lambda output: output)[1]
        return as_map(model.backbone, outputs, images)

    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    shape = jax.eval_shape(run, params, stats, images).shape
    if len(shape) != 4:
        raise InputError(
            f"The layer {layer!r} gives {shape[1:]} numbers an image, and no map. Name "
            "one before the pooling."
        )


def check_attention(model: Classifier, method: str) -> None:
    """Check that a model has what a method of attention is computed from.

    Raises:
        InputError: it is no vision transformer, and the method is of attention.
    """
    transformer = isinstance(model.backbone, VisionTransformer)
    if METHODS[method].of_attention and not transformer:
        raise InputError(
            f"{method} is for vision transformers, and {model.architecture} has no "
            "attention. Take another method, such as grad_cam."
        )


def activations_and_gradients(
    parts: Parts, images: jax.Array, classes: jax.Array, layer: str | None
) -> tuple[jax.Array, jax.Array]:
    """Computes a layer's map and the gradient of the class's logit by it.

    Usable inside jitted code. Only what is behind the layer is differentiated.

    Args:
        parts: of the model; used in eval mode.
        images: float32 (n, h, w, c).
        classes: int (n,); see `class_logits`.
        layer: checked; None is `default_layer`, the map that is pooled.

    Returns:
        Both float32 (n, h', w', c').
    """
    # Images do not depend on each other in eval mode: the gradient of the sum is each
    # image's own.
    model = eval_model(parts)
    layer = layer or default_layer(model)
    if layer is None or layer.removeprefix(_BACKBONE) == _ALL:
        # Weights and maps are sums over it, whatever the network computes in.
        activations = model.features(images).astype(jnp.float32)
        gradients = jax.grad(
            lambda maps: class_logits(model.classify(maps), classes).sum()
        )(activations)
        return activations, gradients

    def score(shift):
        logits, maps = _run(parts, images, layer, lambda y: y + shift)
        return class_logits(logits, classes).sum(), maps

    shape = jax.eval_shape(score, 0.0)[1].shape
    gradients, activations = jax.grad(score, has_aux=True)(jnp.zeros(shape))
    return (
        as_map(model.backbone, activations, images),
        as_map(model.backbone, gradients, images),
    )


def _run(parts: Parts, images: jax.Array, layer: str, change: Through):
    """Computes the logits with a layer's output changed, and that output."""
    model, seen = eval_model(parts), []

    def through(output: jax.Array) -> jax.Array:
        seen.append(change(output))
        return seen[-1]

    _tap(model.backbone, layer.removeprefix(_BACKBONE), through)
    logits = model(images)
    (output,) = seen
    return logits, output


def _tap(backbone: Any, layer: str, through: Through) -> None:
    *path, last = (int(p) if p.isdigit() else p for p in layer.split("."))
    parent = backbone
    for part in path:
        parent = _child(parent, part)
    module = _child(parent, last)
    while not callable(module):
        # A list whose modules its owner calls one by one, torch's nn.Sequential: what
        # it gives is what its last one gives.
        parent, last = module, len(module) - 1
        module = _child(parent, last)
    tap = _Tap(module, through)
    if isinstance(last, int):
        parent[last] = tap
    else:
        setattr(parent, last, tap)


def _child(parent: Any, part: str | int) -> Any:
    return parent[part] if isinstance(part, int) else getattr(parent, part)

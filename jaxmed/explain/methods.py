"""Table of the saliency methods, by name."""

import inspect
from collections.abc import Callable, Mapping
from functools import cached_property
from importlib import import_module
from typing import Any

from jaxmed.errors import InputError, unknown


class Method:
    """A saliency method.

    Attributes:
        title: as papers call it.
        of_layer: whether it explains by a layer's map, and not by the image's pixels or
            the attention of all layers.
        of_attention: whether it is for vision transformers alone.
        principal: whether channels are projected on their first principal component,
            and not summed.
    """

    def __init__(self, title: str, function: str, *, principal: bool = False):
        """Declare a method.

        Args:
            title: as papers call it.
            function: "activation_maps.NAME", "pixel_maps.NAME" or
                "attention_maps.NAME"; loaded on first use, so that a list of the
                methods needs no JAX.
            principal: see the attribute.
        """
        self.title = title
        self.principal = principal
        self._module, _, self._name = function.partition(".")
        self.of_layer = self._module == "activation_maps"
        self.of_attention = self._module == "attention_maps"

    @cached_property
    def compute(self) -> Callable[..., Any]:
        """The function, of `jaxmed.explain.activation_maps` or one of its like."""
        return getattr(import_module(f"jaxmed.explain.{self._module}"), self._name)

    @property
    def options(self) -> dict[str, Any]:
        """The options that can be set, with their defaults."""
        parameters = inspect.signature(self.compute).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


METHODS: dict[str, Method] = {
    "grad_cam": Method("Grad-CAM", "activation_maps.grad_cam"),
    "grad_cam++": Method("Grad-CAM++", "activation_maps.grad_cam_plus_plus"),
    "hires_cam": Method("HiResCAM", "activation_maps.hires_cam"),
    "xgrad_cam": Method("XGradCAM", "activation_maps.xgrad_cam"),
    "layer_cam": Method("LayerCAM", "activation_maps.layer_cam"),
    "eigen_cam": Method("Eigen-CAM", "activation_maps.eigen_cam", principal=True),
    "eigen_grad_cam": Method(
        "Eigen-Grad-CAM", "activation_maps.eigen_grad_cam", principal=True
    ),
    "integrated_gradients": Method(
        "Integrated gradients", "pixel_maps.integrated_gradients"
    ),
    "smooth_grad": Method("SmoothGrad", "pixel_maps.smooth_grad"),
    "occlusion": Method("Occlusion", "pixel_maps.occlusion"),
    "attention_rollout": Method(
        "Attention rollout", "attention_maps.attention_rollout"
    ),
}


_OTHERS = ("image's own pixels", "attention of all blocks")


def find_method(
    name: str, layer: str | None = None, options: Mapping[str, Any] | None = None
) -> Method:
    """Find a method, and check what it is asked.

    Args:
        name: one of `METHODS`.
        layer: None, or the name of a layer; whether the model has it is not checked.
        options: of the method.

    Raises:
        InputError: an unknown method or option, or a layer for a method of pixels.
    """
    if name not in METHODS:
        raise unknown("explanation method", name, METHODS)
    method = METHODS[name]
    if layer is not None and not method.of_layer:
        raise InputError(
            f"{name} explains by the {_OTHERS[method.of_attention]} and takes no "
            f"layer, got {layer!r}. Leave the layer out, or take another method, such "
            "as grad_cam."
        )
    for option in options or {}:
        if not method.options:
            raise InputError(f"{name} has no options, got {option}.")
        if option not in method.options:
            raise unknown(f"option of {name}", option, method.options)
    return method

"""The methods of explanation, by name."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxmed.errors import InputError, unknown
from jaxmed.explain import activation_maps, pixel_maps


class Method(NamedTuple):
    """One way to explain.

    Attributes:
        title: as papers call it.
        compute: a function of `activation_maps` if `of_layer`, or of `pixel_maps`.
        of_layer: whether it explains by a layer's map, and not by the image's pixels.
        principal: whether channels are projected on their first principal component,
            and not summed.
    """

    title: str
    compute: Callable[..., Any]
    of_layer: bool = True
    principal: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """What can be set, with its default."""
        parameters = inspect.signature(self.compute).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


METHODS: dict[str, Method] = {
    "grad_cam": Method("Grad-CAM", activation_maps.grad_cam),
    "grad_cam++": Method("Grad-CAM++", activation_maps.grad_cam_plus_plus),
    "hires_cam": Method("HiResCAM", activation_maps.hires_cam),
    "xgrad_cam": Method("XGradCAM", activation_maps.xgrad_cam),
    "layer_cam": Method("LayerCAM", activation_maps.layer_cam),
    "eigen_cam": Method("Eigen-CAM", activation_maps.eigen_cam, principal=True),
    "eigen_grad_cam": Method(
        "Eigen-Grad-CAM", activation_maps.eigen_grad_cam, principal=True
    ),
    "integrated_gradients": Method(
        "Integrated gradients", pixel_maps.integrated_gradients, of_layer=False
    ),
    "smooth_grad": Method("SmoothGrad", pixel_maps.smooth_grad, of_layer=False),
    "occlusion": Method("Occlusion", pixel_maps.occlusion, of_layer=False),
}


def find_method(
    name: str, layer: str | None = None, options: Mapping[str, Any] | None = None
) -> Method:
    """Finds a method, and checks what it is asked.

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
            f"{name} explains by the image's own pixels and takes no layer, got "
            f"{layer!r}. Leave the layer out, or take another method, such as grad_cam."
        )
    for option in options or {}:
        if not method.options:
            raise InputError(f"{name} has no options, got {option}.")
        if option not in method.options:
            raise unknown(f"option of {name}", option, method.options)
    return method

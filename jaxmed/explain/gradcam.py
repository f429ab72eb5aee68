"""Grad-CAM under its own name."""

from functools import partial

from jaxmed.explain.explain import explain

grad_cam = partial(explain, method="grad_cam")

"""Models without numbers: what an architecture's arrays are called and how large."""

from functools import cache

from flax import nnx

from jaxmed.models.classifier import Classifier
from jaxmed.models.zoo import create_model
from jaxmed_convert.rules import Target, targets


@cache
def outline(architecture: str) -> Classifier:
    """Returns the architecture as an abstract model with a linear head.

    It takes RGB images, has one class, and holds shapes in place of arrays.
    """
    return nnx.eval_shape(lambda: create_model(architecture, num_classes=1))


def backbone_targets(model: Classifier) -> dict[str, Target]:
    """Returns `targets` of the backbone alone."""
    return {
        name: target
        for name, target in targets(model).items()
        if target.path.startswith("backbone.")
    }

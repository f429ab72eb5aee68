"""Names of architectures, and the models they stand for."""

from flax import nnx

from jaxmed.errors import InputError, unknown
from jaxmed.models import resnet
from jaxmed.models.classifier import HEADS, Classifier, Head

# A family is a module with CONFIGURATIONS, by name, and build.
_FAMILIES = (resnet,)
_FAMILY_OF = {name: family for family in _FAMILIES for name in family.CONFIGURATIONS}

ARCHITECTURES = tuple(_FAMILY_OF)


def create_model(
    name: str,
    *,
    num_classes: int,
    in_channels: int = 3,
    head: str = "linear",
    hidden_features: int = 256,
    dropout: float = 0.5,
    seed: int = 0,
) -> Classifier:
    """Builds a classifier with random weights, drawn as torchvision draws them.

    Args:
        name: one of `ARCHITECTURES`: torchvision's name of the architecture.
        num_classes: logits per image, at least 1.
        in_channels: channels of the images, at least 1.
        head: "linear", "dropout" (dropout and linear) or "hidden" (linear, ReLU,
            dropout and linear).
        hidden_features: units of the hidden layer of `head="hidden"`.
        dropout: the probability of dropping a unit, in [0, 1).
        seed: of the initial weights.

    Raises:
        InputError: an unknown name or head, or a number out of its range.

    Example:
        >>> import jax.numpy as jnp
        >>> model = create_model("resnet10_narrow", num_classes=3)
        >>> model(jnp.zeros((2, 96, 96, 3))).shape
        (2, 3)
    """
    if name not in ARCHITECTURES:
        raise unknown("backbone", name, ARCHITECTURES)
    if head not in HEADS:
        raise unknown("head", head, HEADS)
    for what, value in (
        ("num_classes", num_classes),
        ("in_channels", in_channels),
        ("hidden_features", hidden_features),
    ):
        if value < 1:
            raise InputError(f"{what} must be at least 1, got {value}.")
    if not 0 <= dropout < 1:
        raise InputError(f"dropout must be in [0, 1), got {dropout}.")
    rngs = nnx.Rngs(seed)
    backbone = _FAMILY_OF[name].build(name, in_channels=in_channels, rngs=rngs)
    return Classifier(
        name,
        backbone,
        Head(
            head,
            backbone.num_features,
            num_classes,
            hidden_features=hidden_features,
            dropout=dropout,
            rngs=rngs,
        ),
    )

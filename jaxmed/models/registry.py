"""Names of architectures, and the models they stand for."""

from flax import nnx

from jaxmed.errors import InputError, unknown
from jaxmed.models.backbones import (
    convnext,
    densenet,
    efficientnet,
    efficientnet_lite,
    inception,
    mobilenet,
    resnet,
    vgg,
    vit,
)
from jaxmed.models.classifier import HEADS, Classifier, Head
from jaxmed.models.layers.normalization import set_norm_momentum
from jaxmed.models.precision import set_precision

# A family is a module with CONFIGURATIONS, by name, and build; one that can pool in
# more ways than its own has POOLS, and its build takes one.
_FAMILIES = (
    resnet,
    vgg,
    mobilenet,
    densenet,
    efficientnet,
    efficientnet_lite,
    convnext,
    inception,
    vit,
)
_FAMILY_OF = {name: family for family in _FAMILIES for name in family.CONFIGURATIONS}

ARCHITECTURES = tuple(_FAMILY_OF)
# Their names by family, the usual smallest member of each first.
FAMILIES = tuple(tuple(family.CONFIGURATIONS) for family in _FAMILIES)
POOLS = vit.POOLS


def list_models() -> list[str]:
    """List the names that `create_model` takes, family by family.

    Examples:
        >>> "resnet18" in list_models()
        True
    """
    return list(ARCHITECTURES)


def create_model(
    name: str,
    *,
    num_classes: int,
    in_channels: int = 3,
    head: str = "linear",
    hidden_features: int = 256,
    dropout: float = 0.5,
    pool: str = "own",
    norm_momentum: float = 0.0,
    seed: int = 0,
    rngs: nnx.Rngs | None = None,
) -> Classifier:
    """Builds a classifier with random weights, drawn as torchvision draws them.

    Args:
        name: one of `ARCHITECTURES`: torchvision's name of the architecture, if it
            has it.
        num_classes: logits per image, at least 1: one for each class, or a single one
            for a binary task, whose sigmoid is the probability of class 1.
        in_channels: channels of the images, at least 1.
        head: "linear", "dropout" (dropout and linear) or "hidden" (linear, ReLU,
            dropout and linear).
        hidden_features: units of the hidden layer of `head="hidden"`.
        dropout: the probability of dropping a unit in the head, in [0, 1).
        pool: "own", as torchvision's, or "average": the mean over space. They differ
            for VGG, where "average" leaves out the two hidden layers of 4096 units,
            which hold most of its parameters, and for vision transformers, whose own
            is the class token. These alone have two more, the inputs of DINOv2's
            linear classifiers: "class_and_average", and "last_4_and_average", the
            class tokens of the last four blocks and the mean of the patches.
        norm_momentum: the share of a batch's own statistics in an update of the
            running ones of every BatchNorm, torch's momentum, in (0, 1]; 0 for the
            architecture's.
        seed: of the initial weights.
        rngs: draws the initial weights, in place of `seed`.

    Raises:
        InputError: an unknown name, head or pool, a pool that the architecture does not
            have, or a number out of its range.

    Examples:
        >>> import jax.numpy as jnp
        >>> model = create_model("resnet10_narrow", num_classes=3)
        >>> model(jnp.zeros((2, 96, 96, 3))).shape
        (2, 3)
    """
    if name not in ARCHITECTURES:
        raise unknown("backbone", name, ARCHITECTURES)
    if head not in HEADS:
        raise unknown("head", head, HEADS)
    if pool not in POOLS:
        raise unknown("pool", pool, POOLS)
    for argument, value in (
        ("num_classes", num_classes),
        ("in_channels", in_channels),
        ("hidden_features", hidden_features),
    ):
        if value < 1:
            raise InputError(f"{argument} must be at least 1, got {value}.")
    if not 0 <= dropout < 1:
        raise InputError(f"dropout must be in [0, 1), got {dropout}.")
    if not 0 <= norm_momentum <= 1:
        raise InputError(f"norm_momentum must be in [0, 1], got {norm_momentum}.")
    rngs = nnx.Rngs(seed) if rngs is None else rngs
    family, options = _FAMILY_OF[name], {}
    if pool in getattr(family, "POOLS", ()):
        options["pool"] = pool
    elif pool not in ("own", "average"):
        raise InputError(
            f"{name} has no class token, which pool={pool!r} takes: only vision "
            'transformers have. Use "own" or "average".'
        )
    backbone = family.build(name, in_channels=in_channels, rngs=rngs, **options)
    model = Classifier(
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
        pool=options.get("pool", "own"),
        in_channels=in_channels,
    )
    if norm_momentum:
        set_norm_momentum(model, norm_momentum)
    set_precision(model, "float32")
    return model

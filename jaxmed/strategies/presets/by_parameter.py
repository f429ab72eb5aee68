"""Strategies that train one kind of parameter all over the network."""

from typing import Unpack

from flax import nnx

from jaxmed.errors import InputError
from jaxmed.models.classifier import Classifier
from jaxmed.models.layers.normalization import BatchNorm
from jaxmed.models.parameters import dotted, split
from jaxmed.strategies.presets.settings import Settings, make_phase
from jaxmed.strategies.strategy import Strategy


def norm_only(
    model: Classifier,
    *,
    epochs: int = 5,
    learning_rate: float = 1e-3,
    **settings: Unpack[Settings],
) -> Strategy:
    """Trains the head and the scales and biases of the normalization layers.

    Frankle et al., "Training BatchNorm and Only BatchNorm", ICLR 2021; of networks
    without BatchNorm, LayerNorm.

    Args:
        model: whose normalization layers.
        epochs: passes over the training images.
        learning_rate: of all that is trained.
        **settings: see `Settings`.

    Raises:
        InputError: the model has no normalization.
    """
    norms = [
        dotted(path)
        for path, module in nnx.iter_modules(model)
        if isinstance(module, BatchNorm | nnx.LayerNorm)
    ]
    if not norms:
        raise InputError(f"{model.architecture} has no normalization to train.")
    rates = {
        "norms": (tuple(sorted(norms)), learning_rate),
        "head": (("head",), learning_rate),
    }
    phase = make_phase(model, "norms", epochs, rates, settings)
    return Strategy(name="norm_only", phases=(phase,))


def bias_only(
    model: Classifier,
    *,
    epochs: int = 5,
    learning_rate: float = 1e-3,
    **settings: Unpack[Settings],
) -> Strategy:
    """Trains the head and the biases, those of the normalization layers included.

    Cai et al., "TinyTL", NeurIPS 2020, section 3.2; for transformers Ben Zaken et
    al., "BitFit", ACL 2022. A BatchNorm layer of which only the bias is trained keeps
    its statistics.

    Args:
        model: whose biases.
        epochs: passes over the training images.
        learning_rate: of all that is trained.
        **settings: see `Settings`.

    Raises:
        InputError: the backbone has no biases.
    """
    biases = tuple(
        path
        for path in split(model).params
        if path.startswith("backbone.") and path.endswith(".bias")
    )
    if not biases:
        raise InputError(f"{model.architecture} has no biases to train.")
    rates = {"biases": (biases, learning_rate), "head": (("head",), learning_rate)}
    phase = make_phase(model, "biases", epochs, rates, settings)
    return Strategy(name="bias_only", phases=(phase,))

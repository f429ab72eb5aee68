"""Parameters that a strategy adds to a model."""

from typing import Protocol

from flax import nnx

from jaxmed.errors import InputError
from jaxmed.models.classifier import Classifier


class Adapter(Protocol):
    """Adds parameters to a model, and merges what they have learned into its own.

    A frozen dataclass, whose fields decide what is added, together with the model. The
    paths of the model's own parameters stay, and those of what is added are for the
    groups of the strategy's phases to name.
    """

    def add(self, model: Classifier) -> None:
        """Add the parameters in place; at first the model computes what it did."""
        ...

    def merge(self, model: Classifier) -> None:
        """Take them out in place; the model's own parameters then compute the same."""
        ...


def add_adapter(model: Classifier, adapter: Adapter | None) -> None:
    """Add an adapter's parameters in place, unless they are there already.

    Raises:
        InputError: the model has those of another adapter.
    """
    if adapter is None or model.adapter == adapter:
        return
    if model.adapter is not None:
        raise InputError(
            "The model has parameters that another strategy has added. Merge them "
            "first: jaxmed.strategies.merge_adapter(model)."
        )
    adapter.add(model)
    model.adapter = adapter


def with_adapter(model: Classifier, adapter: Adapter | None) -> Classifier:
    """Return a copy with an adapter's parameters; the model itself if it has them."""
    if adapter is None or model.adapter == adapter:
        return model
    copy = nnx.clone(model)
    add_adapter(copy, adapter)
    return copy


def merge_adapter(model: Classifier) -> None:
    """Merge in place what an adapter has learned into the model's own parameters.

    The model is then as `create_model` builds it, and can be saved and exported. A
    model without an adapter stays as it is.

    Examples:
        >>> from jaxmed import create_model
        >>> from jaxmed.strategies import create_strategy
        >>> model = create_model("resnet10_narrow", num_classes=2)
        >>> strategy = create_strategy("lora", model, rank=2)
        >>> add_adapter(model, strategy.adapter)
        >>> merge_adapter(model)
        >>> model.adapter is None
        True
    """
    if model.adapter is not None:
        model.adapter.merge(model)
        model.adapter = None


def merged(model: Classifier) -> Classifier:
    """Return a copy with the adapter merged; the model itself if it has none."""
    if model.adapter is None:
        return model
    copy = nnx.clone(model)
    merge_adapter(copy)
    return copy


def change_class(layer: nnx.Module, cls: type[nnx.Module]) -> None:
    """Make a layer one of another class, which computes otherwise with what it has.

    Its parameters keep their paths, and no code that calls it changes.
    """
    # nnx's own would note it as another attribute.
    object.__setattr__(layer, "__class__", cls)

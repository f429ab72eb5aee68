"""torch's state dict into a jaxmed model, and back."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from flax import nnx

from jaxmed.models import parameters
from jaxmed.models.classifier import Classifier
from jaxmed.strategies.adapter import merged
from jaxmed_convert.mismatch import Differences
from jaxmed_convert.old_names import renamed
from jaxmed_convert.rules import (
    COUNTER,
    LEFT_OUT,
    SWITCHES,
    Target,
    counters,
    left_out,
    targets,
)

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a conversion did; `str` of it is a sentence.

    Attributes:
        architecture: the backbone's name.
        tensors: how many tensors were used.
        numbers: how many numbers they hold together.
        ignored: names of the batch counters that were left out.
        left_out: names of an auxiliary head's tensors, which were left out.
        cast: how many tensors came in another precision than float32, by its name.
    """

    architecture: str
    tensors: int
    numbers: int
    ignored: tuple[str, ...]
    left_out: tuple[str, ...]
    cast: dict[str, int]

    def __str__(self) -> str:
        parts = [
            f"{self.architecture}: {self.tensors} tensors converted "
            f"({self.numbers:,} numbers)"
        ]
        for dtype, count in self.cast.items():
            parts.append(f"{count} of them cast from {dtype} to float32")
        if self.ignored:
            parts.append(f"{len(self.ignored)} {COUNTER} ignored")
        if self.left_out:
            module = LEFT_OUT[self.architecture]
            parts.append(
                f"{len(self.left_out)} tensors of the auxiliary head {module} left out "
                "on purpose"
            )
        return ", ".join(parts) + "."


def from_torch(model: Classifier, state_dict: Mapping[str, Any]) -> Report:
    """Fills a model with the weights of the torch model of the same architecture.

    Args:
        model: changed in place, if everything fits; untouched otherwise.
        state_dict: tensors or NumPy arrays by torchvision's names, head included.
            Other float types than float32 are cast, and the report says so. The
            argument `transform_input` of torchvision's Inception V3 is not in it: the
            model keeps its own; see `jaxmed.models.backbones.inception.TransformInput`.

    Raises:
        InputError: a tensor is missing, unexpected, of another shape, not of a float
            type, or holds NaN or infinity. The message lists all of them, and says
            which architecture the tensors fit best.

    Examples:
        >>> import torchvision
        >>> from jaxmed.models.registry import create_model
        >>> model = create_model("resnet18", num_classes=1000)
        >>> reference = torchvision.models.resnet18()
        >>> from_torch(model, reference.state_dict()).tensors
        102
    """
    arrays, report = convert(model, state_dict, targets(model))
    parameters.load(model, _switches(model) | arrays)
    return report


def to_torch(model: Classifier) -> "dict[str, torch.Tensor]":
    """Return the model's weights as a state dict for torchvision's model.

    It loads with `strict=True` into the torchvision model whose head is an
    `nn.Linear` ("linear"), an `nn.Sequential` of dropout and linear layer ("dropout")
    or one of linear layer, ReLU, dropout and linear layer ("hidden"). The tensors own
    their memory. `num_batches_tracked` is 0 for every BatchNorm. Inception V3's model
    there is `inception_v3(aux_logits=False)`, with the `transform_input` of ours. What
    a strategy has added to the model is merged.
    """
    import torch

    return {n: torch.from_numpy(array) for n, array in to_torch_arrays(model).items()}


def to_torch_arrays(model: Classifier) -> dict[str, np.ndarray]:
    """Return what `to_torch` does as NumPy arrays, which takes no torch."""
    model = merged(model)
    leaves = nnx.to_flat_state(nnx.state(model))
    arrays = {parameters.dotted(path): leaf[...] for path, leaf in leaves}
    model_targets = targets(model)
    state_dict = {}
    for name, target in model_targets.items():
        back = np.argsort(target.axes)
        array = np.asarray(arrays[target.path]).transpose(back)
        state_dict[name] = np.array(array, order="C")
    return state_dict | {
        name: np.zeros((), np.int64) for name in counters(model_targets)
    }


def convert(
    model: Classifier, state_dict: Mapping[str, Any], wanted: Mapping[str, Target]
) -> tuple[dict[str, np.ndarray], Report]:
    """Converts a state dict without touching a model.

    Args:
        model: real or abstract; for the words of the error and the report.
        state_dict: as for `from_torch`.
        wanted: the tensors wanted, a part or all of `targets(model)`.

    Returns:
        float32 arrays by jaxmed's path, which share no memory with the tensors.

    Raises:
        InputError: as for `from_torch`.
    """
    state_dict = renamed(state_dict)
    ignored = tuple(name for name in counters(dict(wanted)) if name in state_dict)
    auxiliary = left_out(model.architecture, state_dict)
    differences = Differences(model, state_dict, wanted, (*ignored, *auxiliary))
    arrays, cast = {}, Counter()
    for name, target in wanted.items():
        if differences.unusable(name):
            continue
        tensor, dtype = _float32(state_dict[name])
        if dtype != "float32":
            cast[dtype] += 1
        if not np.isfinite(tensor).all():
            differences.not_finite.append(name)
        arrays[target.path] = np.array(tensor.transpose(target.axes), order="C")
    differences.raise_if_any()
    report = Report(
        architecture=model.architecture,
        tensors=len(arrays),
        numbers=sum(array.size for array in arrays.values()),
        ignored=ignored,
        left_out=auxiliary,
        cast=dict(cast),
    )
    return arrays, report


def _switches(model: Classifier) -> dict[str, Any]:
    """Returns what no state dict holds, as the model has it; off if it is abstract."""
    leaves = nnx.to_flat_state(nnx.state(model))
    values = {parameters.dotted(path): leaf.get_value() for path, leaf in leaves}
    return {
        path: np.zeros((), np.float32)
        if isinstance(values[path], jax.ShapeDtypeStruct)
        else values[path]
        for path in SWITCHES.get(model.architecture, ())
    }


def _float32(tensor: Any) -> tuple[np.ndarray, str]:
    """Returns the values as a float32 array, and the name of the type they had."""
    dtype = str(tensor.dtype).removeprefix("torch.")
    if not isinstance(tensor, np.ndarray):
        # NumPy has no bfloat16 of its own, so torch does the cast.
        tensor = tensor.detach().cpu().float().numpy()
    return tensor.astype(np.float32, copy=False), dtype

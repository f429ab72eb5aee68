"""One error for everything that differs between a state dict and a model."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from jaxmed.errors import InputError
from jaxmed.models.backbones import vgg, vit
from jaxmed.models.classifier import Classifier
from jaxmed.models.registry import FAMILIES
from jaxmed_convert.abstract_models import backbone_targets, outline
from jaxmed_convert.rules import COUNTER, Target, head_module, left_out
from jaxmed_convert.vit_names import with_timm_names
from jaxmed_convert.weights.imagenet import PUBLISHED

# A share of fitting tensors that makes looking further pointless. Two architectures
# can be as near as 0.94: resnext101_32x8d and resnext101_64x4d.
CLOSE = 0.97


def fit(state_dict: Mapping[str, Any], architecture: str, pool: str = "own") -> float:
    """Returns how well a state dict fits an architecture's backbone.

    Args:
        state_dict: tensors by torch's name.
        architecture, pool: see `Classifier`.

    Returns:
        The share of names that agree in shape, among those that either side has.
    """
    wanted = backbone_targets(outline(architecture, pool))
    head = head_module(architecture, pool) + "."
    names = {
        name
        for name in state_dict
        if not name.startswith(head) and not name.endswith(COUNTER)
    } - set(left_out(architecture, state_dict))
    agree = [
        name
        for name in names & wanted.keys()
        if tuple(state_dict[name].shape) == wanted[name].shape
    ]
    return len(agree) / len(names | wanted.keys())


def best_fit(state_dict: Mapping[str, Any]) -> tuple[str, float]:
    """Returns the architecture that fits best, of all there are, and its `fit`.

    Tracing all architectures would take many seconds. A family shows in its names, and
    within it the nearest in size is tried first: a close fit ends the search.
    """

    def shared(names: tuple[str, ...]) -> float:
        translated, _ = with_timm_names(state_dict, names[0], "own")
        return _names_shared(translated, names[0])

    family = max(FAMILIES, key=shared)
    size = sum(math.prod(tensor.shape) for tensor in state_dict.values())

    def distance(architecture: str) -> float:
        if architecture in vit.CONFIGURATIONS and size:
            settings = vit.CONFIGURATIONS[architecture]
            kernels = 12 * settings["depth"] * settings["width"] ** 2
            return abs(math.log(size / kernels))
        if architecture not in PUBLISHED or not size:
            return math.inf
        return abs(math.log(size / PUBLISHED[architecture].parameters))

    best, best_share = family[0], 0.0
    for architecture in sorted(family, key=distance):
        share = fit(state_dict, architecture)
        if share > best_share:
            best, best_share = architecture, share
        if share >= CLOSE:
            break
    return best, best_share


def _names_shared(state_dict: Mapping[str, Any], architecture: str) -> float:
    wanted = backbone_targets(outline(architecture)).keys()
    return len(wanted & state_dict.keys()) / len(wanted)


NAMES_SHOWN = 3  # names of each kind in the message


class Differences:
    """Finds what differs, and words it.

    Args:
        model: real or abstract.
        state_dict: tensors by torch's name.
        wanted: the tensors wanted.
        ignored: names in the state dict that are known and not wanted.

    Attributes:
        not_finite: names of tensors with NaN or infinity; filled by the caller, who
            looks at the values.
    """

    def __init__(
        self,
        model: Classifier,
        state_dict: Mapping[str, Any],
        wanted: Mapping[str, Target],
        ignored: Collection[str],
    ):
        self._model, self._state_dict, self._wanted = model, state_dict, wanted
        known = wanted.keys() | set(ignored)
        self._unexpected = [name for name in state_dict if name not in known]
        self._missing = [name for name in wanted if name not in state_dict]
        self._misshaped, self._not_float = [], []
        for name in (name for name in wanted if name in state_dict):
            if _shape(state_dict[name]) != wanted[name].shape:
                self._misshaped.append(name)
            if "float" not in str(state_dict[name].dtype):
                self._not_float.append(name)
        self.not_finite: list[str] = []

    def unusable(self, name: str) -> bool:
        """Tells whether the tensor is missing, misshaped or not of a float type."""
        return (
            name in self._missing or name in self._misshaped or name in self._not_float
        )

    def raise_if_any(self) -> None:
        """Raises the one `InputError` if anything differs."""
        parts = [
            _part("missing", self._missing),
            _part("unexpected", self._unexpected),
            _part("of another shape", [self._shapes(n) for n in self._misshaped]),
            _part("not of a float type", self._not_float),
            _part("with NaN or infinite values", self.not_finite),
        ]
        if not any(parts):
            return
        model = self._model
        sentence = (
            f"These weights do not fit {model.architecture} with a {model.head.kind} "
            f"head: {'; '.join(filter(None, parts))}."
        )
        raise InputError(" ".join(filter(None, [sentence, self._advice()])))

    def _shapes(self, name: str) -> str:
        got, expected = _shape(self._state_dict[name]), self._wanted[name].shape
        text = f"{name} is {_times(got)} instead of {_times(expected)}"
        transposed = len(got) > 1 and sorted(got) == sorted(expected)
        return f"{text} and looks transposed" if transposed else text

    def _advice(self) -> str:
        architecture, pool = self._model.architecture, self._model.pool
        model_share = fit(self._state_dict, architecture, pool)
        if model_share < CLOSE:
            best, share = best_fit(self._state_dict)
            if share > max(model_share, 0.5):
                return (
                    f"They fit {best} best: {share:.0%} of its backbone's tensors "
                    "are there with the right shape."
                )
        hidden = architecture in vgg.CONFIGURATIONS and pool == "own"
        if hidden and _begin(self.not_finite, "classifier."):
            return (
                "Only the classifier is not finite: jaxmed_convert.initialize takes "
                'the rest for a model with pool="average".'
            )
        head = head_module(architecture, pool) + "."
        wrong = self._missing + self._unexpected + self._misshaped
        if _begin(wrong, head):
            return (
                "Only the head differs: build the model with the same head and number "
                "of classes, or take the backbone alone with jaxmed_convert.initialize."
            )
        return ""


def _begin(names: Sequence[str], start: str) -> bool:
    return bool(names) and all(name.startswith(start) for name in names)


def _part(problem: str, names: Sequence[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return f"{len(names)} {problem} ({', '.join(names[:NAMES_SHOWN])}{more})"


def _shape(tensor: Any) -> tuple[int, ...]:
    return tuple(tensor.shape)


def _times(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape)) or "a single number"

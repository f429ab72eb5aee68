"""Strategies that train parameters which they add."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Unpack

from flax import nnx

from jaxmed.errors import InputError
from jaxmed.models.backbones.vit import VisionTransformer
from jaxmed.models.classifier import Classifier
from jaxmed.models.layers.lora import (
    ADAPTED,
    PARTS,
    WHOLE,
    LowRank,
    takes_updates,
    updates_of,
)
from jaxmed.models.parameters import dotted
from jaxmed.runtime.annotations import check_fields
from jaxmed.strategies.adapter import change_class, with_adapter
from jaxmed.strategies.presets.settings import Settings, make_phase
from jaxmed.strategies.strategy import Strategy


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Low-rank updates of linear layers and 1×1 convolutions; see `lora`."""

    rank: int
    alpha: float
    dropout: float
    layers: tuple[str, ...]
    seed: int

    def __post_init__(self) -> None:
        check_fields(self, "lora")
        for name, good, expected in (
            ("rank", self.rank >= 1, "at least 1"),
            ("alpha", self.alpha > 0, "above 0"),
            ("dropout", 0 <= self.dropout < 1, "in [0, 1)"),
            ("seed", self.seed >= 0, "at least 0"),
        ):
            if not good:
                got = getattr(self, name)
                raise InputError(f"lora: {name} must be {expected}, got {got}.")

    def add(self, model: Classifier) -> None:
        """Add an update to every chosen layer, or to the chosen parts of it."""
        chosen, rngs = self._choose(model), nnx.Rngs(self.seed)
        for path, layer in _layers(model).items():
            for name in chosen.get(path, ()):
                outputs, start = layer.out_features, 0
                if name != WHOLE:
                    outputs //= len(PARTS)
                    start = outputs * PARTS.index(name)
                update = LowRank(
                    layer.in_features,
                    outputs,
                    self.rank,
                    scale=self.alpha / self.rank,
                    dropout=self.dropout,
                    start=start,
                    rngs=rngs,
                )
                setattr(layer, name, update)
            if path in chosen:
                layer.plain_class = type(layer)
                change_class(layer, ADAPTED[type(layer)])

    def merge(self, model: Classifier) -> None:
        """Put every update into its layer's kernel."""
        for layer in _layers(model).values():
            for name, update in updates_of(layer).items():
                layer.kernel[...] = update.add_to_kernel(layer.kernel[...])
                delattr(layer, name)
            if type(layer) in ADAPTED.values():
                change_class(layer, layer.plain_class)
                del layer.plain_class

    def _choose(self, model: Classifier) -> dict[str, list[str]]:
        """Return the names of the updates of each layer, by the layer's path."""
        known: dict[str, tuple[str, str]] = {}
        for name, layer in _layers(model).items():
            if not takes_updates(layer):
                continue
            known[name] = name, WHOLE
            if name.endswith(".qkv"):
                for part in PARTS:
                    letter = part.removeprefix("lora_")
                    known[f"{name.removesuffix('qkv')}{letter}"] = name, part
        patterns = self.layers
        if not patterns and isinstance(model.backbone, VisionTransformer):
            patterns = ("q", "v")
        chosen: dict[str, list[str]] = {}
        for pattern in patterns or ("*",):
            # "*" is for whole layers.
            of_parts = pattern.rpartition(".")[2] in ("q", "k", "v")
            matches = [
                candidate
                for name, candidate in known.items()
                if fnmatchcase(name, f"*.{pattern}")
                and (candidate[1] == WHOLE or of_parts)
            ]
            if not matches:
                ends = dict.fromkeys(name.rpartition(".")[2] for name in known)
                raise InputError(
                    f"lora: no linear layer or 1×1 convolution of {model.architecture}"
                    f" matches {pattern!r}. Their names end in {', '.join(ends)}."
                )
            for layer, part in matches:
                names = chosen.setdefault(layer, [])
                if part not in names:
                    names.append(part)
        for layer, names in chosen.items():
            if WHOLE in names and len(names) > 1:
                raise InputError(
                    f"lora: {layer} is chosen as a whole and in part. Leave qkv out, "
                    "or q, k and v."
                )
        return chosen


def _layers(model: Classifier) -> dict[str, Any]:
    """Return the backbone's linear layers and convolutions by path."""
    return {
        dotted(path): module
        for path, module in nnx.iter_modules(model)
        if path[:1] == ("backbone",) and isinstance(module, nnx.Linear | nnx.Conv)
    }


def lora(
    model: Classifier,
    *,
    rank: int = 8,
    alpha: float = 16.0,
    dropout: float = 0.0,
    layers: tuple[str, ...] = (),
    seed: int = 0,
    epochs: int = 5,
    learning_rate: float = 1e-3,
    head_learning_rate: float = 1e-3,
    **settings: Unpack[Settings],
) -> Strategy:
    """Trains the head and low-rank updates of kernels, which are frozen themselves.

    Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022. The
    updates are merged into the kernels when a run is finished or a model is saved, so
    that the trained network is as large and as fast as before.

    Args:
        model: to whose backbone the updates are added.
        rank: of an update, at least 1.
        alpha: above 0; updates are multiplied by alpha / rank.
        dropout: of an update's inputs while training, in [0, 1).
        layers: of the backbone, linear or 1×1 convolutions: the ends of their paths, or
            patterns, such as "proj", "fc1" or "layer4.*.conv3"; of attention also the
            parts of its "qkv", "q", "k" and "v". By default "q" and "v", as in the
            paper; without attention all linear layers and 1×1 convolutions.
        seed: of the updates' initial weights.
        epochs: passes over the training images.
        learning_rate, head_learning_rate: of the updates, and of the head.
        **settings: see `Settings`.

    Raises:
        InputError: there is no such layer, or a number is out of its range.

    Examples:
        >>> from jaxmed import create_model
        >>> model = create_model("resnet10_narrow", num_classes=2)
        >>> strategy = lora(model, rank=4)
        >>> [(g["name"], g["parameters"]) for g in strategy.summary(model)[0]["groups"]]
        [('updates', 1344), ('head', 258)]
    """
    adapter = Lora(rank=rank, alpha=alpha, dropout=dropout, layers=layers, seed=seed)
    rates = {
        "updates": (("backbone.*.lora*",), learning_rate),
        "head": (("head",), head_learning_rate),
    }
    adapted = with_adapter(model, adapter)
    phase = make_phase(adapted, "lora", epochs, rates, settings)
    return Strategy(name="lora", phases=(phase,), adapter=adapter)

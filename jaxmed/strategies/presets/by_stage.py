"""Strategies that treat a network's stages differently.

A backbone's stages are named from the image up; the head is the last one. See
`Classifier.stages`.
"""

from typing import Unpack

import jax
import jax.numpy as jnp
from jax.extend.core import Literal

from jaxmed.errors import InputError, unknown
from jaxmed.models.backbones.vit import VisionTransformer
from jaxmed.models.classifier import Classifier
from jaxmed.models.parameters import merge, split
from jaxmed.strategies.presets.settings import (
    Rates,
    Settings,
    backbone_stages,
    grouped_stages,
    make_phase,
    stage_rates,
)
from jaxmed.strategies.strategy import Strategy

# Pixels of a side; large enough for every architecture, a multiple of every patch of
# vision transformers, and nothing is computed.
SIZE = 224


def layers_in_order(model: Classifier) -> list[str]:
    """Returns the module paths of the layers with parameters, in order of use.

    A layer is what holds parameters itself, such as "backbone.layer1.0.conv1". The
    order is read off the traced computation, so it needs no table per architecture;
    parallel branches follow one another.
    """
    definition, params, stats = split(model)
    images = jnp.zeros((1, SIZE, SIZE, model.in_channels))
    weights = params | stats
    traced = jax.make_jaxpr(lambda w: merge(definition, w, {})(images))(weights).jaxpr
    # A dict's leaves come sorted by key.
    waiting = dict(zip(traced.invars, sorted(weights), strict=True))
    order = []
    for equation in traced.eqns:
        for variable in equation.invars:
            if not isinstance(variable, Literal) and variable in waiting:
                order.append(waiting.pop(variable))
    used = [path.rpartition(".")[0] for path in order if path in params]
    return list(dict.fromkeys(used))


ADAMW: Settings = {"optimizer": "adamw", "weight_decay": 1e-4}


def partial(
    model: Classifier,
    *,
    stages: int = 1,
    from_stage: str = "",
    layers: int = 0,
    from_layer: str = "",
    epochs: int = 5,
    learning_rate: float = 1e-4,
    head_learning_rate: float = 1e-3,
    **settings: Unpack[Settings],
) -> Strategy:
    """Trains the head and the last stages or layers; the first ones stay frozen.

    Yosinski et al., "How Transferable Are Features in Deep Neural Networks?", NeurIPS
    2014: early layers are general, late ones belong to their task.

    Args:
        model: whose stages.
        stages: how many of the backbone's last stages to train, from 0 to all.
        from_stage: the first stage to train, by name, in place of a number.
        layers: how many of the backbone's last layers to train, in place of stages. A
            layer is a module with parameters, such as a convolution or a
            normalization. Keras counts layers without parameters, too: what its
            tutorial's fine_tune_at=100 trains of MobileNetV2, from
            block_11_depthwise on, is layers=36, from "features.12.conv.1.0" on.
        from_layer: the first layer to train, such as "features.12.conv.1", and all
            that compute after it.
        epochs: passes over the training images.
        learning_rate: of the stages or layers.
        head_learning_rate: of the head.
        **settings: see `Settings`.

    Raises:
        InputError: there is no such stage or layer, there are not so many, or more
            than one of the four ways to say which is used.

    Examples:
        >>> from jaxmed import create_model
        >>> model = create_model("resnet10_narrow", num_classes=2)
        >>> [group.name for group in partial(model, stages=2).phases[0].groups]
        ['layer3', 'layer4', 'head']
    """
    ways = {
        "stages": stages != 1,
        "from_stage": from_stage,
        "layers": layers,
        "from_layer": from_layer,
    }
    used = [name for name, is_given in ways.items() if is_given]
    if len(used) > 1:
        raise InputError(f"{' and '.join(used)} exclude each other; give one of them.")
    rates: Rates
    if layers or from_layer:
        chosen = _last_layers(model, layers, from_layer)
        rates = {
            "last layers": (chosen, learning_rate),
            "head": (("head",), head_learning_rate),
        }
    else:
        last = dict.fromkeys(_last_stages(model, stages, from_stage), learning_rate)
        rates = stage_rates(model, last | {"head": head_learning_rate})
    phase = make_phase(model, "partial", epochs, rates, settings)
    return Strategy(name="partial", phases=(phase,))


def discriminative(
    model: Classifier,
    *,
    rates: tuple[float, ...] = (1e-5, 1e-5, 1e-4, 1e-4, 1e-3),
    stages_per_group: int = 1,
    epochs: int = 5,
    **settings: Unpack[Settings],
) -> Strategy:
    """Trains each stage at a rate of its own ("discriminative fine-tuning").

    Howard and Ruder, "Universal Language Model Fine-tuning for Text Classification",
    ACL 2018, section 3.2. The default is a chest X-ray tutorial's for ResNet-50; it
    has no rate for the stem, which therefore stays frozen, and the table says so.

    Args:
        model: whose stages.
        rates: for the last stages in order, the head's last. Earlier stages that no
            rate is left for are frozen.
        stages_per_group: stages that share a rate; see `grouped_stages`.
        epochs: passes over the training images.
        **settings: see `Settings`; by default adamw with a weight decay of 1e-4.

    Raises:
        InputError: more rates than stages, or none.
    """
    names = list(grouped_stages(model, stages_per_group))
    if not 1 <= len(rates) <= len(names):
        raise InputError(
            f"rates must be 1 to {len(names)} numbers, for the last of the stages "
            f"{', '.join(names)}; got {len(rates)}."
        )
    chosen = dict(zip(names[-len(rates) :], rates, strict=True))
    groups = stage_rates(model, chosen, stages_per_group)
    phase = make_phase(model, "all", epochs, groups, {**ADAMW, **settings})
    return Strategy(name="discriminative", phases=(phase,))


def layerwise_decay(
    model: Classifier,
    *,
    learning_rate: float = 1e-3,
    decay: float = 0.5,
    stages_per_group: int = 1,
    epochs: int = 5,
    **settings: Unpack[Settings],
) -> Strategy:
    """Trains everything, each stage at `decay` times the rate of the one above it.

    Clark et al., "ELECTRA", ICLR 2020, section 3.1, by stage instead of by layer. Of a
    vision transformer every block is a stage, as in Bao et al., "BEiT", ICLR 2022, and
    He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022, whose
    decays are 0.65 and 0.75: patches, tokens and position embeddings have the lowest
    rate, and the norm behind the last block the head's.

    Args:
        model: whose stages.
        learning_rate: of the head.
        decay: in (0, 1].
        stages_per_group: stages that share a rate; see `grouped_stages`.
        epochs: passes over the training images.
        **settings: see `Settings`; by default adamw with a weight decay of 1e-4.

    Raises:
        InputError: `decay` is out of its range.
    """
    if not 0 < decay <= 1:
        raise InputError(f"decay must be in (0, 1], got {decay}.")
    names = list(grouped_stages(model, stages_per_group))
    rates = {
        name: learning_rate * decay**depth for depth, name in enumerate(reversed(names))
    }
    groups = dict(stage_rates(model, rates, stages_per_group))
    if isinstance(model.backbone, VisionTransformer):
        groups = _move(groups, "backbone.norm", names[-2], "head")
    phase = make_phase(model, "all", epochs, groups, {**ADAMW, **settings})
    return Strategy(name="layerwise_decay", phases=(phase,))


def _move(groups: Rates, pattern: str, start: str, end: str) -> Rates:
    """Move a pattern from one group to another."""
    (left, rate), (right, other) = groups[start], groups[end]
    left = tuple(path for path in left if path != pattern)
    return {**groups, start: (left, rate), end: ((*right, pattern), other)}


def gradual_unfreezing(
    model: Classifier,
    *,
    epochs_per_stage: int = 1,
    stages_per_group: int = 1,
    learning_rate: float = 1e-4,
    head_learning_rate: float = 1e-3,
    **settings: Unpack[Settings],
) -> Strategy:
    """Trains the head, then one stage more in each phase, from the last to the first.

    Howard and Ruder, ACL 2018, section 3.3 (ULMFiT).

    Args:
        model: whose stages.
        epochs_per_stage: passes over the training images in each phase.
        stages_per_group: stages that a phase adds; see `grouped_stages`.
        learning_rate, head_learning_rate: of the stages, and of the head.
        **settings: see `Settings`. Each phase starts with a fresh optimizer state.
    """
    rates, phases = {"head": head_learning_rate}, []
    for name in reversed(grouped_stages(model, stages_per_group)):
        rates.setdefault(name, learning_rate)
        chosen = stage_rates(model, rates, stages_per_group)
        phases.append(make_phase(model, name, epochs_per_stage, chosen, settings))
    return Strategy(name="gradual_unfreezing", phases=tuple(phases))


def _last_stages(model: Classifier, stages: int, from_stage: str) -> list[str]:
    names = backbone_stages(model)
    if from_stage:
        if from_stage not in names:
            raise unknown(f"stage of {model.architecture}", from_stage, names)
        return names[names.index(from_stage) :]
    if not 0 <= stages <= len(names):
        raise InputError(
            f"stages must be from 0 to {len(names)}, the stages of "
            f"{model.architecture} ({', '.join(names)}), got {stages}."
        )
    return names[len(names) - stages :]


def _last_layers(model: Classifier, layers: int, from_layer: str) -> tuple[str, ...]:
    """Returns the parameters' paths of the last layers of the backbone."""
    paths = [path for path in layers_in_order(model) if path.startswith("backbone.")]
    if from_layer:
        path = f"backbone.{from_layer.removeprefix('backbone.')}"
        if path not in paths:
            known = [path.removeprefix("backbone.") for path in paths]
            raise unknown(f"layer of {model.architecture}", from_layer, known)
        chosen = paths[paths.index(path) :]
    elif 0 < layers <= len(paths):
        chosen = paths[-layers:]
    else:
        raise InputError(
            f"layers must be from 1 to {len(paths)}, the layers of "
            f"{model.architecture} with parameters, got {layers}."
        )
    # Not the layers themselves: in a block with parameters of its own (ConvNeXt's
    # layer scale) are layers that compute before it.
    params = split(model).params
    return tuple(p for layer in chosen for p in params if p.rpartition(".")[0] == layer)

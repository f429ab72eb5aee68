"""Strategies that treat a network's stages differently.

A backbone's stages are named from the image up; the head is the last one. See
`Classifier.stages`.
"""

from jaxmed.errors import InputError, unknown
from jaxmed.models.classifier import Classifier
from jaxmed.models.normalization import norm_paths
from jaxmed.strategies.optimizer import Optimizer
from jaxmed.strategies.strategy import Group, Phase, Strategy


def partial(
    model: Classifier,
    *,
    stages: int = 1,
    from_stage: str = "",
    epochs: int = 5,
    optimizer: str = "adam",
    learning_rate: float = 1e-4,
    head_learning_rate: float = 1e-3,
    weight_decay: float = 0.0,
) -> Strategy:
    """Trains the head and the last stages; the first ones stay frozen.

    Yosinski et al., "How Transferable Are Features in Deep Neural Networks?", NeurIPS
    2014: early layers are general, late ones belong to their task.

    Args:
        model: whose stages.
        stages: how many of the backbone's last stages to train, from 0 to all.
        from_stage: the first stage to train, by name, in place of a number.
        epochs: passes over the training images.
        learning_rate: of the stages.
        head_learning_rate: of the head.
        optimizer, weight_decay: of both; see `Optimizer`.

    Raises:
        InputError: there is no such stage, or there are not so many.
    """
    names = _backbone_stages(model)
    if from_stage:
        if from_stage not in names:
            raise unknown(f"stage of {model.architecture}", from_stage, names)
        stages = len(names) - names.index(from_stage)
    if not 0 <= stages <= len(names):
        raise InputError(
            f"stages must be from 0 to {len(names)}, the stages of "
            f"{model.architecture} ({', '.join(names)}), got {stages}."
        )
    chosen = names[len(names) - stages :]
    rates = dict.fromkeys(chosen, learning_rate) | {"head": head_learning_rate}
    phase = _phase(model, "partial", epochs, rates, optimizer, weight_decay)
    return Strategy(name="partial", phases=(phase,))


def backbone_and_head(
    model: Classifier,
    *,
    epochs: int = 5,
    optimizer: str = "adam",
    learning_rate: float = 1e-4,
    head_learning_rate: float = 1e-3,
    weight_decay: float = 0.0,
) -> Strategy:
    """Trains everything, the fresh head at a higher rate than the backbone.

    As Girshick et al., "Rich Feature Hierarchies", CVPR 2014, ten times.

    Args:
        model: what is trained.
        epochs: passes over the training images.
        learning_rate, head_learning_rate: of the backbone, and of the head.
        optimizer, weight_decay: of both; see `Optimizer`.
    """
    rates = dict.fromkeys(_backbone_stages(model), learning_rate)
    rates["head"] = head_learning_rate
    phase = _phase(model, "all", epochs, rates, optimizer, weight_decay)
    return Strategy(name="backbone_and_head", phases=(phase,))


def discriminative(
    model: Classifier,
    *,
    rates: tuple[float, ...] = (1e-5, 1e-5, 1e-4, 1e-4, 1e-3),
    epochs: int = 5,
    optimizer: str = "adamw",
    weight_decay: float = 1e-4,
) -> Strategy:
    """Trains each stage at a rate of its own ("discriminative fine-tuning").

    Howard and Ruder, "Universal Language Model Fine-tuning for Text Classification",
    ACL 2018, section 3.2. The default is a chest X-ray tutorial's for ResNet-50; it
    has no rate for the stem, which therefore stays frozen, and the table says so.

    Args:
        model: whose stages.
        rates: for the last stages in order, the head's last. Earlier stages that no
            rate is left for are frozen.
        epochs: passes over the training images.
        optimizer, weight_decay: of all; see `Optimizer`.

    Raises:
        InputError: more rates than stages, or none.
    """
    names = [*_backbone_stages(model), "head"]
    if not 1 <= len(rates) <= len(names):
        raise InputError(
            f"rates must be 1 to {len(names)} numbers, for the last of the stages "
            f"{', '.join(names)}; got {len(rates)}."
        )
    chosen = dict(zip(names[-len(rates) :], rates, strict=True))
    phase = _phase(model, "all", epochs, chosen, optimizer, weight_decay)
    return Strategy(name="discriminative", phases=(phase,))


def layerwise_decay(
    model: Classifier,
    *,
    learning_rate: float = 1e-3,
    decay: float = 0.5,
    epochs: int = 5,
    optimizer: str = "adamw",
    weight_decay: float = 1e-4,
) -> Strategy:
    """Trains everything, each stage at `decay` times the rate of the one above it.

    Clark et al., "ELECTRA", ICLR 2020, section 3.1, by stage instead of by layer.

    Args:
        model: whose stages.
        learning_rate: of the head.
        decay: in (0, 1].
        epochs: passes over the training images.
        optimizer, weight_decay: of all; see `Optimizer`.

    Raises:
        InputError: `decay` is out of its range.
    """
    if not 0 < decay <= 1:
        raise InputError(f"decay must be in (0, 1], got {decay}.")
    names = [*_backbone_stages(model), "head"]
    depths = range(len(names) - 1, -1, -1)
    rates = {
        name: learning_rate * decay**depth
        for name, depth in zip(names, depths, strict=True)
    }
    phase = _phase(model, "all", epochs, rates, optimizer, weight_decay)
    return Strategy(name="layerwise_decay", phases=(phase,))


def gradual_unfreezing(
    model: Classifier,
    *,
    epochs_per_stage: int = 1,
    optimizer: str = "adam",
    learning_rate: float = 1e-4,
    head_learning_rate: float = 1e-3,
    weight_decay: float = 0.0,
) -> Strategy:
    """Trains the head, then one stage more in each phase, from the last to the first.

    Howard and Ruder, ACL 2018, section 3.3 (ULMFiT).

    Args:
        model: whose stages.
        epochs_per_stage: passes over the training images in each phase.
        learning_rate, head_learning_rate: of the stages, and of the head.
        optimizer, weight_decay: of all; see `Optimizer`. Each phase starts with a
            fresh optimiser state.
    """
    names = _backbone_stages(model)
    rates, phases = {"head": head_learning_rate}, []
    for name in ("head", *reversed(names)):
        rates.setdefault(name, learning_rate)
        phases.append(
            _phase(model, name, epochs_per_stage, rates, optimizer, weight_decay)
        )
    return Strategy(name="gradual_unfreezing", phases=tuple(phases))


def norm_only(
    model: Classifier,
    *,
    epochs: int = 5,
    optimizer: str = "adam",
    learning_rate: float = 1e-3,
    weight_decay: float = 0.0,
) -> Strategy:
    """Trains the head and the scales and biases of the normalisation layers.

    Frankle et al., "Training BatchNorm and Only BatchNorm", ICLR 2021.

    Args:
        model: whose normalisation layers.
        epochs: passes over the training images.
        optimizer, learning_rate, weight_decay: see `Optimizer`.

    Raises:
        InputError: the model has no batch normalisation.
    """
    norms = norm_paths(model)
    if not norms:
        raise InputError(f"{model.architecture} has no batch normalisation to train.")
    settings = Optimizer(
        name=optimizer, learning_rate=learning_rate, weight_decay=weight_decay
    )
    groups = (
        Group(name="norms", patterns=tuple(norms), optimizer=settings),
        Group(name="head", patterns=("head",), optimizer=settings),
    )
    phase = Phase(name="norms", epochs=epochs, groups=groups)
    return Strategy(name="norm_only", phases=(phase,))


def _backbone_stages(model: Classifier) -> list[str]:
    return [name for name in model.stages if name != "head"]


def _phase(model, name, epochs, rates, optimizer, weight_decay) -> Phase:
    """Makes a phase with a group for each stage in `rates`, at its rate."""
    groups = tuple(
        Group(
            name=stage,
            patterns=patterns,
            optimizer=Optimizer(
                name=optimizer, learning_rate=rates[stage], weight_decay=weight_decay
            ),
        )
        for stage, patterns in model.stages.items()
        if stage in rates
    )
    return Phase(name=name, epochs=epochs, groups=groups)

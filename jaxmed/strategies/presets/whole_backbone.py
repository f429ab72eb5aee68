"""Strategies that treat the backbone as a whole."""

from typing import Unpack

from jaxmed.models.classifier import Classifier
from jaxmed.strategies.presets.settings import (
    Settings,
    backbone_stages,
    make_phase,
    stage_rates,
)
from jaxmed.strategies.strategy import Strategy

EVERYTHING = ("backbone", "head")


def frozen(
    model: Classifier,
    *,
    epochs: int = 5,
    learning_rate: float = 1e-3,
    **settings: Unpack[Settings],
) -> Strategy:
    """Trains the head on the features of a frozen backbone (feature extraction).

    The backbone computes in eval mode, its BatchNorm statistics included, so the
    head is a classifier on fixed features, as in Donahue et al., "DeCAF", ICML 2014.

    Args:
        model: what is trained.
        epochs: passes over the training images.
        learning_rate: of the head.
        **settings: see `Settings`. With batch_norm="train" the features change with
            the backbone's statistics.

    Examples:
        >>> from jaxmed import create_model
        >>> model = create_model("resnet10_narrow", num_classes=2)
        >>> strategy = frozen(model, epochs=3, optimizer="adamw", weight_decay=1e-4)
        >>> strategy.phases[0].groups[0].optimizer.weight_decay
        0.0001
    """
    rates = {"head": (("head",), learning_rate)}
    phase = make_phase(model, "head", epochs, rates, settings)
    return Strategy(name="frozen", phases=(phase,))


def full(
    model: Classifier,
    *,
    epochs: int = 5,
    learning_rate: float = 1e-4,
    **settings: Unpack[Settings],
) -> Strategy:
    """Trains everything at one rate; from scratch, if the weights are random.

    As in Girshick et al., "Rich Feature Hierarchies", CVPR 2014, section 2.3, but
    with one rate for the head and the rest.

    Args:
        model: what is trained.
        epochs: passes over the training images.
        learning_rate: of all.
        **settings: see `Settings`.
    """
    rates = {"all": (EVERYTHING, learning_rate)}
    phase = make_phase(model, "all", epochs, rates, settings)
    return Strategy(name="full", phases=(phase,))


def two_phase(
    model: Classifier,
    *,
    head_epochs: int = 3,
    head_learning_rate: float = 1e-3,
    epochs: int = 5,
    learning_rate: float = 1e-5,
    **settings: Unpack[Settings],
) -> Strategy:
    """Trains the head first, then everything at a small rate.

    A fresh head sends large gradients into pretrained layers; training it alone
    first spares them. The defaults are the PneumoniaMNIST tutorial's.

    Args:
        model: what is trained.
        head_epochs, head_learning_rate: of the first phase.
        epochs, learning_rate: of the second phase, which starts with a fresh
            optimizer state.
        **settings: of both phases; see `Settings`.
    """
    head = frozen(
        model, epochs=head_epochs, learning_rate=head_learning_rate, **settings
    )
    unfrozen = full(model, epochs=epochs, learning_rate=learning_rate, **settings)
    return Strategy(name="two_phase", phases=head.phases + unfrozen.phases)


def linear_probe_then_finetune(
    model: Classifier,
    *,
    probe_epochs: int = 10,
    probe_learning_rate: float = 1e-3,
    epochs: int = 5,
    learning_rate: float = 1e-5,
    **settings: Unpack[Settings],
) -> Strategy:
    """Trains the head until it no longer improves, then everything from there (LP-FT).

    Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform
    Out-of-Distribution", ICLR 2022, section 3.4. Unlike in `two_phase` the probe is
    trained out (it stops after two epochs without a better one) and the rate of the
    second phase falls along a cosine.

    Args:
        model: what is trained.
        probe_epochs, probe_learning_rate: of the probe, at most so many epochs.
        epochs, learning_rate: of the fine-tuning.
        **settings: of both phases, in place of what is said above; see `Settings`.
    """
    probe_settings: Settings = {"patience": 2, **settings}
    probe = make_phase(
        model,
        "linear probe",
        probe_epochs,
        {"head": (("head",), probe_learning_rate)},
        probe_settings,
    )
    tuning_settings: Settings = {"schedule": "cosine", **settings}
    tuning = make_phase(
        model,
        "fine-tuning",
        epochs,
        {"all": (EVERYTHING, learning_rate)},
        tuning_settings,
    )
    return Strategy(name="linear_probe_then_finetune", phases=(probe, tuning))


def backbone_and_head(
    model: Classifier,
    *,
    epochs: int = 5,
    learning_rate: float = 1e-4,
    head_learning_rate: float = 1e-3,
    **settings: Unpack[Settings],
) -> Strategy:
    """Trains everything, the fresh head at a higher rate than the backbone.

    As Girshick et al., "Rich Feature Hierarchies", CVPR 2014, ten times.

    Args:
        model: what is trained.
        epochs: passes over the training images.
        learning_rate, head_learning_rate: of the backbone, and of the head.
        **settings: see `Settings`.
    """
    rates = dict.fromkeys(backbone_stages(model), learning_rate)
    rates["head"] = head_learning_rate
    phase = make_phase(model, "all", epochs, stage_rates(model, rates), settings)
    return Strategy(name="backbone_and_head", phases=(phase,))


def l2_sp(
    model: Classifier,
    *,
    epochs: int = 5,
    learning_rate: float = 1e-3,
    head_learning_rate: float = 1e-2,
    strength: float = 1e-2,
    **settings: Unpack[Settings],
) -> Strategy:
    """Trains everything, pulling the backbone to its pretrained weights, not to zero.

    Li, Grandvalet and Davoine, "Explicit Inductive Bias for Transfer Learning with
    Convolutional Networks", ICML 2018, eq. 3: their alpha is `strength`, and their
    beta the weight decay of the fresh head.

    Args:
        model: what is trained.
        epochs: passes over the training images.
        learning_rate, head_learning_rate: of the backbone, and of the head.
        strength: of the pull on the backbone, which has no other decay.
        **settings: see `Settings`; by default theirs, sgd with a momentum of 0.9 and
            a weight decay of 1e-2.
    """
    sgd: Settings = {"optimizer": "sgd", "momentum": 0.9}
    if settings.get("optimizer", "sgd") != "sgd":
        sgd = {}
    phase = make_phase(
        model,
        "all",
        epochs,
        {
            "backbone": (("backbone",), learning_rate),
            "head": (("head",), head_learning_rate),
        },
        {**sgd, "weight_decay": 1e-2, **settings},
        l2_sp={"backbone": strength},
    )
    return Strategy(name="l2_sp", phases=(phase,))

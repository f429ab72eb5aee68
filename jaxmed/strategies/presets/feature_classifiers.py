"""Classifiers of scikit-learn on the features of a frozen backbone: plain baselines.

They are named like strategies and compared like any arm, and train no network.
"""

from dataclasses import dataclass

from jaxmed.errors import InputError
from jaxmed.models.classifier import Classifier
from jaxmed.strategies.strategy import Strategy


@dataclass(frozen=True, kw_only=True)
class FeatureClassifier(Strategy):
    """A strategy without phases: the backbone stays as it is, and the head is unused.

    Attributes:
        name: "k_nn" or "logistic_regression".
        neighbors: of `k_nn`.
        penalties: what `logistic_regression` chooses its C from.
    """

    phases: tuple = ()
    neighbors: int = 0
    penalties: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.neighbors < 0 or any(penalty <= 0 for penalty in self.penalties):
            raise InputError(
                f"{self.name}: neighbors and penalties must be above 0, got "
                f"{self.neighbors or list(self.penalties)}."
            )

    def describe(self, model: Classifier) -> str:
        """Returns what the classifier is, as text."""
        method = (
            f"the {self.neighbors} nearest training images"
            if self.neighbors
            else f"C chosen on val from {', '.join(f'{p:g}' for p in self.penalties)}"
        )
        return f"Strategy {self.name}: {method}, on features of the frozen backbone"


def k_nn(model: Classifier, *, neighbors: int = 11) -> FeatureClassifier:
    """Votes among the nearest training images, in the features of a frozen backbone.

    The probability of a class is its share of the neighbors, which are nearest by
    Euclidean distance. The baseline of Doerrich et al., "Rethinking model prototyping
    through the MedMNIST+ dataset collection", Scientific Reports 2025.

    Args:
        model: its backbone gives the features.
        neighbors: images that vote, at least 1.
    """
    del model
    if neighbors < 1:
        raise InputError(f"k_nn: neighbors must be at least 1, got {neighbors}.")
    return FeatureClassifier(name="k_nn", neighbors=neighbors)


def logistic_regression(
    model: Classifier,
    *,
    penalties: tuple[float, ...] = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0),
) -> FeatureClassifier:
    """Fits scikit-learn's logistic regression to the features of a frozen backbone.

    The features are standardized by the training images' mean and deviation. Several
    labels have a regression each.

    Args:
        model: its backbone gives the features.
        penalties: values of C, the inverse of the penalty's strength; the one that is
            best on val, by what chooses epochs (`train.select`), is used.
    """
    del model
    if not penalties:
        raise InputError("logistic_regression: penalties must hold at least one C.")
    return FeatureClassifier(name="logistic_regression", penalties=tuple(penalties))

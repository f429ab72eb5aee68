"""What advice consists of, and the papers it rests on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BUDA = "Buda et al. 2018"
HOWARD = "Howard and Ruder 2018"
KORNBLITH = "Kornblith et al. 2019"
KUMAR = "Kumar et al. 2022"
MEI = "Mei et al. 2022"
RAGHU = "Raghu et al. 2019"
SAITO = "Saito and Rehmsmeier 2015"
YOSINSKI = "Yosinski et al. 2014"

TITLES = {
    BUDA: "Buda, Maki and Mazurowski, A Systematic Study of the Class Imbalance "
    "Problem in Convolutional Neural Networks, Neural Networks 2018",
    HOWARD: "Howard and Ruder, Universal Language Model Fine-tuning for Text "
    "Classification, ACL 2018",
    KORNBLITH: "Kornblith, Shlens and Le, Do Better ImageNet Models Transfer Better?, "
    "CVPR 2019",
    KUMAR: "Kumar et al., Fine-Tuning can Distort Pretrained Features and Underperform "
    "Out-of-Distribution, ICLR 2022",
    MEI: "Mei et al., RadImageNet: An Open Radiologic Deep Learning Research Dataset "
    "for Effective Transfer Learning, Radiology: Artificial Intelligence 2022",
    RAGHU: "Raghu et al., Transfusion: Understanding Transfer Learning for Medical "
    "Imaging, NeurIPS 2019",
    SAITO: "Saito and Rehmsmeier, The Precision-Recall Plot Is More Informative than "
    "the ROC Plot When Evaluating Binary Classifiers on Imbalanced Datasets, PLoS ONE "
    "2015",
    YOSINSKI: "Yosinski et al., How Transferable Are Features in Deep Neural "
    "Networks?, NeurIPS 2014",
}


@dataclass(frozen=True, kw_only=True)
class Reason:
    """A sentence or two, and the paper that says so; without one, a rule of thumb.

    Attributes:
        text: what speaks for something, or against it.
        source: a key of `TITLES`, or empty.
    """

    text: str
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class Alternative:
    """Something to run beside what is advised.

    Attributes:
        arm: a name for it in a recipe.
        strategy, options: see `create_strategy`.
        why: what the comparison shows.
        pretrained: False to start from random weights.
    """

    arm: str
    strategy: str
    options: Mapping[str, Any]
    why: str
    pretrained: bool = True


@dataclass(frozen=True, kw_only=True)
class Advice:
    """What to start with, and why.

    Attributes:
        strategy, options: a preset and what to give it; see `create_strategy`.
        reasons: for the strategy.
        alternatives: what to compare with.
        cautions: what to watch out for.
        select: the validation metric to choose the epoch by; see `fit`.
    """

    strategy: str
    options: Mapping[str, Any]
    reasons: tuple[Reason, ...]
    alternatives: tuple[Alternative, ...] = ()
    cautions: tuple[Reason, ...] = ()
    select: str = "val_auroc"


@dataclass(frozen=True, kw_only=True)
class DomainSimilarity:
    """Whether images are like those of the pretraining.

    Attributes:
        domain: "similar" or "different".
        how: a sentence on how that was found.
    """

    domain: str
    how: str


@dataclass(frozen=True, kw_only=True)
class ClassBalance:
    """How even a data set's classes are.

    Attributes:
        rarest: the class with the fewest training images.
        smallest: their number.
        ratio: the commonest class's to it; in a multi-label task the images without
            the rarest label to those with it, at least 1. Infinite if it has none.
        smallest_in_val: validation images of the class that has the fewest there.
    """

    rarest: str
    smallest: int
    ratio: float
    smallest_in_val: int

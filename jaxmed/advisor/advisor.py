"""Advice on which strategy to start with, from the size and kind of a data set.

It is advice: nothing in jaxmed asks for it, and no default depends on it.
"""

from dataclasses import replace

from jaxmed.advisor.advice import BUDA, MEI, RAGHU, SAITO, Advice, Reason
from jaxmed.advisor.rules import FROM_SCRATCH, TABLE
from jaxmed.errors import InputError, unknown

# Training images: under the first number a set is small, over the second it is large.
# Rules of thumb of transfer-learning tutorials; no paper draws these lines.
SMALL, LARGE = 1_000, 50_000
DOMAINS = ("similar", "different")
# From these on, a ratio of class sizes is worth a word, and then a measure against it.
UNEVEN, IMBALANCED = 3, 10
# Of a class. With fewer, each validation image is more than a tenth of its AUROC.
FEW = 10
# Parameters; ResNet-50 has 23.5 million, ResNet-18 11.2.
HEAVY = 20_000_000


def advise(
    *,
    images: int,
    smallest_class: int,
    imbalance: float,
    smallest_val_class: int,
    domain: str,
    pretrained: bool,
    parameters: int,
) -> Advice:
    """Says which strategy to start with.

    Args:
        images: training images, at least 1.
        smallest_class: training images of the rarest class.
        imbalance: how many times more there are of the commonest class, at least 1;
            in a multi-label task images without the rarest label to those with it.
        smallest_val_class: validation images of the rarest class.
        domain: "similar" or "different": the images, to those of the pretraining.
        pretrained: whether the backbone has weights to transfer.
        parameters: of the backbone.

    Raises:
        InputError: no images, or an unknown domain.
    """
    if images < 1:
        raise InputError(f"images must be at least 1, got {images}.")
    if domain not in DOMAINS:
        raise unknown("domain", domain, DOMAINS)
    size = size_of(images)
    chosen = TABLE[size, domain] if pretrained else FROM_SCRATCH
    balance, select = _weigh(smallest_class, imbalance, smallest_val_class)
    backbone = _consider_backbone(size, domain, pretrained, parameters)
    cautions = (*chosen.cautions, *backbone, *balance)
    return replace(chosen, cautions=cautions, select=select)


def size_of(images: int) -> str:
    """Returns "small", "medium" or "large"; the lines themselves are medium."""
    if images < SMALL:
        return "small"
    return "large" if images > LARGE else "medium"


def _weigh(
    smallest_class: int, imbalance: float, smallest_val_class: int
) -> tuple[list[Reason], str]:
    """Returns cautions about the balance, and the metric to choose the epoch by."""
    cautions = []
    if imbalance >= IMBALANCED:
        cautions.append(CLASS_WEIGHTS)
    if imbalance >= UNEVEN:
        cautions.append(PRECISION_RECALL)
    if smallest_class < FEW:
        cautions.append(
            Reason(
                text=f"The rarest class has {smallest_class} training images. No "
                "strategy makes up for that; think of collecting more, or of joining "
                "classes."
            )
        )
    if smallest_val_class >= FEW:
        return cautions, "val_auroc"
    many = "image" if smallest_val_class == 1 else "images"
    cautions.append(
        Reason(
            text=f"The rarest class has {smallest_val_class} validation {many}: its "
            "AUROC jumps with each of them, so the epoch is chosen by val_loss, which "
            "all images decide."
        )
    )
    return cautions, "val_loss"


def _consider_backbone(
    size: str, domain: str, pretrained: bool, parameters: int
) -> list[Reason]:
    cautions = []
    if parameters > HEAVY and domain == "different":
        cautions.append(LIGHTER)
    if pretrained and size == "small" and domain == "different":
        cautions.append(RADIOLOGY)
    return cautions


CLASS_WEIGHTS = Reason(
    text="The classes are far from balanced. Compare with class weights "
    '(train.class_weights = "balanced") in an arm of their own; in their study of CNNs '
    "the best remedy was to draw the rare classes more often. Both shift the "
    "probabilities, so choose the threshold on validation, and calibrate.",
    source=BUDA,
)
PRECISION_RECALL = Reason(
    text="Do not go by accuracy: always saying the commonest class gets far with it. "
    "AUROC does not depend on the balance, and so can hide many false alarms; look at "
    "precision and recall of the rare class, or at the area under their curve (AUPRC).",
    source=SAITO,
)
LIGHTER = Reason(
    text="On two large medical tasks (retinal photographs, chest X-rays) small, plain "
    "CNNs did about as well as ResNet-50 and Inception-v3. A lighter backbone costs "
    "less to try.",
    source=RAGHU,
)
RADIOLOGY = Reason(
    text="If the images are CT, MRI or ultrasound: weights pretrained on such images "
    "did better than ImageNet's on their radiologic tasks. `file:PATH` takes them.",
    source=MEI,
)

"""Rules for the strategy to start with, from the size and kind of a data set.

`TABLE` is that of transfer-learning tutorials: the size of the set by its similarity to
the images of the pretraining. Its options are values to start from, those of the
presets or smaller, and not tuned on anything. `CAUTIONS` are added where they apply.
Nothing in jaxmed asks for advice, and no default depends on it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from jaxmed.errors import InputError, unknown

# Training images: under the first number a set is small, over the second it is large.
# Rules of thumb of transfer-learning tutorials; no paper draws these lines.
SMALL, LARGE = 1_000, 50_000
DOMAINS = ("similar", "different")
# Ratios of class sizes: from the first on accuracy misleads, from the second on class
# weights are worth an arm.
UNEVEN, IMBALANCED = 3, 10
# Images of a class. With fewer, each validation image is over a tenth of its AUROC.
FEW = 10
# Parameters; ResNet-50 has 23.5 million, ResNet-18 11.2.
HEAVY = 20_000_000

SOURCES = {
    "Buda et al. 2018": "Buda, Maki and Mazurowski, A Systematic Study of the Class "
    "Imbalance Problem in Convolutional Neural Networks, Neural Networks 2018",
    "Howard and Ruder 2018": "Howard and Ruder, Universal Language Model Fine-tuning "
    "for Text Classification, ACL 2018",
    "Kornblith et al. 2019": "Kornblith, Shlens and Le, Do Better ImageNet Models "
    "Transfer Better?, CVPR 2019",
    "Kumar et al. 2022": "Kumar et al., Fine-Tuning can Distort Pretrained Features "
    "and Underperform Out-of-Distribution, ICLR 2022",
    "Mei et al. 2022": "Mei et al., RadImageNet: An Open Radiologic Deep Learning "
    "Research Dataset for Effective Transfer Learning, Radiology: Artificial "
    "Intelligence 2022",
    "Raghu et al. 2019": "Raghu et al., Transfusion: Understanding Transfer Learning "
    "for Medical Imaging, NeurIPS 2019",
    "Saito and Rehmsmeier 2015": "Saito and Rehmsmeier, The Precision-Recall Plot Is "
    "More Informative than the ROC Plot When Evaluating Binary Classifiers on "
    "Imbalanced Datasets, PLoS ONE 2015",
    "Yosinski et al. 2014": "Yosinski et al., How Transferable Are Features in Deep "
    "Neural Networks?, NeurIPS 2014",
}


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The numbers that advice depends on.

    Attributes:
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

    images: int
    smallest_class: int
    imbalance: float
    smallest_val_class: int
    domain: str
    pretrained: bool
    parameters: int

    def __post_init__(self) -> None:
        if self.images < 1:
            raise InputError(f"images must be at least 1, got {self.images}.")
        if self.domain not in DOMAINS:
            raise unknown("domain", self.domain, DOMAINS)

    @property
    def size(self) -> str:
        """The size of the set: "small", "medium" or "large"; the lines are medium."""
        if self.images < SMALL:
            return "small"
        return "large" if self.images > LARGE else "medium"


@dataclass(frozen=True)
class Reason:
    """A sentence or two, and the paper that says so.

    Attributes:
        text: for or against something; may name `Facts` in braces.
        source: a key of `SOURCES`; empty for a rule of thumb.
    """

    text: str
    source: str = ""


@dataclass(frozen=True)
class AdvisedArm:
    """A strategy to run.

    Attributes:
        name: of the arm in a recipe.
        strategy, options: see `create_strategy`.
        why: what it shows beside the one that is advised.
        pretrained: False to start from random weights.
    """

    name: str
    strategy: str
    options: Mapping[str, Any]
    why: str = ""
    pretrained: bool = True


@dataclass(frozen=True, kw_only=True)
class Advice:
    """The strategy to start with, why, and what to compare it with.

    Attributes:
        start: the strategy that is advised.
        reasons: for it.
        compare_with: arms to run beside it.
        cautions: what to watch out for.
        select: the validation metric to choose the epoch by; see `fit`.
    """

    start: AdvisedArm
    reasons: tuple[Reason, ...]
    compare_with: tuple[AdvisedArm, ...] = ()
    cautions: tuple[Reason, ...] = ()
    select: str = "val_auroc"


# Reasons ------------------------------------------------------------------------------

GENERAL = Reason(
    "Early layers are general, late ones belong to their task. Features transfer worse "
    "the further the tasks are apart, and may still beat random ones.",
    "Yosinski et al. 2014",
)
FIXED = Reason(
    "On 12 sets of natural images better ImageNet networks gave better fixed features, "
    "and fine-tuning did better still on most: a frozen backbone is the safe start.",
    "Kornblith et al. 2019",
)
FINE_TUNED = Reason(
    "Starting from transferred features improved generalization even after everything "
    "was fine-tuned.",
    "Yosinski et al. 2014",
)
DISTORTED = Reason(
    "Fine-tuning everything from a fresh head can distort good pretrained features. "
    "The head first and then everything (LP-FT) did better on average than either "
    "alone, most of all on test images from another distribution.",
    "Kumar et al. 2022",
)
RATES = Reason(
    "Layers hold different kinds of information, so each may have a learning rate of "
    "its own, smaller for earlier ones (shown on texts).",
    "Howard and Ruder 2018",
)
LITTLE_TRANSFER = Reason(
    "On two large sets of medical images transfer from ImageNet improved results "
    "little, while it sped training up; what was reused was in the lowest layers.",
    "Raghu et al. 2019",
)
NOTHING_TO_KEEP = Reason(
    "The weights are random: there are no features to keep, so everything is trained."
)
OVERFITTING = Reason(
    "Under 1,000 images a network that is trained as a whole can learn them by heart. "
    "Watch training and validation loss part, run several seeds, and do not read much "
    "into small differences."
)
SMALL_AND_DIFFERENT = Reason(
    "Few images that differ from the pretraining's are the hardest case: the features "
    "may not fit, and there is little to change them with. Unfreeze one stage at a "
    "time, at a small rate and for few epochs, and keep it only if validation gains."
)
HIGH_RATE = Reason(
    "At too high a learning rate the pretrained features are lost within the first "
    "steps. If validation falls at the start, divide the rate by ten."
)
NO_WEIGHTS = Reason(
    "Most fine-tuning on medical images starts from pretrained weights; "
    "--model.weights imagenet asks again for them."
)

# Arms: what one cell of the table advises is what another compares with --------------

FROZEN = AdvisedArm(
    "frozen",
    "frozen",
    {"epochs": 20, "learning_rate": 1e-3},
    "shows what training the backbone adds at all",
)
LAST_STAGE = AdvisedArm(
    "last_stage",
    "partial",
    {"stages": 1, "epochs": 5, "learning_rate": 1e-5, "head_learning_rate": 1e-3},
    "shows whether the last stage, which belongs most to its task, gains from your "
    "images",
)
SHORT_TWO_PHASE = AdvisedArm(
    "short_two_phase",
    "two_phase",
    {"head_epochs": 5, "epochs": 3, "learning_rate": 1e-5},
    "trains everything, but for few epochs at a small rate",
)
TWO_PHASE = AdvisedArm(
    "two_phase",
    "two_phase",
    {"head_epochs": 3, "epochs": 10, "learning_rate": 1e-5},
    "trains the head first, in case the fresh head does harm",
)
PROBE_FIRST = AdvisedArm(
    "probe_first",
    "linear_probe_then_finetune",
    {"probe_epochs": 10, "epochs": 10, "learning_rate": 1e-5},
    "is LP-FT: the head is trained out before everything is",
)
TWO_RATES = AdvisedArm(
    "two_rates",
    "backbone_and_head",
    {"epochs": 10, "learning_rate": 1e-4, "head_learning_rate": 1e-3},
)
DISCRIMINATIVE = AdvisedArm(
    "discriminative",
    "discriminative",
    {"rates": [1e-5, 1e-5, 1e-4, 1e-4, 1e-3], "epochs": 10},
    "gives each stage its own rate, so that general layers move least",
)
FULL = AdvisedArm("full", "full", {"epochs": 10, "learning_rate": 1e-4})
SCRATCH = AdvisedArm(
    "scratch",
    "full",
    {"epochs": 30, "learning_rate": 1e-3},
    "from random weights, shows what the transfer is worth; with so many images maybe "
    "little",
    pretrained=False,
)

# The table: size of the set, and similarity to the pretraining's images --------------

TABLE = {
    ("small", "similar"): Advice(
        start=FROZEN,
        reasons=(GENERAL, FIXED),
        cautions=(OVERFITTING,),
        compare_with=(LAST_STAGE,),
    ),
    ("small", "different"): Advice(
        start=FROZEN,
        reasons=(GENERAL, FIXED),
        cautions=(SMALL_AND_DIFFERENT, OVERFITTING),
        compare_with=(LAST_STAGE, SHORT_TWO_PHASE),
    ),
    ("medium", "similar"): Advice(
        start=TWO_PHASE,
        reasons=(FINE_TUNED, DISTORTED),
        cautions=(HIGH_RATE,),
        compare_with=(LAST_STAGE, FROZEN),
    ),
    ("medium", "different"): Advice(
        start=TWO_RATES,
        reasons=(GENERAL, RATES),
        cautions=(HIGH_RATE, DISTORTED),
        compare_with=(DISCRIMINATIVE, PROBE_FIRST),
    ),
    ("large", "similar"): Advice(
        start=FULL,
        reasons=(FINE_TUNED,),
        cautions=(HIGH_RATE,),
        compare_with=(TWO_PHASE,),
    ),
    ("large", "different"): Advice(
        start=FULL,
        reasons=(FINE_TUNED, LITTLE_TRANSFER),
        cautions=(HIGH_RATE,),
        compare_with=(SCRATCH, TWO_PHASE),
    ),
}
# Of a backbone whose weights are random, whatever the images are.
FROM_SCRATCH = Advice(start=SCRATCH, reasons=(NOTHING_TO_KEEP,), cautions=(NO_WEIGHTS,))

# Cautions whatever the cell, where their condition holds -----------------------------

CAUTIONS: tuple[tuple[Callable[[Facts], bool], Reason], ...] = (
    (
        lambda facts: facts.parameters > HEAVY and facts.domain == "different",
        Reason(
            "On two large medical tasks (retinal photographs, chest X-rays) small, "
            "plain CNNs did about as well as ResNet-50 and Inception-v3. A lighter "
            "backbone costs less to try.",
            "Raghu et al. 2019",
        ),
    ),
    (
        lambda facts: (
            facts.pretrained and (facts.size, facts.domain) == ("small", "different")
        ),
        Reason(
            "If the images are CT, MRI or ultrasound: weights pretrained on such "
            "images did better than ImageNet's there. `file:PATH` takes them.",
            "Mei et al. 2022",
        ),
    ),
    (
        lambda facts: facts.imbalance >= IMBALANCED,
        Reason(
            "The classes are far from balanced. Compare with class weights "
            '(train.class_weights = "balanced") in an arm of their own; in their study '
            "of CNNs drawing the rare classes more often was the best remedy. Both "
            "shift the probabilities: choose the threshold on validation, and "
            "calibrate.",
            "Buda et al. 2018",
        ),
    ),
    (
        lambda facts: facts.imbalance >= UNEVEN,
        Reason(
            "Do not go by accuracy: always saying the commonest class gets far with "
            "it. AUROC can hide many false alarms; look at precision and recall of "
            "the rare class, or at the area under their curve (AUPRC).",
            "Saito and Rehmsmeier 2015",
        ),
    ),
    (
        lambda facts: facts.smallest_class < FEW,
        Reason(
            "Training images of the rarest class: {smallest_class}. No strategy makes "
            "up for that; think of collecting more, or of joining classes."
        ),
    ),
    (
        lambda facts: facts.smallest_val_class < FEW,
        Reason(
            "Validation images of the rarest class: {smallest_val_class}. Its AUROC "
            "jumps with each of them, so the epoch is chosen by val_loss, which all "
            "images decide."
        ),
    ),
)


def advise(facts: Facts) -> Advice:
    """Advise a strategy to start with.

    Examples:
        >>> facts = Facts(
        ...     images=400,
        ...     smallest_class=150,
        ...     imbalance=1.7,
        ...     smallest_val_class=20,
        ...     domain="similar",
        ...     pretrained=True,
        ...     parameters=11_000_000,
        ... )
        >>> advice = advise(facts)
        >>> advice.start.strategy, [arm.name for arm in advice.compare_with]
        ('frozen', ['last_stage'])
    """
    cell = TABLE[facts.size, facts.domain] if facts.pretrained else FROM_SCRATCH
    cautions = tuple(
        replace(reason, text=reason.text.format_map(vars(facts)))
        for applies, reason in CAUTIONS
        if applies(facts)
    )
    few = facts.smallest_val_class < FEW
    select = "val_loss" if few else cell.select
    return replace(cell, cautions=cell.cautions + cautions, select=select)

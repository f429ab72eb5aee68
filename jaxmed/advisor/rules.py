"""The tutorials' table: size of the set, and likeness to the pretraining's images.

The options are values to start from, those of the presets or smaller, and not tuned
on anything.
"""

from typing import Any

from jaxmed.advisor.advice import (
    HOWARD,
    KORNBLITH,
    KUMAR,
    RAGHU,
    YOSINSKI,
    Advice,
    Alternative,
    Reason,
)

# What is advised in one cell is what another compares with.
FROZEN: dict[str, Any] = {"epochs": 20, "learning_rate": 1e-3}
LAST_STAGE: dict[str, Any] = {
    "stages": 1,
    "epochs": 5,
    "learning_rate": 1e-5,
    "head_learning_rate": 1e-3,
}
SHORT: dict[str, Any] = {"head_epochs": 5, "epochs": 3, "learning_rate": 1e-5}
TWO_PHASE: dict[str, Any] = {"head_epochs": 3, "epochs": 10, "learning_rate": 1e-5}
PROBE_FIRST: dict[str, Any] = {"probe_epochs": 10, "epochs": 10, "learning_rate": 1e-5}
TWO_RATES: dict[str, Any] = {
    "epochs": 10,
    "learning_rate": 1e-4,
    "head_learning_rate": 1e-3,
}
FULL: dict[str, Any] = {"epochs": 10, "learning_rate": 1e-4}
SCRATCH: dict[str, Any] = {"epochs": 30, "learning_rate": 1e-3}

GENERAL = Reason(
    text="Early layers are general and late ones belong to their task. Features "
    "transfer worse the further the tasks are apart, and yet may be better than "
    "random ones.",
    source=YOSINSKI,
)
FIXED = Reason(
    text="On 12 sets of natural images a better ImageNet network gave better fixed "
    "features, and fine-tuning it did better still on most: a frozen backbone is the "
    "safe start, not the last word.",
    source=KORNBLITH,
)
FINE_TUNED = Reason(
    text="Initializing with transferred features improved generalization even after "
    "everything was fine-tuned.",
    source=YOSINSKI,
)
DISTORTED = Reason(
    text="Fine-tuning everything from a fresh head can distort good pretrained "
    "features. The head first and then everything (LP-FT) did better on average than "
    "either alone, by far the most on test images from another distribution than the "
    "training images.",
    source=KUMAR,
)
RATES = Reason(
    text="Layers hold different kinds of information, so each may have a rate of its "
    "own, smaller for earlier ones (shown on texts).",
    source=HOWARD,
)
LITTLE = Reason(
    text="On two large sets of medical images transfer from ImageNet improved results "
    "little over training from scratch, while it sped training up; what was reused "
    "was in the lowest layers.",
    source=RAGHU,
)
OVERFITTING = Reason(
    text="Under 1,000 images a network that is trained as a whole can learn them by "
    "heart. Watch training and validation loss part, run several seeds, and do not "
    "read much into small differences."
)
SMALL_AND_DIFFERENT = Reason(
    text="Few images that differ from the pretraining's are the hardest case: the "
    "features may not fit, and there is little to change them with. Unfreeze one stage "
    "at a time, at a small rate and for few epochs, and keep it only if validation "
    "gains."
)
DRIFT = Reason(
    text="At a rate that is too high the pretrained features are lost within the first "
    "steps. If validation falls at the start, divide the rate by ten."
)

LAST_STAGE_ARM = Alternative(
    arm="last_stage",
    strategy="partial",
    options=LAST_STAGE,
    why="shows whether the last stage, which belongs most to its task, gains from "
    "your images",
)
FROZEN_ARM = Alternative(
    arm="frozen",
    strategy="frozen",
    options=FROZEN,
    why="shows what training the backbone adds at all",
)
TWO_PHASE_ARM = Alternative(
    arm="two_phase",
    strategy="two_phase",
    options=TWO_PHASE,
    why="trains the head first, in case the fresh head does harm",
)
PROBE_FIRST_ARM = Alternative(
    arm="probe_first",
    strategy="linear_probe_then_finetune",
    options=PROBE_FIRST,
    why="is LP-FT: the head is trained out before everything is",
)
SCRATCH_ARM = Alternative(
    arm="scratch",
    strategy="full",
    options=SCRATCH,
    why="from random weights, shows what the transfer is worth; with so many images "
    "maybe little",
    pretrained=False,
)

TABLE: dict[tuple[str, str], Advice] = {
    ("small", "similar"): Advice(
        strategy="frozen",
        options=FROZEN,
        reasons=(GENERAL, FIXED),
        cautions=(OVERFITTING,),
        alternatives=(LAST_STAGE_ARM,),
    ),
    ("small", "different"): Advice(
        strategy="frozen",
        options=FROZEN,
        reasons=(GENERAL, FIXED),
        cautions=(SMALL_AND_DIFFERENT, OVERFITTING),
        alternatives=(
            LAST_STAGE_ARM,
            Alternative(
                arm="short_two_phase",
                strategy="two_phase",
                options=SHORT,
                why="trains everything, but for few epochs at a small rate",
            ),
        ),
    ),
    ("medium", "similar"): Advice(
        strategy="two_phase",
        options=TWO_PHASE,
        reasons=(FINE_TUNED, DISTORTED),
        cautions=(DRIFT,),
        alternatives=(LAST_STAGE_ARM, FROZEN_ARM),
    ),
    ("medium", "different"): Advice(
        strategy="backbone_and_head",
        options=TWO_RATES,
        reasons=(GENERAL, RATES),
        cautions=(DRIFT, DISTORTED),
        alternatives=(
            Alternative(
                arm="discriminative",
                strategy="discriminative",
                options={"rates": [1e-5, 1e-5, 1e-4, 1e-4, 1e-3], "epochs": 10},
                why="gives each stage its own rate, so that general layers move least",
            ),
            PROBE_FIRST_ARM,
        ),
    ),
    ("large", "similar"): Advice(
        strategy="full",
        options=FULL,
        reasons=(FINE_TUNED,),
        cautions=(DRIFT,),
        alternatives=(TWO_PHASE_ARM,),
    ),
    ("large", "different"): Advice(
        strategy="full",
        options=FULL,
        reasons=(FINE_TUNED, LITTLE),
        cautions=(DRIFT,),
        alternatives=(SCRATCH_ARM, TWO_PHASE_ARM),
    ),
}

# Of a backbone whose weights are random, whatever the images are.
FROM_SCRATCH = Advice(
    strategy="full",
    options=SCRATCH,
    reasons=(
        Reason(
            text="The weights are random: there are no features to keep, so everything "
            "is trained."
        ),
    ),
    cautions=(
        Reason(
            text="Most fine-tuning on medical images starts from pretrained weights; "
            "--model.weights imagenet asks again for them."
        ),
    ),
)

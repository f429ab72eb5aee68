"""The schema of a recipe: every setting, with its default, its range and its meaning.

A recipe's tables [data], [augment], [model], [train], [evaluate] and [explain] are the
classes below, and so are the flags of `run`: `[train] batch_size = 16` is
`--train.batch-size 16`. A new setting is one more field here.
"""

from dataclasses import dataclass, field, fields
from typing import Any

from jaxmed.config.setting import is_section, setting
from jaxmed.explain.methods import METHODS
from jaxmed.strategies.presets import FEATURE_CLASSIFIERS, PRESETS


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which images, and how large the network sees them."""

    source: str = setting(
        "the images: medmnist:NAME (such as medmnist:bloodmnist_224), npz:PATH in "
        "MedMNIST's layout, folder:PATH with PATH/{train,val,test}/CLASS/IMAGE or (to "
        "be split) PATH/CLASS/IMAGE, dicom:PATH of DICOM files in the same way, "
        "table:PATH of a CSV with a row for each image (and options as in "
        "?label=A,B&columns=site), tfds:NAME (prepared by "
        "tensorflow-datasets), cells, cells:source or cells:folder (drawn by the "
        "program, the last one as a folder of image files); with any of them "
        "?classes=A,B, ?positive=A and ?task=ordinal, joined by &, say the order of "
        "the classes (or names for 0, 1, ...), the positive one of two, and that "
        "they are grades"
    )
    image_size: int = setting(
        "side of the square the network sees, in pixels", 224, low=8, high=4096
    )
    resize: str = setting(
        "how an image becomes that square: squash (the aspect ratio is not kept), pad "
        "(with black) or crop (the middle, after resizing the shorter side to "
        "resize_factor x image_size); training crops of a preset are cut from the "
        "padded square, or from the middle one of the shorter side",
        "squash",
        choices=("squash", "pad", "crop"),
    )
    resize_factor: float = setting(
        "for crop: 256 / 224 as torchvision's models are evaluated; 1.15 in tutorials",
        256 / 224,
        low=1,
        high=4,
    )
    train_images: int = setting(
        "training images to keep, every class with its share; 0 for all", 0, low=0
    )
    subset_seed: int = setting(
        "seed that draws them, the same for every arm and training seed",
        0,
        low=0,
        high=2**31 - 1,
    )
    split: str = setting(
        "train, val and test: given (the source's), stratified (made anew of all its "
        "images, each class with its share), patient (so too, but images of one group "
        "stay together) or file:PATH (the split.csv of a run)",
        "given",
    )
    group_pattern: str = setting(
        "regular expression that finds in an image's id what the image is of, with "
        r"parentheses around its name, as in person(\d+)_|IM-(\d+)-; empty for what "
        "the source says",
        "",
    )
    split_seed: int = setting(
        "seed of a split made anew, the same for every arm and training seed",
        0,
        low=0,
        high=2**31 - 1,
    )
    val_share: float = setting(
        "validation's share of the images, for a split made anew", 0.1, low=0, below=1
    )
    test_share: float = setting("test's share, in the same way", 0.2, low=0, below=1)
    keep_test: bool = setting(
        "true: test stays as the source has it, and a split made anew shares out its "
        "other images, of which val_share become val",
        False,
    )
    folds: int = setting(
        "parts of equal size in place of shares, at least 3; 0 for shares", 0, low=0
    )
    fold: int = setting(
        "which of them is test, from 0; -1 for the first, or with cross_validation for "
        "each in turn",
        -1,
        low=-1,
    )
    fold_val: str = setting(
        "which images are val then: next (the next fold) or cut (val_share of those "
        "outside of the test fold)",
        "next",
        choices=("next", "cut"),
    )
    repeat: int = setting("another division into folds for each number", 0, low=0)
    cross_validation: bool = setting(
        "true: every fold is test once, in a run of its own; split is patient where "
        "patients are known, else stratified, unless it is set",
        False,
    )
    repeats: int = setting(
        "divisions into folds that cross_validation goes through",
        1,
        low=1,
        high=100,
        neutral=True,
    )
    memory: float = setting(
        "gigabytes that decoded images may take; those of a larger folder or table are "
        "decoded when they are needed. 0: of every one; -1: a quarter of the machine's "
        "memory",
        -1.0,
        low=-1,
        neutral=True,
    )
    window: str = setting(
        "gray values of more than 8 bits, and of DICOM, that become black and white: "
        "auto (the window that a DICOM file names, else the range of the stored bits "
        "where training images use half of it, else a range that they use), full (the "
        "range of the stored bits), percentile:LOW,HIGH (of the training images' "
        "pixels, such as percentile:1,99) or CENTER,WIDTH (such as 40,400)",
        "auto",
    )
    on_error: str = setting(
        "what becomes of files and rows that cannot be used: stop (with their names) "
        "or skip (leave them out; the run's skipped.csv tells which)",
        "stop",
        choices=("stop", "skip"),
    )

    @property
    def fold_number(self) -> int | None:
        """Return which of the folds of all repeats is test; None if not just one is."""
        if not self.cross_validation or self.fold < 0:
            return None
        return self.repeat * self.folds + self.fold


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """What happens to training images, at random and anew in every epoch."""

    preset: str = setting(
        "none; for a kind of image xray, microscopy, histology, dermoscopy, ultrasound "
        "or fundus; or a tutorial's list: flip_rotate_jitter, zoom_flip, "
        "zoom_flip_rotate_jitter, shift_flip_rotate_jitter",
        "none",
    )
    horizontal_flip: str = setting(
        "preset (as the preset has it), or on or off",
        "preset",
        choices=("preset", "on", "off"),
    )
    random_erasing: float = setting(
        "probability of painting a box of an image black, which comes last",
        0.0,
        low=0,
        high=1,
    )


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network and the weights it starts from."""

    backbone: str = setting("architecture, by torchvision's name", "resnet18")
    in_channels: int = setting(
        "channels the network sees: 3, or 1 with a stem for gray images",
        3,
        choices=(1, 3),
    )
    stem: str = setting(
        "with one channel, what the pretrained RGB stem becomes: sum (over RGB, which "
        "keeps what the next layers get), mean (a third of it, which a trained "
        "BatchNorm takes out again) or auto (sum if the stem is frozen in the first "
        "phase, else mean)",
        "auto",
        choices=("auto", "sum", "mean"),
    )
    head: str = setting(
        "linear; dropout (dropout, linear); or hidden (linear, ReLU, dropout, linear)",
        "linear",
        choices=("linear", "dropout", "hidden"),
    )
    hidden_features: int = setting("units of the hidden layer", 256, low=1)
    dropout: float = setting(
        "probability of dropping a unit, in [0, 1)", 0.5, low=0, below=1
    )
    single_logit: bool = setting(
        "true: one logit and its sigmoid, not two and their softmax; binary tasks only",
        False,
    )
    pool: str = setting(
        "own (as torchvision's; of a vision transformer the class token) or average "
        "(VGG without its two hidden layers); of vision transformers alone "
        "class_and_average, or last_4_and_average (the class tokens of four blocks)",
        "own",
        choices=("own", "average", "class_and_average", "last_4_and_average"),
    )
    norm_momentum: float = setting(
        "share of a batch's own statistics in an update of BatchNorm's running ones, "
        "torch's momentum; 0 for the architecture's. EfficientNet-Lite's 0.01 takes "
        "hundreds of steps to forget where it began",
        0.0,
        low=0,
        high=1,
    )
    weights: str = setting(
        "starting weights: none (random), imagenet (torchvision's default), "
        "IMAGENET1K_V1, IMAGENET1K_V2 or IMAGENET1K_FEATURES (vgg16 with pool "
        "average), file:PATH (.pth, .pt, .ckpt, .safetensors, or a folder of the "
        "Hugging Face Hub's layout), hf:owner/name on that Hub, or run:FOLDER of a "
        "finished run (looked for below --out, then from here)",
        "none",
    )
    keep_head: bool = setting(
        "true: with run:FOLDER, the head goes on from that run's too, in place of a "
        "fresh one; its classes must be the same, in the same order",
        False,
    )
    mean: tuple[float, ...] = setting(
        "subtracted from images in [0, 1], a number per channel; empty for what the "
        "weights want: with file:PATH what torchvision's want, for a file does not say",
        (),
        low=0,
        high=1,
    )
    std: tuple[float, ...] = setting(
        "what they are then divided by, in the same way", (), low=1e-3, high=1
    )

    def arguments(self, classes: int) -> dict[str, Any]:
        """Return what `create_model` takes for a task of so many classes."""
        return {
            "name": self.backbone,
            "num_classes": 1 if self.single_logit else classes,
            "in_channels": self.in_channels,
            "head": self.head,
            "hidden_features": self.hidden_features,
            "dropout": self.dropout,
            "pool": self.pool,
            "norm_momentum": self.norm_momentum,
        }


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Options that a recipe's [train] and `jaxmed.fit` share, declared here alone."""

    batch_size: int = setting("images the network sees at once", 32, low=1)
    accumulate: int = setting(
        "batches whose gradients make one optimizer step", 1, low=1
    )
    ema: float = setting(
        "decay of a moving average of the weights, which is then validated and kept; "
        "it grows to this as (1 + step) / (10 + step); 0 for none",
        0.0,
        low=0,
        below=1,
    )
    sampling: str = setting(
        "shuffle (every training image once an epoch) or balanced (as many, drawn with "
        "replacement, all classes alike; not if multi-label)",
        "shuffle",
        choices=("shuffle", "balanced"),
    )
    select: str = setting(
        "validation metric that chooses the best epoch",
        "val_auroc",
        choices=(
            "val_auroc",
            "val_accuracy",
            "val_loss",
            "val_auprc",
            "val_balanced_accuracy",
            "val_f1",
            "val_mcc",
        ),
    )
    checkpoint_steps: int = setting(
        "optimizer steps after which an epoch is saved that is not over yet, again and "
        "again; 0 for after whole epochs only; the results do not depend on it",
        1000,
        low=0,
        neutral=True,
    )
    feed: str = setting(
        "where training images are kept, which changes no result: resident (on the "
        "devices), stream (read ahead while they compute) or auto (resident if they "
        "fit)",
        "auto",
        choices=("auto", "resident", "stream"),
        neutral=True,
    )
    precision: str = setting(
        "what layers compute in: float32, bfloat16 (parameters, statistics, logits and "
        "loss stay float32; predictions follow) or auto (bfloat16 on TPUs and on "
        "NVIDIA's GPUs from Ampere on, else float32)",
        "auto",
        choices=("auto", "float32", "bfloat16"),
    )


@dataclass(frozen=True, kw_only=True)
class TrainConfig(TrainingOptions):
    """How the network is trained."""

    strategy: str = setting(
        f"what is trained when: {', '.join(PRESETS)} (several strategies in order); "
        f"{', '.join(FEATURE_CLASSIFIERS)} (which classify features of a frozen "
        "network, and train none); or your own: package.module:function, or the name "
        "that an installed package gives it; `list --strategies` tells about them",
        "two_phase",
    )
    options: dict[str, Any] = field(
        default_factory=dict,
        metadata={
            "doc": "of the strategy, such as epochs or learning_rate, or "
            "phases.2.epochs of a sequence's second part; `list --strategies` shows "
            "them"
        },
    )
    cache: str = setting(
        "cached activations of frozen layers: auto (where they save time), float32 or "
        "bfloat16 (wherever they can be cached), or off",
        "auto",
        choices=("auto", "off", "float32", "bfloat16"),
    )
    cache_memory: float = setting(
        "gigabytes of cached activations to keep in memory; more goes to disk, below "
        "the run",
        4.0,
        low=0,
    )
    cache_disk: float = setting(
        "gigabytes of cached activations to keep in the cache folder for other runs of "
        "the same frozen layers and images; 0 keeps none",
        10.0,
        low=0,
        neutral=True,
    )
    cache_views: int = setting(
        "views of each augmented image to draw once and keep; 0 draws anew in every "
        "epoch and keeps nothing",
        0,
        low=0,
    )
    loss: str = setting(
        "cross_entropy (of a softmax; of sigmoids if multi-label or a single logit) or "
        "focal (which counts images less the surer they are right)",
        "cross_entropy",
        choices=("cross_entropy", "focal"),
    )
    focal_gamma: float = setting(
        "of the focal loss: how much less, 0 for not at all", 2.0, low=0
    )
    label_smoothing: float = setting(
        "share of each target spread evenly over the classes, in [0, 1)",
        0.0,
        low=0,
        below=1,
    )
    class_weights: str = setting(
        "none; or balanced: N / (K n_c) for each of K classes, n_c of N training "
        "images; negatives / positives per label if multi-label or a single logit",
        "none",
        choices=("none", "balanced"),
    )
    mixup: float = setting(
        "alpha of MixUp, whose share is drawn from Beta(alpha, alpha); 0 for none",
        0.0,
        low=0,
    )
    cutmix: float = setting(
        "alpha of CutMix, 0 for none; with mixup, each batch takes one of the two",
        0.0,
        low=0,
    )
    seeds: tuple[int, ...] = setting(
        "one run per seed; a seed decides the head's first weights and the order of "
        "the images",
        (0,),
        low=0,
        high=2**31 - 1,
    )


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """How the numbers are made from the predictions."""

    resamples: int = setting(
        "bootstrap resamples behind each 95 % interval", 2000, low=100
    )
    seed: int = setting("seed of the bootstrap", 0, low=0, high=2**31 - 1)
    tta: str = setting(
        "test-time augmentation: none, or views of each val and test image over which "
        "probabilities are averaged: flip (with its mirror image), five_crop (corners "
        "and middle, with data.resize crop), ten_crop (and mirrored) or dihedral (four "
        "quarter turns, and mirrored: where there is no up, as under a microscope). "
        "None that mirrors where left and right differ, as on chest X-rays. Epochs are "
        "chosen without",
        "none",
        choices=("none", "flip", "five_crop", "ten_crop", "dihedral"),
    )
    threshold: str = setting(
        "how the decision threshold is chosen on val: youden (Youden's J), sensitivity "
        "or specificity (at least the target), cost, f1, or 0.5 as it stands",
        "youden",
        choices=("youden", "sensitivity", "specificity", "cost", "f1", "0.5"),
    )
    target: float = setting(
        "sensitivity or specificity to reach on val, where the threshold is that",
        0.9,
        low=0.01,
        high=1,
    )
    cost: float = setting(
        "of a missed positive, if a false alarm costs 1, where the threshold is cost",
        1.0,
        low=1e-6,
    )
    prevalence: float = setting(
        "share of positives where the model is to be used, to tell PPV and NPV and "
        "expect costs at; 0 for the study's own; binary tasks only",
        0.0,
        low=0,
        below=1,
    )
    calibration: str = setting(
        "what is fitted on val: temperature; vector (a scale and a bias per class); or "
        "platt (a scale and a bias of a single logit, or of each label's)",
        "temperature",
        choices=("temperature", "vector", "platt"),
    )
    by_patient: str = setting(
        "where patients have several images, how their probabilities become one, which "
        "is then evaluated too: mean, max or noisy_or (1 - the product of 1 - p; both "
        "for binary and multi-label tasks), or off",
        "mean",
        choices=("mean", "max", "noisy_or", "off"),
    )


@dataclass(frozen=True, kw_only=True)
class ExplainConfig:
    """Which test images get a map of what the network looked at, and how."""

    images: int = setting(
        "test images to explain, a third each with the highest loss, least certain and "
        "drawn at random; 0 for none",
        24,
        low=0,
        high=1000,
    )
    method: str = setting(
        "how: class-activation maps (the names with cam), or maps of the pixels "
        "themselves, which cost a pass for each of 50 samples or of the squares",
        "grad_cam",
        choices=tuple(METHODS),
    )
    layer: str = setting(
        "whose map a class-activation map is of, by torchvision's name, such as layer3 "
        "or features.28; empty for the last feature map",
        "",
    )
    faithfulness: bool = setting(
        "true: measure how faithful the method is to the model, on as many test images "
        "drawn at random: insertion, deletion and ROAD beside random maps, and with "
        "random weights; takes hundreds of passes an image",
        False,
    )


@dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """One arm of an experiment, or the base all its arms share."""

    name: str = setting("name of the experiment, and of its folder below --out")
    description: str = setting("what the experiment shows, in a sentence", "")
    source: str = setting("where the experiment is published", "")
    needs: tuple[str, ...] = setting(
        "recipes (names, or paths of .toml files) to run first, into the same --out",
        (),
    )
    data: DataConfig
    augment: AugmentConfig
    model: ModelConfig
    train: TrainConfig
    evaluate: EvaluateConfig
    explain: ExplainConfig


def sections() -> dict[str, Any]:
    """Return the tables of a recipe: {"data": DataConfig, ...}."""
    return {f.name: f.type for f in fields(ExperimentConfig) if is_section(f.type)}


def neutral_settings() -> tuple[str, ...]:
    """Returns the settings that change no result, such as "train.feed"."""
    return tuple(
        f"{name}.{declared.name}"
        for name, section in sections().items()
        for declared in fields(section)
        if declared.metadata.get("neutral")
    )

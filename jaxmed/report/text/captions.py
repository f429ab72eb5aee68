"""Facts about an experiment, and the introductions of the report's sections."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxmed.report.arm_estimates import Comparison
from jaxmed.report.figures.training_curves import rates_vary
from jaxmed.report.page import SAMPLES_WIDTH, EmbeddedImage, embed_file
from jaxmed.report.tables.comparison import interval_sentences
from jaxmed.report.text.phases import read_phases
from jaxmed.runs.record import Arm, RunRecord


def augmented_images(arms: Sequence[Arm]) -> list[EmbeddedImage]:
    """Embed augmented training images; arms with the same augmentation share one.

    An arm that was trained on its images as they are has none.
    """
    sharing: dict[str, list[Arm]] = {}
    for arm in arms:
        if words := describe_augmentation(arm.first.environment):
            sharing.setdefault(words, []).append(arm)
    shots = []
    for words, some in sharing.items():
        everyone = len(some) == len(arms)
        names = "all arms" if everyone else ", ".join(arm.name for arm in some)
        path = some[0].first.folder / "augmented.png"
        if path.exists():
            alt = (
                f"Training images of {names}: in each row one as it is, and then as "
                "training sees it, changed at random."
            )
            caption = f"{names}: {words}"
            shots.append(embed_file(path, alt, SAMPLES_WIDTH, caption))
    return shots


def describe_augmentation(environment: dict[str, Any]) -> str:
    """Format the recorded augmentations with their settings, or ""."""
    spelled = []
    for op in environment.get("augmentation") or []:
        settings = [
            f"{name} {_format_setting(op[name])}" for name in op if name != "op"
        ]
        spelled.append(f"{op['op']} {', '.join(settings)}".strip())
    return "; ".join(spelled)


def _format_setting(value: Any) -> str:
    if isinstance(value, list):
        return " to ".join(map(_format_setting, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


RESIZED = {
    "squash": "squashed to a square",
    "pad": "padded to a square with black",
    "crop": "the middle",
}


def facts(arms: Sequence[Arm], when: str) -> list[tuple[str, str]]:
    """Return terms and texts for the page header: data, arms, device, time."""
    run = arms[0].first
    data = run.environment.get("data", {})
    classes = ", ".join(run.class_names[:12])
    if len(run.class_names) > 12:
        classes += f", … ({len(run.class_names)} in all)"
    if run.task == "binary" and run.metrics.get("positive_class"):
        classes += f" (positive: {run.metrics['positive_class']})"
    found = [
        ("Data", str(data.get("source", "not recorded"))),
        ("Images", _each(arms, _sizes)),
        ("Network sees", _each(arms, _seen)),
        ("Seeds", _grouped({arm.name: _seeds(arm) for arm in arms})),
        ("Starting weights", _each(arms, _weights)),
        ("Device", _each(arms, _devices)),
        ("Finished", when),
        ("Classes", f"{run.task}: {classes}"),
    ]
    version = run.environment.get("jaxmed")
    revision = str(run.environment.get("git_revision") or "")
    revision = revision[:12] + ("-dirty" if revision.endswith("-dirty") else "")
    if version:
        made = f"{version} ({revision})" if revision else str(version)
        found.insert(-1, ("jaxmed", made))
    return found


def section_notes(comparison: Comparison) -> dict[str, str]:
    """Return a sentence or two for each section, by section."""
    arms, several = comparison.arms, comparison.several_seeds
    shown = ""
    if several:
        seeds = sorted({arm.first.seed for arm in arms})
        shown = f" Shown is the lowest seed ({', '.join(map(str, seeds))}) of each arm."
    binary = arms[0].first.task == "binary"
    roc = "ROC curves of the test split"
    if binary:
        roc += ", with the point of the threshold that was chosen on val; the curve "
        roc += "is thick where thresholds chosen in resamples of val lie."
        roc += " Thin lines are the other seeds." if several else ""
    else:
        roc += ", each class against the rest, and their macro average."
    roc += (
        " Beside them precision over recall, and how many images are positive at all. "
        "Bands are 95 % intervals, point by point."
    )
    confusion = (
        " In the confusion matrices shade and percentage are shares of the true class."
    )
    if arms[0].first.task == "multilabel":
        confusion = ""
    return {
        "results": _results(comparison),
        "stages": _stages(arms),
        "training": "Dashed lines are the training split, solid ones the validation "
        "split. A dashed upright marks where a phase ends, a gray band the epoch whose "
        f"weights were kept.{_rates(arms)}{shown} All arms share their axes.",
        "discrimination": roc + confusion + shown,
        "classes": f"Test split, with 95 % intervals below each value.{shown}",
        "calibration": "How far predicted probabilities are from observed frequencies, "
        "before and after a scaling of the logits that was chosen on "
        f"{arms[0].first.metrics['calibration'].get('chosen_on', '?')}. Uprights are "
        "95 % intervals; below, how many predictions are in each of the 15 bins."
        f"{shown}",
        "subgroups": "The same model and threshold, on parts of the test split. Hollow "
        "points are of small groups, of which little can be said. Below each table are "
        "the largest gap between two groups with its interval, and a test of whether "
        "any two groups differ; that no gap is clear is no proof that there is none."
        f"{shown}",
        "usefulness": _usefulness(binary) + shown,
        "protocol": _statistics(arms),
    }


def _results(comparison: Comparison) -> str:
    """Explain the points, intervals and tests of the results."""
    arms, several = list(comparison.arms), comparison.several_seeds
    text = "Points are values on the test images, thick lines their 95 % intervals"
    text += " over the choice of these images, of these models."
    if several:
        text += (
            " An arm's point is the mean over its seeds, the small dots; its thin line "
            "is the 95 % interval for another training, over images and seeds."
        )
    if len(arms) > 1:
        beyond = "for another training" if several else "of these models"
        text += f" Differences are paired, on the same images, from {arms[0].name}. One"
        text += f" is beyond chance if its interval {beyond} does not reach zero"
        if len(arms) > 2:
            text += f" and its p, adjusted for {len(arms) - 1} comparisons,"
            text += " is at most 0.05"
        text += "."
    once = any(len(arm.runs) == 1 for arm in arms)
    patients = arms[0].first.predictions["test"].groups is not None
    questions = interval_sentences(several=several, single=once, patients=patients)
    return " ".join([text, *questions])


def _usefulness(binary: bool) -> str:
    text = (
        "How often the model is wrong if it leaves the images of which it is least "
        "sure to somebody else."
    )
    if not binary:
        return text
    return (
        "Net benefit: true positives less false positives, these weighted by the odds "
        "of the probability at which one would act (Vickers and Elkin, 2006). A model "
        "is of use where its curve is above those of treating all and none. The strip "
        "at the foot shows where: thin by the curves alone, thick where the 95 % "
        "intervals of both differences, threshold by threshold, are above zero too. "
        "Right, or below: " + text[0].lower() + text[1:]
    )


def _stages(arms: Sequence[Arm]) -> str:
    phases = [phase for arm in arms for phase in read_phases(arm.first)]
    text = (
        "What each phase trains: a box is a stage of the network, wider the more "
        "parameters it has, and its color the learning rate, on a scale that all arms "
        "share."
    )
    if any(phase.schedule for phase in phases):
        text += " Where the rate follows a schedule, its highest value is shown."
    if any(stage.partial for phase in phases for stage in phase.stages):
        text += (
            " A box with a gray half is trained in part: the half has the share of its "
            "parameters that is."
        )
    return text


def _rates(arms: Sequence[Arm]) -> str:
    if not any(rates_vary(run) for arm in arms for run in arm.runs):
        return ""
    return " The lowest panel has the learning rate of each group of parameters."


def _statistics(arms: Sequence[Arm]) -> str:
    """Describe unusual BatchNorm statistics, by arm and phase."""
    text = []
    if found := _phases_with(arms, "updating_bn_stats"):
        text.append(
            f"In {found} frozen BatchNorm layers update their statistics, as in "
            "programs that call model.train(); frozen features change with them."
        )
    if found := _phases_with(arms, "frozen_bn_stats"):
        text.append(
            f"In {found} trained BatchNorm layers keep the statistics that they "
            "started with."
        )
    return " ".join(text)


def _phases_with(arms: Sequence[Arm], entry: str) -> str:
    """List the phases with an entry: "two_phase (phase head), full (phase all)"."""
    found = []
    for arm in arms:
        phases = (arm.first.environment.get("parameters") or {}).get("phases") or ()
        names = [str(phase.get("name", "")) for phase in phases if phase.get(entry)]
        if names:
            found.append(f"{arm.name} (phase {', '.join(names)})")
    return ", ".join(found)


def _seeds(arm: Arm) -> str:
    return ", ".join(str(run.seed) for run in arm.runs)


def _grouped(texts: Mapping[str, str]) -> str:
    """Join texts by name; names with the same text share it."""
    if len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    names = {
        text: [n for n, t in texts.items() if t == text] for text in texts.values()
    }
    return "; ".join(f"{', '.join(who)}: {text}" for text, who in names.items())


def _each(arms: Sequence[Arm], describe) -> str:
    """Describe each arm; arms with the same text share it."""
    return _grouped({arm.name: describe(arm.first) for arm in arms})


def _sizes(run: RunRecord) -> str:
    data = run.environment.get("data", {})
    sizes = data.get("sizes") or {s: len(p.ids) for s, p in run.predictions.items()}
    return ", ".join(f"{split} {size:,}" for split, size in sizes.items())


def _seen(run: RunRecord) -> str:
    """Describe the network's input: "224 x 224 pixels, padded; 2 views"."""
    preprocessing = run.environment.get("preprocessing") or {}
    if "image_size" not in preprocessing:
        return "not recorded"
    side = preprocessing["image_size"]
    resizing = preprocessing.get("resizing") or {}
    mode = str(resizing.get("mode", "squash"))
    how = RESIZED.get(mode, mode)
    if mode == "crop" and resizing.get("factor"):
        how = f"the middle, 1 / {resizing['factor']:.3g} of the shorter side"
    text = f"{side} × {side} pixels, {how}"
    window = preprocessing.get("window") or {}
    if limits := window.get("limits"):
        text += f"; gray values {limits[0]:g} to {limits[1]:g}"
    views = run.metrics.get("tta", "none")
    return text if views == "none" else f"{text}; mean of views: {views}"


def _weights(run: RunRecord) -> str:
    weights = run.environment.get("weights")
    if isinstance(weights, dict):
        return str(weights.get("name", "not recorded"))
    return str(weights) if weights else "not recorded"


def _devices(run: RunRecord) -> str:
    devices = run.environment.get("devices")
    if isinstance(devices, str):
        return devices
    names = [_device(device) for device in devices or ()]
    said = _counted(names) or "not recorded"
    # JAX falls back to the CPU without a word where it finds nothing else.
    alone = bool(names) and all(name.lower() == "cpu" for name in names)
    return f"{said} (no GPU or TPU in use)" if alone else said


def _device(device: Any) -> str:
    if isinstance(device, dict):
        return " ".join(map(str, device.values()))
    return str(device)


def _counted(names: Iterable[str]) -> str:
    counts = Counter(names).items()
    return ", ".join(f"{n} × {name}" if n > 1 else name for name, n in counts)

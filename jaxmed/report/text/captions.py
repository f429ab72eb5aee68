"""Facts about an experiment, and the introductions of the report's sections."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxmed.report.arm_estimates import Comparison
from jaxmed.report.figures.training_curves import rates_vary
from jaxmed.report.page import SAMPLES_WIDTH, EmbeddedImage, embed_file
from jaxmed.report.tables.comparison import interval_sentences
from jaxmed.report.text.phases import read_phases
from jaxmed.runs.layout import AUGMENTED
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
        path = some[0].first.folder / AUGMENTED
        if path.exists():
            alt = (
                f"Training images of {names}: in each row an original image and "
                "randomly augmented versions of it."
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
    "crop": "center crop",
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
    entries = [
        ("Data", str(data.get("source", "not recorded"))),
        ("Images", _each(arms, _sizes)),
        ("Network input", _each(arms, describe_input)),
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
        program = f"{version} ({revision})" if revision else str(version)
        entries.insert(-1, ("jaxmed", program))
    return entries


def section_notes(comparison: Comparison) -> dict[str, str]:
    """Return a sentence or two for each section, by section."""
    arms, several = comparison.arms, comparison.several_seeds
    seed_note = ""
    if several:
        seeds = sorted({arm.first.seed for arm in arms})
        seed_note = f" Each arm's lowest seed is shown ({', '.join(map(str, seeds))})."
    binary = arms[0].first.task == "binary"
    curves = "ROC and precision-recall curves of the test split"
    if binary:
        curves += (
            "; points are at the threshold chosen on val. A thick segment marks the "
            "thresholds chosen in bootstrap resamples of val."
        )
        curves += " Thin lines are the other seeds." if several else ""
    else:
        curves += ", one-vs-rest, with their macro average."
    curves += " Bands are pointwise 95 % intervals. Dotted lines are chance level."
    if arms[0].first.task != "multilabel":
        curves += (
            " In confusion matrices, shade and percentage are shares of the true class."
        )
    split = arms[0].first.metrics["calibration"].get("chosen_on", "?")
    return {
        "results": _results(comparison),
        "stages": _stages(arms),
        "training": "Dashed lines: training split; solid lines: validation split. A "
        "dashed vertical line marks the end of a phase, a gray band the selected epoch."
        f"{_rates(arms)} All arms have the same axes.{seed_note}",
        "discrimination": curves + seed_note,
        "classes": f"Test split; 95 % intervals are below each value.{seed_note}",
        "calibration": "Reliability diagrams: observed frequency over predicted "
        f"probability, before and after a scaling of the logits that was fitted on "
        f"{split}. Error bars are 95 % intervals; histograms count the predictions in "
        f"each of 15 bins.{seed_note}",
        "subgroups": "The same model and threshold on parts of the test split. Hollow "
        "points are small groups with unreliable numbers. Below each table are the "
        "largest gap between two groups, with its interval, and a test of whether any "
        "two groups differ. A gap that is not significant does not show that there is "
        f"none.{seed_note}",
        "utility": _utility(binary) + seed_note,
        "protocol": _statistics(arms),
    }


def _results(comparison: Comparison) -> str:
    """Explain the points, intervals and tests of the results."""
    arms, several = list(comparison.arms), comparison.several_seeds
    text = (
        "Points are test metrics. Thick lines are 95 % intervals over the test images, "
        "for these trained models."
    )
    if several:
        text += (
            " An arm's point is the mean over its seeds (small dots). Its thin line is "
            "the 95 % interval for retrained models, over images and seeds."
        )
    if len(arms) > 1:
        model = "retrained models" if several else "these models"
        text += f" Differences from {arms[0].name} are paired by image. A difference is"
        text += f" significant if its 95 % interval for {model} excludes zero"
        if len(arms) > 2:
            text += f" and its p, adjusted for {len(arms) - 1} comparisons,"
            text += " is at most 0.05"
        text += "."
    single = any(len(arm.runs) == 1 for arm in arms)
    patients = arms[0].first.predictions["test"].groups is not None
    limits = interval_sentences(several=several, single=single, patients=patients)
    return " ".join([text, *limits])


def _utility(binary: bool) -> str:
    text = (
        "Risk-coverage curves: the error rate if the model abstains on the images of "
        "which it is least certain."
    )
    if not binary:
        return text
    return (
        "Decision curves: net benefit is the rate of true positives minus that of "
        "false positives, weighted by the odds of the threshold probability (Vickers "
        "and Elkin, 2006). A model is useful where its curve is above those of "
        "treating all and treating none. The strip at the bottom marks these "
        "thresholds: thin by the curves alone, thick where the pointwise 95 % "
        f"intervals of both differences are above zero. {text}"
    )


def _stages(arms: Sequence[Arm]) -> str:
    phases = [phase for arm in arms for phase in read_phases(arm.first)]
    text = (
        "Strategy diagram: a row per phase, a box per stage of the network. The width "
        "of a box grows with the stage's parameters; its color is the learning rate, "
        "on the same scale for all arms."
    )
    if any(phase.schedule for phase in phases):
        text += " With a schedule, the highest learning rate is shown."
    if any(stage.partial for phase in phases for stage in phase.stages):
        text += (
            " A box with a gray half is trained in part: the half states the share of "
            "trained parameters."
        )
    return text


def _rates(arms: Sequence[Arm]) -> str:
    if not any(rates_vary(run) for arm in arms for run in arm.runs):
        return ""
    return " The lowest panel shows the learning rate of each parameter group."


def _statistics(arms: Sequence[Arm]) -> str:
    """Describe unusual BatchNorm statistics, by arm and phase."""
    text = []
    if phases := _phases_with(arms, "updating_bn_stats"):
        text.append(
            f"In {phases} frozen BatchNorm layers update their statistics, as in "
            "programs that call model.train(); frozen features change with them."
        )
    if phases := _phases_with(arms, "frozen_bn_stats"):
        text.append(
            f"In {phases} trained BatchNorm layers keep the statistics that they "
            "started with."
        )
    return " ".join(text)


def _phases_with(arms: Sequence[Arm], entry: str) -> str:
    """List the phases with an entry: "two_phase (phase head), full (phase all)"."""
    texts = []
    for arm in arms:
        phases = (arm.first.environment.get("parameters") or {}).get("phases") or ()
        names = [str(phase.get("name", "")) for phase in phases if phase.get(entry)]
        if names:
            texts.append(f"{arm.name} (phase {', '.join(names)})")
    return ", ".join(texts)


def _seeds(arm: Arm) -> str:
    return ", ".join(str(run.seed) for run in arm.runs)


def _grouped(texts: Mapping[str, str]) -> str:
    """Join texts by name; names with the same text share it."""
    if len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    names = {
        text: [n for n, t in texts.items() if t == text] for text in texts.values()
    }
    return "; ".join(f"{', '.join(arms)}: {text}" for text, arms in names.items())


def _each(arms: Sequence[Arm], describe) -> str:
    """Describe each arm; arms with the same text share it."""
    return _grouped({arm.name: describe(arm.first) for arm in arms})


def _sizes(run: RunRecord) -> str:
    data = run.environment.get("data", {})
    sizes = data.get("sizes") or {s: len(p.ids) for s, p in run.predictions.items()}
    return ", ".join(f"{split} {size:,}" for split, size in sizes.items())


def describe_input(run: RunRecord) -> str:
    """Describe the network's input: "224 x 224 pixels, padded; 2 views"."""
    preprocessing = run.environment.get("preprocessing") or {}
    if "image_size" not in preprocessing:
        return "not recorded"
    side = preprocessing["image_size"]
    resizing = preprocessing.get("resizing") or {}
    mode = str(resizing.get("mode", "squash"))
    how = RESIZED.get(mode, mode)
    if mode == "crop" and resizing.get("factor"):
        how = f"center crop, 1 / {resizing['factor']:.3g} of the shorter side"
    text = f"{side} × {side} pixels, {how}"
    window = preprocessing.get("window") or {}
    if limits := window.get("limits"):
        text += f"; gray values {limits[0]:g} to {limits[1]:g}"
    views = run.metrics.get("tta", "none")
    return text if views == "none" else f"{text}; test-time views: {views}"


def _weights(run: RunRecord) -> str:
    weights = run.environment.get("weights")
    if isinstance(weights, dict):
        name = str(weights.get("name", "not recorded"))
        wanted = weights.get("normalization")
        return f"{name}; images normalized by {wanted}" if wanted else name
    return str(weights) if weights else "not recorded"


def _devices(run: RunRecord) -> str:
    devices = run.environment.get("devices")
    if isinstance(devices, str):
        return devices
    names = [_device(device) for device in devices or ()]
    text = _counted(names) or "not recorded"
    # JAX falls back to the CPU without a word where it finds nothing else.
    cpu_only = bool(names) and all(name.lower() == "cpu" for name in names)
    return f"{text} (no GPU or TPU in use)" if cpu_only else text


def _device(device: Any) -> str:
    if isinstance(device, dict):
        return " ".join(map(str, device.values()))
    return str(device)


def _counted(names: Iterable[str]) -> str:
    counts = Counter(names).items()
    return ", ".join(f"{n} × {name}" if n > 1 else name for name, n in counts)

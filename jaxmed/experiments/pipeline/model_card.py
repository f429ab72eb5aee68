"""MODEL_CARD.md: what a run's model is for, what it is worth, and where it ends.

The sections are those of Mitchell et al., "Model Cards for Model Reporting", FAT* 2019,
as far as a program can know them.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxmed.config.schema import ExperimentConfig
from jaxmed.data.images.window import read_window

# Of metrics.json's "test", in this order, as far as the task has them. In binary tasks
# decisions are those at the threshold, as far as they are recorded.
OVERALL = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "f1": "F1",
    "mcc": "MCC",
}
DECIDED = ("accuracy", "f1", "mcc")
AT_THRESHOLD = {
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "ppv": "PPV",
    "npv": "NPV",
}
CALIBRATION = {
    "ece": "calibration error (ECE)",
    "intercept": "calibration intercept",
    "slope": "calibration slope",
}
LIMITS = """\
- **Not for clinical use.** Nothing here was reviewed by a regulator or tried on
  patients; no diagnosis or treatment may rest on it.
- The intervals tell what chance did to these test images, not what another training,
  hospital, device, population or time would do; test on images of your own first.
- Predictive values are those of the test images' share of positives.
- Where `predict` finds an image out of distribution, do not rely on its prediction;
  that an image is not does not mean that the model is right.
- A saliency map explains the model, not the disease."""


def describe_run(
    folder: Path,
    config: ExperimentConfig,
    environment: Mapping[str, Any],
    metrics: Mapping[str, Any],
) -> str:
    """Returns the text of a run's MODEL_CARD.md.

    Args:
        folder: of the run.
        config: of its arm.
        environment: the content of environment.json.
        metrics: the content of metrics.json.
    """
    return "\n".join(_lines(folder, config, environment, metrics)) + "\n"


def _lines(
    folder: Path,
    config: ExperimentConfig,
    environment: Mapping[str, Any],
    metrics: Mapping[str, Any],
) -> Iterator[str]:
    data, model, names = environment["data"], config.model, metrics["class_names"]
    sizes, best = data["sizes"], environment["best"]
    arm, seed = folder.absolute().parts[-2:]
    yield f"# Model card: {config.name}, {arm}, {seed}\n"
    yield f"{config.description}\n" if config.description else "A jaxmed run.\n"
    yield "## Purpose\n"
    yield (
        f"Research on how well {', '.join(names)} can be told from images such as "
        f"those of `{data['source']}` ({metrics['task']}). **Not for clinical use.**\n"
    )
    yield "## Model\n"
    start = environment["weights"]["name"]
    yield (
        f"- {model.backbone} with a {model.head} head, started from weights "
        f"`{start}`, trained by `{config.train.strategy}`; weights of epoch "
        f"{best['epoch']}, chosen by {best['metric']}."
    )
    side, resize = config.data.image_size, config.data.resize
    yield (
        f"- Input: {side} x {side} pixels ({resize}), {model.in_channels} channels; "
        f"test-time augmentation: {config.evaluate.tta}."
    )
    window = read_window(environment["preprocessing"]["window"])
    yield (f"- Gray values of more than 8 bits: black to white is {window.describe()}.")
    yield f"- jaxmed {environment['jaxmed']}, jax {environment['jax']}.\n"
    yield "## Data\n"
    yield (
        f"- `{data['source']}`: {sizes['train']:,} images to train, {sizes['val']:,} "
        f"to choose epoch, threshold and calibration, {sizes['test']:,} to test."
    )
    yield f"- Fingerprint {data['fingerprint'][:16]}; split: {config.data.split}."
    if data["skipped"]:
        yield f"- {data['skipped']:,} files or rows were left out."
    yield "\n## Results on test, with 95 % intervals\n"
    yield from _results(metrics)
    yield f"\n{_independent(data)}"
    yield "\n## Decisions\n"
    yield from _decisions(metrics)
    yield "\n## Limits\n"
    yield LIMITS


def _results(metrics: Mapping[str, Any]) -> Iterator[str]:
    yield "| metric | value |\n|---|---|"
    binary = metrics["task"] == "binary"
    for key, title in OVERALL.items():
        if binary and key in DECIDED:
            found = metrics["test_at_threshold"][key]
            yield f"| {title} at the threshold | {_spell(found)} |"
            title += " at 0.5"
        elif metrics["task"] == "multilabel" and key == "accuracy":
            title += " at 0.5, of all labels"
        if key in metrics["test"]:
            yield f"| {title} | {_spell(metrics['test'][key])} |"
    decided = metrics["test_at_threshold"]
    for name, found in ({"": decided} if binary else decided).items():
        for key, title in AT_THRESHOLD.items():
            if key in found:
                of = f", {name} against the rest" if name else ""
                yield f"| {title} at the threshold{of} | {_spell(found[key])} |"
    found = metrics["calibration"]["test"]
    for key, title in CALIBRATION.items():
        for name, when in ((key, "before"), (f"{key}_calibrated", "after")):
            if name in found:
                yield f"| {title} {when} calibration | {_spell(found[name])} |"


def _independent(data: Mapping[str, Any]) -> str:
    """Says what the intervals take as drawn."""
    if "groups" in data:
        return "The intervals are of whole patients or groups of images."
    return (
        "Which images are of one patient was not told: the intervals take images as "
        "independent, and are too narrow if patients have several."
    )


def _decisions(metrics: Mapping[str, Any]) -> Iterator[str]:
    threshold, calibration = metrics["threshold"], metrics["calibration"]
    value = threshold["value"]
    of_class = (
        value if isinstance(value, Mapping) else {metrics["class_names"][1]: value}
    )
    chosen = ", ".join(
        f"{name} {'none' if number is None else f'{number:.4g}'}"
        for name, number in of_class.items()
    )
    yield (
        f"- Thresholds of the probability before calibration, by {threshold['method']} "
        f"on val: {chosen}."
    )
    yield f"- Calibration: {calibration.get('method', 'temperature')}, fitted on val."
    if metrics["task"] in ("multiclass", "ordinal"):
        yield "- The decision is the most probable class."


def _spell(estimate: Mapping[str, Any]) -> str:
    if estimate["value"] is None:
        return f"not defined ({estimate.get('reason', 'no reason recorded')})"
    text = f"{estimate['value']:.3f}"
    if estimate.get("ci_low") is None:
        return text
    return f"{text} [{estimate['ci_low']:.3f}, {estimate['ci_high']:.3f}]"

"""Model card: intended use, data, performance and limits of a model.

It is a section of the report, and MODEL_CARD.md in the folder of every run.

Its parts follow Mitchell et al., "Model Cards for Model Reporting" (FAT* 2019).
"""

from collections.abc import Mapping
from typing import Any

from jaxmed.data.images.window import read_window
from jaxmed.report.arm_estimates import Comparison
from jaxmed.report.figures.style import format_number
from jaxmed.report.tables.comparison import INDEPENDENT
from jaxmed.report.tables.formatting import SCALINGS, estimate, metric_title
from jaxmed.report.tables.provenance import patients_sentence
from jaxmed.report.text.captions import describe_input
from jaxmed.report.text.checklist import checklist_text
from jaxmed.report.text.external_validation import ADVICE, CANNOT_TELL
from jaxmed.runs.record import Arm, RunRecord, read_validations

CAUTION = (
    "Not for clinical use. Research only: not validated for diagnosis or treatment, "
    "and not reviewed by any regulator."
)
FEW_IMAGES = 100
"""With fewer test images of a class, the card calls its metrics uncertain."""
BINARY = ("auroc", "auprc")
DECIDED = ("accuracy", "sensitivity", "specificity", "ppv", "npv")
OTHERS = ("auroc", "auprc", "accuracy", "balanced_accuracy", "f1", "mcc")


def model_card(comparison: Comparison, arm: Arm) -> list[tuple[str, list[str]]]:
    """Write the model card of an arm's lowest seed, as (heading, sentences)."""
    card = [
        ("Model", _model(arm)),
        ("Intended use", _use(arm)),
        ("Training data", _data(arm)),
        ("Performance", _performance(comparison, arm)),
        ("Decisions", _decisions(arm)),
        ("Calibration", _calibration(arm)),
        ("Limits", _limits(comparison, arm)),
    ]
    return [(heading, sentences) for heading, sentences in card if sentences]


def card_text(run: RunRecord, name: str, description: str) -> str:
    """Write the model card of one run, as MODEL_CARD.md.

    Args:
        run: its folder need not be complete yet.
        name, description: of the experiment.
    """
    arm = Arm(name=run.arm, runs=(run,))
    fold = "" if run.fold is None else f", fold {run.fold}"
    title = f"# Model card: {name}, {run.arm}{fold}, seed {run.seed}"
    parts = [title, description, CAUTION]
    for heading, sentences in model_card(Comparison([arm]), arm):
        items = "\n".join(f"- {sentence}" for sentence in sentences)
        parts.append(f"## {heading}\n\n{items}")
    parts.append(checklist_text(run))
    return "\n\n".join(filter(None, parts)) + "\n"


def _model(arm: Arm) -> list[str]:
    environment = arm.first.environment
    parameters = environment.get("parameters") or {}
    sentences = [f"Arm {arm.name}, trained with {_count(len(arm.runs), 'seed')}."]
    if total := parameters.get("total"):
        sentences.append(f"{total:,} parameters.")
    weights = environment.get("weights")
    name = weights.get("name") if isinstance(weights, dict) else weights
    if name:
        start = "random weights" if name == "none" else str(name)
        sentences.append(f"Training started from {start}")
    if best := environment.get("best"):
        sentences.append(
            f"Weights of epoch {best['epoch']} of phase {best['phase']}, selected by "
            f"{best['metric']}{_which(arm)}."
        )
    if preprocessing := environment.get("preprocessing"):
        sentences.append(f"Input: {describe_input(arm.first)}.")
        if window := preprocessing.get("window"):
            sentences.append(
                "Gray values of more than 8 bits: black to white is "
                f"{read_window(window).describe()}."
            )
    if version := environment.get("jaxmed"):
        sentences.append(f"Made with jaxmed {version}, jax {environment.get('jax')}.")
    return sentences


def _use(arm: Arm) -> list[str]:
    run = arm.first
    names = ", ".join(run.class_names[:8]) + (", …" if len(run.class_names) > 8 else "")
    return [
        f"Research on classifying images like the training images into: {names}.",
        "Not intended for other image types, devices or patient populations without an "
        "evaluation on them, nor for decisions about patient care.",
    ]


def _data(arm: Arm) -> list[str]:
    data = arm.first.environment.get("data", {})
    sizes = data.get("sizes") or {}
    sentences = [f"Source: {data['source']}"] if data.get("source") else []
    if sizes:
        numbers = ", ".join(f"{size:,} {split}" for split, size in sizes.items())
        sentences.append(f"Images: {numbers}.")
    if data.get("fingerprint"):
        sentences.append(f"Fingerprint: {data['fingerprint'][:16]}.")
    sentences.append(patients_sentence(data))
    if data.get("skipped"):
        sentences.append(
            f"{data['skipped']:,} files or rows of the source were left out."
        )
    return sentences


def _performance(comparison: Comparison, arm: Arm) -> list[str]:
    run = arm.first
    test = run.metrics["test"]
    names = BINARY if run.task == "binary" else OTHERS
    estimates = {name: comparison.estimate(arm, "test", name) for name in names}
    numbers = _numbers(estimates)
    if not numbers:
        return ["No metric is defined on the test split; the tables say why."]
    sentences = [f"On {test['n']:,} test images, with 95 % intervals: {numbers}."]
    if run.task == "binary":
        at = {name: comparison.estimate(arm, "test", name) for name in DECIDED}
        if decided := _numbers(at):
            sentences.append(f"At the threshold chosen on val: {decided}.")
    elif run.task == "multilabel":
        sentences.append("Decisions are at the thresholds chosen on val.")
    patients = run.metrics.get("by_patient") or {}
    if "test" in patients:
        of, at = patients["test"], patients["test_at_threshold"]
        shown = {name: of.get(name, {}) for name in names}
        if run.task == "binary":
            shown |= {name: at[name] for name in DECIDED[1:3]}
        sentences.append(
            f"On {of['n']:,} patients{_which(arm)}, by {patients['aggregation']} over "
            f"their images: {_numbers(shown)}."
        )
    if len(arm.runs) > 1:
        sentences.append(
            "Means over seeds; [ ] is the interval for these models on other images, "
            "retrained [ ] that for retrained models on other images."
        )
    data = run.environment.get("data", {})
    test = run.predictions.get("test")
    if (data.get("groups") if test is None else test.groups) is None:
        sentences.append(INDEPENDENT)
    return sentences


def _numbers(estimates: Mapping[str, Mapping[str, Any]]) -> str:
    """Format the defined estimates: "AUROC 0.97 [0.96, 0.98]; accuracy ..."."""
    parts = []
    for name, result in estimates.items():
        if result.get("value") is not None:
            parts.append(f"{metric_title(name)} {estimate(result).line}")
    return "; ".join(parts)


def _which(arm: Arm) -> str:
    return f" (seed {arm.first.seed})" if len(arm.runs) > 1 else ""


def _calibration(arm: Arm) -> list[str]:
    scaling = arm.first.metrics["calibration"]
    test = scaling.get("test", {})
    before, after = (test.get(n, {}).get("value") for n in ("ece", "ece_calibrated"))
    if before is None:
        return []
    sentence = (
        f"Expected calibration error on test {format_number(before)}{_which(arm)}"
    )
    if after is not None:
        method = SCALINGS.get(scaling.get("method", ""), "temperature scaling")
        sentence += f", and {format_number(after)} after {method}"
        sentence += f" fitted on {scaling['chosen_on']}"
    return [sentence + "."]


def _decisions(arm: Arm) -> list[str]:
    run = arm.first
    if run.task in ("multiclass", "ordinal"):
        return ["The decision is the most probable class."]
    threshold = run.metrics["threshold"]
    value = threshold["value"]
    by_class = value if isinstance(value, Mapping) else {run.class_names[1]: value}
    values = ", ".join(
        f"{name} {'none' if cut is None else format_number(cut)}"
        for name, cut in by_class.items()
    )
    return [
        f"Thresholds of the probability before calibration, by {threshold['method']} "
        f"on {threshold['chosen_on']}{_which(arm)}: {values}."
    ]


def _limits(comparison: Comparison, arm: Arm) -> list[str]:
    run = arm.first
    sentences = [CANNOT_TELL, _validated(run)]
    support = {
        name: estimates.get("support", 0)
        for name, estimates in run.metrics["per_class"]["test"].items()
    }
    if few := [name for name, n in support.items() if n < FEW_IMAGES]:
        shown = ", ".join(few[:6]) + (", …" if len(few) > 6 else "")
        sentences.append(
            f"Fewer than {FEW_IMAGES} test images of {shown}: their metrics are "
            "uncertain."
        )
    if len(arm.runs) == 1:
        sentences.append("One seed: the variation of results over seeds is unknown.")
    if len(comparison.arms) > 1:
        sentences.append(f"It is one of {len(comparison.arms)} compared arms.")
    if not run.metrics.get("subgroups"):
        sentences.append("Performance by sex, age, site or device was not tested.")
    else:
        names = ", ".join(run.metrics["subgroups"])
        sentences.append(
            f"The section on subgroups compares the metrics by {names}; a gap that is "
            "not significant may still exist."
        )
    sentences.append(
        "Where `predict` finds an image out of distribution, do not rely on its "
        "prediction; that an image is not does not mean that the prediction is right."
    )
    sentences.append("A saliency map explains the model, not the disease.")
    return sentences


def _validated(run: RunRecord) -> str:
    """Say on which external sets a run was validated, and how well it did there."""
    if not (validations := read_validations(run.folder)):
        return f"Not validated on images of another source. {ADVICE}"
    results = "; ".join(
        f"{name}, {metrics['test']['n']:,} images, AUROC "
        f"{estimate(metrics['test'].get('auroc')).line}"
        for name, metrics in validations.items()
    )
    return f"Validated on images of other sources: {results}."


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" + ("s" if n != 1 else "")

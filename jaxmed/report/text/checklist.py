"""Reporting checklist: items of CLAIM and TRIPOD+AI that a run answers.

Tejani et al., "Checklist for Artificial Intelligence in Medical Imaging (CLAIM): 2024
Update", Radiology: Artificial Intelligence 2024; Collins et al., "TRIPOD+AI statement",
BMJ 2024. Items are in our own words and without their numbers; the published lists are
what a journal asks for.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxmed.report.tables.provenance import patients_sentence
from jaxmed.report.text.captions import describe_input
from jaxmed.runs.record import RunRecord, read_validations

CLAIM, TRIPOD, BOTH = "CLAIM", "TRIPOD+AI", "CLAIM, TRIPOD+AI"
INTRODUCTION = (
    "Items that CLAIM 2024 and TRIPOD+AI ask for, in our own words: [x] is answered by "
    "this run, as far as stated; [ ] is for the authors. The published checklists "
    "have more detail."
)


class ChecklistItem(NamedTuple):
    """An item of the checklist.

    Attributes:
        text: the item, in a few words.
        of: the guidelines that have it.
        answer: what the run says about it; "" if nothing.
    """

    text: str
    of: str
    answer: str

    @property
    def line(self) -> str:
        """Format the item: "[x] Software (CLAIM): jaxmed 0.1.0"."""
        mark = f"[{'x' if self.answer else ' '}] {self.text} ({self.of})"
        return f"{mark}: {self.answer}" if self.answer else mark


def checklist(run: RunRecord) -> list[ChecklistItem]:
    """Answer the items that a run can answer, and leave the others open."""
    return [
        ChecklistItem(text, of, answer(run) if answer else "")
        for text, of, answer in ITEMS
    ]


def checklist_text(run: RunRecord) -> str:
    """Write the checklist as a section of MODEL_CARD.md."""
    lines = "\n".join(f"- {item.line}" for item in checklist(run))
    return f"## Reporting checklist\n\n{INTRODUCTION}\n\n{lines}"


def _external(run: RunRecord) -> str:
    return "; ".join(
        f"{name}, {metrics['test']['n']:,} images (validation/{name}/)"
        for name, metrics in read_validations(run.folder).items()
    )


def _data(run: RunRecord) -> Mapping[str, Any]:
    return run.environment.get("data") or {}


def _source(run: RunRecord) -> str:
    source, fingerprint = (_data(run).get(k) for k in ("source", "fingerprint"))
    return f"{source}, fingerprint {fingerprint[:16]}" if source and fingerprint else ""


def _preprocessing(run: RunRecord) -> str:
    return describe_input(run) if run.environment.get("preprocessing") else ""


def _left_out(run: RunRecord) -> str:
    if "skipped" not in _data(run):
        return ""
    unknown = sum(int((~p.known).sum()) for p in run.predictions.values())
    labels = f"; {unknown:,} labels of val and test are not known" if unknown else ""
    return f"{_data(run)['skipped']:,} files or rows were left out{labels}"


def _sizes(run: RunRecord) -> str:
    sizes = _data(run).get("sizes") or {}
    numbers = ", ".join(f"{n:,} {split}" for split, n in sizes.items())
    return f"{numbers} images" if sizes else ""


def _partitions(run: RunRecord) -> str:
    if not _data(run):
        return ""
    return f"split.csv; {patients_sentence(_data(run))[:-1].lower()}"


def _model(run: RunRecord) -> str:
    total = (run.environment.get("parameters") or {}).get("total")
    return f"{total:,} parameters; architecture in config.toml" if total else ""


def _start(run: RunRecord) -> str:
    weights = run.environment.get("weights")
    name = weights.get("name") if isinstance(weights, dict) else weights
    return "random weights" if name == "none" else str(name or "")


def _software(run: RunRecord) -> str:
    environment = run.environment
    if not environment.get("jaxmed"):
        return ""
    device = environment.get("device") or ", ".join(environment.get("devices") or ())
    text = f"jaxmed {environment['jaxmed']}, jax {environment.get('jax')}"
    return f"{text}; {device}" if device else text


def _training(run: RunRecord) -> str:
    phases = (run.environment.get("parameters") or {}).get("phases") or ()
    names = ", ".join(str(phase.get("name")) for phase in phases)
    return f"phases: {names}; config.toml, history.csv" if names else ""


def _selection(run: RunRecord) -> str:
    best = run.environment.get("best") or {}
    return f"best {best['metric']}" if best.get("metric") else ""


def _metrics(run: RunRecord) -> str:
    intervals = run.metrics.get("intervals") or {}
    by_patient = (
        "; by patient too" if "test" in run.metrics.get("by_patient", {}) else ""
    )
    method = intervals.get("method")
    return f"metrics.json; {method}{by_patient}" if method else ""


def _threshold(run: RunRecord) -> str:
    if run.task in ("multiclass", "ordinal"):
        return "the most probable class"
    threshold = run.metrics["threshold"]
    return f"{threshold['method']}, chosen on {threshold['chosen_on']}"


def _calibration(run: RunRecord) -> str:
    test = run.metrics["calibration"].get("test") or {}
    names = [name for name in ("ece", "slope", "oe_ratio") if name in test]
    return f"{', '.join(names)} in metrics.json" if names else ""


def _utility(run: RunRecord) -> str:
    return "decision curve in the report" if run.task == "binary" else ""


def _subgroups(run: RunRecord) -> str:
    return ", ".join(run.metrics.get("subgroups") or ())


def _explanations(run: RunRecord) -> str:
    if not run.cams:
        return ""
    tested = "; faithfulness measured" if run.faithfulness else ""
    return f"{run.cams[0].method} maps{tested}"


def _failures(run: RunRecord) -> str:
    return "test images with the highest loss, in the report" if run.cams else ""


Answer = Callable[[RunRecord], str]
ITEMS: tuple[tuple[str, str, Answer | None], ...] = (
    ("Title and abstract name the kind of study and of model", BOTH, None),
    ("Clinical background, intended use and users", BOTH, None),
    ("Objectives of the study", BOTH, None),
    ("Prospective or retrospective design, dates of collection", BOTH, None),
    ("Sources of the data", BOTH, _source),
    ("Eligibility of participants, and how they were found", BOTH, None),
    ("Preprocessing of images", BOTH, _preprocessing),
    ("De-identification", CLAIM, None),
    ("Handling of missing data", BOTH, _left_out),
    ("Reference standard, its annotators and their agreement", BOTH, None),
    ("Number of images", BOTH, _sizes),
    ("Reasons for the sample size", BOTH, None),
    ("Partitions, and the level at which they are disjoint", BOTH, _partitions),
    ("Model: architecture, inputs and outputs", BOTH, _model),
    ("Initial weights", CLAIM, _start),
    ("Software and hardware", BOTH, _software),
    ("Training: procedure, augmentation, hyperparameters", BOTH, _training),
    ("Choice of the final model", BOTH, _selection),
    ("Performance measures and their uncertainty", BOTH, _metrics),
    ("Decision threshold and its choice", BOTH, _threshold),
    ("Calibration", TRIPOD, _calibration),
    ("Clinical utility", TRIPOD, _utility),
    ("Results in subgroups, fairness", BOTH, _subgroups),
    ("Explanation of predictions", CLAIM, _explanations),
    ("Failure analysis", CLAIM, _failures),
    ("Evaluation on external data", BOTH, _external),
    ("Flow of participants, and their characteristics by partition", BOTH, None),
    ("Limitations and generalizability, for the authors to judge", BOTH, None),
    ("Involvement of patients and the public", TRIPOD, None),
    ("Ethics approval, registration and protocol", BOTH, None),
    ("Availability of data, code and model", BOTH, None),
    ("Funding and conflicts of interest", BOTH, None),
)

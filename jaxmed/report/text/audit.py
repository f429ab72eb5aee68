"""Sentences on the findings of a data audit."""

from collections.abc import Mapping
from typing import Any

Findings = Mapping[str, Any]
"""As `jaxmed.data.audit.audit.Audit.table` returns them, and inspect-NAME.json holds
them."""


def leakage_sentence(findings: Findings) -> str:
    """Return a sentence on leakage between splits."""
    leaks = findings["leaks"]
    counts = (
        (leaks["exact"], "exact duplicate", "exact duplicates"),
        (leaks["near"], "near duplicate", "near duplicates"),
        (leaks["patients"], "patient or group", "patients or groups"),
    )
    parts = [
        f"{n:,} {singular if n == 1 else plural}" for n, singular, plural in counts if n
    ]
    if parts:
        return (
            f"Leakage: {_join(parts)} in more than one split. Test results are "
            "optimistic where a model has seen these images or patients in training."
        )
    if findings["patients"] is None:
        return (
            "No image occurs in more than one split. Patients are not known: give "
            "--group-pattern if the ids name patients."
        )
    return "No leakage found: no image and no patient is in more than one split."


def finding_sentences(findings: Findings) -> list[str]:
    """Return the findings, including problems of labels, a sentence each."""
    duplicates, patients, blank = (
        findings[key] for key in ("duplicates", "patients", "blank")
    )
    sentences = [
        _duplicates_sentence("Groups of exact duplicates", duplicates["exact"])
    ]
    sentences.append(
        _duplicates_sentence("Pairs of near duplicates", duplicates["near"])
    )
    if not duplicates["complete"]:
        sentences[-1] += " There are more; the search was stopped at the limit."
    if patients is not None:
        alone = f"; {patients['alone']:,} images have ids that show none"
        sentences.append(
            f"Patients or groups: {patients['count']:,}, "
            f"{len(patients['across']):,} in more than one split"
            f"{alone if patients['alone'] else ''}."
        )
    for label, split in findings["only_in"].items():
        sentences.append(f"The class {label!r} occurs in {split} only.")
    for split, labels in findings["missing"].items():
        absent = [repr(label) for label in labels if label not in findings["only_in"]]
        if absent:
            sentences.append(f"No image of {_join(absent)} in {split}.")
    for split, unknown in findings["unknown"].items():
        if unknown:
            of = findings["images"][split]["count"]
            named = [f"{name!r} of {n:,}" for name, n in unknown.items()]
            sentences.append(
                f"Of {of:,} images in {split} labels are not known: {_join(named)}."
            )
    if findings["files"] is not None:
        sentences += _mode_sentences(findings["files"])
    if ids := blank["ids"]:
        sentences.append(f"Blank images, without contrast: {_few(ids)}.")
    sentences += [f"{note[0].upper()}{note[1:]}." for note in findings["notes"]]
    if skipped := findings["skipped"]:
        reasons = [f"{name} ({reason})" for name, reason in skipped.items()]
        sentences.append(f"Files left out: {_few(reasons)}.")
    if findings["window"]:
        sentences.append(f"Of gray values, black to white is {findings['window']}.")
    if ids := findings["few_levels"]:
        sentences.append(
            f"Images of few gray levels: {_few(ids)}. If their files have more than 8 "
            "bits, set --data.window."
        )
    return sentences


def count_lines(findings: Findings) -> list[str]:
    """Return a line on the task, and one per split: its images and classes."""
    classes = ", ".join(findings["class_names"])
    positive = findings["class_names"][-1] if findings["task"] == "binary" else ""
    named = f"; the positive class is {positive}" if positive else ""
    lines = [f"Task: {findings['task']}, of {classes}{named}"]
    for split, images in findings["images"].items():
        classes = ", ".join(f"{k} {n:,}" for k, n in findings["counts"][split].items())
        channels = "gray" if images["gray"] == 1 else f"{images['channels']} channels"
        if 0 < images["gray"] < 1:
            channels += f", {images['gray']:.1%} of the images gray"
        lines.append(
            f"{split}: {images['count']:,} images of {images['width']} x "
            f"{images['height']} pixels, {channels}; {classes}; "
            f"{format_imbalance(findings['imbalance'][split])}"
        )
    return lines


def format_imbalance(ratio: float | None) -> str:
    """Format the class imbalance: "largest class 2.9 times the smallest"."""
    if ratio is None:
        return "a class is empty"
    return f"largest class {ratio:.3g} times the smallest"


def _duplicates_sentence(title: str, duplicates: list[Findings]) -> str:
    if not duplicates:
        return f"{title}: none."
    across = sum(group["across_splits"] for group in duplicates)
    differ = sum(group["labels_differ"] for group in duplicates)
    return (
        f"{title}: {len(duplicates):,}, of them {across:,} across splits and "
        f"{differ:,} with different labels."
    )


def _mode_sentences(files: Findings) -> list[str]:
    """Return a sentence for each image mode that only some classes have."""
    return [
        f"In {split}, files of {_join(sorted(map(repr, labels)))} alone are of mode "
        f"{mode}."
        for split, by_class in files.items()
        for mode, labels in _holders(by_class).items()
        if len(labels) < len(by_class)
    ]


def _holders(by_class: Findings) -> dict[str, list[str]]:
    """Return the classes that have files of each mode, by mode."""
    holders: dict[str, list[str]] = {}
    for name, headers in by_class.items():
        for mode in headers["modes"]:
            holders.setdefault(mode, []).append(name)
    return holders


def _few(ids: list[str], shown: int = 5) -> str:
    more = f" and {len(ids) - shown:,} more" if len(ids) > shown else ""
    return ", ".join(ids[:shown]) + more


def _join(parts: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))

"""The reporting checklist: what a run answers, and what it leaves open."""

from dataclasses import replace

import numpy as np

from jaxmed.evaluation import evaluate
from jaxmed.report.text.checklist import checklist
from jaxmed.report.text.model_card import card_text
from jaxmed.runs.record import read_run


def test_items_are_answered_from_the_run_or_left_open(binary_folder):
    run = read_run(binary_folder / "two_phase" / "seed-0")
    items = {item.text: item for item in checklist(run)}
    assert items["Number of images"].answer == "1,000 train, 160 val, 160 test images"
    software = items["Software and hardware"]
    assert software.line.startswith("[x] Software and hardware (CLAIM, TRIPOD+AI): ")
    assert "jaxmed 0.1.0, jax 0.10.2; cpu" in software.line
    assert items["Decision threshold and its choice"].answer == "youden, chosen on val"
    assert items["Calibration"].answer == "ece, slope, oe_ratio in metrics.json"
    for text in ("De-identification", "Evaluation on external data"):
        assert items[text].line.startswith(f"[ ] {text} (")
    # What was not measured is open.
    assert not items["Results in subgroups, fairness"].answer
    card = card_text(run, "mine", "")
    assert "## Reporting checklist" in card
    assert all(f"- {item.line}\n" in card + "\n" for item in items.values())


def test_a_bare_run_answers_little(tmp_path, write_experiment):
    write_experiment(tmp_path / "main" / "seed-0", "multiclass", classes=3)
    items = {i.text: i.answer for i in checklist(read_run(tmp_path / "main/seed-0"))}
    answered = {text for text, answer in items.items() if answer}
    assert answered == {
        "Performance measures and their uncertainty",
        "Decision threshold and its choice",
        "Calibration",
    }


def test_card_and_checklist_have_results_by_patient(binary_folder):
    run = read_run(binary_folder / "two_phase" / "seed-0")
    groups = tuple(map(str, np.arange(160) // 2))
    splits = [replace(run.predictions[s], groups=groups) for s in ("val", "test")]
    run = replace(run, metrics=evaluate(*splits, resamples=100))
    card = card_text(run, "mine", "")
    auroc = run.metrics["by_patient"]["test"]["auroc"]["value"]
    assert f"On 80 patients, by mean over their images: AUROC {auroc:.3f} [" in card
    assert "groups of images; by patient too" in card

"""Headline: numbers against scikit-learn, and the words for a difference."""

import pytest
from fixtures.drawn_experiments import write_run
from sklearn.metrics import roc_auc_score

from jaxmed.report.arm_estimates import Comparison
from jaxmed.report.text.headline import format_difference, headline, is_clear
from jaxmed.runs.record import read_experiment


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three arms of one seed each; `strong` is the best one."""
    folder = tmp_path_factory.mktemp("headline")
    for name, skill in (("weak", 0.3), ("strong", 2.5), ("middle", 1.2)):
        run = folder / name / "seed-0"
        write_run(run, ("a", "b"), skill=skill, task="binary", bare=True)
    return folder


def comparison_of(folder, *names):
    arms, _ = read_experiment(folder, names)
    return Comparison([arm for arm in arms if arm.name in names])


def auroc(arm, split):
    predictions = arm.first.predictions[split]
    return roc_auc_score(predictions.labels, predictions.probs[:, 1])


def test_the_best_arm_on_validation_is_compared_with_the_first(folder):
    comparison = comparison_of(folder, "weak", "strong", "middle")
    weak, strong, middle = comparison.arms
    assert auroc(strong, "val") > max(auroc(weak, "val"), auroc(middle, "val"))
    result = headline(comparison)
    assert result.best is strong
    value = auroc(strong, "test")
    assert result.text.startswith(f"strong reaches a test AUROC of {value:.3f} [")
    assert f"{value - auroc(weak, 'test'):.3f} [" in result.text
    assert "above weak" in result.text
    assert "at the threshold chosen on val" in result.text
    assert result.footnote.startswith("strong has the best validation AUROC.")
    assert "adjusted for 2 comparisons" in result.footnote
    assert "Nothing was selected on the test split." in result.footnote


def test_the_test_split_does_not_choose_the_best_arm(folder):
    comparison = comparison_of(folder, "weak", "strong")
    strong = comparison.arms[1]
    # Without a validation score the better arm on test is not considered.
    strong.first.metrics["val"]["auroc"] = {"value": None}
    assert headline(comparison).best.name == "weak"


def test_the_first_arm_is_compared_with_the_second_best(folder):
    text = headline(comparison_of(folder, "strong", "weak", "middle")).text
    assert "above middle" in text
    assert "weak" not in text


def test_one_arm_has_no_comparison(folder):
    result = headline(comparison_of(folder, "strong"))
    assert "above" not in result.text
    assert "has the best" not in result.footnote


def test_no_metric_is_a_sentence_too(tmp_path):
    run = tmp_path / "main" / "seed-0"
    write_run(run, ("a", "b"), skill=1, task="binary", bare=True)
    arms, _ = read_experiment(tmp_path)
    for metric in ("auroc", "accuracy"):
        arms[0].first.metrics["val"][metric] = {"value": None}
    text = headline(Comparison(arms)).text
    assert text == "No arm has an AUROC or an accuracy; the tables say why."


def difference(value, low, high, p, **more):
    return {"value": value, "ci_low": low, "ci_high": high, "p": p} | more


@pytest.mark.parametrize(
    ("found", "clear", "text"),
    [
        (difference(0.05, 0.01, 0.09, 0.01), True, "0.050 [0.010, 0.090] above x"),
        (difference(-0.05, -0.09, -0.01, 0.01), True, "0.050 [0.010, 0.090] below x"),
        (
            difference(0.05, -0.01, 0.11, 0.1),
            False,
            "0.050 [−0.010, 0.110] above x (not significant: the interval includes "
            "zero)",
        ),
        (
            difference(0.05, 0.01, 0.09, 0.03, p_holm=0.06),
            False,
            "0.050 [0.010, 0.090] above x (p = 0.060, adjusted: not significant)",
        ),
        (
            difference(0.05, 0.01, 0.09, None),
            False,
            "0.050 [0.010, 0.090] above x (not tested)",
        ),
        # Of retrained models, where there are several seeds.
        (
            difference(0.05, 0.01, 0.09, 0.01)
            | {"another_training": {"ci_low": -0.1, "ci_high": 0.2, "p": 0.5}},
            False,
            "0.050 [−0.100, 0.200] above x (not significant: the interval includes "
            "zero)",
        ),
        # The interval of DeLong's test goes with its p.
        (
            difference(0.05, -0.01, 0.09, 0.01)
            | {"delong": {"ci_low": 0.02, "ci_high": 0.08}},
            True,
            "0.050 [0.020, 0.080] above x",
        ),
    ],
)
def test_words_for_a_difference(found, clear, text):
    assert is_clear(found) == clear
    assert format_difference(found, "x") == text


def test_an_undefined_difference_is_said_to_be_so():
    found = difference(None, None, None, None)
    assert format_difference(found, "x") == "which cannot be compared with x"

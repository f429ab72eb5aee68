"""External validation of models trained in Python, of several classes and labels."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import jaxmed
from jaxmed.data import SourceImages
from jaxmed.experiments.commands.validate import write_validation
from jaxmed.runs.layout import METRICS
from jaxmed.runtime.files import read_json


def as_labels(data):
    splits = {
        name: replace(split, labels=np.eye(3, dtype=np.int32)[split.labels])
        for name, split in data.splits.items()
    }
    return replace(data, task="multilabel", **splits)


@pytest.fixture(scope="module", params=["multiclass", "multilabel"])
def validated(request, new_tiny, quarters):
    """A model, and 25 images that are darker than its own, of two sites."""
    several = request.param == "multilabel"
    data = as_labels(quarters) if several else quarters
    model = new_tiny()
    val, test = (jaxmed.predict_split(model, data, name) for name in ("val", "test"))
    report = jaxmed.evaluate(val, test, resamples=100)
    predictor = jaxmed.make_predictor(model, data, report)
    sites = tuple("ab"[i % 2] for i in range(25))
    darker = replace(
        data.val,
        images=data.val.images // 2,
        ids=tuple(f"other/{i}" for i in range(25)),
        columns={"site": sites},
    )
    other = SourceImages(
        name="other",
        source="npz:other.npz",
        task=data.task,
        class_names=data.class_names,
        splits={"val": darker},
    )
    return jaxmed.validate(predictor, other, draws=2), report


def test_numbers_are_of_the_models_own_threshold(validated):
    found, report = validated
    metrics, predictions = found.metrics, found.predictions
    assert metrics["threshold"] == report["threshold"]
    scaling = report["calibration"]["temperature"]
    assert metrics["calibration"]["temperature"] == scaling
    for i, name in enumerate(predictions.class_names):
        of_class = metrics["per_class"]["test"][name]["auroc"]["value"]
        truth, scores = predictions.truth[:, i], predictions.probs[:, i]
        assert of_class == pytest.approx(roc_auc_score(truth, scores), abs=1e-9)
    assert set(metrics["subgroups"]) == {"site"}
    assert "the run does not say" in metrics["validation"]["notes"][-1]


def test_its_page_is_written_whole_or_not_at_all(validated, tmp_path):
    found, _ = validated
    folder = tmp_path / "validation" / "other"
    write_validation(folder, found)
    assert read_json(folder / METRICS) == found.metrics
    page = (folder / "report.html").read_text()
    for anchor in ("results", "discrimination", "subgroups", "calibration", "change"):
        assert f'id="{anchor}"' in page
    names = {path.name for path in folder.iterdir()}
    assert names == {METRICS, "predictions.csv", "report.html", "cams"}
    # Again, in its place.
    write_validation(folder, found)
    assert [path.name for path in folder.parent.iterdir()] == ["other"]

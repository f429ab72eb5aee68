"""cams/: the pictures and their index."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxmed.config.schema import ExplainConfig
from jaxmed.data.dataset import Split
from jaxmed.errors import InputError
from jaxmed.evaluation.predictions import Predictions
from jaxmed.experiments.pipeline.explanations import check_explanation, write_cams
from jaxmed.explain.explanation import explain
from jaxmed.explain.overlay import overlay
from jaxmed.inference.preprocessing import preprocessing_of
from jaxmed.models.registry import create_model

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
LABELS = np.array([0, 1, 0, 1], np.int32)
IDS = tuple("abcd")


def model_of_one_class():
    """Every feature speaks for class 0, and none for class 1."""
    model = create_model("resnet10_narrow", num_classes=2)
    kernel = model.head.out.kernel
    kernel[...] = jnp.stack([jnp.abs(kernel[:, 0]), -jnp.abs(kernel[:, 1])], axis=1)
    return model


def write(folder, model, **settings):
    probs = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.8, 0.2]])
    predictions = Predictions(
        split="test",
        ids=IDS,
        labels=LABELS,
        probs=probs,
        class_names=("round", "square"),
        task="binary",
    )
    split = Split(images=IMAGES, labels=LABELS, ids=IDS)
    preprocessing = preprocessing_of(model, 64)
    config = ExplainConfig(images=4, **settings)
    write_cams(
        folder, model, split, predictions, preprocessing=preprocessing, explain=config
    )
    return json.loads((folder / "cams" / "cams.json").read_text()), preprocessing


def test_a_map_of_nothing_is_said_to_be_no_evidence_and_drawn_without_color(tmp_path):
    entries, _ = write(tmp_path, model_of_one_class())
    assert len(entries) == 4
    for entry in entries:
        nothing = entry["predicted"] == "square"
        assert entry["degenerate"] == nothing
        assert entry["note"] == ("no evidence" if nothing else "")
        assert (entry["method"], entry["layer"]) == ("grad_cam", None)
        picture = np.asarray(Image.open(tmp_path / entry["file"]))
        left, right = np.split(picture, 2, axis=1)
        assert (left == right).all() == nothing


def test_the_method_and_the_layer_asked_for_are_used(tmp_path):
    model = create_model("resnet10_narrow", num_classes=2)
    entries, prepare = write(tmp_path, model, method="layer_cam", layer="layer2")
    assert {(e["method"], e["layer"]) for e in entries} == {("layer_cam", "layer2")}
    for entry in entries:
        image = IMAGES[IDS.index(entry["id"])]
        shown = np.array([["round", "square"].index(entry["predicted"])])
        settings = {"method": "layer_cam", "layer": "layer2"}
        (cam,) = explain(model, prepare(image[None]), shown, **settings).maps
        picture = np.asarray(Image.open(tmp_path / entry["file"]))
        assert np.abs(picture.astype(int) - overlay(image, cam)).max() <= 1


@pytest.mark.slow
def test_integrated_gradients_have_their_completeness_gap_in_the_index(tmp_path):
    model = create_model("resnet10_narrow", num_classes=2)
    entries, prepare = write(tmp_path, model, method="integrated_gradients")
    for entry in entries:
        image = IMAGES[IDS.index(entry["id"])]
        shown = np.array([["round", "square"].index(entry["predicted"])])
        found = explain(
            model, prepare(image[None]), shown, method="integrated_gradients"
        )
        gap = float(found.completeness_gap[0])
        assert entry["completeness_gap"] == pytest.approx(gap, abs=1e-4)
    entries, _ = write(tmp_path, model)
    assert all("completeness_gap" not in entry for entry in entries)


def test_the_index_says_why_an_image_is_shown(tmp_path):
    entries, _ = write(tmp_path, model_of_one_class())
    kinds = {entry["id"]: entry["kinds"] for entry in entries}
    assert set(kinds) == set(IDS)
    # "d" is square, and round to the model with 0.8; "c" is the less sure mistake.
    assert entries[0]["id"] == "d"
    assert "loss" in kinds["d"]
    assert "uncertain" in kinds["c"]
    assert sum("random" in of for of in kinds.values()) >= 1


def test_faithfulness_is_measured_where_it_is_asked_for(tmp_path):
    model = create_model("resnet10_narrow", num_classes=2)
    write(tmp_path, model, layer="layer2")
    file = tmp_path / "cams" / "faithfulness.json"
    assert not file.exists()
    write(tmp_path, model, layer="layer2", method="layer_cam", faithfulness=True)
    measures = json.loads(file.read_text())
    assert (measures["method"], measures["layer"]) == ("layer_cam", "layer2")
    assert (measures["images"], measures["degenerate"]) == (4, 0)
    curve = measures["curves"]["insertion"]
    area = np.trapezoid(curve, measures["shares"])
    assert measures["metrics"]["insertion"]["value"] == pytest.approx(area)
    assert len(measures["stages"]) == len(measures["randomization"]["similarity"]) == 6


def test_maps_that_are_no_evidence_do_not_end_a_run(tmp_path):
    model = model_of_one_class()
    # Every image is predicted to be square, for which nothing speaks.
    model.head.out.kernel[...] = -jnp.abs(model.head.out.kernel[...])
    write(tmp_path, model, faithfulness=True)
    measures = json.loads((tmp_path / "cams" / "faithfulness.json").read_text())
    assert measures["images"] == 0
    assert "None of the 4 maps is evidence" in measures["reason"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"faithfulness": True, "images": 0}, "explain.images is 0"),
        ({"layer": "layer5"}, "Unknown layer 'layer5'. Did you mean 'layer"),
        (
            {"layer": "layer3", "method": "occlusion"},
            "occlusion .* takes no layer, got 'layer3'",
        ),
    ],
)
def test_what_cannot_be_explained_is_refused(settings, message):
    model = create_model("resnet10_narrow", num_classes=2)
    with pytest.raises(InputError, match=message):
        check_explanation(model, ExplainConfig(**settings), 64)

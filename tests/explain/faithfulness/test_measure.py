"""Faithfulness in one call: the parts' means, intervals, and what is refused."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxmed.errors import InputError
from jaxmed.evaluation.intervals.bootstrap import Bootstrap
from jaxmed.explain import explain, measure_faithfulness
from jaxmed.explain.explanation import finish
from jaxmed.explain.faithfulness import deletion, insertion, randomize, road
from jaxmed.explain.faithfulness.measure import ROAD_SHARES, mean_estimate
from jaxmed.models.registry import create_model

SIZE, COUNT = 64, 6
CLASSES = np.array([1, 4, 0, 2, 1, 3])
# A map of LayerCAM, which multiplies positive numbers, is always evidence.
SETTINGS = {"method": "layer_cam", "layer": "layer3"}


@pytest.fixture(scope="module")
def measured(narrow, draw_images):
    _, images = draw_images(COUNT, SIZE)
    result = measure_faithfulness(narrow[1], images, CLASSES, steps=4, **SETTINGS)
    return narrow[1], images, result


def test_numbers_are_the_means_of_the_measures(measured):
    model, images, result = measured
    maps = explain(model, images, CLASSES, **SETTINGS).maps
    assert (result.images, result.degenerate) == (COUNT, 0)
    inserted = insertion(model, images, maps, CLASSES, steps=4)
    deleted = deletion(model, images, maps, CLASSES, steps=4)
    removed = road(model, images, maps, CLASSES, shares=ROAD_SHARES)
    randomized = randomize(model, images, CLASSES, **SETTINGS)
    expected = {
        "insertion": inserted.areas.mean(),
        "deletion": deleted.areas.mean(),
        "road": removed.scores.mean(),
        "rank_correlation": randomized.rank_correlation[:, -1].mean(),
        "similarity": randomized.similarity[:, -1].mean(),
    }
    found = {name: result.metrics[name]["value"] for name in expected}
    assert found == pytest.approx(expected, abs=1e-5)
    assert result.shares.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert result.curves["insertion"] == pytest.approx(inserted.probs.mean(axis=0))
    assert result.stages == randomized.stages
    means = randomized.similarity.mean(axis=0)
    assert result.randomization["similarity"] == pytest.approx(means, abs=1e-6)


def test_random_maps_are_as_coarse_as_the_methods_and_gains_are_over_them(measured):
    model, images, result = measured
    noise = np.random.default_rng(0).random((COUNT, 4, 4), np.float32)
    maps = np.asarray(finish(jnp.asarray(noise), (SIZE, SIZE)))
    areas = deletion(model, images, maps, CLASSES, steps=4).areas
    value = {name: estimate["value"] for name, estimate in result.metrics.items()}
    assert value["deletion_random"] == pytest.approx(areas.mean(), abs=1e-5)
    gain = value["deletion_random"] - value["deletion"]
    assert value["deletion_gain"] == pytest.approx(gain, abs=1e-9)
    gain = value["insertion"] - value["insertion_random"]
    assert value["insertion_gain"] == pytest.approx(gain, abs=1e-9)
    for estimate in result.metrics.values():
        assert estimate["ci_low"] < estimate["value"] < estimate["ci_high"]


@pytest.mark.slow
def test_a_map_of_what_the_model_goes_by_gains_over_chance(bright_is_class_1):
    """The model goes by brightness, and a square of each image is bright."""
    model, rng = bright_is_class_1, np.random.default_rng(0)
    images = np.zeros((8, SIZE, SIZE, 3), np.float32)
    masks = np.zeros((8, SIZE, SIZE), bool)
    for image, mask in zip(images, masks, strict=True):
        top, left = rng.integers(0, SIZE - 24, 2)
        image[top : top + 24, left : left + 24] = 1
        mask[top : top + 24, left : left + 24] = True
    logits = np.asarray(model(images))[:, 0] - np.asarray(model(0 * images))[:, 0]
    model.head.out.kernel[...] *= 4 / logits.mean()
    model.head.out.bias[...] -= 2 + np.asarray(model(0 * images))[0, 0]
    ones = np.ones(8, int)
    result = measure_faithfulness(
        model, images, ones, method="occlusion", masks=masks, steps=8
    )
    # Insertion begins with the blurred image, which is as bright.
    for name in ("deletion_gain", "road_gain"):
        assert result.metrics[name]["ci_low"] > 0, name
    assert result.metrics["pointing_game"]["value"] == 1
    covered = masks.mean(axis=(1, 2)).mean()
    assert result.metrics["energy_inside"]["value"] > 2 * covered


def test_the_interval_of_a_mean_is_students():
    values = np.random.default_rng(1).normal(3, 2, 40)
    found = mean_estimate(values, np.arange(40), Bootstrap(resamples=20_000))
    low, high = stats.t.interval(0.95, 39, values.mean(), stats.sem(values))
    assert found["value"] == pytest.approx(values.mean())
    assert found["ci_low"] == pytest.approx(low, abs=0.06 * (high - low))
    assert found["ci_high"] == pytest.approx(high, abs=0.06 * (high - low))


def test_groups_are_drawn_together_and_what_is_unknown_is_left_out():
    values = np.random.default_rng(1).normal(size=30)
    once = mean_estimate(values, np.arange(30), Bootstrap())
    copies = mean_estimate(np.repeat(values, 4), np.arange(120) // 4, Bootstrap())
    assert copies == pytest.approx(once)
    holes = np.concatenate([values, [np.nan] * 5])
    assert mean_estimate(holes, np.arange(35), Bootstrap()) == pytest.approx(once)
    nothing = mean_estimate(np.full(9, np.nan), np.arange(9), Bootstrap())
    assert nothing["value"] is None
    assert nothing["reason"] == "undefined for every image"


def test_maps_that_are_no_evidence_are_left_out(draw_images):
    _, images = draw_images(3, SIZE)
    model = create_model("resnet10_narrow", num_classes=2)
    kernel = model.head.out.kernel
    kernel[...] = jnp.stack([-jnp.abs(kernel[:, 0]), jnp.abs(kernel[:, 1])], axis=1)
    result = measure_faithfulness(model, images, [0, 1, 1], steps=2)
    assert (result.images, result.degenerate) == (2, 1)
    assert result.metrics["road"]["reason"] == "fewer than 5 were drawn from"
    with pytest.raises(InputError, match="None of the 3 maps is evidence"):
        measure_faithfulness(model, images, [0, 0, 0], steps=2)


def test_refused(narrow, draw_images):
    _, images = draw_images(2, SIZE)
    with pytest.raises(InputError, match=r"shape \(2, 64, 64\), got \(2, 7, 7\)"):
        measure_faithfulness(narrow[1], images, masks=np.zeros((2, 7, 7), bool))
    with pytest.raises(InputError, match="groups must be 2, one an image, got 1"):
        measure_faithfulness(narrow[1], images, groups=["a"])
    with pytest.raises(InputError, match="Did you mean 'grad_cam'"):
        measure_faithfulness(narrow[1], images, method="gradcam")

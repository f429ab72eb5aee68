"""Maps against pytorch-grad-cam on the same weights and images; what is refused."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import (
    BinaryClassifierOutputTarget,
    ClassifierOutputTarget,
)

import jaxmed
from jaxmed.errors import InputError
from jaxmed.explain.explanation import (
    _activations,
    evidence,
    explain,
)
from jaxmed.explain.pixel_maps import RawMaps
from jaxmed.models.layers.normalization import norm_paths, set_training_norms
from jaxmed.models.parameters import split
from jaxmed.models.precision import set_precision
from jaxmed.models.registry import create_model
from jaxmed_convert import from_torch
from jaxmed_convert.verify.references import random_reference

CLASSES = 5


def their_maps(model, layer, images, classes):
    targets = None
    if classes is not None:
        targets = [ClassifierOutputTarget(c) for c in classes]
    with GradCAM(model=model, target_layers=[layer]) as cam:
        return cam(input_tensor=images, targets=targets)


@pytest.mark.parametrize(
    ("size", "classes"), [(96, [0, 1, 2, 4]), (96, None), (160, [0, 1, 2, 4])]
)
def test_maps_are_those_of_pytorch_grad_cam(narrow, draw_images, size, classes):
    reference, model = narrow
    tensor, images = draw_images(4, size)
    expected = their_maps(reference, reference.layer4, tensor, classes)
    # The comparison means something: maps that are not flat.
    assert (expected.std(axis=(1, 2)) > 0.1).sum() >= 2
    result = explain(model, images, None if classes is None else np.array(classes)).maps
    assert result.shape == (4, size, size)
    assert result.dtype == np.float32
    assert result == pytest.approx(expected, rel=0, abs=1e-4)


@pytest.mark.parametrize(
    "architecture",
    [pytest.param("densenet121", marks=pytest.mark.slow), "efficientnet_b0"],
)
def test_the_last_map_of_other_families_is_what_their_users_take(
    architecture, draw_images
):
    reference = random_reference(architecture, num_classes=CLASSES)
    model = create_model(architecture, num_classes=CLASSES)
    from_torch(model, reference.state_dict())
    # DenseNet's ReLU is a function that works in place, which hooks do not see. As a
    # module it can be the target.
    relu = torch.nn.ReLU() if architecture == "densenet121" else torch.nn.Identity()
    pool, flatten = torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    reference = torch.nn.Sequential(
        reference.features, relu, pool, flatten, reference.classifier
    )
    tensor, images = draw_images(3, 160)
    # As large as the noise that the statistics are of; in larger ones a random
    # EfficientNet's numbers grow until rounding shows, within torch too.
    tensor, images = tensor / 4, images / 4
    expected = their_maps(reference, relu, tensor, range(3))
    assert (expected.std(axis=(1, 2)) > 0.1).all()
    maps = explain(model, images, np.arange(3)).maps
    assert maps == pytest.approx(expected, rel=0, abs=1e-4)


def test_other_classes_have_other_maps(narrow, draw_images):
    _, images = draw_images(1, 96)
    a, b = (explain(narrow[1], images, [c]).maps for c in (1, 4))
    assert np.abs(a - b).max() > 0.2


def test_a_single_logit_speaks_for_class_1_and_against_class_0(narrow, draw_images):
    reference = copy.deepcopy(narrow[0])
    reference.fc = torch.nn.Linear(128, 1)
    tensor, images = draw_images(4, 96)
    with torch.no_grad():
        # Weights at a right angle to the mean features, so that every image has parts
        # that speak for the class and parts that speak against it.
        body = torch.nn.Sequential(*list(reference.children())[:-1])
        mean = torch.nn.functional.normalize(body(tensor).flatten(1).mean(0), dim=0)
        weight = torch.randn(128, generator=torch.Generator().manual_seed(0))
        reference.fc.weight[0] = weight - (weight @ mean) * mean
    model = create_model("resnet10_narrow", num_classes=1)
    from_torch(model, reference.state_dict())
    classes = np.array([0, 1, 0, 1])
    targets = [BinaryClassifierOutputTarget(c) for c in classes]
    with GradCAM(model=reference, target_layers=[reference.layer4[-1]]) as cam:
        expected = cam(input_tensor=tensor, targets=targets)
    assert (expected.std(axis=(1, 2)) > 0.1).all()
    maps = explain(model, images, classes).maps
    assert maps == pytest.approx(expected, rel=0, abs=1e-4)
    predicted = np.asarray(model(images))[:, 0] > 0
    unasked, asked = explain(model, images), explain(model, images, predicted * 1)
    assert (unasked.maps == asked.maps).all()
    with pytest.raises(InputError, match=r"must be 0 to 1.* got 1 to 2"):
        explain(model, images, [1, 2, 1, 1])


def test_batches_do_not_change_the_maps(narrow, draw_images):
    _, images = draw_images(3, 64)
    classes = np.arange(3)
    for settings in ({"method": "grad_cam"}, {"method": "smooth_grad", "samples": 2}):
        whole = explain(narrow[1], images, classes, **settings).maps
        parts = explain(narrow[1], images, classes, batch_size=2, **settings).maps
        assert parts == pytest.approx(whole, rel=0, abs=1e-4)


def test_each_label_of_an_image_has_a_map_of_its_own(narrow, draw_images):
    _, images = draw_images(2, 64)
    rows, labels = np.nonzero([[0, 1, 0, 0, 1], [0, 0, 0, 1, 0]])
    maps = explain(narrow[1], images[rows], labels).maps
    for row, label, cam in zip(rows, labels, maps, strict=True):
        (alone,) = explain(narrow[1], images[row][None], [label]).maps
        assert cam == pytest.approx(alone, rel=0, abs=1e-4)


def small_model(seed=0):
    return create_model("resnet10_narrow", num_classes=3, head="hidden", seed=seed)


def test_one_compilation_serves_all_weights_and_methods(draw_images):
    _, images = draw_images(2, 64)
    _activations.clear_cache()
    maps = [explain(small_model(seed), images, [0, 1]).maps for seed in range(3)]
    explain(small_model(), images, [0, 1], method="layer_cam")
    assert _activations._cache_size() == 1
    assert (maps[0] != maps[1]).any()


def test_layers_in_training_mode_are_used_in_eval_mode_and_left_alone(draw_images):
    _, images = draw_images(2, 64)
    model = small_model()
    expected = explain(model, images).maps
    set_training_norms(model, norm_paths(model))
    before = jax.tree.map(jnp.copy, split(model).stats)
    assert (explain(model, images).maps == expected).all()
    after = split(model).stats
    assert all((before[path] == after[path]).all() for path in before)
    assert model.backbone.bn1.training


def test_a_map_of_nothing_is_zero(draw_images):
    """All weights of the last layer negative: no feature speaks for the class."""
    _, images = draw_images(2, 64)
    model = create_model("resnet10_narrow", num_classes=2)
    kernel = model.head.out.kernel
    kernel[...] = jnp.stack([-jnp.abs(kernel[:, 0]), jnp.abs(kernel[:, 1])], axis=1)
    nothing, all_ = (explain(model, images, [c, c]) for c in (0, 1))
    assert (nothing.maps == 0).all()
    assert nothing.degenerate.tolist() == [True, True]
    assert all_.maps.max() == pytest.approx(1, abs=1e-5)
    assert all_.degenerate.tolist() == [False, False]
    assert explain(model, images, [0, 1]).degenerate.tolist() == [True, False]


@pytest.mark.parametrize(
    ("images", "classes", "message"),
    [
        (np.zeros((0, 64, 64, 3)), None, r"n at least 1, got \(0, 64, 64, 3\)"),
        (np.zeros((64, 64, 3)), None, r"\(n, h, w, c\)"),
        (np.zeros((2, 64, 64, 3)), [0], r"each of the 2 images, got int64 .* \(1,\)"),
        (np.zeros((2, 64, 64, 3)), [0.0, 1.0], "one integer class"),
        (np.zeros((2, 64, 64, 3)), [0, 3], "must be 0 to 2.* got 0 to 3"),
        (np.zeros((2, 64, 64, 3)), [-1, 0], "must be 0 to 2.* got -1 to 0"),
    ],
)
def test_refused(images, classes, message):
    with pytest.raises(InputError, match=message):
        explain(small_model(), images, classes)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"method": "gradcam"},
            "explanation method 'gradcam'. Did you mean 'grad_cam'",
        ),
        ({"layer": "layer4.0.conv9"}, r"Did you mean 'layer4.0.conv\d'"),
        ({"layer": "nowhere"}, "Known: bn1, conv1, layer1, layer2, layer3, layer4."),
        ({"method": "occlusion", "layer": "layer4"}, "takes no layer"),
        ({"samples": 3}, "grad_cam has no options, got samples"),
        ({"method": "smooth_grad", "sample": 3}, "Did you mean 'samples'"),
        ({"method": "smooth_grad", "samples": 0}, "samples must be at least 1, got 0"),
        ({"method": "occlusion", "window": 8, "stride": 9}, "from 1 to the window's 8"),
    ],
)
def test_settings_refused(settings, message):
    with pytest.raises(InputError, match=message):
        explain(small_model(), np.zeros((1, 64, 64, 3)), [0], **settings)


def test_the_usual_method_has_a_name_of_its_own(draw_images):
    _, images = draw_images(2, 64)
    maps = jaxmed.grad_cam(small_model(), images, [0, 1], layer="layer3")
    expected = explain(small_model(), images, [0, 1], layer="layer3")
    assert (maps == expected.maps).all()


@pytest.fixture(scope="module")
def convnext():
    return create_model("convnext_tiny", num_classes=3)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_what_is_left_of_a_sum_of_zero_is_no_evidence(convnext, precision):
    """Behind features.5 is a LayerNorm, which no scaling of its input gets through."""
    set_precision(convnext, precision)
    images = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype(np.float32)
    settings = {"layer": "features.5", "description": ""}
    nothing = explain(convnext, images, [0, 1], method="hires_cam", **settings)
    assert (nothing.raw != 0).any(axis=(1, 2)).all()
    assert nothing.degenerate.all()
    # Where the sum is not zero, there is evidence.
    for method, layer in (("grad_cam", "features.5"), ("hires_cam", "features.7")):
        settings["layer"] = layer
        something = explain(convnext, images, [0, 1], method=method, **settings)
        assert not something.degenerate.any()


def test_evidence_is_more_than_the_rounding_of_its_parts():
    random = np.random.default_rng(0)
    noise = 1e-7 * random.normal(size=(4, 8, 8))
    signal = np.zeros((8, 8))
    signal[2, 3] = 0.02
    maps = np.stack([noise[0], 5 + noise[1], signal + noise[2], signal + 5])
    raw = RawMaps(jnp.asarray(maps, jnp.float32), jnp.full(4, 5.0))
    found = np.asarray(evidence(raw, canceled=1e-3, rounding=1e-5))
    # Left over from a sum of zero; the same everywhere; and two with evidence.
    assert (found == 0).all(axis=(1, 2)).tolist() == [True, True, False, False]
    assert (found[2:] == raw.maps[2:]).all()


def test_a_logit_that_depends_on_nothing_is_not_explained_by_its_rounding(draw_images):
    """A constant of 1,000 in the head hides what the pixels add to the logit."""
    _, images = draw_images(2, 64)
    model = small_model()
    model.head.out.kernel[...] *= 1e-3
    model.head.out.bias[...] += 1000
    explanation = explain(model, images, [0, 1], method="occlusion")
    assert np.abs(explanation.raw).max() > 0
    assert explanation.degenerate.all()


def test_integrated_gradients_state_how_complete_they_are(narrow, draw_images):
    _, model = narrow
    _, images = draw_images(3, 64)
    classes = np.array([0, 1, 4])
    settings = {"method": "integrated_gradients", "steps": 2, "baseline": 0.5}
    found = explain(model, images, classes, batch_size=2, **settings)
    raw = explain(model, images, classes, **settings).raw
    rows = np.arange(3)
    logits = [np.asarray(model(x))[rows, classes] for x in (images, 0 * images + 0.5)]
    whole = logits[0] - logits[1]
    expected = np.abs(raw.sum(axis=(1, 2)) - whole) / np.abs(whole)
    assert found.completeness_gap == pytest.approx(expected, rel=1e-2, abs=1e-5)
    settings["steps"] = 64
    closer = explain(model, images, classes, **settings)
    assert closer.completeness_gap.max() < found.completeness_gap.max() / 2
    assert (closer.maps == explain(model, images, classes, **settings).maps).all()
    assert explain(model, images, classes).completeness_gap is None

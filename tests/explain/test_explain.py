"""Grad-CAM against pytorch-grad-cam on the same weights and images."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torchvision
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import (
    BinaryClassifierOutputTarget,
    ClassifierOutputTarget,
)

from jaxmed.errors import InputError
from jaxmed.explain import gradcam
from jaxmed.explain.gradcam import grad_cam
from jaxmed.models.normalization import norm_paths, set_training_norms
from jaxmed.models.zoo import create_model
from jaxmed_convert import from_torch
from jaxmed_convert.references import random_reference

CLASSES = 5


@pytest.fixture(scope="module")
def models():
    """resnet18 in both worlds, with random weights and BatchNorm statistics."""
    torch.manual_seed(0)
    reference = torchvision.models.resnet18(num_classes=CLASSES).eval()
    for layer in reference.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 2)
            torch.nn.init.normal_(layer.weight, 1, 0.2)
            torch.nn.init.normal_(layer.bias, 0, 0.2)
    model = create_model("resnet18", num_classes=CLASSES)
    from_torch(model, reference.state_dict())
    return reference, model


def draw_images(n, size):
    """Images with large structures, unlike noise not all alike to a network."""
    random = np.random.default_rng(size)
    coarse = random.normal(size=(n, 3, 5, 5)).astype(np.float32)
    tensor = torch.nn.functional.interpolate(
        torch.tensor(2 * coarse), size=(size, size), mode="bilinear"
    )
    return tensor, jnp.asarray(tensor.permute(0, 2, 3, 1).numpy())


def reference_maps(model, images, classes):
    targets = None
    if classes is not None:
        targets = [ClassifierOutputTarget(c) for c in classes]
    with GradCAM(model=model, target_layers=[model.layer4[-1]]) as cam:
        return cam(input_tensor=images, targets=targets)


@pytest.mark.parametrize(
    ("size", "classes"), [(96, [0, 1, 2, 4]), (96, None), (224, [0, 1, 2, 4])]
)
def test_maps_are_those_of_pytorch_grad_cam(models, size, classes):
    reference, model = models
    tensor, images = draw_images(4, size)
    expected = reference_maps(reference, tensor, classes)
    # The comparison means something: maps that are not flat, and unlike each other.
    assert (expected.max(axis=(1, 2)) > 0.99).all()
    assert (expected.std(axis=(1, 2)) > 0.1).all()
    assert np.abs(expected[0] - expected[1]).max() > 0.2
    result = grad_cam(model, images, None if classes is None else np.array(classes))
    assert result.shape == (4, size, size)
    assert result.dtype == np.float32
    assert result == pytest.approx(expected, rel=0, abs=1e-4)


@pytest.mark.parametrize("architecture", ["densenet121", "efficientnet_b0"])
def test_the_last_map_of_other_families_is_what_their_users_take(architecture):
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
    targets = [ClassifierOutputTarget(c) for c in range(3)]
    with GradCAM(model=reference, target_layers=[relu]) as cam:
        expected = cam(input_tensor=tensor, targets=targets)
    assert (expected.std(axis=(1, 2)) > 0.1).all()
    maps = grad_cam(model, images, np.arange(3))
    assert maps == pytest.approx(expected, rel=0, abs=1e-4)


def test_other_classes_have_other_maps(models):
    _, images = draw_images(1, 96)
    a, b = (grad_cam(models[1], images, [c]) for c in (0, 3))
    assert np.abs(a - b).max() > 0.2


def test_a_single_logit_speaks_for_class_1_and_against_class_0(models):
    reference = copy.deepcopy(models[0])
    reference.fc = torch.nn.Linear(512, 1)
    tensor, images = draw_images(4, 96)
    with torch.no_grad():
        # Weights at a right angle to the mean features, so that every image has parts
        # that speak for the class and parts that speak against it.
        body = torch.nn.Sequential(*list(reference.children())[:-1])
        mean = torch.nn.functional.normalize(body(tensor).flatten(1).mean(0), dim=0)
        weight = torch.randn(512, generator=torch.Generator().manual_seed(0))
        reference.fc.weight[0] = weight - (weight @ mean) * mean
    model = create_model("resnet18", num_classes=1)
    from_torch(model, reference.state_dict())
    classes = np.array([0, 1, 0, 1])
    targets = [BinaryClassifierOutputTarget(c) for c in classes]
    with GradCAM(model=reference, target_layers=[reference.layer4[-1]]) as cam:
        expected = cam(input_tensor=tensor, targets=targets)
    assert (expected.std(axis=(1, 2)) > 0.1).all()
    maps = grad_cam(model, images, classes)
    assert maps == pytest.approx(expected, rel=0, abs=1e-4)
    predicted = np.asarray(model(images))[:, 0] > 0
    assert (grad_cam(model, images) == grad_cam(model, images, predicted * 1)).all()
    with pytest.raises(InputError, match=r"must be 0 to 1.* got 1 to 2"):
        grad_cam(model, images, [1, 2, 1, 1])


def test_batches_do_not_change_the_maps(models):
    _, images = draw_images(5, 96)
    classes = np.arange(5)
    whole = grad_cam(models[1], images, classes)
    parts = grad_cam(models[1], images, classes, batch_size=2)
    assert parts == pytest.approx(whole, rel=0, abs=1e-5)


def small_model(seed=0):
    return create_model("resnet10_narrow", num_classes=3, head="hidden", seed=seed)


def test_one_compilation_serves_all_weights_of_an_architecture():
    _, images = draw_images(2, 64)
    gradcam._maps.clear_cache()
    maps = [grad_cam(small_model(seed), images, [0, 1]) for seed in range(3)]
    assert gradcam._maps._cache_size() == 1
    assert (maps[0] != maps[1]).any()


def test_layers_in_training_mode_are_used_in_eval_mode_and_left_alone():
    _, images = draw_images(2, 64)
    model = small_model()
    expected = grad_cam(model, images)
    set_training_norms(model, norm_paths(model))
    before = jax.tree.map(jnp.copy, gradcam.split(model).stats)
    assert (grad_cam(model, images) == expected).all()
    after = gradcam.split(model).stats
    assert all((before[path] == after[path]).all() for path in before)
    assert model.backbone.bn1.training


def test_a_map_of_nothing_is_zero():
    """All weights of the last layer negative: no feature speaks for the class."""
    _, images = draw_images(2, 64)
    model = create_model("resnet10_narrow", num_classes=2)
    kernel = model.head.out.kernel
    kernel[...] = jnp.stack([-jnp.abs(kernel[:, 0]), jnp.abs(kernel[:, 1])], axis=1)
    assert (grad_cam(model, images, [0, 0]) == 0).all()
    assert grad_cam(model, images, [1, 1]).max() == pytest.approx(1, abs=1e-5)


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
        grad_cam(small_model(), images, classes)

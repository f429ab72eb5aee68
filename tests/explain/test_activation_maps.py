"""Every method at several layers against pytorch-grad-cam, same weights and images."""

import numpy as np
import pytest
import pytorch_grad_cam
import torch
import torchvision
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from jaxmed.data.sources.registry import load_dataset
from jaxmed.explain.explanation import explain
from jaxmed.explain.methods import METHODS
from jaxmed.inference.preprocessing import preprocessing_of
from jaxmed.models.registry import create_model
from jaxmed_convert import from_torch
from jaxmed_convert.verify.references import random_reference

THEIRS = {
    "grad_cam": pytorch_grad_cam.GradCAM,
    "grad_cam++": pytorch_grad_cam.GradCAMPlusPlus,
    "hires_cam": pytorch_grad_cam.HiResCAM,
    "xgrad_cam": pytorch_grad_cam.XGradCAM,
    "layer_cam": pytorch_grad_cam.LayerCAM,
    "eigen_cam": pytorch_grad_cam.EigenCAM,
    "eigen_grad_cam": pytorch_grad_cam.EigenGradCAM,
}


def their_maps(method, reference, layer, images, classes):
    layer = dict(reference.named_modules())[layer]
    targets = [ClassifierOutputTarget(c) for c in classes]
    with THEIRS[method](model=reference, target_layers=[layer]) as cam:
        return cam(input_tensor=images, targets=targets)


def test_all_methods_of_layers_are_compared():
    assert set(THEIRS) == {name for name, method in METHODS.items() if method.of_layer}


@pytest.mark.parametrize("layer", [None, "layer3", "layer4.0.conv1"])
@pytest.mark.parametrize("method", THEIRS)
def test_maps_are_those_of_pytorch_grad_cam(narrow, draw_images, method, layer):
    reference, model = narrow
    tensor, images = draw_images(3, 96)
    # Of what is predicted there is evidence in the last map.
    classes = reference(tensor).argmax(dim=1).numpy()
    expected = their_maps(method, reference, layer or "layer4", tensor, classes)
    # The comparison means something: maps that are not flat.
    assert (expected.std(axis=(1, 2)) > 0.1).sum() >= 2
    maps = explain(model, images, classes, method=method, layer=layer).maps
    assert maps.shape == (3, 96, 96)
    assert maps.dtype == np.float32
    assert maps == pytest.approx(expected, rel=0, abs=1e-4)


@pytest.fixture(scope="module")
def mobile():
    reference = random_reference("mobilenet_v2", num_classes=5)
    for layer in reference.modules():
        if hasattr(layer, "inplace"):
            layer.inplace = False
    model = create_model("mobilenet_v2", num_classes=5)
    from_torch(model, reference.state_dict())
    return reference, model


@pytest.mark.parametrize(
    ("method", "layer"),
    [
        ("grad_cam", "features.13"),  # a block
        ("grad_cam++", "features.14.conv"),  # a Sequential
        ("hires_cam", "features.14.conv.0.0"),  # a convolution
    ],
)
def test_layers_of_another_family(mobile, draw_images, method, layer):
    reference, model = mobile
    tensor, images = draw_images(2, 96)
    # Of larger images a random MobileNet's numbers grow until rounding shows.
    tensor, images, classes = tensor / 4, images / 4, np.array([1, 3])
    expected = their_maps(method, reference, layer, tensor, classes)
    assert (expected.std(axis=(1, 2)) > 0.05).all()
    maps = explain(model, images, classes, method=method, layer=layer).maps
    assert maps == pytest.approx(expected, rel=0, abs=1e-4)


def test_hires_cam_adds_up_to_the_logit(narrow, draw_images):
    """Without the bias: behind the last map are an average and a linear layer."""
    _, model = narrow
    _, images = draw_images(3, 64)
    classes = np.array([0, 3, 4])
    sums = explain(model, images, classes, method="hires_cam").raw.sum(axis=(1, 2))
    logits = np.asarray(model(images) - model.head.out.bias[...])
    assert sums == pytest.approx(logits[np.arange(3), classes], rel=1e-4, abs=1e-4)


def test_real_weights_on_x_rays(test_data):
    path = test_data.parent / "weights" / "resnet18-imagenet-partial.pth"
    reference = torchvision.models.resnet18().eval()
    reference.load_state_dict(torch.load(path, weights_only=True))
    model = create_model("resnet18", num_classes=1000)
    from_torch(model, reference.state_dict())
    chest = load_dataset(f"npz:{test_data}/medmnist/pneumoniamnist_reassembled.npz")
    preprocess = preprocessing_of(model, chest.image_size)
    images = np.asarray(preprocess(chest.test.images[:2]))
    tensor = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    predicted = np.asarray(model(images)).argmax(axis=1)
    for method in THEIRS:
        expected = their_maps(method, reference, "layer4", tensor, predicted)
        maps = explain(model, images, method=method).maps
        assert maps == pytest.approx(expected, rel=0, abs=1e-4), method

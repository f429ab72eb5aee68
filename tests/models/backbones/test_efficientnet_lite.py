"""EfficientNet-Lite's options and its training mode: efficientnet-lite-pytorch's."""

import numpy as np
import pytest
import torch
from flax import nnx

from jaxmed.models.backbones.efficientnet import MBConv
from jaxmed.models.backbones.efficientnet_lite import CONFIGURATIONS, build
from jaxmed.models.layers.normalization import (
    BatchNorm,
    norm_paths,
    set_training_norms,
)
from jaxmed.models.parameters import dotted
from jaxmed.models.registry import create_model
from jaxmed_convert import from_torch, to_torch
from jaxmed_convert.package_names import lukemelas_names
from jaxmed_convert.verify.references import random_reference, torch_model


@pytest.mark.parametrize("architecture", CONFIGURATIONS)
def test_norms_shortcuts_and_stochastic_depth_are_the_packages(architecture):
    """What no tensor's name or shape shows."""
    with torch.device("meta"):
        reference = torch_model(architecture)
    model = nnx.eval_shape(lambda: build(architecture, in_channels=3, rngs=nnx.Rngs(0)))
    modules = {dotted(path): module for path, module in nnx.iter_modules(model)}
    names = lukemelas_names(architecture)
    norms = {
        names[path]: (module.epsilon, module.momentum)
        for path, module in modules.items()
        if isinstance(module, BatchNorm)
    }
    assert norms == {
        name: (module.eps, pytest.approx(module.momentum))
        for name, module in reference.named_modules()
        if isinstance(module, torch.nn.BatchNorm2d)
    }
    ours = [module for module in modules.values() if isinstance(module, MBConv)]
    theirs = list(reference._blocks)
    assert len(ours) == len(theirs)
    rate = reference._global_params.drop_connect_rate
    for i, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        row = other._block_args
        stride = np.max(row.stride)
        assert mine.shortcut == (
            stride == 1 and row.input_filters == row.output_filters
        )
        assert mine.drop == pytest.approx(rate * i / len(theirs))
        assert not other.has_se


def test_a_batch_in_training_mode_moves_the_statistics_as_torch_does():
    reference = random_reference("efficientnet_lite0", num_classes=3)
    reference._global_params = reference._global_params._replace(drop_connect_rate=None)
    reference._dropout.p = 0.0
    model = nnx.eval_shape(lambda: create_model("efficientnet_lite0", num_classes=3))
    from_torch(model, reference.state_dict())
    images = np.random.default_rng(0).standard_normal((4, 64, 64, 3), np.float32)

    reference.train()(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    set_training_norms(model, norm_paths(model))
    nnx.jit(lambda model, images: model(images))(model, images)

    moved = to_torch(model)
    for name, tensor in reference.state_dict().items():
        if "num_batches_tracked" not in name:
            np.testing.assert_allclose(
                moved[name].numpy(), tensor.numpy(), rtol=1e-4, atol=1e-5, err_msg=name
            )

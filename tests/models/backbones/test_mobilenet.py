"""MobileNetV2's stages, its first weights, and its statistics in training."""

import numpy as np
import pytest
import torch
from flax import nnx
from torchvision.models import mobilenet_v2

from jaxmed.models.layers.normalization import norm_paths, set_training_norms
from jaxmed.models.parameters import split
from jaxmed.models.registry import create_model
from jaxmed_convert import from_torch, to_torch
from jaxmed_convert.verify.references import random_reference


@pytest.fixture(scope="module")
def reference():
    torch.manual_seed(0)
    return mobilenet_v2(num_classes=3)


def test_a_stage_goes_from_one_halving_of_the_map_to_the_next(reference):
    sizes = {}
    hooks = [
        module.register_forward_hook(
            lambda module, args, output, i=i: sizes.update({i: output.shape[-1]})
        )
        for i, module in enumerate(reference.features)
    ]
    with torch.inference_mode():
        reference.eval()(torch.zeros(1, 3, 64, 64))
    for hook in hooks:
        hook.remove()
    stages = nnx.eval_shape(lambda: create_model("mobilenet_v2", num_classes=3)).stages
    assert list(stages) == ["stem", "stage1", "stage2", "stage3", "stage4", "head"]
    for side, paths in zip((32, 16, 8, 4, 2), stages.values(), strict=False):
        numbers = [i for i in sizes if sizes[i] == side]
        assert paths == tuple(f"backbone.features.{i}" for i in numbers)


def test_convolutions_start_as_torchvisions(reference):
    model = create_model("mobilenet_v2", num_classes=3)
    ours = to_torch(model)
    assert ours.keys() == reference.state_dict().keys()
    for name, theirs in reference.state_dict().items():
        if theirs.ndim == 4:
            rel = 6 / np.sqrt(theirs.numel())
            assert ours[name].std() == pytest.approx(theirs.std(), rel=rel), name
        elif name.startswith("features."):
            assert torch.equal(ours[name], theirs), name


def test_training_mode_agrees_with_torchs():
    # Fresh normalizations would leave most means at zero, where nothing can be told.
    reference = random_reference("mobilenet_v2", num_classes=3)
    model = create_model("mobilenet_v2", num_classes=3)
    from_torch(model, reference.state_dict())
    set_training_norms(model, norm_paths(model))
    images = np.random.default_rng(0).standard_normal((9, 64, 64, 3), np.float32)
    mask = np.array([1] * 8 + [0], np.float32)  # the last row is padding

    @nnx.jit
    def features(model, images, mask):
        return model.features(images, mask=mask)

    ours = np.asarray(features(model, images, mask))[:8]
    with torch.inference_mode():
        channels_first = np.ascontiguousarray(images[:8].transpose(0, 3, 1, 2))
        expected = reference.train().features(torch.from_numpy(channels_first))
    expected = expected.numpy().transpose(0, 2, 3, 1)
    assert np.abs(ours - expected).max() < 1e-3 * np.abs(expected).max()
    after = reference.state_dict()
    stats = split(model).stats
    for path, array in stats.items():
        name = path.removeprefix("backbone.")
        name = name.replace(".mean", ".running_mean").replace(".var", ".running_var")
        theirs = after[name].numpy()
        assert np.linalg.norm(array - theirs) < 1e-3 * np.linalg.norm(theirs), path

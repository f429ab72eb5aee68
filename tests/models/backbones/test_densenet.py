"""DenseNet's smallest image, stages and initial weights against torchvision's."""

import numpy as np
import pytest
import torch
from flax import nnx
from scipy.stats import ks_2samp
from torchvision.models import densenet121

from jaxmed.errors import InputError
from jaxmed.models.backbone import run_stages
from jaxmed.models.backbones.densenet import DenseNet, build
from jaxmed.models.parameters import split
from jaxmed.models.registry import create_model


def test_maps_and_the_smallest_image_are_torchvisions():
    model = nnx.eval_shape(
        lambda: build("densenet121", in_channels=1, rngs=nnx.Rngs(0))
    )
    with torch.device("meta"):
        reference = densenet121().eval()

    def shape(size):
        images = np.zeros((2, *size, 1), np.float32)
        return nnx.eval_shape(lambda model: run_stages(model, images), model).shape

    for size in ((29, 61), (64, 100)):
        with torch.device("meta"):
            n, c, h, w = reference.features(torch.zeros(2, 3, *size)).shape
        assert shape(size) == (n, h, w, c)
    with torch.device("meta"), pytest.raises(RuntimeError, match="too small"):
        reference(torch.zeros(2, 3, 61, 28))
    with pytest.raises(InputError, match="at least 29×29 pixels, got 61×28"):
        shape((61, 28))


def test_features_end_after_the_last_relu_and_are_averaged():
    model = DenseNet((1, 1, 1, 1), width=8, growth=8, rngs=nnx.Rngs(0))
    images = np.random.default_rng(0).standard_normal((1, 32, 32, 3), np.float32)
    features = np.asarray(nnx.jit(lambda m, x: run_stages(m, x))(model, images))
    assert features.min() == 0
    assert features.max() > 0
    grid = np.random.default_rng(1).standard_normal((2, 3, 4, 5), np.float32)
    np.testing.assert_allclose(model.pool(grid), grid.mean((1, 2)), rtol=1e-4)


def test_stages_are_the_blocks_with_their_transitions():
    stages = nnx.eval_shape(lambda: create_model("densenet121", num_classes=2)).stages
    assert stages == {
        "stem": ("backbone.features.conv0", "backbone.features.norm0"),
        "denseblock1": (
            "backbone.features.denseblock1",
            "backbone.features.transition1",
        ),
        "denseblock2": (
            "backbone.features.denseblock2",
            "backbone.features.transition2",
        ),
        "denseblock3": (
            "backbone.features.denseblock3",
            "backbone.features.transition3",
        ),
        "denseblock4": ("backbone.features.denseblock4", "backbone.features.norm5"),
        "head": ("head",),
    }


def test_initial_weights_are_distributed_as_torchvisions():
    """Kernels of the 3×3 layers tell fan in from fan out: 128 against 32 channels."""
    torch.manual_seed(0)
    theirs = densenet121().state_dict()
    ours = split(build("densenet121", in_channels=3, rngs=nnx.Rngs(0))).params
    for name in ("conv0", "denseblock2.denselayer3.conv2", "transition3.conv"):
        kernel = np.ravel(ours[f"features.{name}.kernel"])
        other = theirs[f"features.{name}.weight"].numpy().ravel()
        assert kernel.std() == pytest.approx(other.std(), rel=0.05)
        assert ks_2samp(kernel, other).pvalue > 1e-4
    norms = {p: a for p, a in ours.items() if not p.endswith("kernel")}
    assert len(norms) == 2 * 121
    for path, array in norms.items():
        assert np.all(np.asarray(array) == path.endswith("scale"))

"""The same networks in both worlds, and images that they see something in."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxmed.models.registry import create_model
from jaxmed_convert import from_torch

CLASSES = 5


@pytest.fixture(scope="session")
def narrow():
    """`resnet10_narrow` with random weights and statistics: torch's and ours."""
    torch = pytest.importorskip("torch")
    from fixtures.torch_twin import narrow_resnet, shake

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        reference = narrow_resnet(CLASSES).eval()
        shake(reference)
        # Weights that tell the classes apart, and leave all of them possible.
        torch.nn.init.normal_(reference.fc.weight, 0, 0.2)
    model = create_model("resnet10_narrow", num_classes=CLASSES)
    from_torch(model, reference.state_dict())
    return reference, model


@pytest.fixture(scope="session")
def draw_images():
    torch = pytest.importorskip("torch")

    def draw(n, size):
        """Images with large structures, unlike noise not all alike to a network."""
        random = np.random.default_rng(size)
        coarse = random.normal(size=(n, 3, 5, 5)).astype(np.float32)
        tensor = torch.nn.functional.interpolate(
            torch.tensor(2 * coarse), size=(size, size), mode="bilinear"
        )
        return tensor, jnp.asarray(tensor.permute(0, 2, 3, 1).numpy())

    return draw


@pytest.fixture
def bright_is_class_1():
    """A model of one logit, which grows with every pixel."""
    model = create_model("resnet10_narrow", num_classes=1)
    conv, norms = model.backbone.conv1, []
    conv.kernel[...] = np.abs(conv.kernel[...])
    for i in range(1, 5):
        (block,) = getattr(model.backbone, f"layer{i}")
        norms += [block.bn1, block.bn2]
        for layer in (block.conv1, block.conv2):
            layer.kernel[...] = np.abs(layer.kernel[...])
        if block.downsample is not None:
            shrink = block.downsample[0]
            shrink.kernel[...] = np.abs(shrink.kernel[...])
    kernel = model.head.out.kernel
    kernel[...] = np.abs(kernel[...])
    return model

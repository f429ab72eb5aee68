"""Inception V3's auxiliary head and its rescaled input, on the way in and out."""

import hashlib

import numpy as np
import pytest
import torch
from flax import nnx
from torchvision.models import inception_v3

from jaxmed.models.parameters import split
from jaxmed.models.registry import create_model
from jaxmed_convert import from_torch, initialize, to_torch
from jaxmed_convert.mismatch import fit
from jaxmed_convert.verify.parity import TOLERANCE
from jaxmed_convert.verify.references import random_reference
from jaxmed_convert.weights.pretrained import prepare

SWITCH = "backbone.transform_input.on"


@pytest.fixture(scope="module")
def reference():
    return random_reference("inception_v3", num_classes=4)


@pytest.fixture(scope="module")
def whole(reference):
    """The weights with an auxiliary head, as torchvision's own files have it."""
    model = inception_v3(aux_logits=True, init_weights=False, num_classes=4)
    return model.state_dict() | reference.state_dict()


@pytest.fixture
def model():
    return create_model("inception_v3", num_classes=4)


def test_the_auxiliary_head_is_left_out_and_the_report_says_so(model, whole):
    report = from_torch(model, whole)
    auxiliary = [name for name in whole if name.startswith("AuxLogits.")]
    assert list(report.left_out) == auxiliary
    assert "14 tensors of the auxiliary head AuxLogits left out on purpose" in str(
        report
    )
    assert fit(whole, "inception_v3") == 1

    back = to_torch(model)
    assert whole.keys() - back.keys() == set(auxiliary)
    for name, tensor in back.items():
        if "num_batches_tracked" not in name:
            assert torch.equal(tensor, whole[name]), name
    inception_v3(aux_logits=False, init_weights=False, num_classes=4).load_state_dict(
        back, strict=True
    )


def test_without_auxiliary_head_nothing_is_said(model, reference):
    report = from_torch(model, reference.state_dict())
    assert report.left_out == ()
    assert "AuxLogits" not in str(report)


def test_logits_with_the_input_rescaled_as_torchvision_does(model, reference):
    from_torch(model, reference.state_dict())
    images = np.random.default_rng(0).standard_normal((2, 96, 112, 3), np.float32)
    tensors = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    run = nnx.jit(lambda model, images: model(images))
    for on in (False, True):
        reference.transform_input = on
        model.backbone.transform_input.on[...] = np.float32(on)
        with torch.inference_mode():
            expected = reference(tensors).numpy()
        difference = np.abs(np.asarray(run(model, images)) - expected).max()
        assert difference <= TOLERANCE * np.abs(expected).max()
    reference.transform_input = False
    with torch.inference_mode():
        change = np.abs(reference(tensors).numpy() - expected).max()
    assert change > 100 * TOLERANCE * np.abs(expected).max()
    # Weights that come later leave the switch alone: they do not know.
    from_torch(model, reference.state_dict())
    assert split(model).stats[SWITCH] == 1


def test_the_input_is_rescaled_with_torchvisions_weights_only(model, whole, tmp_path):
    torch.save(whole, tmp_path / "mine.pth")
    content = (tmp_path / "mine.pth").read_bytes()
    name = f"inception_v3_google-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / name).write_bytes(content)
    prepare(
        "inception_v3", "imagenet", cache=tmp_path, url=f"http://127.0.0.1:9/{name}"
    )
    started = initialize(model, "imagenet", cache=tmp_path)
    assert split(model).stats[SWITCH] == 1
    assert f"{SWITCH} is on, as torchvision has it with" in started.message

    started = initialize(model, f"file:{tmp_path}/mine.pth", cache=tmp_path)
    assert split(model).stats[SWITCH] == 0
    assert f"{SWITCH} is off, as without torchvision's own" in started.message
    assert "AuxLogits left out on purpose" in started.message

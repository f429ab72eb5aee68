"""Networks among the tensors of checkpoints as training scripts leave them."""

import numpy as np
import pytest
import torch
from torchvision.models import get_model

from jaxmed_convert.checkpoints.find_network import select


def _names(architecture: str) -> dict[str, np.ndarray]:
    """torchvision's tensors by name, each a view of one number."""
    with torch.device("meta"):
        options = {"init_weights": True} if architecture == "inception_v3" else {}
        model = get_model(architecture, weights=None, **options)
    zero = np.float32(0)
    return {n: np.broadcast_to(zero, t.shape) for n, t in model.state_dict().items()}


@pytest.fixture(scope="module")
def plain():
    return _names("resnet18")


def _with(prefix: str, tensors) -> dict:
    return {prefix + name: tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "module.",
        "model.",
        "net.",
        "backbone.",
        "_orig_mod.module.",
        "model.module.net.",
        "lightning.resnet._orig_mod.",
    ],
)
@pytest.mark.parametrize("architecture", ["resnet18", "vgg11", "mobilenet_v2"])
def test_any_prefix_is_taken_off(architecture, prefix):
    expected = _names(architecture)
    found = select(_with(prefix, expected), architecture)
    assert found.tensors == expected
    assert found.notes == ()


def test_a_part_wrapped_for_itself_is_unwrapped():
    """The ImageNet example of PyTorch wraps the `features` of a VGG alone."""
    expected = _names("vgg11")
    given = {
        name.replace("features.", "features.module.", 1): tensor
        for name, tensor in expected.items()
    }
    assert select(given, "vgg11").tensors == expected


def test_tensors_beside_the_network_are_left_out_and_named(plain):
    own = {n: t for n, t in plain.items() if not n.startswith("fc.")}
    beside = {"criterion.weight": np.zeros(3), "head.weight": np.zeros((5, 512))}
    found = select(_with("backbone.", own) | beside, "resnet18")
    assert found.tensors == own
    assert found.notes == (
        "Left out, being no part of resnet18: criterion.weight (3,), "
        "head.weight (5, 512).",
    )


def test_another_head_under_the_same_prefix_is_left_out(plain):
    own = {n: t for n, t in plain.items() if not n.startswith("fc.")}
    heads = {f"head.{i}.bias": np.zeros(i + 1) for i in range(8)}
    for prefix in ("", "model."):
        found = select(_with(prefix, own | heads), "resnet18")
        assert found.tensors == own
        (note,) = found.notes
        assert note.endswith(f"{prefix}head.5.bias (6,) and 2 more.")


def test_the_torchvision_head_stays(plain):
    assert {"fc.weight", "fc.bias"} < select(plain, "resnet18").tensors.keys()
    heads = {"classifier.0.weight": 1, "classifier.3.weight": 2}
    own = _names("mobilenet_v2") | dict.fromkeys(heads, np.zeros(1))
    assert heads.keys() < select(own, "mobilenet_v2").tensors.keys()


@pytest.mark.parametrize(
    ("used", "averaged"),
    [("model.", "ema_model."), ("net.", "model_ema.module."), ("", "ema.")],
)
def test_an_averaged_copy_is_ignored(plain, used, averaged):
    given = _with(averaged, plain) | _with(used, plain) | {"n_averaged": np.zeros(())}
    found = select(given, "resnet18")
    assert found.tensors == plain
    copy, rest = found.notes
    assert "There is an averaged copy of the network under" in copy
    assert "(122 tensors)" in copy
    assert repr(used) in copy or "The one without a prefix is used." in copy
    assert "n_averaged ()" in rest


def test_an_averaged_model_alone_is_used(plain):
    """As `torch.optim.swa_utils.AveragedModel` saves itself."""
    given = _with("module.", plain) | {"n_averaged": np.zeros(())}
    assert select(given, "resnet18").tensors == plain


def test_of_two_copies_one_is_used_and_the_user_told(plain):
    given = _with("encoder_q.", plain) | _with("encoder_momentum.", plain)
    found = select(given, "resnet18")
    assert found.tensors == plain
    assert found.notes == (
        "There is another copy of the network under 'encoder_momentum.', which is "
        "ignored (122 tensors). The one under 'encoder_q.' is used.",
    )


def test_a_prefix_that_hides_a_copy_is_not_dropped(plain):
    """Without "module." two names would become one."""
    given = plain | _with("module.", plain)
    found = select(given, "resnet18")
    assert found.tensors == plain
    assert "another copy of the network under 'module.'" in found.notes[0]


def test_other_architectures_are_bared_too_and_nothing_is_lost():
    for requested, given in (("resnet18", "vgg11"), ("resnet18", "resnet34")):
        expected = _names(given)
        found = select(_with("model.", expected), requested)
        assert found.tensors == expected
        assert found.notes == ()


def test_an_auxiliary_head_stays_for_the_conversion_to_leave_out():
    expected = _names("inception_v3")
    assert any(name.startswith("AuxLogits.") for name in expected)
    found = select(_with("net.", expected), "inception_v3")
    assert found.tensors == expected
    assert found.notes == ()


def test_what_is_no_network_stays_as_it_is():
    given = {"module.a": np.zeros(1), "b": np.zeros(2)}
    assert select(given, "resnet18").tensors.keys() == {"a", "b"}
    assert select({}, "resnet18").tensors == {}

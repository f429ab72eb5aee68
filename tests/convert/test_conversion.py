"""from_torch and to_torch, with torchvision as the other side."""

import numpy as np
import pytest
import torch
from flax import nnx
from torchvision.models import get_model, resnet18

from jaxmed.errors import InputError
from jaxmed.models.parameters import split
from jaxmed.models.registry import create_model
from jaxmed_convert import from_torch, to_torch
from jaxmed_convert.abstract_models import outline
from jaxmed_convert.rules import counters, targets
from jaxmed_convert.verify.references import random_reference


@pytest.fixture(scope="module")
def reference():
    return random_reference("resnet18", num_classes=5)


@pytest.fixture
def state_dict(reference):
    return dict(reference.state_dict())


@pytest.fixture(scope="module")
def model():
    """Filled by every test that succeeds; its weights do not matter to them."""
    return create_model("resnet18", num_classes=5)


def _message(model, state_dict) -> str:
    with pytest.raises(InputError) as caught:
        from_torch(model, state_dict)
    return str(caught.value)


def _bits(tensor: torch.Tensor) -> bytes:
    return tensor.numpy().tobytes()


def test_round_trip_is_bit_identical(model, reference, state_dict):
    report = from_torch(model, state_dict)
    back = to_torch(model)

    assert back.keys() == state_dict.keys()
    for name, tensor in state_dict.items():
        assert back[name].dtype == tensor.dtype
        if "num_batches_tracked" not in name:
            assert _bits(back[name]) == _bits(tensor), name
        else:
            assert back[name] == 0
    resnet18(num_classes=5).load_state_dict(back, strict=True)
    assert report.tensors == 102
    assert report.numbers == sum(
        tensor.numel() for tensor in state_dict.values() if tensor.ndim
    )
    assert len(report.ignored) == 20
    assert report.cast == {}
    assert str(report) == (
        "resnet18: 102 tensors converted (11,188,677 numbers), "
        "20 num_batches_tracked ignored."
    )


@pytest.mark.parametrize(
    "architecture",
    [
        "resnext50_32x4d",
        "vgg11",
        "mobilenet_v2",
        "densenet121",
        "efficientnet_b0",
        "efficientnet_v2_s",
        "efficientnet_lite0",
        "convnext_tiny",
        "inception_v3",
    ],
)
def test_every_family_makes_the_round_trip_bit_identical(architecture):
    """Names and shapes are proved elsewhere to be torchvision's."""
    generator = torch.Generator().manual_seed(0)
    model = outline(architecture)
    given = {
        name: torch.randn(target.shape, generator=generator)
        for name, target in targets(model).items()
    }
    model = nnx.clone(model)
    report = from_torch(model, given)
    back = to_torch(model)
    assert report.tensors == len(given)
    assert back.keys() == given.keys() | set(counters(targets(model)))
    assert all(_bits(back[name]) == _bits(given[name]) for name in given)


def test_jax_to_torch_to_jax_is_bit_identical():
    first = create_model("resnet10_narrow", num_classes=3, head="hidden", seed=1)
    second = create_model("resnet10_narrow", num_classes=3, head="hidden", seed=2)

    from_torch(second, to_torch(first))

    before, after = split(first), split(second)
    for old, new in ((before.params, after.params), (before.stats, after.stats)):
        assert all(np.array_equal(old[path], new[path]) for path in old)


def test_exported_tensors_do_not_share_memory_with_the_model(model, state_dict):
    from_torch(model, state_dict)
    exported = to_torch(model)
    for tensor in exported.values():
        tensor.zero_()
    assert _bits(to_torch(model)["bn1.bias"]) == _bits(state_dict["bn1.bias"])


def test_training_the_torch_model_later_does_not_change_ours(model):
    theirs = resnet18(num_classes=5)
    from_torch(model, theirs.state_dict())
    before = to_torch(model)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(1)
    after = to_torch(model)
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("head", ["dropout", "hidden"])
def test_heads_load_into_torchvision_and_agree(head):
    model = create_model("resnet18", num_classes=4, head=head, hidden_features=32)
    theirs = resnet18()
    layers = [torch.nn.Dropout(0.5), torch.nn.Linear(512, 4)]
    if head == "hidden":
        layers = [
            torch.nn.Linear(512, 32),
            torch.nn.ReLU(),
            torch.nn.Dropout(0.5),
            torch.nn.Linear(32, 4),
        ]
    theirs.fc = torch.nn.Sequential(*layers)

    theirs.load_state_dict(to_torch(model), strict=True)

    pooled = np.random.default_rng(0).standard_normal((3, 512), np.float32)
    with torch.inference_mode():
        expected = theirs.eval().fc(torch.from_numpy(pooled)).numpy()
    np.testing.assert_allclose(model.head(pooled), expected, rtol=1e-4, atol=1e-6)


def test_numpy_arrays_and_missing_counters_are_accepted(model, state_dict):
    arrays = {
        name: tensor.numpy()
        for name, tensor in state_dict.items()
        if "num_batches_tracked" not in name
    }
    report = from_torch(model, arrays)
    assert report.ignored == ()
    assert _bits(to_torch(model)["conv1.weight"]) == _bits(state_dict["conv1.weight"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_cast_and_said(model, state_dict, dtype):
    other = {
        name: tensor.to(dtype) if tensor.ndim else tensor
        for name, tensor in state_dict.items()
    }
    report = from_torch(model, other)
    name = str(dtype).removeprefix("torch.")
    assert report.cast == {name: 102}
    assert f"102 of them cast from {name} to float32" in str(report)
    assert torch.equal(to_torch(model)["conv1.weight"], other["conv1.weight"].float())


def test_all_differences_are_in_one_error_and_the_model_is_untouched(state_dict):
    model = create_model("resnet18", num_classes=5, seed=3)
    before = to_torch(model)
    for name in ("bn1.weight", "layer2.0.conv1.weight", "fc.bias"):
        del state_dict[name]
    state_dict["extra.weight"] = torch.zeros(3)
    state_dict["conv1.weight"] = state_dict["conv1.weight"].permute(2, 3, 1, 0)
    state_dict["layer1.0.bn1.bias"] = torch.full((64,), float("nan"))
    state_dict["layer1.1.bn2.running_var"] = torch.full((64,), float("inf"))
    state_dict["layer3.0.bn1.weight"] = torch.ones(256, dtype=torch.int32)

    message = _message(model, state_dict)

    assert message == (
        "These weights do not fit resnet18 with a linear head: "
        "3 missing (bn1.weight, layer2.0.conv1.weight, fc.bias); "
        "1 unexpected (extra.weight); "
        "1 of another shape (conv1.weight is 7×7×3×64 instead of 64×3×7×7 and looks "
        "transposed); "
        "1 not of a float type (layer3.0.bn1.weight); "
        "2 with NaN or infinite values (layer1.0.bn1.bias, layer1.1.bn2.running_var)."
    )
    after = to_torch(model)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_error_stays_short(model):
    message = _message(model, {f"tensor{i}": torch.zeros(1) for i in range(10_000)})
    assert "102 missing" in message
    assert "10000 unexpected (tensor0, tensor1, tensor2 and 9997 more)" in message
    assert len(message) < 600


def test_a_counter_of_no_batch_norm_is_unexpected(model, state_dict):
    state_dict["conv1.num_batches_tracked"] = torch.tensor(0)
    assert "1 unexpected (conv1.num_batches_tracked)" in _message(model, state_dict)


def test_an_overflow_in_half_precision_is_refused(model, state_dict):
    state_dict["fc.bias"] = (state_dict["fc.bias"] + 1e6).half()
    assert "1 with NaN or infinite values (fc.bias)" in _message(model, state_dict)


@pytest.mark.parametrize("other", ["resnet34", "resnet50", "wide_resnet50_2"])
def test_another_architecture_is_named(model, other):
    message = _message(model, get_model(other, weights=None).state_dict())
    assert f"They fit {other} best: 100% of its backbone's tensors" in message


def test_another_number_of_classes_is_explained(model):
    message = _message(model, resnet18(num_classes=7).state_dict())
    assert "fc.weight is 7×512 instead of 5×512" in message
    assert "Only the head differs" in message
    assert "They fit" not in message

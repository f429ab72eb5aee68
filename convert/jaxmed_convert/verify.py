"""Proof that a converted model computes what torchvision's computes."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import torch
from flax import nnx
from torchvision.models import get_model

from jaxmed.errors import InputError
from jaxmed.models.classifier import Classifier
from jaxmed.models.parameters import dotted
from jaxmed.models.zoo import create_model
from jaxmed_convert.conversion import from_torch
from jaxmed_convert.published import published
from jaxmed_convert.rules import LEFT_OUT, head_module, module_name
from jaxmed_convert.selection import select

TOLERANCE = 1e-4
BATCH = 2
TINY = 1e-30
# What has its channels last in torch too; within ConvNeXt's blocks there are such.
CHANNELS_LAST = (torch.nn.LayerNorm, torch.nn.Linear)
POOLED = "(pooled)"  # named so because torch has no one module that pools


class Row(NamedTuple):
    """How far one module's output is from torch's.

    Attributes:
        name: torchvision's name of the module.
        kind: the class of jaxmed's module.
        shape: of the output, (n, h, w, c) or (n, c).
        absolute: the largest difference of any number.
        relative: `absolute` as a share of the largest number in torch's output.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    absolute: float
    relative: float


def torch_model(architecture: str, **options: Any) -> torch.nn.Module:
    """Builds torchvision's model without pretrained weights, and without what we leave
    out of it."""
    if architecture in LEFT_OUT:
        # Inception's own initial weights are said to be slow, and warned about.
        options = {"aux_logits": False, "init_weights": False} | options
    return get_model(architecture, weights=None, **options)


def random_reference(
    architecture: str, *, num_classes: int = 1000, seed: int = 0
) -> torch.nn.Module:
    """Builds torchvision's model with random weights and BatchNorm statistics.

    Biases that start at zero are drawn too: a network that ignored them would agree.

    The statistics are those of random images, pushed away at random layer by layer:
    each layer's are of what comes out of the layers before it with their own, pushed
    statistics. Otherwise the pushes would add up, and the numbers of a deep network
    grow without bound.
    """
    size = published(architecture).image_size
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = torch_model(architecture, num_classes=num_classes).eval()
        for module in model.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.weight.uniform_(0.5, 1.5)
            scale = getattr(module, "layer_scale", None)
            if isinstance(scale, torch.nn.Parameter):
                # It begins at 1e-6, with which nothing of ConvNeXt's blocks would show.
                scale.uniform_(0.5, 1.5)
            bias = getattr(module, "bias", None)
            if isinstance(bias, torch.nn.Parameter) and not bias.any():
                bias.normal_(0, 0.2)
        norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        hooks = [norm.register_forward_pre_hook(_settle) for norm in norms]
        if norms:
            # On smaller images most pixels are near a border, where zeros are padded:
            # within large ones nothing would be as these statistics say.
            model(torch.randn(4, 3, size, size))
        for hook in hooks:
            hook.remove()
    return model


def _settle(norm: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
    """Draws a BatchNorm's numbers, fitting what is about to go into it.

    The pushes are as large as the spread of the input. Around smaller ones a deep
    network of random weights is chaotic: every ReLU magnifies the difference between
    two inputs, and so the rounding of the first layers. A channel that hardly varies
    would magnify what little it does, so its variance is taken to be larger.
    """
    assert isinstance(norm, torch.nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    var, mean = torch.var_mean(inputs[0], dim=(0, 2, 3))
    var.clamp_(min=0.1 * float(var.mean()))
    norm.running_mean.copy_(mean + var.sqrt() * torch.randn_like(mean))
    norm.running_var.copy_(var * torch.empty_like(var).uniform_(0.5, 2))
    norm.weight.uniform_(0.5, 1.5)
    norm.bias.normal_(0, 0.5)


def loaded_reference(
    architecture: str, state_dict: Mapping[str, Any]
) -> torch.nn.Module:
    """Builds torchvision's model with the given weights and a linear head.

    Raises:
        InputError: the weights do not fit.
    """
    published(architecture)
    state_dict = select(state_dict, architecture).tensors
    last = f"{head_module(architecture)}.weight"
    if last not in state_dict:
        raise InputError(f"These weights have no linear head: {last} is missing.")
    classes = len(state_dict[last])
    # For its error, which says more than torch's.
    from_torch(create_model(architecture, num_classes=classes), state_dict)
    model = torch_model(architecture, num_classes=classes)
    for name, tensor in model.state_dict().items():
        if name in state_dict:
            # NumPy may hold bfloat16, which torch does not take from it.
            value = state_dict[name]
            known = isinstance(value, torch.Tensor)
            array = value if known else torch.from_numpy(value.astype(np.float64))
            tensor.copy_(array)
    return model.eval()


def compare(
    architecture: str, reference: torch.nn.Module, *, image_size: int, seed: int = 0
) -> list[Row]:
    """Runs torch's model and the one converted from it on the same random images.

    Args:
        architecture: a name in the zoo.
        reference: torchvision's model in eval mode, with a linear head.
        image_size: side of the images in pixels.
        seed: of the images.

    Returns:
        A row for every module that has the same name on both sides, in the order
        they run. The last one's output is the logits.
    """
    model = _converted(architecture, reference)
    images = _images(image_size, seed)
    expected = torch_outputs(reference, images, head_module(architecture))
    rows = []
    for name, (kind, output) in jax_outputs(model, images).items():
        if name in expected:
            rows.append(_row(name, kind, np.asarray(output), expected[name]))
    return rows


def compare_logits(
    architecture: str,
    reference: torch.nn.Module,
    *,
    image_sizes: Sequence[int],
    seed: int = 0,
) -> list[Row]:
    """Compares the logits alone, which takes less time and memory than `compare`.

    Args:
        architecture, reference, seed: as for `compare`.
        image_sizes: sides of the images in pixels.

    Returns:
        A row for each size.
    """
    model = _converted(architecture, reference)
    run = nnx.jit(lambda model, images: model(images))
    rows = []
    for image_size in image_sizes:
        images = _images(image_size, seed)
        with torch.inference_mode():
            expected = reference(_channels_first(images)).numpy()
        with jax.default_matmul_precision("highest"):
            logits = np.asarray(run(model, images))
        rows.append(_row(head_module(architecture), "logits", logits, expected))
    return rows


def _converted(architecture: str, reference: torch.nn.Module) -> Classifier:
    state_dict = reference.state_dict()
    classes = len(state_dict[f"{head_module(architecture)}.weight"])
    # Without numbers until here: drawing those it would start with takes seconds.
    model = nnx.eval_shape(lambda: create_model(architecture, num_classes=classes))
    from_torch(model, state_dict)
    return model


def _images(size: int, seed: int) -> np.ndarray:
    shape = (BATCH, size, size, 3)
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def _channels_first(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def torch_outputs(
    model: torch.nn.Module, images: np.ndarray, head: str
) -> dict[str, np.ndarray]:
    """Returns every module's output by its name, channels last.

    What goes into the module `head` comes under the name `POOLED`.
    """
    outputs: dict[str, np.ndarray] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: Any, _inputs: Any, output: torch.Tensor) -> None:
            array = output.numpy()
            last = array.ndim < 4 or type(module) in CHANNELS_LAST
            axes = range(array.ndim) if last else (0, 2, 3, 1)
            # A copy, because the ReLU that follows works in place.
            outputs[name] = np.array(array.transpose(*axes))

        return hook

    def keep_pooled(_module: Any, inputs: tuple[torch.Tensor]) -> None:
        outputs[POOLED] = inputs[0].numpy().copy()

    hooks = [m.register_forward_hook(keep(name)) for name, m in model.named_modules()]
    hooks.append(model.get_submodule(head).register_forward_pre_hook(keep_pooled))
    with torch.inference_mode():
        model(_channels_first(images))
    for hook in hooks:
        hook.remove()
    return outputs


class _Recorder(nnx.Module):
    """Stands in for a module and keeps what it returns."""

    def __init__(self, module: Any, keep: Callable[[jax.Array], None]):
        self.module = module
        self._keep = keep

    def __call__(self, *args: Any, **kwargs: Any) -> jax.Array:
        output = self.module(*args, **kwargs)
        self._keep(output)
        return output


def jax_outputs(
    model: Classifier, images: np.ndarray
) -> dict[str, tuple[str, jax.Array]]:
    """Returns the class and output of every module by torchvision's name.

    They come in the order in which the modules run; the last one gives the logits.
    """
    definition, state = nnx.split(model)
    # jit returns arrays only, so names and classes are noted while it traces.
    notes: list[tuple[str, str]] = []

    @jax.jit
    def run(state: nnx.State, images: jax.Array) -> list[jax.Array]:
        copy = nnx.merge(definition, state)
        outputs: list[jax.Array] = []

        def keep(name: str, kind: str, output: jax.Array) -> None:
            notes.append((name, kind))
            outputs.append(output)

        _record(copy, keep)
        features = copy.features(images)
        pooled = copy.backbone.pool(features)
        keep(POOLED, "pool", pooled)
        copy.head(pooled)
        return outputs

    # On GPU and TPU the default would round the factors of a convolution.
    with jax.default_matmul_precision("highest"):
        values = run(state, images)
    return {n: (kind, v) for (n, kind), v in zip(notes, values, strict=True)}


def _record(model: Classifier, keep: Callable[[str, str, jax.Array], None]) -> None:
    """Puts a recorder in place of every module that the model calls by itself."""
    modules: dict[tuple, Any] = dict(nnx.iter_modules(model))
    for path, module in modules.items():
        weights = jax.tree.leaves(nnx.state(module))
        if len(path) < 2 or not callable(module) or not weights:
            continue
        # A DenseNet's has the ReLU that torchvision applies after it.
        if path == ("backbone", "features"):
            continue
        name = module_name(model, dotted(path))
        note = functools.partial(keep, name, type(module).__name__)
        parent, key = modules[path[:-1]], path[-1]
        if isinstance(key, int):
            parent[key] = _Recorder(module, note)
        else:
            setattr(parent, str(key), _Recorder(module, note))


def _row(name: str, kind: str, output: np.ndarray, expected: np.ndarray) -> Row:
    absolute = float(np.abs(output - expected).max())
    relative = absolute / max(float(np.abs(expected).max()), TINY)
    return Row(name, kind, output.shape, absolute, relative)

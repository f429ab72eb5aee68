"""Proof that a converted model computes what torchvision's computes."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import torch
from flax import nnx

from jaxmed.models.classifier import Classifier
from jaxmed.models.parameters import dotted
from jaxmed.models.registry import create_model
from jaxmed_convert.conversion import from_torch
from jaxmed_convert.rules import head_module, module_name

TOLERANCE = 1e-4
BATCH = 2
TINY = 1e-30
# What has its channels last in torch too; within ConvNeXt's blocks there are such.
CHANNELS_LAST = (torch.nn.LayerNorm, torch.nn.Linear)
POOLED = "(pooled)"  # named so because torch has no one module that pools


class OutputComparison(NamedTuple):
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


def compare(
    architecture: str,
    reference: torch.nn.Module,
    *,
    image_size: int,
    seed: int = 0,
    pool: str = "own",
) -> list[OutputComparison]:
    """Run torch's model and the one converted from it on the same random images.

    Args:
        architecture: a name in the zoo.
        reference: torchvision's model in eval mode, with a linear head.
        image_size: side of the images in pixels.
        seed: of the images.
        pool: how the reference pools: "average" for an `averaged_reference`.

    Returns:
        A row for every module that has the same name on both sides, in the order
        they run. The last one's output is the logits.
    """
    model = _converted(architecture, reference, pool)
    images = _images(image_size, seed)
    expected = torch_outputs(reference, images, head_module(architecture, pool))
    rows = []
    for name, (class_name, output) in jax_outputs(model, images).items():
        if name in expected:
            rows.append(_row(name, class_name, np.asarray(output), expected[name]))
    return rows


def compare_logits(
    architecture: str,
    reference: torch.nn.Module,
    *,
    image_sizes: Sequence[int],
    seed: int = 0,
    pool: str = "own",
) -> list[OutputComparison]:
    """Compare the logits alone, which takes less time and memory than `compare`.

    Args:
        architecture, reference, seed, pool: as for `compare`.
        image_sizes: sides of the images in pixels.

    Returns:
        A row for each size.
    """
    model = _converted(architecture, reference, pool)
    run = nnx.jit(lambda model, images: model(images))
    rows = []
    for image_size in image_sizes:
        images = _images(image_size, seed)
        with torch.inference_mode():
            expected = reference(_channels_first(images)).numpy()
        with jax.default_matmul_precision("highest"):
            logits = np.asarray(run(model, images))
        rows.append(_row(head_module(architecture, pool), "logits", logits, expected))
    return rows


def _converted(architecture: str, reference: torch.nn.Module, pool: str) -> Classifier:
    state_dict = reference.state_dict()
    classes = len(state_dict[f"{head_module(architecture, pool)}.weight"])
    # Without numbers until here: drawing those it would start with takes seconds.
    model = nnx.eval_shape(
        lambda: create_model(architecture, num_classes=classes, pool=pool)
    )
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
    """Return every module's output by its name, channels last.

    What goes into the module `head` comes under the name `POOLED`.
    """
    outputs: dict[str, np.ndarray] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: Any, _inputs: Any, output: torch.Tensor) -> None:
            # torch's attention gives its weights, too.
            array = (output[0] if isinstance(output, tuple) else output).numpy()
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
    """Stand in for a module and keep what it returns."""

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
    """Return the class and output of every module by torchvision's name.

    They come in the order in which the modules run; the last one gives the logits.
    """
    definition, state = nnx.split(model)
    # jit returns arrays only, so names and classes are noted while it traces.
    notes: list[tuple[str, str]] = []

    @jax.jit
    def run(state: nnx.State, images: jax.Array) -> list[jax.Array]:
        copy = nnx.merge(definition, state)
        outputs: list[jax.Array] = []

        def keep(name: str, class_name: str, output: jax.Array) -> None:
            notes.append((name, class_name))
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
    return {
        n: (class_name, v) for (n, class_name), v in zip(notes, values, strict=True)
    }


def _record(model: Classifier, keep: Callable[[str, str, jax.Array], None]) -> None:
    """Put a recorder in place of every module that the model calls by itself."""
    modules: dict[tuple, Any] = dict(nnx.iter_modules(model))
    for path, module in modules.items():
        weights = jax.tree.leaves(nnx.state(module))
        if len(path) < 2 or not callable(module) or not weights:
            continue
        name = module_name(model, dotted(path))
        note = functools.partial(keep, name, type(module).__name__)
        parent, key = modules[path[:-1]], path[-1]
        if isinstance(key, int):
            parent[key] = _Recorder(module, note)
        else:
            setattr(parent, str(key), _Recorder(module, note))


def _row(
    name: str, class_name: str, output: np.ndarray, expected: np.ndarray
) -> OutputComparison:
    absolute = float(np.abs(output - expected).max())
    relative = absolute / max(float(np.abs(expected).max()), TINY)
    return OutputComparison(name, class_name, output.shape, absolute, relative)

"""The table that says which torchvision tensor is which array of jaxmed.

Below "backbone." jaxmed's modules carry torchvision's names, so a rule is about the
last part of a name alone. A family adds where its head sits. What torchvision lacks,
EfficientNet-Lite, tf_efficientnet and most vision transformers, has the names of other
packages' models in torch. The table is
applied from the model's side: the model knows how many axes each of its arrays has, and
that tells a convolution's "weight" from a linear layer's and from BatchNorm's.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from flax import nnx

from jaxmed.models.backbones import vit
from jaxmed.models.classifier import Classifier
from jaxmed.models.parameters import dotted
from jaxmed_convert.package_names import torch_names
from jaxmed_convert.vit_names import torch_name


class Rule(NamedTuple):
    """One row: a tensor's name in torch, its name in jaxmed, and its axes.

    Attributes:
        torch: the last part of torch's name.
        jaxmed: the last part of jaxmed's path.
        axes: `jaxmed_array = torch_tensor.transpose(axes)`; as many as the array has.
    """

    torch: str
    jaxmed: str
    axes: tuple[int, ...]


RULES = (
    Rule("weight", "kernel", (2, 3, 1, 0)),  # convolution, OIHW to HWIO
    Rule("weight", "kernel", (1, 0)),  # linear layer, (out, in) to (in, out)
    Rule("weight", "scale", (0,)),  # batch and layer normalization
    Rule("running_mean", "mean", (0,)),
    Rule("running_var", "var", (0,)),
    Rule("bias", "bias", (0,)),
    Rule("layer_scale", "layer_scale", (1, 2, 0)),  # (c, 1, 1) to (1, 1, c)
    Rule("gamma", "gamma", (0,)),  # layer scale of vision transformers
    Rule("cls_token", "cls_token", (0, 1, 2)),
    Rule("reg_token", "reg_token", (0, 1, 2)),
    Rule("pos_embed", "pos_embed", (0, 1, 2)),
)

# torch counts the batches a BatchNorm has seen, which only matters with
# `momentum=None`. jaxmed has no such counter: it is ignored on the way in, whether
# it is there (torch ≥ 0.4.1) or not, and is an int64 zero on the way out.
COUNTER = "num_batches_tracked"

# The module of torchvision's model that the head replaces, by architecture. With
# `pool="average"` a VGG has none of torchvision's "classifier": the head takes its
# place, and an average that of "avgpool".
HEAD_MODULES = (
    (r"(wide_)?res(net|next)\d+.*", "fc"),
    (r"vgg\d+(_bn)?", "classifier.6"),
    (r"vgg\d+(_bn)? average", "classifier"),
    (r"mobilenet_v2", "classifier.1"),
    (r"densenet\d+", "classifier"),
    (r"efficientnet_lite\d", "_fc"),
    (r"tf_efficientnet_b\d", "classifier"),
    (r"efficientnet_.*", "classifier.1"),
    (r"convnext_.*", "classifier.2"),
    (r"inception_v3", "fc"),
    (r"vit_[bl]_(16|32)(_\d+)?", "heads.head"),
    (r"(vit|dinov2|rad)_.*", "head"),
)

# Where the layers of each kind of head are, seen from that module, when the head is
# the nn.Sequential of the layers that `jaxmed.models.classifier.Head` describes.
HEAD_LAYERS = {
    "linear": {"head.out": ""},
    "dropout": {"head.out": ".1"},
    "hidden": {"head.hidden": ".0", "head.out": ".3"},
}

# What torchvision's model has and ours leaves out on purpose: an auxiliary head, which
# served training from scratch and which predictions never use.
LEFT_OUT = {"inception_v3": "AuxLogits"}

# Arrays of ours that torchvision's model has as an argument, not as a tensor. Without
# its published weights they are 0 there, with them they are 1.
SWITCHES = {"inception_v3": ("backbone.transform_input.on",)}


class Target(NamedTuple):
    """Where a torch tensor goes.

    Attributes:
        path: jaxmed's path of the array.
        axes: as in `Rule`.
        shape: the tensor's shape in torch.
    """

    path: str
    axes: tuple[int, ...]
    shape: tuple[int, ...]


def head_module(architecture: str, pool: str = "own") -> str:
    """Returns torchvision's name of the module that the head replaces: "fc".

    Args:
        architecture, pool: see `Classifier`.
    """
    name = architecture if pool == "own" else f"{architecture} {pool}"
    for pattern, module in HEAD_MODULES:
        if re.fullmatch(pattern, name):
            return module
    raise AssertionError(f"no row of HEAD_MODULES matches {name!r}")


def module_name(model: Classifier, path: str) -> str:
    """Translates a module's path: "backbone.layer1.0.bn1" is "layer1.0.bn1"."""
    if path.startswith("backbone."):
        path = path.removeprefix("backbone.")
        if model.architecture in vit.CONFIGURATIONS:
            return torch_name(model.architecture, model.pool, path)
        return torch_names(model.architecture).get(path, path)
    layer = HEAD_LAYERS[model.head.kind][path]
    return head_module(model.architecture, model.pool) + layer


def targets(model: Classifier) -> dict[str, Target]:
    """Returns where every tensor of the matching torch model goes, by torch's name.

    Args:
        model: real or abstract (from `nnx.eval_shape`).

    Returns:
        One entry per parameter and statistic of the model but `SWITCHES`; the
        counters of BatchNorm (`counters`) are not among them.
    """
    by_name: dict[str, Target] = {}
    leaves = nnx.to_flat_state(nnx.state(model))
    for path, shape in ((dotted(key), leaf.shape) for key, leaf in leaves):
        if path in SWITCHES.get(model.architecture, ()):
            continue
        module, _, last = path.rpartition(".")
        rule = next(r for r in RULES if r.jaxmed == last and len(r.axes) == len(shape))
        torch_shape = [0] * len(shape)
        for axis, size in zip(rule.axes, shape, strict=True):
            torch_shape[axis] = size
        name = _tensor_name(model, module, rule)
        assert name not in by_name, f"two arrays of the model would be {name}"
        by_name[name] = Target(path, rule.axes, tuple(torch_shape))
    return by_name


def _tensor_name(model: Classifier, module: str, rule: Rule) -> str:
    if model.architecture in vit.CONFIGURATIONS and module.startswith("backbone"):
        # Tokens belong to no module, and a projection's name is not its module's.
        inside = f"{module}.{rule.torch}".removeprefix("backbone.")
        return torch_name(model.architecture, model.pool, inside)
    return f"{module_name(model, module)}.{rule.torch}"


def counters(by_name: dict[str, Target]) -> list[str]:
    """Returns torch's names of the batch counters that belong to `targets`' result."""
    suffix = ".running_mean"
    return [
        f"{name.removesuffix(suffix)}.{COUNTER}"
        for name in by_name
        if name.endswith(suffix)
    ]


def left_out(architecture: str, names: Iterable[str]) -> tuple[str, ...]:
    """Returns those of torch's names that belong to what is `LEFT_OUT`."""
    if architecture not in LEFT_OUT:
        return ()
    module = LEFT_OUT[architecture] + "."
    return tuple(name for name in names if name.startswith(module))

"""torchvision's model for a model of ours: the same head, pooling, stem and weights."""

from pathlib import Path
from typing import Any

import torch
from flax import nnx
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

from jaxmed.models.backbones import efficientnet_lite, resnet, vgg, vit
from jaxmed.models.classifier import Classifier, Head
from jaxmed_convert.conversion import to_torch
from jaxmed_convert.rules import LEFT_OUT, head_module
from jaxmed_convert.torch_vit import at_image_size, torchvision_name
from jaxmed_convert.verify.references import torch_model
from jaxmed_convert.vit_names import has_torchvision_names
from jaxmed_convert.weights.image_scales import torch_scale

# What torchvision has no name for.
NARROW = "resnet10_narrow"


def write_torch(model: Classifier, path: Path, image_size: int) -> None:
    """Write a state dict that `build_torch`'s model loads with `strict=True`."""
    # Given a path, torch would write the file's name, a temporary one, into it.
    with path.open("wb") as file:
        torch.save(_state_dict(model, image_size), file)


def read_torch(model: Classifier, path: Path, image_size: int) -> nn.Module:
    """Build torchvision's model with the weights in a file.

    What torchvision's own builder does not give is put in its place: another head than
    a linear layer, an average over VGG's last map, and a first convolution of other
    channels than RGB. Inception V3 does not rescale its input: `torch_scale` does.

    Args:
        model: which model; its weights are not used.
        path: what `write_torch` wrote.
        image_size: pixels of a side, for vision transformers, whose position
            embeddings in torch are of one size.

    Returns:
        The model in eval mode.
    """
    state_dict = torch.load(path, map_location="cpu", weights_only=True)
    return _build(model, state_dict, image_size)


def build_torch(model: Classifier, image_size: int) -> nn.Module:
    """Build torchvision's model with the weights of ours; see `read_torch`."""
    return _build(model, _state_dict(model, image_size), image_size)


def _state_dict(model: Classifier, image_size: int) -> dict[str, torch.Tensor]:
    state_dict, backbone = to_torch(model), model.backbone
    if isinstance(backbone, vit.VisionTransformer):
        return at_image_size(state_dict, backbone, image_size)
    return state_dict


def _build(
    model: Classifier, state_dict: dict[str, torch.Tensor], image_size: int
) -> nn.Module:
    with torch.device("meta"):  # all numbers come from the state dict
        narrow = model.architecture == NARROW
        options = {}
        if model.architecture in vit.CONFIGURATIONS:
            options = {"pool": model.pool, "image_size": image_size}
        built = (
            narrow_resnet() if narrow else torch_model(model.architecture, **options)
        )
        for name, module in _replacements(model).items():
            built.set_submodule(name, module)
    built.load_state_dict(state_dict, strict=True, assign=True)
    return built.eval()


def loading_code(model: Classifier, file: str, image_size: int) -> list[str]:
    """Return lines of Python that load what `write_torch` wrote.

    The narrow ResNet and vision transformers that torchvision does not have need this
    package, and an EfficientNet-Lite its own; all others torchvision alone. They leave
    a `model`, and the `mean` and `std` of its images.

    Args:
        model: which model.
        file: the state dict's name.
        image_size: see `read_torch`.
    """
    lines = ["import torch, torchvision", "from torch import nn"]
    if model.architecture == NARROW:
        lines[0] = "import torch"
        lines.append(f"from {__name__} import narrow_resnet")
        lines.append("model = narrow_resnet()")
    elif model.architecture in efficientnet_lite.CONFIGURATIONS:
        lines[0] = "import torch"
        lines.append("from efficientnet_lite_pytorch import EfficientNet, utils")
        name = model.architecture.replace("_", "-")
        lines.append(f'model = EfficientNet.from_name("{name}", image_size=None)')
    elif model.architecture in vit.CONFIGURATIONS and not has_torchvision_names(
        model.architecture, model.pool
    ):
        lines[0] = "import torch"
        lines.append("from jaxmed_convert.torch_vit import torch_vit")
        pool = f'pool="{model.pool}", image_size={image_size}'
        lines.append(f'model = torch_vit("{model.architecture}", {pool})')
    elif model.architecture.startswith("tf_"):
        lines[0] = "import timm, torch"
        lines.append(f'model = timm.create_model("{model.architecture}")')
    else:
        more = ""
        if model.architecture in LEFT_OUT:
            more = ", aux_logits=False, init_weights=False"
        if model.architecture in vit.CONFIGURATIONS:
            more = f", image_size={image_size}"
        name = torchvision_name(model.architecture)
        lines.append(f'model = torchvision.models.get_model("{name}"{more})')
    with torch.device("meta"):
        for name, module in _replacements(model).items():
            lines.append(f'model.set_submodule("{name}", {_format_module(module)})')
    lines.append(f'model.load_state_dict(torch.load("{file}"), strict=True)')
    mean, std = map(list, torch_scale(model))
    return [*lines, "model.eval()", f"mean, std = {mean}, {std}"]


def narrow_resnet() -> ResNet:
    """Build a ResNet of one thin block a stage, jaxmed's "resnet10_narrow"."""
    settings = resnet.CONFIGURATIONS[NARROW]
    built = ResNet(BasicBlock, list(settings["depths"]))
    width = built.inplanes = settings["width"]
    built.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
    built.bn1 = nn.BatchNorm2d(width)
    for i, depth in enumerate(settings["depths"]):
        stage = built._make_layer(BasicBlock, width << i, depth, stride=1 + (i > 0))
        built.set_submodule(f"layer{i + 1}", stage)
    return built


def _replacements(model: Classifier) -> dict[str, nn.Module]:
    """Return what differs from torchvision's model for ImageNet, by module."""
    modules = {}
    if model.in_channels != 3:
        modules |= _stem(model)
    if model.pool == "average" and model.architecture in vgg.CONFIGURATIONS:
        modules["avgpool"] = nn.AdaptiveAvgPool2d(1)
    modules[head_module(model.architecture, model.pool)] = _head(model.head)
    return modules


def _stem(model: Classifier) -> dict[str, nn.Module]:
    """Return the first convolution, for the model's channels."""
    narrow = model.architecture == NARROW
    built = narrow_resnet() if narrow else torch_model(model.architecture)
    layers = ((n, m) for n, m in built.named_modules() if isinstance(m, nn.Conv2d))
    name, stem = next(layers)
    options: dict[str, Any] = {
        "kernel_size": stem.kernel_size[0],
        "stride": stem.stride[0],
        "bias": stem.bias is not None,
    }
    # EfficientNet-Lite's own class pads by what the image needs.
    if type(stem) is nn.Conv2d:
        options["padding"] = int(stem.padding[0])
    return {name: type(stem)(model.in_channels, stem.out_channels, **options)}


def _head(head: Head) -> nn.Module:
    out = _linear(head.out)
    dropout = nn.Dropout(head.dropout.rate)
    if head.kind == "linear":
        return out
    if head.hidden is None:
        return nn.Sequential(dropout, out)
    hidden = _linear(head.hidden)
    return nn.Sequential(hidden, nn.ReLU(), dropout, out)


def _linear(layer: nnx.Linear) -> nn.Linear:
    return nn.Linear(layer.in_features, layer.out_features)


def _format_module(module: nn.Module) -> str:
    if isinstance(module, nn.Sequential):
        return f"nn.Sequential({', '.join(map(_format_module, module))})"
    if type(module).__module__.startswith("torch."):
        return f"nn.{module!r}"
    return f"utils.{module!r}"

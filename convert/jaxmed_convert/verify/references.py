"""torch's models with known weights, to compare ours with: torchvision's, or Lite."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torchvision.models import get_model

from jaxmed.errors import InputError
from jaxmed.models.backbones import efficientnet_lite, vit
from jaxmed.models.registry import create_model
from jaxmed_convert.abstract_models import backbone_targets, outline
from jaxmed_convert.checkpoints.find_network import select
from jaxmed_convert.conversion import convert, from_torch
from jaxmed_convert.rules import LEFT_OUT, head_module
from jaxmed_convert.torch_vit import torch_vit
from jaxmed_convert.weights.imagenet import published


def torch_model(architecture: str, **options: Any) -> torch.nn.Module:
    """Build torchvision's model without pretrained weights, and without what we leave
    out of it.

    An EfficientNet-Lite is that of the package efficientnet-lite-pytorch, which pads
    for images of any size; a vision transformer that torchvision lacks is timm's, as
    is a network whose name begins with "tf_".

    Raises:
        InputError: that package is not installed.
    """
    if architecture in efficientnet_lite.CONFIGURATIONS:
        return _lite(architecture, **options)
    if architecture in vit.CONFIGURATIONS:
        return torch_vit(architecture, **options)
    if architecture.startswith("tf_"):
        return _timm(architecture, **options)
    if architecture in LEFT_OUT:
        # Inception's own initial weights are said to be slow, and warned about.
        options = {"aux_logits": False, "init_weights": False} | options
    return get_model(architecture, weights=None, **options)


def _lite(architecture: str, **options: Any) -> torch.nn.Module:
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise InputError(
            f"torch's model of {architecture} is in a package that is not installed. "
            "Install it with: pip install efficientnet-lite-pytorch"
        ) from error
    name = architecture.replace("_", "-")
    return EfficientNet.from_name(name, image_size=None, **options)


def _timm(architecture: str, **options: Any) -> torch.nn.Module:
    try:
        import timm
    except ImportError as error:
        raise InputError(
            f"torch's model of {architecture} is in timm, which is not installed. "
            "Install it with: pip install timm"
        ) from error
    return timm.create_model(architecture, pretrained=False, **options)


def random_reference(
    architecture: str, *, num_classes: int = 1000, seed: int = 0
) -> torch.nn.Module:
    """Build torchvision's model with random weights and BatchNorm statistics.

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
            scale = getattr(module, "layer_scale", getattr(module, "gamma", None))
            if isinstance(scale, torch.nn.Parameter):
                # It begins at 1e-6, with which nothing of ConvNeXt's blocks would show.
                scale.uniform_(0.5, 1.5)
            bias = getattr(module, "bias", None)
            if isinstance(bias, torch.nn.Parameter) and not bias.any():
                bias.normal_(0, 0.2)
        for parameter in model.parameters():
            if not parameter.any():  # Tokens and heads of vision transformers.
                parameter.normal_(0, 0.2)
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
    """Draw a BatchNorm's numbers, fitting what is about to go into it.

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
    """Build torchvision's model with the given weights and a linear head.

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
    _fill(model, state_dict)
    return model.eval()


def averaged_reference(
    architecture: str, state_dict: Mapping[str, Any], *, seed: int = 0
) -> torch.nn.Module:
    """Build torchvision's VGG as our `pool="average"` is: the given weights as far as
    they are no classifier, the mean of the last map, and a random linear head.

    Raises:
        InputError: the weights do not fit.
    """
    head = head_module(architecture, "average")
    tensors = select(state_dict, architecture, "average").tensors
    tensors = {n: t for n, t in tensors.items() if not n.startswith(f"{head}.")}
    ours = outline(architecture, "average")
    convert(ours, tensors, backbone_targets(ours))  # for its error
    with torch.device("meta"):  # the classifier is large, and thrown away
        model = torch_model(architecture)
    model.avgpool = torch.nn.AdaptiveAvgPool2d(1)
    model.classifier = torch.nn.Identity()
    model.to_empty(device="cpu")
    _fill(model, tensors)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.classifier = torch.nn.Linear(ours.backbone.num_features, 1000)
    return model.eval()


def _fill(model: torch.nn.Module, state_dict: Mapping[str, Any]) -> None:
    for name, tensor in model.state_dict().items():
        if name in state_dict:
            # NumPy may hold bfloat16, which torch does not take from it.
            value = state_dict[name]
            known = isinstance(value, torch.Tensor)
            array = value if known else torch.from_numpy(value.astype(np.float64))
            tensor.copy_(array)

"""Vision transformers in torch: torchvision's, timm's, and timm's with other pools."""

import re
from collections.abc import Mapping
from typing import Any

import torch
import torchvision

from jaxmed.errors import InputError
from jaxmed.models.backbones import vit
from jaxmed_convert.vit_names import has_torchvision_names


def torch_vit(
    architecture: str,
    *,
    pool: str = "own",
    image_size: int | None = None,
    num_classes: int = 1000,
    **options: Any,
) -> torch.nn.Module:
    """Build a vision transformer without pretrained weights.

    Args:
        architecture, pool: see `Classifier`.
        image_size: of its images, which are of one size in torchvision's and timm's
            networks; by default that of the position embeddings.
        num_classes: of its linear head.
        **options: of the class, in place of those of the architecture.

    Raises:
        InputError: it takes timm, which is not installed.
    """
    settings = vit.CONFIGURATIONS[architecture]
    size: int = image_size or settings["grid"] * settings["patch"]
    if has_torchvision_names(architecture, pool):
        return torchvision.models.VisionTransformer(
            image_size=size,
            patch_size=settings["patch"],
            num_layers=settings["depth"],
            num_heads=settings["heads"],
            hidden_dim=settings["width"],
            mlp_dim=4 * settings["width"],
            num_classes=num_classes,
            **options,
        )
    try:
        from timm.layers.mlp import SwiGLUPacked
        from timm.models.vision_transformer import VisionTransformer
    except ImportError as error:
        raise InputError(
            f"torch's model of {architecture} is in a package that is not installed. "
            "Install it with: pip install timm"
        ) from error

    class WithTokens(VisionTransformer):
        """timm's network, with the inputs of DINOv2's linear classifiers."""

        def forward(
            self, x: torch.Tensor, attn_mask: Any = None, is_causal: bool = False
        ) -> torch.Tensor:
            assert attn_mask is None
            assert not is_causal
            blocks = vit.LAST if pool == "last_4_and_average" else 1
            outputs: Any = self.forward_intermediates(
                x,
                indices=min(blocks, len(self.blocks)),
                return_prefix_tokens=True,
                norm=True,
                output_fmt="NLC",
                intermediates_only=True,
            )
            classes = [prefix[:, 0] for _, prefix in outputs]
            mean = outputs[-1][0].mean(dim=1)
            return self.head(torch.cat([*classes, mean], dim=1))

    gated = settings.get("swiglu")
    shape = vit.Perceptron.features(settings["width"], swiglu=bool(gated))
    built: Any = VisionTransformer if pool in ("own", "average") else WithTokens
    if gated:
        options = {"mlp_layer": SwiGLUPacked, "act_layer": torch.nn.SiLU} | options
    network = built(
        **{
            "img_size": size,
            "patch_size": settings["patch"],
            "embed_dim": settings["width"],
            "depth": settings["depth"],
            "num_heads": settings["heads"],
            "mlp_ratio": (shape[0] + 0.5) / settings["width"],
            "init_values": settings.get("layer_scale"),
            "reg_tokens": settings.get("registers", 0),
            "no_embed_class": not settings.get("class_position", True),
            "global_pool": "avg" if pool == "average" else "token",
            "num_classes": num_classes,
        }
        | options
    )
    if built is WithTokens:
        tokens = (
            2 if pool == "class_and_average" else 1 + min(vit.LAST, len(network.blocks))
        )
        network.head = torch.nn.Linear(tokens * network.embed_dim, num_classes)
    return network


def torchvision_name(architecture: str) -> str:
    """Return torchvision's name: "vit_b_16" of "vit_b_16_384"."""
    return re.sub(r"^(vit_[bl]_\d+)_\d+$", r"\1", architecture)


def at_image_size(
    state_dict: Mapping[str, torch.Tensor], backbone: vit.VisionTransformer, size: int
) -> dict[str, torch.Tensor]:
    """Fit a state dict of `to_torch` to `torch_vit`'s network for images of a size.

    The position embeddings are interpolated as our network does it with every batch,
    and registers, which have none here, get zeros in timm's.

    Args:
        state_dict: of the whole network.
        backbone: it comes from.
        size: pixels of a side of the images.
    """
    resized = dict(state_dict)
    (name,) = [n for n in resized if n.endswith(("pos_embed", "pos_embedding"))]
    side = size // backbone.patch
    positions = vit.resize_positions(
        resized[name].numpy(), backbone.grid, (side, side), backbone.interpolation
    )
    rows = torch.from_numpy(positions)
    if backbone.registers and backbone.class_position:
        zeros = rows.new_zeros(1, backbone.registers, rows.shape[2])
        rows = torch.cat([rows[:, :1], zeros, rows[:, 1:]], dim=1)
    resized[name] = rows
    return resized

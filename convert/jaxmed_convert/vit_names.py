"""Names of vision transformers' tensors: torchvision's, DINOv2's, Hugging Face's.

Ours are timm's. torchvision's networks keep torchvision's names in state dicts, as
those of all other families do; files with the names of the others are read too.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxmed.models.backbones import vit

Rows = Sequence[tuple[str, str]]

# timm's name of a tensor, as a pattern, and what others have in its place.
_TORCHVISION = (
    (r"cls_token", "class_token"),
    (r"pos_embed", "encoder.pos_embedding"),
    (r"patch_embed\.proj", "conv_proj"),
    (r"norm", "encoder.ln"),
    (r"blocks\.(\d+)", r"encoder.layers.encoder_layer_\1"),
    (r"norm([12])", r"ln_\1"),
    (r"attn", "self_attention"),
    (r"qkv\.(\w+)", r"in_proj_\1"),
    (r"proj", "out_proj"),
    (r"mlp\.fc1", "mlp.0"),
    (r"mlp\.fc2", "mlp.3"),
)
# The other way round, for files of the others: theirs, and timm's.
_FROM_TORCHVISION = (
    (r"class_token", "cls_token"),
    (r"encoder\.pos_embedding", "pos_embed"),
    (r"conv_proj", "patch_embed.proj"),
    (r"encoder\.ln", "norm"),
    (r"encoder\.layers\.encoder_layer_(\d+)", r"blocks.\1"),
    (r"ln_([12])", r"norm\1"),
    (r"self_attention\.in_proj_(\w+)", r"attn.qkv.\1"),
    (r"self_attention\.out_proj", "attn.proj"),
    (r"mlp\.(?:0|linear_1)", "mlp.fc1"),
    (r"mlp\.(?:3|linear_2)", "mlp.fc2"),
)
_FROM_DINOV2 = (
    (r"register_tokens", "reg_token"),
    (r"mlp\.w12", "mlp.fc1"),
    (r"mlp\.w3", "mlp.fc2"),
)
_FROM_HUGGING_FACE = (
    (r"embeddings\.(cls_token|mask_token)", r"\1"),
    (r"embeddings\.register_tokens", "reg_token"),
    (r"embeddings\.position_embeddings", "pos_embed"),
    (r"embeddings\.patch_embeddings\.projection", "patch_embed.proj"),
    (r"encoder\.layer\.(\d+)", r"blocks.\1"),
    (r"attention\.(?:attention\.)?(q)(?:uery|_proj)", r"attn.\1"),
    (r"attention\.(?:attention\.)?(k)(?:ey|_proj)", r"attn.\1"),
    (r"attention\.(?:attention\.)?(v)(?:alue|_proj)", r"attn.\1"),
    (r"attention\.(?:output\.dense|o_proj)", "attn.proj"),
    (r"layer_scale([12])\.lambda1", r"ls\1.gamma"),
    (r"mlp\.(?:weights_in)", "mlp.fc1"),
    (r"mlp\.(?:weights_out|down_proj)", "mlp.fc2"),
    (r"layernorm", "norm"),
)
_TO_HUGGING_FACE = (
    (r"reg_token", "embeddings.register_tokens"),
    (r"(cls_token|mask_token)", r"embeddings.\1"),
    (r"pos_embed", "embeddings.position_embeddings"),
    (r"patch_embed\.proj", "embeddings.patch_embeddings.projection"),
    (r"blocks\.(\d+)", r"encoder.layer.\1"),
    (r"attn\.(query|key|value)", r"attention.attention.\1"),
    (r"attn\.proj", "attention.output.dense"),
    (r"ls([12])\.gamma", r"layer_scale\1.lambda1"),
    (r"norm", "layernorm"),
)
# What is one tensor in timm's networks, by the parts that others have, in order.
_MERGED = (("attn.qkv", ("attn.q", "attn.k", "attn.v")),
           ("mlp.fc1", ("mlp.gate_proj", "mlp.up_proj")))  # fmt: skip
# A name that only one source has; its rows; and a sentence.
_SOURCES = (
    (
        "embeddings.patch_embeddings.projection.weight",
        _FROM_HUGGING_FACE,
        "Its names are Hugging Face's.",
    ),
    ("encoder.pos_embedding", _FROM_TORCHVISION, "Its names are torchvision's."),
    ("register_tokens", _FROM_DINOV2, "Its names are DINOv2's."),
    ("blocks.0.mlp.w12.weight", _FROM_DINOV2, "Its names are DINOv2's."),
)


def has_torchvision_names(architecture: str, pool: str) -> bool:
    """Tell whether a network's state dict has torchvision's names.

    With another pool than the class token there is no network of torchvision's.
    """
    how = vit.CONFIGURATIONS.get(architecture, {}).get("interpolation")
    return how == vit.TORCHVISION and pool == "own"


def torch_name(architecture: str, pool: str, name: str) -> str:
    """Translate the name of a vision transformer's tensor or module to torch's.

    Args:
        architecture, pool: see `Classifier`.
        name: ours, without "backbone.".

    Examples:
        >>> torch_name("vit_b_16", "own", "blocks.3.attn.qkv.weight")
        'encoder.layers.encoder_layer_3.self_attention.in_proj_weight'
    """
    if has_torchvision_names(architecture, pool):
        return _replaced(name, _TORCHVISION)
    return re.sub(r"^norm\b", "fc_norm", name) if pool == "average" else name


def with_timm_names(
    tensors: Mapping[str, Any], architecture: str, pool: str
) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """Give tensors of a file timm's names, if they have those of another source.

    Args:
        tensors: by the names in a file, with any prefix.
        architecture, pool: what the network should be; those of torchvision's keep
            torchvision's names, and what is no vision transformer is left as it is.

    Returns:
        The tensors, queries, keys and values in one; and sentences.
    """
    if architecture not in vit.CONFIGURATIONS:
        return tensors, ()
    renamed, sentences = dict(tensors), []
    for sign, rows, sentence in _SOURCES:
        kept = rows is _FROM_TORCHVISION and has_torchvision_names(architecture, pool)
        if any(f".{name}".endswith(f".{sign}") for name in tensors) and not kept:
            renamed = _merge({_replaced(n, rows): t for n, t in tensors.items()})
            sentences.append(sentence)
            break
    if pool == "average" and _freshen_norm(renamed):
        sentences.append(
            "The norm behind the average is fresh, as in MAE's fine-tuning; the file's "
            "is of the tokens."
        )
    return renamed, tuple(sentences)


def _freshen_norm(tensors: dict[str, Any]) -> bool:
    """Put a fresh norm behind the average in place of the tokens' own.

    He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022, do so when
    fine-tuning, and RETFound (Zhou et al., Nature 2023) after them.
    """
    prefix = min(
        (n[:-9] for n in tensors if n.endswith("pos_embed")), key=len, default=""
    )
    if f"{prefix}fc_norm.weight" in tensors or f"{prefix}norm.weight" not in tensors:
        return False
    for last, value in (("weight", 1), ("bias", 0)):
        tensor = tensors.pop(f"{prefix}norm.{last}")
        tensors[f"{prefix}fc_norm.{last}"] = tensor * 0 + value
    return True


def to_hugging_face(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Give a state dict of a DINOv2 the names of published files of `Dinov2Model`.

    Args:
        state_dict: of `to_torch`, of "rad_dino" or a "dinov2_..." network; its head is
            left out.

    Returns:
        Tensors by name: all that `Dinov2Model` or `Dinov2WithRegistersModel` has but
        the mask token, which serves pretraining.
    """
    renamed = {}
    for name, tensor in state_dict.items():
        if name.startswith("head."):
            continue
        if ".attn.qkv." in name:
            third = len(tensor) // 3
            for i, part in enumerate(("query", "key", "value")):
                key = name.replace("attn.qkv", f"attn.{part}")
                rows = tensor[i * third : (i + 1) * third]
                renamed[_replaced(key, _TO_HUGGING_FACE)] = rows
        else:
            renamed[_replaced(name, _TO_HUGGING_FACE)] = tensor
    if "encoder.layer.0.mlp.fc1.weight" in renamed and _is_gated(renamed):
        renamed = {
            re.sub(r"mlp\.fc([12])", lambda m: _GATED[m[1]], name): tensor
            for name, tensor in renamed.items()
        }
    return renamed


_GATED = {"1": "mlp.weights_in", "2": "mlp.weights_out"}


def _is_gated(tensors: Mapping[str, Any]) -> bool:
    first, second = (tensors[f"encoder.layer.0.mlp.fc{i}.weight"] for i in (1, 2))
    return len(first) == 2 * second.shape[1]


def _replaced(name: str, rows: Rows) -> str:
    """Replace what rows match, each of whole parts of the name, and the first once."""
    for pattern, other in rows:
        name = re.sub(rf"(?:^|(?<=\.)){pattern}(?!\w)", other, name)
    return name


def _merge(tensors: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(tensors)
    for joint, parts in _MERGED:
        for name in [n for n in merged if f"{parts[0]}." in n]:
            names = [name.replace(f"{parts[0]}.", f"{part}.") for part in parts]
            if all(n in merged for n in names):
                rows = [merged.pop(n) for n in names]
                merged[name.replace(f"{parts[0]}.", f"{joint}.")] = _concatenated(rows)
    return merged


def _concatenated(rows: Iterable[Any]) -> Any:
    rows = list(rows)
    if isinstance(rows[0], np.ndarray):
        return np.concatenate(rows)
    import torch

    return torch.cat(rows)

"""Weights in the Hugging Face Hub's layout: config.json beside model.safetensors.

timm's models there are so, and say in `pretrained_cfg` what their images are normalized
by. A folder of this layout is read as it is; "owner/name" is fetched into the Hub's own
cache, by its own package, which knows tokens, revisions and HF_HUB_OFFLINE.
"""

import importlib.util
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from jaxmed.errors import InputError
from jaxmed.image_stats import Scale
from jaxmed.models.registry import ARCHITECTURES

CONFIG = "config.json"
FILES = ("model.safetensors", "pytorch_model.bin")
# Networks of timm's that differ in their padding alone, which no tensor shows.
# EfficientNet-Lite is padded as TensorFlow does here, too.
PADDED = re.compile(r"(tf_)?(efficientnet_b\d|efficientnetv2_[a-z]|mobilenetv3_[a-z]+)")


class HubWeights(NamedTuple):
    """What a folder of the Hub's layout has.

    Attributes:
        file: with the weights.
        scale: what they want of RGB images; None if config.json does not say.
    """

    file: Path
    scale: Scale | None


def fetch_hub_folder(name: str) -> Path:
    """Returns the folder in the Hub's cache of "owner/name", or "owner/name@revision".

    Raises:
        InputError: huggingface_hub is not installed, the Hub cannot be reached, or
            there is no such model.
    """
    if importlib.util.find_spec("huggingface_hub") is None:
        raise InputError(
            f"hf:{name} needs huggingface_hub, which is not installed. Install it "
            "with: pip install 'jaxmed[hub]'"
        )
    from huggingface_hub import hf_hub_download

    repository, _, revision = name.partition("@")
    reasons = []
    for file in FILES:
        try:
            hf_hub_download(repository, CONFIG, revision=revision or None)
            path = hf_hub_download(repository, file, revision=revision or None)
            return Path(path).parent
        except Exception as error:
            # Of several packages: no network, no such model, no right to it.
            reasons.append(str(error).strip().splitlines()[0].rstrip("."))
    raise InputError(
        f"Cannot get {name} from the Hugging Face Hub: {reasons[0]}. Fetch {CONFIG} "
        f"and {FILES[0]} yourself, and give their folder: file:FOLDER."
    )


def read_hub_folder(folder: Path, architecture: str) -> HubWeights:
    """Reads what config.json says of the weights beside it.

    Args:
        folder: of the Hub's layout.
        architecture: what the network should be.

    Raises:
        InputError: a file is missing or damaged, or it is a network that is padded
            otherwise.
    """
    file = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if file is None or not (folder / CONFIG).is_file():
        raise InputError(
            f"The folder {folder} is not of the Hugging Face Hub's layout: expected "
            f"{CONFIG} and {FILES[0]} in it."
        )
    try:
        config: Any = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        images = config.get("pretrained_cfg") or config
        network = str(config.get("architecture", ""))
        scale = None
        if "mean" in images and "std" in images:
            mean, std = (tuple(map(float, images[key])) for key in ("mean", "std"))
            # A gray network's number is that of every channel.
            scale = Scale(*(v * 3 if len(v) == 1 else v for v in (mean, std)))
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"{folder / CONFIG} is not as the Hugging Face Hub has it ({error}). Fetch "
            "it again."
        ) from error
    padded = PADDED.match(network)
    if padded and bool(padded[1]) != architecture.startswith("tf_"):
        advice = f"timm's weights of {padded[2]}"
        if padded[0] in ARCHITECTURES:
            advice = f"the backbone {padded[0]}"
        raise InputError(
            f"{folder / CONFIG} is of {network}, whose convolutions are padded "
            f"otherwise than {architecture}'s. Take {advice}."
        )
    return HubWeights(file, scale)

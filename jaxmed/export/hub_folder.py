"""Folders in the Hugging Face Hub's layout: config.json, model.safetensors, README.md.

config.json is as timm has it, so that timm loads the folder where it has the network;
its part "jaxmed" holds what there is no place for there. README.md is the model card,
whose front matter the Hub reads.
"""

import importlib.util
import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxmed.errors import InputError
from jaxmed.export.metadata import INSIDE
from jaxmed.runtime.files import read_json, write_json, write_text

if TYPE_CHECKING:
    from jaxmed.export.verify import Run
    from jaxmed.runs.trained_model import TrainedModel
    from jaxmed_convert.export.hub_tensors import HubTensors

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
NAME = re.compile(r"[\w.-]+/[\w.-]+")
# In the card's code, until the folder has a name on the Hub.
ANY_NAME = "OWNER/NAME"
# timm's names of the ways to make images squares.
CROP_MODES = {"squash": "squash", "pad": "border", "crop": "center"}
# The Hub's names of metrics, by ours.
METRICS = {"auroc": "roc_auc", "accuracy": "accuracy", "f1": "f1"}


def write_hub(trained: "TrainedModel", folder: Path, record: dict[str, Any]) -> None:
    """Write the three files.

    Args:
        trained: whose model.
        folder: made here.
        record: of `jaxmed.export.metadata.describe`.
    """
    from safetensors.numpy import save_file

    from jaxmed.runtime.files import atomic_write
    from jaxmed_convert.export.hub_tensors import to_hub

    hub = to_hub(trained.model)
    write_json(folder / CONFIG, _config(trained, hub, record))
    with atomic_write(folder / WEIGHTS) as part:
        save_file(hub.tensors, part, {"format": "pt"})
    write_text(folder / CARD, _card(trained, hub))


def open_hub(trained: "TrainedModel", folder: Path) -> "Run":
    """Open a folder again, with the scale of images that its config.json says."""
    from jaxmed.export.verify import predict_images
    from jaxmed.models.registry import create_model
    from jaxmed_convert.export.hub_tensors import load_from_hub

    config = read_json(folder / CONFIG)
    model = create_model(**config["jaxmed"]["model"])
    load_from_hub(model, folder / WEIGHTS)
    scale = {name: tuple(config["pretrained_cfg"][name]) for name in ("mean", "std")}
    preprocessing = replace(trained.preprocessing, **scale)
    opened = replace(trained, model=model, preprocessing=preprocessing)
    return partial(predict_images, opened)


def hub_code(trained: "TrainedModel", folder: str) -> list[str]:
    """Return lines of Python that load the network in a folder, head included."""
    from jaxmed_convert.export.hub_tensors import to_hub

    hub = to_hub(trained.model)
    return _code(trained, hub, f"local-dir:{folder}", [f'file = "{folder}/{WEIGHTS}"'])


def check_push(name: str) -> None:
    """Check what can be checked before anything is uploaded.

    Raises:
        InputError: the name is not "owner/name", or huggingface_hub is not installed.
    """
    if importlib.util.find_spec("huggingface_hub") is None:
        raise InputError(
            "--push needs huggingface_hub, which is not installed. Install it with: "
            "pip install 'jaxmed[hub]'"
        )
    if not NAME.fullmatch(name):
        raise InputError(
            f"--push needs the name of a model on the Hugging Face Hub, owner/name; "
            f"got {name!r}."
        )


def push(folder: Path, name: str) -> str:
    """Upload a folder to the Hub, into a private model unless it is there.

    Args:
        folder: of `write_hub`.
        name: "owner/name".

    Returns:
        The address of the model.

    Raises:
        InputError: the Hub cannot be reached, or refuses it.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        model = api.create_repo(name, private=True, exist_ok=True)
        api.upload_folder(
            repo_id=name, folder_path=folder, commit_message="Model of jaxmed"
        )
    except Exception as error:
        # Of several packages: no network, no token, no right to that name.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"Cannot upload {folder} to {name} on the Hugging Face Hub: "
            f"{reason.rstrip('.')}. The folder is complete: log in with `hf auth "
            f"login`, and upload it with `hf upload {name} {folder}`."
        ) from error
    return str(model)


def _config(
    trained: "TrainedModel", hub: "HubTensors", record: dict[str, Any]
) -> dict[str, Any]:
    from jaxmed_convert.weights.image_scales import torch_scale

    preprocessing, scale = trained.preprocessing, torch_scale(trained.model)
    side, mode = preprocessing.image_size, preprocessing.resizing.mode
    cropped = mode == "crop"
    logits = trained.model.head.out.out_features
    return {
        "architecture": hub.architecture,
        "num_classes": logits,
        "num_features": trained.model.backbone.num_features,
        "label_names": list(trained.class_names),
        **({"model_args": hub.arguments} if hub.arguments else {}),
        "pretrained_cfg": {
            "input_size": [trained.model.in_channels, side, side],
            "fixed_input_size": False,
            "interpolation": "bilinear",
            "crop_pct": 1 / preprocessing.resizing.factor if cropped else 1.0,
            "crop_mode": CROP_MODES[mode],
            "mean": list(scale.mean),
            "std": list(scale.std),
            "num_classes": logits,
            "classifier": hub.classifier,
        },
        "jaxmed": {name: record[name] for name in INSIDE},
    }


def _card(trained: "TrainedModel", hub: "HubTensors") -> str:
    """Return the model card, with the Hub's front matter and the code that loads it."""
    from jaxmed.report.text.model_card import card_text
    from jaxmed.runs.layout import seed_of
    from jaxmed.runs.record import RunRecord

    # A source may be a path, and tell of people.
    data = dict(trained.environment["data"]) | {"source": None}
    folder = trained.folder or Path(trained.name)
    run = RunRecord(
        folder=folder,
        arm=folder.absolute().parent.name,
        seed=seed_of(folder) or 0,
        metrics=dict(trained.metrics),
        predictions={},
        history=(),
        environment=dict(trained.environment) | {"data": data},
        config="",
        cams=(),
    )
    fetch = [
        "from huggingface_hub import hf_hub_download",
        f'file = hf_hub_download("{ANY_NAME}", "{WEIGHTS}")',
    ]
    lines = "\n".join(_code(trained, hub, f"hf-hub:{ANY_NAME}", fetch))
    # JSON is YAML.
    front = "\n".join(
        f"{name}: {json.dumps(value, ensure_ascii=False)}"
        for name, value in _front_matter(trained, hub).items()
    )
    return (
        f"---\n{front}\n---\n\n{card_text(run, trained.name, '')}\n"
        f"## How to load it\n\n```python\n{lines}\n```\n\n{_usage(trained)}\n"
    )


def _front_matter(trained: "TrainedModel", hub: "HubTensors") -> dict[str, Any]:
    test = trained.metrics["test"]
    values = {name: (test.get(name) or {}).get("value") for name in METRICS}
    results = [
        {"type": METRICS[name], "value": value, "name": f"test {name}"}
        for name, value in values.items()
        if value is not None
    ]
    front: dict[str, Any] = {
        "library_name": hub.library,
        "pipeline_tag": "image-classification",
        "tags": [*dict.fromkeys((hub.library, "jaxmed", "medical"))],
    }
    if results:
        front["metrics"] = [result["type"] for result in results]
        front["model-index"] = [
            {
                "name": trained.name,
                "results": [
                    {
                        "task": {"type": "image-classification"},
                        "dataset": {"name": "test split", "type": "test"},
                        "metrics": results,
                    }
                ],
            }
        ]
    return front


def _code(
    trained: "TrainedModel", hub: "HubTensors", name: str, file: list[str]
) -> list[str]:
    """Return lines of Python: timm's with its name of the folder, or with a `file`."""
    if hub.library == "timm":
        return [
            "import timm",
            f'model = timm.create_model("{name}", pretrained=True).eval()',
        ]
    arguments = trained.config.arguments(len(trained.class_names))
    options = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    return [
        "import jaxmed, jaxmed_convert",
        "from safetensors.numpy import load_file",
        *file,
        f"model = jaxmed.create_model({options})",
        "jaxmed_convert.from_torch(model, load_file(file))",
    ]


def _usage(trained: "TrainedModel") -> str:
    side = trained.preprocessing.image_size
    return (
        f"It takes images of {side} × {side} pixels, scaled to [0, 1] and normalized "
        f'by "mean" and "std" in {CONFIG}. Its logits are of '
        f"{', '.join(trained.class_names)}. Calibration and thresholds are in the part "
        f'"jaxmed" of {CONFIG}. As starting weights of jaxmed: `weights = '
        f'"hf:{ANY_NAME}"`.'
    )

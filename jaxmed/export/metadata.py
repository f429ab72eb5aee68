"""model.json: the description of an exported model beside its files."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import jaxmed

if TYPE_CHECKING:
    from jaxmed.runs.trained_model import TrainedModel

RECORD = "model.json"
# The parts that go into the files themselves.
INSIDE = (
    "jaxmed",
    "task",
    "class_names",
    "model",
    "preprocessing",
    "views",
    "calibration",
    "thresholds",
    "run",
)


def describe(trained: "TrainedModel") -> dict[str, Any]:
    """Return plain values about a trained model and how it is used."""
    channels = trained.preprocessing.channels
    labels = ["batch", len(trained.class_names)]
    scaling = trained.scaling
    return {
        "jaxmed": jaxmed.__version__,
        "task": trained.task,
        "class_names": list(trained.class_names),
        "model": trained.config.arguments(len(trained.class_names)),
        "members": len(trained.networks),
        "precision": "float32",
        "preprocessing": asdict(trained.preprocessing),
        "views": trained.views,
        "calibration": None if scaling is None else scaling.describe(),
        "thresholds": {
            "rule": trained.metrics["threshold"]["method"],
            "chosen_on": "val",
            "of": "scores",
            "decision": "score >= threshold",
            "values": dict(trained.thresholds),
        },
        "run": {
            "name": trained.name,
            "folder": _folder_of(trained),
            "best": dict(trained.best),
            "fingerprints": dict(trained.fingerprints),
        },
        "interface": {
            "images": ["uint8", ["batch", "height", "width", channels]],
            "probabilities": ["float32", labels, "calibrated"],
            "scores": ["float32", labels, "before calibration"],
        },
    }


def _folder_of(trained: "TrainedModel") -> str | None:
    """Return the end of a run's path: experiment, arm and seed."""
    folder = trained.folder
    return None if folder is None else "/".join(folder.resolve().parts[-3:])


def metadata_of(record: dict[str, Any]) -> dict[str, str]:
    """Return the parts that go into a file: JSON by name, but for plain texts."""
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in ((name, record[name]) for name in INSIDE)
    }

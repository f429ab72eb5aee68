"""model.json: what there is to know about an exported model, beside its files."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import jaxmed

if TYPE_CHECKING:
    from jaxmed.runs.trained_model import Bundle

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


def describe(bundle: "Bundle") -> dict[str, Any]:
    """Returns plain values about a run's model and how it is used."""
    channels = bundle.preprocessing.channels
    labels = ["batch", len(bundle.class_names)]
    scaling = bundle.scaling
    return {
        "jaxmed": jaxmed.__version__,
        "task": bundle.task,
        "class_names": list(bundle.class_names),
        "model": bundle.config.model.arguments(len(bundle.class_names)),
        "precision": "float32",
        "preprocessing": asdict(bundle.preprocessing),
        "views": bundle.views,
        "calibration": None if scaling is None else scaling.describe(),
        "thresholds": {
            "rule": bundle.metrics["threshold"]["method"],
            "chosen_on": "val",
            "of": "scores",
            "decision": "score >= threshold",
            "values": dict(bundle.thresholds),
        },
        "run": {
            "name": bundle.config.name,
            "folder": "/".join(bundle.folder.resolve().parts[-3:]),
            "best": dict(bundle.best),
            "fingerprints": dict(bundle.fingerprints),
        },
        "interface": {
            "images": ["uint8", ["batch", "height", "width", channels]],
            "probabilities": ["float32", labels, "calibrated"],
            "scores": ["float32", labels, "before calibration"],
        },
    }


def metadata_of(record: dict[str, Any]) -> dict[str, str]:
    """Returns the parts that go into a file: JSON by name, but for plain texts."""
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in ((name, record[name]) for name in INSIDE)
    }

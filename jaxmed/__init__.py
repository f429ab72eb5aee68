"""Fine-tuning of ImageNet-pretrained CNNs on medical images, in JAX.

The names below load what they need when first used, so that importing jaxmed costs
nothing; in particular it imports neither torch nor tensorflow.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxmed.data.sources.registry import load_dataset
    from jaxmed.evaluation.evaluate import evaluate
    from jaxmed.explain.gradcam import grad_cam
    from jaxmed.inference.forward import predict, predict_split
    from jaxmed.inference.load_run import load_run, make_predictor
    from jaxmed.inference.predictor import Prediction, Predictor
    from jaxmed.models.registry import create_model
    from jaxmed.training.fit import FitResult, fit

__version__ = "0.1.0"

_HOMES = {
    "FitResult": "jaxmed.training.fit",
    "Prediction": "jaxmed.inference.predictor",
    "Predictor": "jaxmed.inference.predictor",
    "create_model": "jaxmed.models.registry",
    "evaluate": "jaxmed.evaluation.evaluate",
    "fit": "jaxmed.training.fit",
    "grad_cam": "jaxmed.explain.gradcam",
    "load_dataset": "jaxmed.data.sources.registry",
    "load_run": "jaxmed.inference.load_run",
    "make_predictor": "jaxmed.inference.load_run",
    "predict": "jaxmed.inference.forward",
    "predict_split": "jaxmed.inference.forward",
}

__all__ = [
    "FitResult",
    "Prediction",
    "Predictor",
    "create_model",
    "evaluate",
    "fit",
    "grad_cam",
    "load_dataset",
    "load_run",
    "make_predictor",
    "predict",
    "predict_split",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'jaxmed' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)

"""Weights that Keras saved: HDF5 files of weights or models, and .keras archives.

Tensors get torch's axes, and names as torch would write them: "conv1_conv.weight" for
the kernel of the layer "conv1/conv".
"""

import importlib.util
import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxmed.errors import InputError

HDF5 = b"\x89HDF"
# In a .keras archive.
WEIGHTS = "model.weights.h5"
# torch's names, by Keras'.
NAMES = {
    "kernel": "weight",
    "depthwise_kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
# Keras 3's files number the arrays of a layer.
NUMBERED = {
    "conv2d": ("kernel", "bias"),
    "dense": ("kernel", "bias"),
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
}
# keras.applications' DenseNets add this to variances, and torchvision's 1e-5.
EPSILON, TORCH_EPSILON = 1.001e-5, 1e-5
# Why others are not the networks here that have their name.
OTHERS = {
    "resnet": "its blocks halve a map in their first convolution, not in the second",
    "wide_resnet": "Keras has no such network",
    "resnext": "Keras has no such network",
    "inception": "its pooling branches average without the padding",
    "vgg": "its first hidden layer sees the map in another order",
    "mobilenet": "its convolutions are padded as TensorFlow pads",
    "efficientnet": "its convolutions are padded as TensorFlow pads",
}


def is_keras_archive(path: Path) -> bool:
    """Tell whether a zip archive is one that Keras saved."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return WEIGHTS in archive.namelist()


def check_architecture(path: Path, architecture: str) -> None:
    """Check that a network of Keras' is the one that is called so here.

    Raises:
        InputError: it is not, or may not be.
    """
    if architecture.startswith("densenet"):
        return
    reason = next(
        (why for name, why in OTHERS.items() if architecture.startswith(name)),
        "only Keras' DenseNets are known to be",
    )
    raise InputError(
        f"The file {path} is of Keras, whose network is not {architecture} as it is "
        f"here: {reason}. Take weights for PyTorch, which RadImageNet has too."
    )


def read_keras(path: Path) -> dict[str, np.ndarray]:
    """Read the weights of a network of Keras' layers.

    Args:
        path: of an HDF5 file with weights or a model, or of a .keras archive.

    Returns:
        Arrays with torch's axes, by names of torch's form. Variances are those that
        give with torch's epsilon what these do with Keras' 1.001e-5.

    Raises:
        InputError: h5py is not installed, or the file is damaged or holds no layers.
    """
    if importlib.util.find_spec("h5py") is None:
        raise InputError(
            f"The file {path} is of Keras. Reading it needs h5py, which is not "
            "installed. Install it with: pip install 'jaxmed[keras]'"
        )
    import h5py

    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                content = io.BytesIO(archive.read(WEIGHTS))
        else:
            content = path
        with h5py.File(content, "r") as file:
            if "layers" in file:
                arrays = dict(_of_keras_3(file["layers"]))
            else:
                arrays = dict(_of_group(file.get("model_weights", file)))
    except Exception as error:
        # On damaged files HDF5 raises whatever it stumbles over.
        raise InputError(
            f"The file {path} is damaged, or not of a network that Keras saved "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__}). "
            "Save it again with model.save_weights(path)."
        ) from error
    return {_torch_name(name): _as_torch(name, array) for name, array in arrays.items()}


def _of_group(group: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Yield arrays of an HDF5 group, by "layer/array"."""
    for layer in _texts(group, "layer_names"):
        for name in _texts(group[layer], "weight_names"):
            module, _, last = name.partition(":")[0].rpartition("/")
            # A model may be before the layer's name, or be a layer itself.
            is_layer = module.endswith(layer)
            module = layer if is_layer else module.removeprefix(f"{layer}/")
            yield f"{module}/{last}", np.asarray(group[layer][name])


def _texts(group: Any, name: str) -> list[str]:
    """Return an attribute's texts, which Keras splits where they are many."""
    parts = [name] if name in group.attrs else []
    while f"{name}{len(parts)}" in group.attrs:
        parts.append(f"{name}{len(parts)}")
    if not parts:
        raise ValueError(f"{group.name} has no {name}")
    texts = [text for part in parts for text in group.attrs[part]]
    return [t.decode() if isinstance(t, bytes) else str(t) for t in texts]


def _of_keras_3(layers: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Yield arrays of groups that are called by their layers' classes, numbered."""
    for group, layer in layers.items():
        names = NUMBERED.get(re.sub(r"_\d+$", "", group), ())
        for i, array in layer["vars"].items() if names else ():
            yield f"{layer['vars'].attrs['name']}/{names[int(i)]}", np.asarray(array)


def _torch_name(name: str) -> str:
    layer, _, last = name.rpartition("/")
    return f"{layer.replace('/', '_')}.{NAMES.get(last, last)}"


def _as_torch(name: str, array: np.ndarray) -> np.ndarray:
    if name.endswith("moving_variance"):
        return (array + (EPSILON - TORCH_EPSILON)).astype(array.dtype)
    if name.endswith("kernel"):  # (h, w, in, out) or (in, out)
        return array.transpose((3, 2, 0, 1) if array.ndim == 4 else (1, 0))
    return array

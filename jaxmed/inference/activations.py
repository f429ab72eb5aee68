"""Activations of frozen layers, computed once and used by all who need them.

What enters a stage depends on the image, on the weights before the stage and on the
program that computes it, and on nothing else. So training, validation, prediction and
the statistics of features share activations; and so do the arms and seeds of an
experiment whose frozen layers are the same, in one process or one after the other.
"""

import hashlib
import math
import platform
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxmed.data.batching import map_batches
from jaxmed.data.dataset import Dataset, Split
from jaxmed.data.images.lazy import ImageArray
from jaxmed.data.transforms.preprocess import Preprocessing
from jaxmed.evaluation.predictions import Predictions
from jaxmed.inference.forward import (
    as_predictions,
    compute_logits,
    eval_parts,
    evaluation_batch,
    largest_batch,
    predict_split,
)
from jaxmed.inference.row_store import RowStore
from jaxmed.models.classifier import Classifier
from jaxmed.models.outputs import probabilities
from jaxmed.models.parameters import Arrays, merge
from jaxmed.runtime import distributed
from jaxmed.runtime.cache import cache_folder
from jaxmed.runtime.files import hash_arrays
from jaxmed.runtime.progress import progress
from jaxmed.runtime.sharding import (
    batch_sharding,
    data_mesh,
    empty_aligned,
    local_rows,
    replicate,
    replicated_sharding,
    shard_batch,
)
from jaxmed.strategies.phase import matches

GIGABYTE = 1e9
# Seconds of computing that are worth a file.
WORTH_A_FILE = 1.0

Advance = Callable[..., None]


@dataclass(frozen=True, kw_only=True, eq=False)
class FrozenStages:
    """The stages of a model before one of them, compiled.

    Attributes:
        start_stage: the stage that the activations are the input of.
        shape: of one image's activations, (h, w, c), or (c,) of the head's.
        dtype: of the activations.
        mesh: the devices.
        weights: of the whole model, on the devices.
        needed: those of `weights` that the stages use.
        compute: the compiled program, of `weights` and a batch of images.
        fingerprints: SHA-256 (hex) by the shape of the stored images.
    """

    start_stage: str
    shape: tuple[int, ...]
    dtype: Any
    mesh: Mesh
    weights: Arrays
    needed: Arrays
    compute: Any
    fingerprints: dict[tuple[int, ...], str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        model: Classifier,
        start_stage: str,
        preprocessing: Preprocessing,
        mesh: Mesh,
        dtype: Any = jnp.float32,
    ) -> "FrozenStages":
        """Take the stages of a model before `start_stage`.

        Args:
            model: its BatchNorm layers are put in eval mode.
            start_stage: one of `Classifier.stages`, but the first.
            preprocessing: uint8 images to the model's input.
            mesh: the devices.
            dtype: of the activations.
        """
        definition, params, stats = eval_parts(model)
        weights = params | stats
        names = [*model.stages]
        later = [
            pattern
            for name in names[names.index(start_stage) :]
            for pattern in model.stages[name]
        ]
        size = preprocessing.image_size
        image = jax.ShapeDtypeStruct((1, size, size, model.in_channels), jnp.float32)
        return cls(
            start_stage=start_stage,
            shape=shape_of(model, start_stage, image),
            dtype=dtype,
            mesh=mesh,
            weights=replicate(weights, mesh),
            needed={
                path: array
                for path, array in weights.items()
                if not any(matches(pattern, path) for pattern in later)
            },
            compute=_compiled(definition, start_stage, preprocessing, mesh, dtype),
        )

    @property
    def batch_size(self) -> int:
        """Images a batch, always: so that the numbers of an image are the same."""
        return -(-largest_batch() // self.mesh.size) * self.mesh.size

    def fingerprint(self, image_shape: tuple[int, ...]) -> str:
        """Return the SHA-256 (hex) of all that decides the activations of an image.

        Args:
            image_shape: (h, w, c) of the stored images.
        """
        if image_shape in self.fingerprints:
            return self.fingerprints[image_shape]
        # The text of the program has the architecture, precision, preprocessing,
        # types and shapes, and of the weights those alone that it uses.
        shape = (self.batch_size, *image_shape)
        images = jax.ShapeDtypeStruct(shape, np.uint8)
        program = self.compute.lower(self.weights, images).as_text()
        device = self.mesh.devices.flat[0]
        parts = [program, hash_arrays(self.needed), jax.__version__]
        parts += [version("jaxlib"), device.platform, device.device_kind]
        parts += [platform.machine(), platform.processor()]
        digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
        self.fingerprints[image_shape] = digest
        return digest

    def run(
        self,
        images: ImageArray,
        rows: np.ndarray,
        activations: np.ndarray,
        advance: Advance,
    ) -> None:
        """Compute the activations of some images.

        Args:
            images: uint8 (n, h, w, c), an array or `LazyImages`.
            rows: of the images to compute, int (m,).
            activations: (n, *shape), whose `rows` are filled in.
            advance: told of every batch's images.
        """

        def compute(indices: np.ndarray) -> jax.Array:
            local = rows[indices[local_rows(len(indices), self.mesh)]]
            return self.compute(self.weights, shard_batch(images[local], self.mesh))

        for indices, batch in map_batches(
            compute, len(rows), self.batch_size, self.mesh.size
        ):
            activations[rows[indices]] = batch
            advance(len(indices))


def shape_of(model: Classifier, start_stage: str, image: Any) -> tuple[int, ...]:
    """Return the shape of one image's activations; `image` is an abstract batch."""
    definition, params, stats = eval_parts(model)

    def stages(weights, images):
        return merge(definition, weights, {}).stage_input(start_stage, images)

    return jax.eval_shape(stages, params | stats, image).shape[1:]


@lru_cache(maxsize=32)
def _compiled(
    definition: Any, start_stage: str, preprocessing: Preprocessing, mesh: Mesh, dtype
) -> Any:
    replicated, sharded = replicated_sharding(mesh), batch_sharding(mesh)

    def frozen_stages(weights, images):
        model = merge(definition, weights, {})
        return model.stage_input(start_stage, preprocessing(images)).astype(dtype)

    return jax.jit(
        frozen_stages, in_shardings=(replicated, sharded), out_shardings=replicated
    )


def predict_from(
    start_stage: str | None,
    model: Classifier,
    data: Dataset,
    split: str,
    *,
    preprocessing: Preprocessing,
    store: "ActivationStore",
) -> Predictions:
    """Predict a split as `predict_split` does, from the cached input of a stage.

    Args:
        start_stage: the stage; None predicts from the images, and so do activations
            that the store has no room for.
        model: its BatchNorm layers are put in eval mode.
        data: whose images.
        split: "train", "val" or "test".
        preprocessing: what the model was trained with.
        store: of activations.
    """
    mesh, part = data_mesh(), data.splits[split]
    stages = None
    if start_stage:
        stages = FrozenStages.of(model, start_stage, preprocessing, mesh)
    if stages is None or len(part) * 4 * math.prod(stages.shape) > store.memory:
        return predict_split(model, data, split, preprocessing=preprocessing)
    with progress(f"Predicting {split}", len(part), unit="images") as advance:
        inputs = get_activations(stages, part, store, advance)
    logits = compute_logits(
        eval_parts(model).definition,
        stages.weights,
        inputs,
        preprocessing=preprocessing,
        mesh=mesh,
        batch_size=evaluation_batch(data),
        start_stage=start_stage,
    )
    return as_predictions(data, split, probabilities(logits, data.task))


def get_activations(
    stages: FrozenStages,
    split: Split,
    store: "ActivationStore | None",
    advance: Advance = lambda amount: None,
) -> np.ndarray:
    """Return the activations of a split, (n, *shape), which are not to be changed.

    Args:
        stages: the program.
        split: whose images.
        store: where they are taken from and kept; None computes them.
        advance: told of images as they are done.
    """
    activations = store.recall(stages, split) if store else None
    if activations is not None:
        advance(len(split))
        return activations
    activations = empty_aligned((len(split), *stages.shape), stages.dtype)
    fill(stages, split, activations, store, advance)
    return activations


def fill(
    stages: FrozenStages,
    split: Split,
    activations: np.ndarray,
    store: "ActivationStore | None",
    advance: Advance,
) -> None:
    """Fill in a split's activations, (n, *shape); see `get_activations`."""
    if store:
        store.fill(stages, split, activations, advance)
    else:
        stages.run(split.images, np.arange(len(split)), activations, advance)


class ActivationStore:
    """Activations of images by what decides them, in memory and on disk.

    Each image's are kept by themselves: another split of the same images uses them.

    Args:
        memory: gigabytes of arrays that are kept in memory, the last used.
        disk: gigabytes on disk, which processes share; 0 for nothing. Several
            processes that compute together keep nothing there.
        folder: in place of the cache folder, see `jaxmed.runtime.cache.cache_folder`.
    """

    def __init__(
        self, *, memory: float = 4.0, disk: float = 0.0, folder: Path | None = None
    ):
        self.memory = memory * GIGABYTE
        self.disk: RowStore | None = None
        if disk and not distributed.is_multiprocess():
            path = cache_folder(folder) / "activations"
            self.disk = RowStore(path, int(disk * GIGABYTE))
        # By fingerprint and the images' keys.
        self._arrays: OrderedDict[tuple[str, tuple[bytes, ...]], np.ndarray] = (
            OrderedDict()
        )

    def recall(self, stages: FrozenStages, split: Split) -> np.ndarray | None:
        """Return the activations of a split if all are in memory, in one array."""
        key = self._key(stages, split)
        if key in self._arrays:
            self._arrays.move_to_end(key)
        return self._arrays.get(key)

    def fill(
        self,
        stages: FrozenStages,
        split: Split,
        activations: np.ndarray,
        advance: Advance,
    ) -> None:
        """Fill in activations: from memory, from disk, and compute the others.

        Args:
            stages: the program.
            split: whose images.
            activations: (n, *shape), contiguous.
            advance: told of images as they are done.
        """
        fingerprint, keys = self._key(stages, split)
        filled = self._recall_rows(fingerprint, keys, activations)
        if self.disk and not filled.all():
            left = np.flatnonzero(~filled)
            if len(left) == len(keys):
                filled = self.disk.read(fingerprint, keys, activations)
            else:
                part = np.empty((len(left), *stages.shape), stages.dtype)
                indices = self.disk.read(fingerprint, [keys[i] for i in left], part)
                activations[left[indices]] = part[indices]
                filled[left[indices]] = True
        advance(int(filled.sum()))
        missing = np.flatnonzero(~filled)
        if len(missing):
            began = time.monotonic()
            stages.run(split.images, missing, activations, advance)
            if self.disk and time.monotonic() - began >= WORTH_A_FILE:
                rows = activations
                if len(missing) < len(keys):
                    rows = activations[missing]
                self.disk.write(fingerprint, [keys[i] for i in missing], rows)
        self._remember((fingerprint, keys), activations)

    def _key(self, stages: FrozenStages, split: Split) -> tuple[str, tuple[bytes, ...]]:
        return stages.fingerprint(split.images.shape[1:]), split.image_keys

    def _recall_rows(
        self, fingerprint: str, keys: tuple[bytes, ...], activations: np.ndarray
    ) -> np.ndarray:
        """Fill in the images that other splits have in memory; return which."""
        filled = np.zeros(len(keys), bool)
        for (other, theirs), array in self._arrays.items():
            if other != fingerprint:
                continue
            row_of = {key: row for row, key in enumerate(theirs)}
            rows = [(i, row_of[k]) for i, k in enumerate(keys) if k in row_of]
            if rows:
                targets, sources = map(list, zip(*rows, strict=True))
                activations[targets] = array[sources]
                filled[targets] = True
        return filled

    def _remember(
        self, key: tuple[str, tuple[bytes, ...]], activations: np.ndarray
    ) -> None:
        """Keep an array that is in memory, and let go of those not used for long."""
        if isinstance(activations, np.memmap):
            return
        self._arrays[key] = activations
        while sum(array.nbytes for array in self._arrays.values()) > self.memory:
            self._arrays.popitem(last=False)

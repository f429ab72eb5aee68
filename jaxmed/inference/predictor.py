"""Predictions of new images by a trained model."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxmed.data.images.user_files import (
    Decoding,
    UserFile,
    decode_ahead,
    find_user_files,
)
from jaxmed.data.images.window import has_few_levels
from jaxmed.errors import InputError
from jaxmed.explain.explanation import explain
from jaxmed.inference.features import Network
from jaxmed.inference.preprocessing import as_seen
from jaxmed.models.outputs import average_probabilities
from jaxmed.runs.detector import OOD_THRESHOLD
from jaxmed.runs.trained_model import TrainedModel
from jaxmed.runtime.sharding import Devices

BATCH_SIZE = 64


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The prediction for one image.

    Attributes:
        id: the image's path as it was given, or its number among arrays.
        decision: the class: in a binary task by the threshold, with several classes the
            most probable one; of several labels those at or above their thresholds,
            separated by "; ".
        probs: calibrated probabilities by class.
        above_threshold: whether the probability is at or above the threshold, by class
            that has one. Thresholds were chosen before calibration and are compared so.
        ood_score: out-of-distribution score in [0, 1]: the share of the validation
            images that are nearer to the training images; see
            `jaxmed.inference.out_of_distribution`. None without a detector.
        image: uint8 (h, w, 1 or 3), as the network saw it, where there is a map of it.
        cam: float32 (h, w) in [0, 1], the saliency map of the predicted class, if it
            was asked for; of several labels of the most probable one.
        few_levels: whether few of the 256 gray levels are left of the file's values,
            see `jaxmed.data.images.window.has_few_levels`.
        error: why the file cannot be used; all else is then empty.
    """

    id: str
    decision: str | None = None
    probs: dict[str, float] = field(default_factory=dict)
    above_threshold: dict[str, bool] = field(default_factory=dict)
    ood_score: float | None = None
    image: np.ndarray | None = field(default=None, repr=False, compare=False)
    cam: np.ndarray | None = field(default=None, repr=False, compare=False)
    few_levels: bool = False
    error: str | None = None

    @property
    def out_of_distribution(self) -> bool:
        """Whether `ood_score` is above `OOD_THRESHOLD`."""
        return self.ood_score is not None and self.ood_score > OOD_THRESHOLD


class Predictor(TrainedModel):
    """A trained model that predicts new images.

    `jaxmed.load_model` loads one, `jaxmed.make_predictor` makes one of a model that was
    trained in Python.
    """

    def predict(
        self, images: Any, *, cams: bool = False, batch_size: int = BATCH_SIZE
    ) -> list[Prediction]:
        """Predict images.

        Args:
            images: paths of files or folders, or patterns, one or several; or arrays,
                uint8 (h, w, 1 or 3) each, one, several or stacked, gray or RGB as
                `jaxmed.data.images.decode.decode` gives them.
            cams: whether to compute a saliency map of each predicted class.
            batch_size: images at a time.

        Returns:
            In the order given; a folder's images in sorted order. A file that cannot
            be used has its `error`.

        Raises:
            InputError: no images, or arrays of another type or shape.
        """
        if isinstance(images, str | Path) or getattr(images, "ndim", 4) == 3:
            images = [images]
        images = list(images)
        if not images:
            raise InputError("There are no images to predict.")
        if all(isinstance(image, str | Path) for image in images):
            inputs = find_user_files(list(map(str, images)), {})
            return [*self.stream(inputs, cams=cams, batch_size=batch_size)]
        fit = self._decoding.fit
        inputs = [
            UserFile(str(i), fit(_checked(image))) for i, image in enumerate(images)
        ]
        size = min(batch_size, len(inputs))
        batches = (inputs[i : i + size] for i in range(0, len(inputs), size))
        return [*self._predict(batches, size, cams)]

    def stream(
        self, files: Sequence[UserFile], *, cams: bool = False, batch_size: int
    ) -> Iterator[Prediction]:
        """Predict files one after the other, in memory that does not grow with them.

        Args:
            files: as `find_user_files` finds them.
            cams, batch_size: see `predict`.
        """
        batches = decode_ahead(files, self._decoding, batch_size)
        return self._predict(batches, min(batch_size, len(files)), cams)

    @property
    def _decoding(self) -> Decoding:
        return Decoding(
            image_size=self.preprocessing.image_size,
            resizing=self.preprocessing.resizing,
            window=self.preprocessing.window,
            image_shape=self.image_shape,
        )

    def _predict(
        self, batches: Iterable[Sequence[UserFile]], rows: int, cams: bool
    ) -> Iterator[Prediction]:
        """Predict decoded images; batches are filled up to `rows`."""
        networks = self.load_networks()
        for batch in batches:
            by_index: dict[int, Prediction] = {}
            for indices, images in _by_shape(batch):
                probs, features = average(
                    [prediction(images, rows) for prediction in networks]
                )
                ids = [batch[index].name for index in indices]
                shown = [(None, None)] * len(ids)
                if cams:
                    shown = self._explain(images, probs, rows)
                predictions = self._assemble(ids, probs, features, shown)
                for index, row, prediction in zip(
                    indices, images, predictions, strict=True
                ):
                    by_index[index] = replace(
                        prediction, few_levels=has_few_levels(row)
                    )
            for index, file in enumerate(batch):
                yield by_index.get(index) or Prediction(id=file.name, error=file.reason)

    def load_networks(self, devices: Devices | None = None) -> list[Network]:
        """Put the networks, of which an ensemble has several, on the devices."""
        return [
            Network(
                network.model,
                self.preprocessing,
                self.task,
                views=self.views,
                devices=devices,
            )
            for network in self.networks
        ]

    def score_ood(self, features: Sequence[np.ndarray]) -> np.ndarray | None:
        """Compute out-of-distribution scores, of an ensemble the mean of its networks.

        Args:
            features: float32 (n, d) of each network.

        Returns:
            float64 (n,) in [0, 1]; None without a detector.
        """
        scores = [
            network.detector.score(part)
            for network, part in zip(self.networks, features, strict=True)
            if self.detector is not None and network.detector is not None
        ]
        return np.mean(scores, axis=0) if scores else None

    def _assemble(
        self,
        ids: Sequence[str],
        probs: np.ndarray,
        features: Sequence[np.ndarray],
        shown: Sequence[tuple[np.ndarray | None, np.ndarray | None]],
    ) -> Iterator[Prediction]:
        """Put together what is said of images with these probabilities."""
        names, calibrated = self.class_names, probs.astype(np.float64)
        if self.scaling is not None:
            calibrated = self.scaling.calibrate(probs, self.task)
        decided, scores = self._decide(probs), [None] * len(ids)
        if (ood_scores := self.score_ood(features)) is not None:
            scores = ood_scores.tolist()
        for i, name in enumerate(ids):
            raw = dict(zip(names, probs[i].tolist(), strict=True))
            above = {
                label: raw[label] >= threshold
                for label, threshold in self.thresholds.items()
                if threshold is not None
            }
            if self.task == "multilabel":
                decision = "; ".join(label for label in names if above.get(label))
            else:
                decision = names[decided[i]]
            yield Prediction(
                id=name,
                decision=decision,
                probs=dict(zip(names, calibrated[i].tolist(), strict=True)),
                above_threshold=above,
                ood_score=scores[i],
                image=shown[i][0],
                cam=shown[i][1],
            )

    def _decide(self, probs: np.ndarray) -> np.ndarray:
        """Return int (n,), the decided class; of several labels the most probable."""
        threshold = self.thresholds.get(self.class_names[-1])
        if self.task == "binary" and threshold is not None:
            return (probs[:, 1] >= threshold).astype(int)
        return probs.argmax(axis=1)

    def _explain(
        self, images: np.ndarray, probs: np.ndarray, rows: int
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return the `image` and the `cam` of each image."""
        # The single logit of a task with one label speaks for class 1.
        classes = self._decide(probs) + (probs.shape[1] == 1)
        # Filled up, so that one program serves all batches.
        indices = np.minimum(np.arange(rows), len(images) - 1)
        prepared: Any = self.preprocessing(images[indices])  # pyright: ignore[reportArgumentType]
        maps = [
            explain(
                network.model,
                prepared,
                classes[indices],
                method=self.method,
                layer=self.layer,
                description="",
            ).maps
            for network in self.networks
        ]
        seen = as_seen(images, self.preprocessing)
        return list(zip(seen, np.mean(maps, axis=0), strict=False))


def average(
    outputs: Sequence[tuple[np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the mean of networks' probabilities, float32, and their features."""
    probs = average_probabilities([probs for probs, _ in outputs])
    return probs, [features for _, features in outputs]


def _checked(image: Any) -> np.ndarray:
    pixels = image if isinstance(image, str | Path) else np.asarray(image)
    if isinstance(pixels, str | Path):
        raise InputError("Give either paths to predict or arrays, not both.")
    fits = pixels.ndim == 3 and pixels.shape[2] in (1, 3) and pixels.size > 0
    if pixels.dtype != np.uint8 or not fits:
        raise InputError(
            "Arrays to predict must be uint8 of the shape (h, w, 1 or 3) each, got "
            f"{pixels.dtype} of the shape {pixels.shape}."
        )
    return pixels


def _by_shape(batch: Sequence[UserFile]) -> Iterator[tuple[list[int], np.ndarray]]:
    """Stack the images of a batch that have one size, all as RGB."""
    by_shape: dict[tuple[int, ...], list[int]] = {}
    pixels = {i: file.pixels for i, file in enumerate(batch) if file.pixels is not None}
    for index, image in pixels.items():
        by_shape.setdefault(image.shape[:2], []).append(index)
    for shape, members in by_shape.items():
        stacked = np.empty((len(members), *shape, 3), np.uint8)
        for row, index in enumerate(members):
            stacked[row] = pixels[index]
        yield members, stacked

"""A finished run in use: what its model says of new images."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jaxmed.data.given import Decoding, Given, decode_ahead, find_given
from jaxmed.errors import InputError
from jaxmed.evaluation.likeness import FLAGGED, Likeness, read_likeness
from jaxmed.experiments.bundle import Bundle, load_bundle
from jaxmed.experiments.cams import as_seen
from jaxmed.experiments.folders import LIKENESS
from jaxmed.training.features import Network

BATCH_SIZE = 64


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a model says of one image.

    Attributes:
        id: the image's path as it was given, or its number among arrays.
        decision: the class: in a binary task by the threshold, with several classes the
            most probable one; of several labels those at or above their thresholds,
            separated by "; ".
        probs: calibrated probabilities by class.
        above: whether the probability is at or above the threshold, by class that has
            one. Thresholds were chosen before calibration and are compared so.
        unlike: the share of the run's validation images that are more like the training
            images; see `jaxmed.evaluation.likeness`. None if the run has no record.
        error: why the file cannot be used; all else is then empty.
    """

    id: str
    decision: str | None = None
    probs: dict[str, float] = field(default_factory=dict)
    above: dict[str, bool] = field(default_factory=dict)
    unlike: float | None = None
    error: str | None = None

    @property
    def flagged(self) -> bool:
        """Whether the image is unlike those that the model was trained on."""
        return self.unlike is not None and self.unlike > FLAGGED


@dataclass(frozen=True, kw_only=True)
class Explained:
    """An image with what spoke for its decision.

    Attributes:
        image: uint8 (h, w, 1 or 3), as the network saw it.
        cam: float32 (h, w) in [0, 1], see `jaxmed.explain.explain`.
    """

    image: np.ndarray
    cam: np.ndarray


class LoadedRun:
    """A finished run, ready to predict.

    Attributes:
        bundle: everything that the run's folder tells.
        likeness: what training images were like; None where a run has no record.
    """

    def __init__(self, bundle: Bundle):
        self.bundle = bundle
        path = bundle.folder / LIKENESS
        self.likeness: Likeness | None = read_likeness(path) if path.is_file() else None
        self._network = Network(
            bundle.model, bundle.preprocessing, bundle.task, views=bundle.views
        )

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.bundle.class_names

    def predict(self, images: Any, *, batch_size: int = BATCH_SIZE) -> list[Prediction]:
        """Predicts images.

        Args:
            images: paths of files or folders, or patterns, one or several; or arrays,
                uint8 (h, w, 1 or 3) each, one, several or stacked, grey or RGB as
                `jaxmed.data.decode.decode` gives them.
            batch_size: images at a time.

        Returns:
            In the order given; a folder's images in sorted order. A file that cannot
            be used has its `error`.

        Raises:
            InputError: no images, or arrays of another type or shape.
        """
        if isinstance(images, str | Path):
            images = [images]
        elif isinstance(images, np.ndarray) and images.ndim == 3:
            images = images[None]
        if not len(images):
            raise InputError("There are no images to predict.")
        if isinstance(images[0], str | Path):
            found = self.stream(find_given(list(map(str, images))), batch_size)
        else:
            given = [Given(str(i), _checked(one)) for i, one in enumerate(images)]
            starts = range(0, len(given), batch_size)
            found = self._predict(
                (given[start : start + batch_size] for start in starts),
                min(batch_size, len(given)),
            )
        return [prediction for prediction, _ in found]

    def stream(
        self,
        given: Sequence[Given],
        batch_size: int = BATCH_SIZE,
        *,
        cams: bool = False,
    ) -> Iterator[tuple[Prediction, Explained | None]]:
        """Predicts files one after the other, in memory that does not grow with them.

        Args:
            given: as `find_given` finds them.
            batch_size: images at a time.
            cams: whether to explain decisions, by the run's own method.
        """
        preprocessing = self.bundle.preprocessing
        decoding = Decoding(
            image_size=preprocessing.image_size,
            resizing=preprocessing.resizing,
            image_shape=self.bundle.image_shape,
        )
        batches = decode_ahead(given, decoding, batch_size)
        return self._predict(batches, min(batch_size, len(given)), cams=cams)

    def _predict(
        self, batches: Iterable[Sequence[Given]], rows: int, *, cams: bool = False
    ) -> Iterator[tuple[Prediction, Explained | None]]:
        """Predicts decoded images; batches are filled up to `rows`."""
        for batch in batches:
            found: dict[int, tuple[Prediction, Explained | None]] = {}
            for places, images in _by_shape(batch):
                probs, features = self._network(images, rows)
                ids = [batch[place].name for place in places]
                predictions = self._decide(ids, probs, features)
                shown = [None] * len(ids)
                if cams:
                    shown = self._explain(images, probs, rows)
                found |= dict(
                    zip(places, zip(predictions, shown, strict=True), strict=True)
                )
            for place, one in enumerate(batch):
                unusable = Prediction(id=one.name, error=one.reason), None
                yield found.get(place, unusable)

    def _decide(
        self, ids: Sequence[str], probs: np.ndarray, features: np.ndarray
    ) -> list[Prediction]:
        bundle, names = self.bundle, self.class_names
        calibrated = probs.astype(np.float64)
        if bundle.scaling is not None:
            calibrated = bundle.scaling.calibrate(probs, bundle.task)
        ranks = [None] * len(ids)
        if self.likeness is not None:
            ranks = self.likeness.rank(features).tolist()
        predictions = []
        for name, raw, probabilities, rank in zip(
            ids, probs.tolist(), calibrated.tolist(), ranks, strict=True
        ):
            raw_of = dict(zip(names, raw, strict=True))
            above = {
                label: raw_of[label] >= threshold
                for label, threshold in bundle.thresholds.items()
                if threshold is not None
            }
            predictions.append(
                Prediction(
                    id=name,
                    decision=self._decision(raw, above),
                    probs=dict(zip(names, probabilities, strict=True)),
                    above=above,
                    unlike=rank,
                )
            )
        return predictions

    def _decision(self, probs: Sequence[float], above: dict[str, bool]) -> str:
        names = self.class_names
        if self.bundle.task == "multilabel":
            return "; ".join(name for name in names if above.get(name))
        if self.bundle.task == "binary" and above:
            return names[above[names[1]]]
        return names[int(np.argmax(probs))]

    def _explain(
        self, images: np.ndarray, probs: np.ndarray, rows: int
    ) -> list[Explained | None]:
        """Explains what was decided; of several labels the most probable one."""
        from jaxmed.explain.explain import explain

        bundle = self.bundle
        classes = probs.argmax(axis=1)
        threshold = bundle.thresholds.get(self.class_names[-1])
        if bundle.task == "binary" and threshold is not None:
            classes = (probs[:, 1] >= threshold).astype(int)
        # A single logit is class 1, also that of a task with one label.
        classes += probs.shape[1] == 1
        # Filled up, so that one program serves all batches.
        places = np.minimum(np.arange(rows), len(images) - 1)
        maps = explain(
            bundle.model,
            bundle.preprocessing(images[places]),  # pyright: ignore[reportArgumentType]
            classes[places],
            method=bundle.config.explain.method,
            layer=bundle.config.explain.layer or None,
            description="",
        )
        seen = as_seen(images, bundle.preprocessing)
        return [Explained(image=i, cam=cam) for i, cam in zip(seen, maps, strict=False)]


def load_run(folder: str | Path) -> LoadedRun:
    """Loads a finished run to predict new images with.

    Args:
        folder: of the run, such as "runs/quickstart/frozen/seed-0".

    Raises:
        InputError: there is no finished run, or its files are damaged.

    Example:
        Paths, folders, patterns and arrays are predicted alike::

            run = jaxmed.load_run("runs/quickstart/frozen/seed-0")
            for prediction in run.predict("scans"):
                print(prediction.id, prediction.decision, prediction.probs)
    """
    return LoadedRun(load_bundle(Path(folder)))


def _checked(image: Any) -> np.ndarray:
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
        raise InputError(
            "Arrays to predict must be uint8 of the shape (h, w, 1 or 3) each, got "
            f"{pixels.dtype} of the shape {pixels.shape}."
        )
    return pixels


def _by_shape(batch: Sequence[Given]) -> Iterator[tuple[list[int], np.ndarray]]:
    """Stacks the images of a batch that have one size, all as RGB."""
    places: dict[tuple[int, ...], list[int]] = {}
    pixels = {i: one.pixels for i, one in enumerate(batch) if one.pixels is not None}
    for place, image in pixels.items():
        places.setdefault(image.shape[:2], []).append(place)
    for shape, members in places.items():
        stacked = np.empty((len(members), *shape, 3), np.uint8)
        for row, place in enumerate(members):
            stacked[row] = pixels[place]
        yield members, stacked
